"""The tab Samples as a browser shows it: the real TensorBoard server, a real Chromium, behind a prefix of the path."""

import json
import time

import cv2
import numpy as np
import pytest
from made_samples import logits_of, write_groups, write_samples, write_thumbnails
from offline_browser import chromium
from tensorboard_server import serve

from assay.callbacks.gallery.aggregates import aggregate
from assay.callbacks.gallery.query import query
from assay.callbacks.gallery.run_samples import RunSamples
from assay.callbacks.history.marks import Mark, read_marks

pytestmark = pytest.mark.long("starts the server of TensorBoard, and opens a browser")

RUN, OTHER, COUNT = "digits/20260101-120000", "digits/20260102-120000", 90


def jpeg(number):
    picture = np.full((48, 48, 3), (number * 2, 120, 255 - number * 2), np.uint8)
    return cv2.imencode(".jpg", picture)[1].tobytes()


@pytest.fixture(scope="module")
def logdir(tmp_path_factory):
    logdir = tmp_path_factory.mktemp("runs")
    for run, seed in ((RUN, 0), (OTHER, 0)):
        folder = write_samples(logdir / run, count=COUNT, epochs=3 if run == RUN else 2, seed=seed)
        write_groups(folder, COUNT, [(7, 1), (3, 2)], stuck={1, 2}, easy={5})
        write_thumbnails(folder, [(number, "image", jpeg(number)) for number in range(0, COUNT, 2)])
    return logdir


@pytest.fixture(scope="module")
def opened(logdir, tmp_path_factory):
    """Return a function that opens the tab; it returns the page and the frame."""
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with chromium() as browser, serve(logdir, log, "--path_prefix", "/behind/a-proxy") as server:

        def opened(view=None, clock=False, **options):
            page = browser.new_context(viewport={"width": 1440, "height": 900}, **options).new_page()
            page.set_default_timeout(30_000)
            if clock:
                page.clock.install()
            page.requested, page.faults = [], []
            page.on("request", lambda request: page.requested.append(request.url))
            page.on("pageerror", lambda error: page.faults.append(str(error)))
            state = "" if view is None else f"&p.assay_samples.view={json.dumps(view)}"
            page.goto(f"{server.address}behind/a-proxy/#assay_samples{state}")
            frame = page.frame_locator("iframe")
            frame.locator(".a-card").first.wait_for()
            return page, frame

        opened.address = server.address
        yield opened


def in_frame(page, code, *values):
    """Return what a function of the frame returns; it gets the source and the values."""
    frame = next(frame for frame in page.frames if frame != page.main_frame)
    call = f"""async (values) => {{
        const base = new URL("data/plugin/assay_samples/", parent.location.href.split("#")[0]).href;
        const {{ ServerSource }} = await import(base + "sources.js");
        const source = new ServerSource(base);
        await source.runs();
        return ({code})(source, ...values);
    }}"""
    return frame.evaluate(call, list(values))


def test_it_shows_samples_with_pictures_and_asks_nobody_else(opened):
    page, frame = opened({"run": RUN})
    assert frame.locator(".a-bar h2").inner_text() == f"{COUNT} samples"
    first = frame.locator(".a-card").first
    assert first.get_attribute("data-id") == "valid-007.png" and "suspect 1" in first.inner_text()
    picture = frame.locator(".a-card[data-id='valid-000.png'] img")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 48
    assert frame.locator(".a-card[data-id='valid-001.png'] img").count() == 0
    assert all(url.startswith((opened.address, "data:", "blob:")) for url in page.requested) and page.faults == []


FILTERS = [
    {},
    {"text": "00"},
    {"target": [0, 3], "correct": "wrong"},
    {"prediction": [1]},
    {"groups": ["stuck", "suspect"]},
    {"ranges": {"loss": [0.2, 1.5], "aum": [None, 1.0]}},
    {"ids": ["valid-003.png", "valid-004.png", "none"]},
]


def test_the_browser_and_the_server_filter_sort_and_count_alike(opened, logdir):
    page, _ = opened({"run": RUN})
    for epoch in (1, 3):
        table = RunSamples(logdir / RUN).table("valid", epoch)
        for filters in FILTERS:
            for sort in ("index", "loss", "id", "suspect_rank", "learned", "correct"):
                asked = {"filters": filters, "sort": sort, "descending": sort == "loss", "offset": 2, "limit": 7}
                ask = """(source, run, epoch, asked) => source.table(run, "valid", epoch).then(() =>
                    source.query(run, "valid", epoch, asked)).then(({ total, table }) => [total, table.columns.id])"""
                count, rows = query(table, asked)
                ids = [table.ids[int(row)].as_py() for row in rows]
                assert in_frame(page, ask, RUN, epoch, asked) == [count, ids], asked
            for kind, options in (
                ("confusion", {}),
                ("distribution", {"column": "target_probability"}),
                ("distribution", {"column": "learned", "bins": 5}),
                ("distribution", {"column": "aum", "bins": 9}),
                ("scatter", {"x": "loss", "y": "confidence", "bins": 12}),
            ):
                ask = "(source, ...asked) => source.table(...asked.slice(0, 3)).then(() => source.aggregate(...asked))"
                mine = in_frame(page, ask, RUN, "valid", epoch, kind, options, filters)
                theirs = aggregate(table, kind, options, filters)
                # Whole numbers lie between the ends of bins, so that it matters to no one which side an end is on.
                same = set(mine) & set(theirs) - ({"ranges"} if options.get("column") == "learned" else set())
                assert len(same) >= 4 and {name: mine[name] for name in same} == {name: theirs[name] for name in same}


