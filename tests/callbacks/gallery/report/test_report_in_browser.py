"""The report in a real browser, opened from disk with the network off: what is shown is what the files say."""

import csv
import os
import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from offline_browser import offline_browser
from report_runs import CLASSES, HOSTILE, METRICS, write_run, write_samples

from assay.callbacks.gallery.report.page import write_report

SECTIONS = ["Summary", "Findings", "Curves", "Classes", "Best and worst samples", "Samples", "Gradients",
            "Time and memory", "Settings", "Environment"]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    for number, name in enumerate((HOSTILE.replace("/", ""), "other")):
        run = write_run(folder / name, lr=0.1 * (number + 1))
        write_samples(run, seed=number)
        (run / "results").mkdir()
        with open(run / "results" / "gradients.csv", "w", newline="") as file:
            rows = csv.writer(file)
            rows.writerows([["loader", "epoch", "parameter", "norm"], ["train", 1, HOSTILE, 0.123456789]])
    write_report([run], folder / "one.html")
    shutil.copytree(run, folder / "broken")
    (folder / "broken" / "results" / "gradients.csv").write_text(
        "loader,epoch,parameter,norm,zeros,trouble\ntrain,1,first.weight,0.1,0,\ntrain,1,second.weight,0.2,0.5,\n"
        "train,2,first.weight,0.1,0,\ntrain,2,second.weight,inf,0.25,broken\n"
    )
    write_report([folder / "broken"], folder / "gradients.html")
    write_report([folder / HOSTILE.replace("/", ""), run], folder / "two.html")
    return folder


@pytest.fixture(scope="module")
def open_file():
    with offline_browser() as open_file:
        yield open_file


def opened(open_file, path, **options):
    page = open_file(path, **options)
    page.locator("section").first.wait_for()
    return page


def assert_alone(page, path):
    assert page.faults == []
    assert [url for url in page.requested if not url.startswith(("data:", "blob:"))] == [path.as_uri()]
    # Hostile texts are shown, and make no element.
    assert page.locator("script").count() == 3 and page.locator("main script").count() == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 1024])
def test_every_section_is_there_in_both_themes_and_widths(open_file, folder, theme, width):
    page = opened(open_file, folder / "one.html", width=width, theme=theme)
    assert page.locator("section[data-title]").evaluate_all("all => all.map(one => one.dataset.title)") == SECTIONS
    assert page.evaluate("document.documentElement.scrollWidth") == width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", background)[:3])) / 3
    assert brightness > 200 if theme == "light" else brightness < 60
    assert_alone(page, folder / "one.html")
    if shots := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(shots) / f"report-{theme}-{width}.png", full_page=True)


def test_texts_of_the_run_are_shown_as_they_are(open_file, folder):
    page = opened(open_file, folder / "one.html")
    text = page.locator("main").inner_text()
    assert "<script>alert('1')</script> \"'&" in text
    # What nobody sees, or what turns texts around, is made visible.
    assert "\u202e" not in text and "\x07" not in text
    assert "4 of 5: the run was ended early, or has not ended" in text
    assert "0.9 in epoch 3 (more is better)" in text
    assert "two labels of" in text and "look at them." in text


def test_values_are_read_under_the_mouse_and_by_the_arrow_keys(open_file, folder):
    page = opened(open_file, folder / "one.html")
    chart = page.locator("figure[data-chart=loss]")
    box = chart.locator("svg[role=img]").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.13, box["y"] + box["height"] / 2)
    tip = chart.locator(".tip")
    assert tip.inner_text().splitlines() == ["epoch 1", "train 2.11949", "valid 1.9"]
    assert METRICS["train", "loss"][0] == pytest.approx(2.11949, abs=1e-5)
    chart.locator("svg[role=img]").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    # No number is no point of a curve, and is named.
    assert tip.inner_text().splitlines() == ["epoch 3", "train nan", "valid 0.8"]
    page.locator("canvas[role=img]").hover(position={"x": 5, "y": 5})
    shown = page.locator("[data-map=train] [role=status]").first
    assert shown.inner_text().endswith(", epoch 1: mean norm 0.123457")


