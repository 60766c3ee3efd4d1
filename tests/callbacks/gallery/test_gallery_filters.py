"""Filters, order and pages of the gallery in a real Chromium, against plain Python over the same numbers."""

import re

import numpy as np
import pytest
from gallery_page import chips, opened_gallery, shown_ids, total, wait_total
from made_gallery import CLASSES, EPOCHS, HOSTILE

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
def made(tmp_path_factory):
    with opened_gallery(tmp_path_factory.mktemp("gallery")) as found:
        yield found


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


def test_each_filter_is_what_a_plain_comparison_makes_of_it(made):
    columns, page = made[1][0], made[0]()
    for name, (filters, expected) in FILTERS.items():
        ids = [columns["id"][row] for row in np.flatnonzero(expected(columns))]
        assert 0 < len(ids) < 137, name
        assert ask(page, filters) == [len(ids), ids], name
    assert page.faults == [] and page.title() == "Samples"


def test_it_sorts_by_any_number_with_unknown_ones_last_and_equal_ones_as_they_were(made):
    columns, page = made[1][0], made[0]()
    numbers = [name for name, column in columns.items() if not isinstance(column, list)]
    unknown = {
        "target": -1,
        "suspect_rank": -1,
        "suspect_kind": -1,
        "suspect_label": -1,
        "likely": -1,
        "learned": -1,
        "correct": 255,
    }
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


def test_what_is_clicked_in_the_side_bar_filters_and_becomes_a_chip(made):
    columns, page = made[1][0], made[0]()
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


def test_right_or_wrong_marks_text_and_ranges_are_fields_of_the_side_bar(made):
    columns, page = made[1][0], made[0]()
    page.get_by_role("button", name="Wrong", exact=False).first.click()
    wait_total(page, (columns["correct"] == 0).sum())
    page.get_by_label("Search ids").fill("picture-0001")
    fitting = np.array(["picture-0001" in one for one in columns["id"]]) & (columns["correct"] == 0)
    wait_total(page, fitting.sum())
    assert page.evaluate("document.activeElement.dataset.key") == "text"  # who types goes on typing
    page.get_by_role("button", name="remove all").click()
    wait_total(page, 137)
    page.locator("summary", has_text="Ranges").click()
    page.get_by_label("loss, smallest").fill("1.5")
    page.get_by_label("loss, smallest").press("Enter")
    wait_total(page, (columns["loss"] >= 1.5).sum())
    assert chips(page) == ["loss from 1.5000"]


def test_each_choice_says_how_many_samples_it_has_under_the_other_filters(made):
    columns, page = made[1][0], made[0]()
    page.locator("[data-filter=prediction][data-choice='1']").check()
    fits = columns["prediction"] == 1
    wait_total(page, fits.sum())
    assert choices(page, "target") == {str(of): (fits & (columns["target"] == of)).sum() for of in range(len(CLASSES))}
    groups = choices(page, "groups")
    assert groups == {name: (fits & (columns[name] == 1)).sum() for name in groups} and len(groups) == 6


def choices(page, name):
    """Return how many samples each choice of a filter has, as the side bar says."""
    found = "one => [one.querySelector('input').dataset.choice, Number(one.querySelector('.count').innerText)]"
    labels = page.locator(f"label:has([data-filter={name}])")
    return dict(labels.evaluate_all(f"labels => labels.map({found})"))


def test_suspects_come_first_and_pages_follow(made):
    columns, page = made[1][0], made[0]()
    ranks = np.where(columns["suspect_rank"] > 0, columns["suspect_rank"], 1000)
    expected = [columns["id"][row] for row in np.argsort(ranks, kind="stable")]
    assert shown_ids(page) == expected[:60]
    page.get_by_role("button", name="Next page").click()
    page.locator(".a-foot", has_text=re.compile("^61.120 of 137")).wait_for()
    assert shown_ids(page) == expected[60:120]
    page.get_by_label("Sort by").select_option("loss")
    page.locator(".a-foot", has_text=re.compile("^1.60 of 137")).wait_for()
    page.get_by_role("button", name="Smallest first").click()
    page.get_by_role("button", name="Largest first").wait_for()
    loss = np.nan_to_num(columns["loss"], nan=-1)
    assert shown_ids(page) == [columns["id"][row] for row in np.argsort(-loss, kind="stable")[:60]]


def test_a_card_has_truth_prediction_probability_and_a_curve_of_every_epoch(made):
    columns, page = made[1][0], made[0]()
    row = int(np.flatnonzero(columns["suspect_rank"] == 1)[0])
    card = page.locator(".a-card").first
    lines = card.inner_text().split("\n")
    assert CLASSES[columns["target"][row]] in lines and columns["id"][row] in lines
    assert f"{columns['probability'][row]:.2f}" in lines
    assert CLASSES[columns["prediction"][row]] in card.inner_text() and "suspect 1" in lines
    curve = card.locator("path.a-line").get_attribute("d")
    assert curve.count("L") == len(EPOCHS) - 1
    assert card.locator("img").count() == columns["pictured"][row]


def test_without_fitting_samples_it_says_so(made):
    _, page = made[1][0], made[0]()
    page.get_by_label("Search ids").fill("nothing is called so")
    page.locator(".a-empty", has_text="No sample fits these filters").wait_for()
    assert total(page) == 0 and page.faults == []