def test_a_point_of_precision_and_recall_over_epochs_shows_what_the_server_counts(opened, logdir):
    _, frame = opened({"run": RUN, "door": "precision_recall"})
    frame.get_by_label("Class", exact=True).select_option("2")
    target = logits_of(COUNT, 4, 3)[1]
    table = RunSamples(logdir / RUN).table("valid")
    points = aggregate(table, "precision_recall", {"class": 2})["points"]
    scores, _ = table.class_probability(2)
    # The curve of the class before is there until that of this one is.
    frame.locator(f"[data-threshold='{points[20]['threshold']}']").click(force=True)
    frame.locator(".a-chip", has_text="probability of class 2").wait_for()
    expected = ((scores >= np.float32(points[20]["threshold"])) & (target != 2)).sum()
    frame.locator(".a-bar h2", has_text=f"{expected} of {COUNT} samples").wait_for()


def test_the_slider_shows_an_earlier_epoch(opened, logdir):
    page, frame = opened({"run": RUN, "sort": "index"})
    slider = frame.get_by_label("Epoch", exact=True)
    slider.focus()
    page.keyboard.press("ArrowLeft")
    frame.locator("output", has_text="epoch 2 of 3").wait_for()
    columns = RunSamples(logdir / RUN).table("valid", 2).columns
    right = int((columns["correct"] == 1).sum())
    frame.locator("[data-key=correct-right]", has_text=f"Right{right}").wait_for()
    assert "%22epoch%22%3A2" in page.url


def test_marks_are_saved_beside_the_run_at_once(opened, logdir):
    page, frame = opened({"run": RUN})
    frame.locator(".a-card").first.focus()
    page.keyboard.press("l")
    frame.locator(".a-badge.mark", has_text="Look again").wait_for()
    assert read_marks(logdir / RUN / "marks.csv") == [Mark("valid", "valid-007.png", "look_again")]
    page.keyboard.press("Enter")
    frame.locator("dialog footer", has_text="saved to marks.csv").wait_for()
    frame.get_by_label("Right class").select_option("class 3")
    frame.locator("[data-mark=wrong_label]").click()
    frame.locator("[data-mark=wrong_label][aria-pressed=true]").wait_for()
    assert read_marks(logdir / RUN / "marks.csv") == [Mark("valid", "valid-007.png", "wrong_label", "class 3")]
    # Another browser sees it.
    _, other = opened({"run": RUN}, color_scheme="dark")
    other.locator(".a-badge.mark", has_text="Wrong label").wait_for()
    assert "valid-007.png,wrong_label,class 3" in (logdir / RUN / "marks.csv").read_text()


def test_two_runs_are_compared_by_ids(opened, logdir):
    _, frame = opened({"run": RUN, "other": OTHER})
    mine, theirs = (RunSamples(logdir / run).table("valid").columns["correct"] for run in (RUN, OTHER))
    for kind, here, there in (("better", 1, 0), ("worse", 0, 1), ("right", 1, 1), ("wrong", 0, 0)):
        count = int(((mine == here) & (theirs == there)).sum())
        frame.locator(f"[data-change={kind}] strong", has_text=str(count)).wait_for()


def test_an_epoch_that_a_run_adds_is_shown_while_nobody_looks_at_an_older_one(opened, logdir):
    grown = "digits/20260103-120000"
    write_samples(logdir / grown, count=30, epochs=2)
    page, frame = opened({"run": grown}, clock=True)
    frame.locator("output", has_text="epoch 2 of 2").wait_for()
    write_samples(logdir / grown, count=40, epochs=3)
    time.sleep(2.5)  # between two searches of the server
    page.clock.run_for(31_000)
    frame.locator("output", has_text="epoch 3 of 3").wait_for()
    frame.locator(".a-bar h2", has_text="40 samples").wait_for()


def test_it_follows_the_dark_mode_of_the_page_around(opened):
    page, frame = opened({"run": RUN})
    theme = "document.documentElement.dataset.theme"
    inner = next(frame for frame in page.frames if frame != page.main_frame)
    assert inner.evaluate(theme) == "light"
    page.evaluate("document.body.classList.add('dark-mode')")
    inner.wait_for_function(f"{theme} === 'dark'")
    assert frame.locator(".assay").evaluate("one => getComputedStyle(one).colorScheme") == "dark"


def test_an_error_of_the_server_is_a_line_with_a_way_on(opened, logdir):
    page, frame = opened({"run": RUN})
    whole = (logdir / RUN / "samples/valid/epoch-000001.parquet").read_bytes()
    (logdir / RUN / "samples/valid/epoch-000001.parquet").write_bytes(b"no parquet")
    try:
        frame.get_by_label("Epoch", exact=True).fill("0")
        frame.locator(".a-said", has_text="epoch-000001.parquet").wait_for()
        assert "\n" not in frame.locator(".a-said span").inner_text()
    finally:
        (logdir / RUN / "samples/valid/epoch-000001.parquet").write_bytes(whole)
    frame.get_by_role("button", name="Try again").click()
    frame.locator("output", has_text="epoch 1 of 3").wait_for()
    frame.locator(".a-said").wait_for(state="hidden")
    assert page.faults == []
