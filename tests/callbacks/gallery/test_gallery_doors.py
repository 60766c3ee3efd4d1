"""Charts of the gallery as doors, in a real Chromium: what a click shows, against plain loops over the same numbers."""

import numpy as np
import pytest
from gallery_page import RUN, chips, opened_gallery, shown_ids, total, wait_total
from made_gallery import CLASSES, EPOCHS, made_columns, made_loader

pytestmark = pytest.mark.long("opens a browser; filters, marks and the report are opened in one each time")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with opened_gallery(tmp_path_factory.mktemp("gallery")) as found:
        yield found


def ask(page, kind, options, filters=None):
    """Return the counts of a chart as the source in the page answers."""
    code = """async ([run, kind, options, filters]) => {
        const { LocalSource } = await import("assay/sources.js");
        const source = new LocalSource(JSON.parse(document.getElementById("data").textContent));
        return source.aggregate(run, "valid", null, kind, options, filters);
    }"""
    return page.evaluate(code, [RUN, kind, options, filters or {}])


def door(page, name):
    page.locator(f"[data-door={name}]").click()
    page.locator(f"[data-door={name}][aria-selected=true]").wait_for()


def told(page):
    return page.locator(".a-told").inner_text()


def test_a_cell_of_the_confusion_matrix_shows_its_samples(made):
    columns, page = made[1][0], made[0]()
    counts = ask(page, "confusion", {})
    assert counts["rows"] == counts["columns"] == list(range(len(CLASSES))) and counts["left_out"] == 0
    for truth in range(len(CLASSES)):
        for guess in range(len(CLASSES)):
            rows = [row for row in range(137) if (columns["target"][row], columns["prediction"][row]) == (truth, guess)]
            assert counts["counts"][truth][guess] == len(rows)
    truth, guess = np.argwhere((np.array(counts["counts"]) > 2) & ~np.eye(len(CLASSES), dtype=bool))[0].tolist()
    page.locator(f"[data-cell='{truth},{guess}']").hover()
    assert f"{counts['counts'][truth][guess]} samples" in told(page)
    page.locator(f"[data-cell='{truth},{guess}']").click()
    wait_total(page, counts["counts"][truth][guess])
    fits = (columns["target"] == truth) & (columns["prediction"] == guess)
    assert sorted(shown_ids(page)) == sorted(columns["id"][row] for row in np.flatnonzero(fits))
    assert chips(page) == [f"truth: {CLASSES[truth]}", f"predicted: {CLASSES[guess]}"]
    # The matrix stays whole, with the cell framed, and a second click opens all again.
    assert page.locator(".a-chart .chosen").count() == 1
    page.locator(f"[data-cell='{truth},{guess}']").click()
    wait_total(page, 137)


def test_the_confusion_matrix_is_open_to_keys(made):
    columns, page = made[1][0], made[0]()
    page.locator(".a-chart").focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "ArrowLeft"):
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    wait_total(page, ((columns["target"] == 2) & (columns["prediction"] == 0)).sum())


@pytest.mark.parametrize("column", ["target_probability", "loss", "margin", "forgetting", "suspect_rank"])
def test_a_bin_of_a_distribution_shows_the_samples_that_it_counts(made, column):
    columns, page = made[1][0], made[0]()
    door(page, "distribution")
    page.get_by_label("Of", exact=True).select_option(column)
    counts = ask(page, "distribution", {"column": column, "bins": 20})
    values = columns[column].astype(float)
    known = ~np.isnan(values) if columns[column].dtype == np.float32 else values != -1
    last = len(counts["right"]) - 1
    for place, (low, high) in enumerate(zip(counts["edges"][:-1], counts["edges"][1:], strict=True)):
        within = known & (values >= low) & ((values <= high) if place == last else (values < high))
        assert counts["right"][place] == (within & (columns["correct"] == 1)).sum(), place
        assert counts["wrong"][place] == (within & (columns["correct"] == 0)).sum(), place
        assert counts["unknown"][place] == (within & (columns["correct"] == 255)).sum(), place
    sums = np.array(counts["right"]) + counts["wrong"] + counts["unknown"]
    assert sums.sum() == known.sum()
    fullest = int(sums.argmax())
    page.locator(f"[data-bin='{fullest}']").click()
    wait_total(page, sums[fullest])


def test_a_point_of_precision_and_recall_shows_false_missed_and_found_samples(made):
    columns, page = made[1][0], made[0]()
    door(page, "precision_recall")
    page.get_by_label("Class", exact=True).select_option("3")
    page.locator("[data-threshold]").first.wait_for()
    target, guess, share, own = (columns[n] for n in ("target", "prediction", "probability", "target_probability"))
    counts = ask(page, "precision_recall", {"class": 3})
    score = np.where(guess == 3, share, np.where(target == 3, own, 0))
    assert len(counts["points"]) > 5 and counts["least"] == 0.5
    for point in counts["points"]:
        chosen = (score >= np.float32(point["threshold"])) & (target >= 0)
        hits = (chosen & (target == 3)).sum()
        assert point["precision"] == pytest.approx(hits / chosen.sum())
        assert point["recall"] == pytest.approx(hits / (target == 3).sum())
        assert point["threshold"] > 0.5
    threshold = counts["points"][-1]["threshold"]
    page.locator("[data-threshold]").last.click(force=True)
    expected = {
        "false": (score >= threshold) & (target != 3) & (target >= 0),
        "missed": (score < threshold) & (target == 3),
        "found": (score >= threshold) & (target == 3),
    }
    wait_total(page, expected["false"].sum())
    for kind in ("missed", "found", "false"):
        page.locator(f"[data-kind={kind}]").click()
        wait_total(page, expected[kind].sum())
        page.get_by_label("Sort by").select_option("id")
        fitting = sorted(columns["id"][row] for row in np.flatnonzero(expected[kind]))
        page.wait_for_function("() => !document.querySelector('.a-grid.busy')")
        assert sorted(shown_ids(page)) == fitting[:60]


