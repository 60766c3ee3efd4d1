"""What a browser shows first of runs in TensorBoard: the loss, the metrics and the worst validation samples."""

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from offline_browser import chromium
from tensorboard_server import serve

from assay.runner.commands.main import main

pytestmark = pytest.mark.long("trains digits, starts the server of TensorBoard and opens a browser")
WIDTH, HEIGHT = 1440, 900
RUNS = ("20260101-120000", "20260102-120000", "20260103-120000")
ROWS = [f"digits/{run}/{loader}" for run in RUNS for loader in ("train", "valid")]
LOSS, ACCURACY, WORST = "1_overview/loss", "1_overview/metrics/accuracy", "1_overview/worst/loss"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of three runs of digits, which differ in nothing but their names."""
    folder = tmp_path_factory.mktemp("first-glance") / "runs"
    first, *others = (folder / "digits" / name for name in RUNS)
    small = ["--epochs", "3", "--width", "8", "--device", "cpu", "--workers", "0"]
    assert main(["train", "digits", "--run-dir", str(first), *small]) == 0
    for other in others:
        shutil.copytree(first, other)
    return folder


@pytest.fixture(scope="module")
def open_tab(runs, tmp_path_factory):
    """Return a function that opens a tab of TensorBoard, or the one that opens by itself, as a new user sees it."""
    with (
        serve(runs, tmp_path_factory.mktemp("server") / "log.txt", "--samples_per_plugin", "images=200") as server,
        chromium() as browser,
    ):
        server.wait(lambda it: set(it.json("plugin/images/tags")) == set(ROWS))
        server.wait(lambda it: all("10_best/valid/loss" in it.json("plugin/scalars/tags")[row] for row in ROWS[::2]))

        def open_tab(tab=""):
            # A context of its own has no settings of a former visit.
            page = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}).new_page()
            page.set_default_timeout(120_000)
            page.goto(f"{server.address}#{tab}")
            return page

        yield open_tab


def groups_of(page):
    """Return the names of the groups of SCALARS, IMAGES or TEXT."""
    page.locator(".category-name").first.wait_for()
    return [name.strip() for name in page.locator(".category-name").all_inner_texts()]


def cards_of(page, kind):
    """Return the rows and tags of the cards that are unfolded, in their order, once there are some."""
    cards = page.locator(kind)
    cards.first.wait_for()
    return cards.evaluate_all("cards => cards.map(card => [card.run || '', card.tag])")


def visible_height(locator):
    """Return how many pixels in height of an element are within the window, whose whole width is."""
    box = locator.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= WIDTH
    return min(box["y"] + box["height"], HEIGHT) - box["y"]


def card_of(page, tag, row=""):
    card = page.locator("card-view", has=page.locator(f'tb-truncated-path[title="{tag}"]')).filter(has_text=row)
    card.first.wait_for()
    return card.first


def test_without_scrolling_or_unfolding_there_are_the_loss_the_metric_and_the_worst_validation_samples(open_tab):
    page = open_tab()
    assert (
        page.locator(".plugins a.mdc-tab--active, [role=tab][aria-selected=true]").first.inner_text() == "TIME SERIES"
    )
    for tag in (LOSS, ACCURACY):
        assert visible_height(card_of(page, tag).locator("line-chart").first) > 200
    samples = card_of(page, WORST).locator("img")
    samples.wait_for()
    # Large enough to be recognized, and to be read.
    assert visible_height(samples) > 80 and samples.bounding_box()["width"] >= 300
    assert "/valid" in card_of(page, WORST).inner_text()
    # What is seen of them are pictures and not an empty card.
    page.wait_for_function("image => image.complete && image.naturalWidth", arg=samples.element_handle())
    shot = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    box = {name: int(value) for name, value in samples.bounding_box().items()}
    seen = shot[box["y"] : HEIGHT, box["x"] : box["x"] + box["width"]]
    assert len(np.unique(seen.reshape(-1, 3), axis=0)) > 20
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "first-glance.png")


def test_scalars_begin_with_the_loss_and_the_metrics_and_end_with_what_experts_want(open_tab):
    page = open_tab("scalars")
    groups = groups_of(page)
    assert groups[:2] == ["1_overview", "3_metrics"] and groups[-1] == "10_best"
    assert [group for group in groups if group.startswith("9_")] == groups[2:-1]
    tags = [tag for _, tag in cards_of(page, "tf-scalar-card")]
    assert tags[:3] == [LOSS, ACCURACY, "1_overview/metrics/f1"]
    for index in range(3):
        assert visible_height(page.locator("tf-scalar-card").nth(index)) > 200


def test_images_begin_with_the_worst_validation_samples_and_the_confusion_matrix(open_tab):
    page = open_tab("images")
    assert groups_of(page)[:2] == ["1_overview", "2_confusion_matrix"]
    cards = [(run, tag) for run, tag in cards_of(page, "tf-image-loader")]
    assert cards[:3] == [(row, WORST) for row in ROWS[1::2]]
    assert {tag for _, tag in cards[3:9]} == {"2_confusion_matrix"}


def test_texts_begin_with_the_findings_and_the_report_of_validation(open_tab):
    page = open_tab("text")
    assert groups_of(page)[:2] == ["0_findings", "1_overview"]
    cards = [(run, tag) for run, tag in cards_of(page, "tf-text-loader")]
    assert cards[:3] == [(row, "0_findings/list/text_summary") for row in ROWS[0::2]]
    assert cards[3:6] == [(row, "1_overview/report/text_summary") for row in ROWS[1::2]]


def test_three_runs_are_six_rows_of_six_colours(open_tab):
    page = open_tab()
    rows = page.locator("runs-data-table tb-data-table-content-row")
    rows.nth(len(ROWS) - 1).wait_for()
    assert [text.strip() for text in rows.all_inner_texts()] == ROWS
    swatches = page.locator("runs-data-table .run-color-swatch")
    assert len(set(swatches.evaluate_all("all => all.map(one => one.style.background)"))) == len(ROWS)
    page = open_tab("scalars")
    boxes = page.locator("tf-runs-selector paper-checkbox.checkbox")
    boxes.nth(len(ROWS) - 1).wait_for()
    colour = "all => all.map(one => getComputedStyle(one).getPropertyValue('--paper-checkbox-checked-color').trim())"
    assert len(set(boxes.evaluate_all(colour))) == boxes.count() == len(ROWS)


def test_hyper_parameters_have_the_best_values_as_their_first_metrics(open_tab):
    page = open_tab("hparams")
    # The side bar lists all metrics, and checks those that the table shows.
    checked = page.locator("paper-checkbox.metric-checkbox[checked]")
    checked.first.wait_for()
    metrics = [name.strip() for name in checked.all_inner_texts()]
    assert metrics[:3] == ["10_best/valid/accuracy", "10_best/valid/loss", LOSS] and len(metrics) == 5
