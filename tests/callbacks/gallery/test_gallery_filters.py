"""Filters, order and pages of the gallery in a real Chromium, against plain Python over the same numbers."""

import numpy as np
import pytest
from browser import offline_browser
from made_gallery import CLASSES, HOSTILE, made_report

from assay.callbacks.gallery.inline import inlined_page

FILTERS = {
    "a group": ({"groups": ["suspect"]}, lambda of: of["suspect"] == 1),
    "any of two groups": ({"groups": ["stuck", "easy"]}, lambda of: (of["stuck"] == 1) | (of["easy"] == 1)),
    "newly wrong": ({"groups": ["newly_wrong"]}, lambda of: of["newly_wrong"] == 1),
    "forgotten": ({"groups": ["forgotten"]}, lambda of: of["forgotten"] == 1),
    "unstable": ({"groups": ["unstable"]}, lambda of: of["unstable"] == 1),
    "right": ({"correct": "right"}, lambda of: of["correct"] == 1),
    "wrong": ({"correct": "wrong"}, lambda of: of["correct"] == 0),
    "classes": ({"target": [0, 2]}, lambda of: (of["target"] == 0) | (of["target"] == 2)),
    "unknown class": ({"target": [-1]}, lambda of: of["target"] == -1),
    "predicted class": ({"prediction": [1]}, lambda of: of["prediction"] == 1),
    "a finding": ({"findings": ["duplicate_images"]}, lambda of: has(of["findings"], "duplicate_images")),
    "text of ids": ({"text": "PICTURE-0001"}, lambda of: np.array(["picture-0001" in one.lower() for one in of["id"]])),
    "ids": ({"ids": HOSTILE[:2]}, lambda of: np.array([one in HOSTILE[:2] for one in of["id"]])),
    "a range": ({"ranges": {"loss": [0.5, 1.25]}}, lambda of: (of["loss"] >= 0.5) & (of["loss"] <= 1.25)),
    "a range of ranks": ({"ranges": {"suspect_rank": [None, 4]}}, lambda of: np.isin(of["suspect_rank"], range(1, 5))),
    "all of several": (
        {"correct": "wrong", "target": [3], "ranges": {"confidence": [None, 0.4]}},
        lambda of: (of["correct"] == 0) & (of["target"] == 3) & (of["confidence"] <= np.float32(0.4)),
    ),
}  # fmt: skip


def has(texts, word):
    return np.array([word in text.split() for text in texts])


@pytest.fixture(scope="module")
def made():
    return made_report()


@pytest.fixture(scope="module")
def gallery(made, tmp_path_factory):
    """Return a function that opens the gallery of the first of two runs, in a page from disk."""
    path = tmp_path_factory.mktemp("gallery") / "gallery.html"
    path.write_text(inlined_page("Samples", "local.js", made[0], function="mountLocal"))
    with offline_browser() as open_file:

        def opened(view='{"run":"made/20260101-120000"}', **options):
            page = open_file(path, **options)
            page.evaluate("view => { location.hash = new URLSearchParams({ samples: view }) }", view)
            page.reload()
            page.locator(".a-card, .a-empty").first.wait_for()
            return page

        yield opened


def shown_ids(page):
    return page.locator(".a-card").evaluate_all("cards => cards.map(card => card.dataset.id)")


def total(page):
    return int(page.locator(".a-bar h2").inner_text().split()[0].replace(",", ""))


def ask(page, filters, sort="index", descending=False, limit=1000):
    """Return what the source in the page answers, as ids."""
    code = """async ([asked]) => {
        const { LocalSource } = await import("assay/sources.js");
        const source = new LocalSource(JSON.parse(document.getElementById("data").textContent));
        const { total, table } = await source.query("made/20260101-120000", "valid", null, asked);
        return [total, table.columns.id];
    }"""
    asked = {"filters": filters, "sort": sort, "descending": descending, "offset": 0, "limit": limit}
    return page.evaluate(code, [asked])


def test_each_filter_is_what_a_plain_comparison_makes_of_it(gallery, made):
    columns, page = made[1][0], gallery()
    for name, (filters, expected) in FILTERS.items():
        ids = [columns["id"][row] for row in np.flatnonzero(expected(columns))]
        assert 0 < len(ids) < 137, name
        assert ask(page, filters) == [len(ids), ids], name
    assert page.faults == [] and page.title() == "Samples"


def test_it_sorts_by_any_number_with_unknown_ones_last_and_equal_ones_as_they_were(gallery, made):
    columns, page = made[1][0], gallery()
    numbers = [name for name, column in columns.items() if not isinstance(column, list)]
    unknown = {"target": -1, "suspect_rank": -1, "likely": -1, "learned": -1, "correct": 255}
    for name in numbers:
        column = columns[name].astype(float)
        known = ~np.isnan(column) & (column != unknown.get(name, np.nan))
        for descending in (False, True):
            rows = sorted(
                range(len(column)),
                key=lambda row: (
                    not known[row],
                    known[row] * column[row] * (1 - 2 * descending) if known[row] else 0,
                    row,
                ),
            )
            assert ask(page, {}, name, descending)[1] == [columns["id"][row] for row in rows], (name, descending)


def test_what_is_clicked_in_the_side_bar_filters_and_becomes_a_chip(gallery, made):
    columns, page = made[1][0], gallery()
    page.locator("[data-filter=groups][data-choice=stuck]").check()
    page.locator(".a-chip", has_text="Stuck").wait_for()
    assert total(page) == (columns["stuck"] == 1).sum()
    page.locator("[data-filter=target][data-choice='2']").check()
    page.locator(".a-chip", has_text=f"truth: {CLASSES[2]}").wait_for()
    assert total(page) == ((columns["stuck"] == 1) & (columns["target"] == 2)).sum()
    page.locator(".a-chip", has_text="Stuck").click()
    page.locator(".a-chip", has_text="Stuck").wait_for(state="detached")
    assert total(page) == (columns["target"] == 2).sum()
    assert sorted(shown_ids(page)) == sorted(columns["id"][row] for row in np.flatnonzero(columns["target"] == 2))