def test_the_map_of_gradients_is_read_by_keys_says_what_went_wrong_and_opens_curves(open_file, folder):
    page = opened(open_file, folder / "gradients.html")
    canvas = page.locator("canvas[role=img]")
    canvas.focus()
    page.keyboard.press("ArrowDown")
    shown = page.locator("[data-map=train] [role=status]").first
    assert shown.inner_text() == (
        "second.weight, epoch 2: mean norm inf; share of zeros 0.25; NaN or infinite gradients"
    )
    assert "second.weight (epoch 2)" in page.locator("[data-trouble=broken]").inner_text()
    page.keyboard.press("Enter")
    titles = page.locator("[data-map=train] figure[data-chart]").evaluate_all(
        "all => all.map(one => one.dataset.chart)"
    )
    assert titles == ["mean norm of second.weight", "share of zeros of second.weight"]
    page.get_by_label("number of the gradients").select_option("zeros")
    assert_alone(page, folder / "gradients.html")


def test_the_slider_shows_the_samples_of_an_earlier_epoch(open_file, folder):
    page = opened(open_file, folder / "one.html")
    page.locator(".gallery-room").scroll_into_view_if_needed()
    page.locator(".gallery-room .a-card").first.wait_for()
    page.locator(".gallery-room .a-epoch output", has_text="epoch 3 of 3").wait_for()
    run = folder / "other" / "samples" / "valid"
    for epoch in (2, 1, 3):
        page.get_by_label("Epoch", exact=True).fill(str(epoch - 1))
        table = pq.read_table(run / f"epoch-{epoch:06}.parquet").to_pydict()
        known = [pair for pair in zip(table["target"], table["prediction"], strict=True) if None not in pair]
        right = sum(target == guess for target, guess in known)
        page.locator("[data-key=correct-right]", has_text=f"Right{right}").wait_for()
        page.locator(".gallery-room .a-epoch output", has_text=f"epoch {epoch} of 3").wait_for()
    assert_alone(page, folder / "one.html")


def test_a_cell_of_the_matrix_and_a_sample_lead_into_the_gallery(open_file, folder):
    page = opened(open_file, folder / "one.html")
    matrix = page.locator("[data-classes=valid] .confusion")
    names = matrix.locator("thead th").all_inner_texts()
    assert names[0] == CLASSES[0] and len(names) == 4
    cell = matrix.locator("tbody tr").nth(0).locator("td button").first
    count = int(cell.inner_text())
    assert count > 1
    cell.click()
    cards = page.locator(".gallery-room .a-card")
    cards.nth(count - 1).wait_for()
    assert cards.count() == count
    first = page.locator("[data-ranked='worst valid'] .sample button.link").first
    wanted = first.inner_text()
    first.click()
    page.wait_for_function("document.querySelectorAll('.gallery-room .a-card').length === 1")
    assert wanted in cards.first.inner_text() + (cards.first.get_attribute("aria-label") or "")
    assert_alone(page, folder / "one.html")


def test_two_runs_are_side_by_side_with_what_got_better_and_worse(open_file, folder):
    page = opened(open_file, folder / "two.html")
    titles = page.locator("[data-compared] section[data-title]").evaluate_all(
        "all => all.map(one => one.dataset.title)"
    )
    assert titles == [
        "Side by side", "Settings that differ", "Classes side by side", "Same samples: valid, run 1 to run 2", "Samples"
    ]  # fmt: skip
    row = (
        page.locator("[data-title='Classes side by side'] tbody tr", has_text=CLASSES[0])
        .locator("td")
        .all_inner_texts()
    )
    of_runs = page.locator("[data-run] [data-classes=valid] tbody tr", has=page.get_by_text(CLASSES[0], exact=True))
    assert row[1:] == of_runs.locator("td:nth-child(4)").filter(has_text="%").all_inner_texts()
    cells = page.locator("[data-title='Settings that differ'] td").all_inner_texts()
    assert cells == ["lr", "0.1", "0.2"]
    same = page.locator("[data-title^='Same samples']")
    for which in ("better", "worse"):
        count = int(re.search(rf"Got {which}: (\d+)", same.inner_text())[1])
        assert same.locator(f"[data-changed='{which} valid'] .sample").count() == count > 0
    picture = same.locator("img").first
    assert picture.evaluate("one => one.complete && one.naturalWidth") == 64
    assert_alone(page, folder / "two.html")


def test_it_prints_without_what_only_a_screen_has(open_file, folder):
    page = opened(open_file, folder / "one.html", theme="dark")
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible() and not page.locator("[data-title=Samples]").is_visible()
    assert page.evaluate("getComputedStyle(document.querySelector('.report')).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("[data-title=Curves] svg[role=img]").first.is_visible()