def test_a_region_of_the_scatter_shows_its_samples(made):
    columns, page = made[1][0], made[0]()
    door(page, "scatter")
    counts = ask(page, "scatter", {"x": "variability", "y": "confidence", "bins": 60})
    assert np.sum(counts["counts"]) == 137
    x_edges, y_edges = np.array(counts["x_edges"]), np.array(counts["y_edges"])
    for row in range(137):
        over = np.searchsorted(x_edges, columns["variability"][row], side="right") - 1
        up = np.searchsorted(y_edges, columns["confidence"][row], side="right") - 1
        assert counts["counts"][up][over] >= 1
    box = page.locator("[data-plot]").bounding_box()
    at = lambda share_x, share_y: (box["x"] + share_x * box["width"], box["y"] + (1 - share_y) * box["height"])  # noqa: E731
    page.mouse.move(*at(0.101, 0.301))
    page.mouse.down()
    page.mouse.move(*at(0.3, 0.5), steps=4)
    page.mouse.move(*at(0.549, 0.749), steps=4)
    page.mouse.up()
    # Bins 6 to 32 of 60 across, over 0 to 0.5; 18 to 44 up, over 0 to 1.
    x, y = columns["variability"], columns["confidence"]
    fits = (x >= x_edges[6]) & (x < x_edges[33]) & (y >= y_edges[18]) & (y < y_edges[45])
    assert 0 < fits.sum() < 137
    wait_total(page, fits.sum())
    assert fits.sum() == np.array(counts["counts"])[18:45, 6:33].sum() and len(chips(page)) == 2


def test_a_binary_task_has_every_threshold(made, tmp_path):
    columns, curves, means = made_columns(seed=5, classes=["no", "yes"])
    loader = made_loader(columns, curves, means, task="binary", classes=["no", "yes"])
    page = made[0]()
    code = """async ([loader, asked]) => {
        const { LocalSource } = await import("assay/sources.js");
        const source = new LocalSource({ runs: [{ run: "one", loaders: [loader] }] });
        const counts = await source.aggregate("one", "valid", null, "precision_recall", { class: 1 }, {});
        const false_ = [];
        for (const { threshold } of counts.points) {
            const filters = { target: [0], class_score: { class: 1, range: [threshold, null] } };
            false_.push((await source.query("one", "valid", null, { filters })).total);
        }
        return [counts, false_];
    }"""
    counts, false = page.evaluate(code, [loader, None])
    target, guess, share = columns["target"], columns["prediction"], columns["probability"]
    score = np.where(guess == 1, share, np.float32(1) - share)
    assert len(counts["points"]) == len(set(score[target >= 0]))
    for point, count in zip(counts["points"], false, strict=True):
        chosen = (score >= np.float32(point["threshold"])) & (target >= 0)
        hits = (chosen & (target == 1)).sum()
        assert (point["precision"], point["recall"]) == pytest.approx((hits / chosen.sum(), hits / (target == 1).sum()))
        assert count == chosen.sum() - hits


def test_two_runs_side_by_side_say_what_got_better_and_worse(made):
    (mine, theirs), page = made[1], made[0]()
    page.get_by_label("Compare with another run").select_option("made/20260102-120000")
    page.locator("[data-change=better]").wait_for()
    place = {of: row for row, of in enumerate(theirs["id"])}
    pairs = [(row, place[of]) for row, of in enumerate(mine["id"]) if of in place]
    outcome = {"better": (1, 0), "worse": (0, 1), "right": (1, 1), "wrong": (0, 0)}
    for name, (here, there) in outcome.items():
        rows = [row for row, other in pairs if (mine["correct"][row], theirs["correct"][other]) == (here, there)]
        page.locator(f"[data-change={name}]").click()
        wait_total(page, len(rows))
        assert set(shown_ids(page)) <= {mine["id"][row] for row in rows} and len(shown_ids(page)) == min(60, len(rows))
    page.get_by_role("button", name="Remove the filter").click()
    wait_total(page, len(pairs))
    # The largest losses of the truth's probability come first.
    change = {
        mine["id"][row]: mine["target_probability"][row] - theirs["target_probability"][other] for row, other in pairs
    }
    shown = [change[of] for of in shown_ids(page)]
    assert shown == sorted(shown) and shown[0] < -0.3
    first = page.locator(".a-card").first
    assert first.locator("path.a-line").count() == 2 and len(EPOCHS) == 6
    assert total(page) == len(pairs) and page.faults == []
