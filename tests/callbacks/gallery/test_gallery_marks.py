"""Marks of the gallery in a real Chromium: by buttons and keys, kept, and as the CSV file that a run reads."""

import numpy as np
import pytest
from gallery_page import RUN, chips, opened_gallery, shown_ids, wait_total
from made_gallery import CLASSES, HOSTILE

from assay.callbacks.history.marks import Mark, read_marks


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with opened_gallery(tmp_path_factory.mktemp("gallery")) as found:
        yield found


def downloaded(page, folder):
    """Return the marks that the gallery offers as a file, as a run reads them."""
    with page.expect_download() as waiting:
        page.locator("[data-key=download]").click()
    waiting.value.save_as(folder / "marks.csv")
    assert waiting.value.suggested_filename == "marks.csv"
    return read_marks(folder / "marks.csv")


def wait_marks(page, count):
    page.locator("[data-key=download]", has_text=f"{count} mark").wait_for()


def test_marks_by_buttons_and_keys_are_kept_and_filter_and_can_be_taken_back(made, tmp_path):
    page = made[0]()
    ids = shown_ids(page)
    page.locator(".a-card").nth(0).click()
    page.get_by_label("Right class").select_option(label=CLASSES[4])
    page.locator("dialog [data-mark=wrong_label]").click()
    page.locator("dialog [data-mark=wrong_label][aria-pressed=true]").wait_for()
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="hidden")
    # The focus is on the card again: arrows move on, and a letter marks.
    assert page.evaluate("document.activeElement.dataset.id") == ids[0]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("s")
    wait_marks(page, 2)
    assert page.evaluate("document.activeElement.dataset.id") == ids[1]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("l")
    wait_marks(page, 3)
    expected = [
        Mark("valid", ids[0], "wrong_label", CLASSES[4]),
        Mark("valid", ids[1], "skip"),
        Mark("valid", ids[2], "look_again"),
    ]
    assert downloaded(page, tmp_path) == expected
    assert page.locator(".a-badge.mark").all_inner_texts() == ["Wrong label", "Skip", "Look again"]
    # A page that is opened again has them.
    page.reload()
    wait_marks(page, 3)
    for name, found in (("skip", [ids[1]]), ("look_again", ids[1:3])):
        page.locator(f"[data-filter=marks][data-choice={name}]").check()
        wait_total(page, len(found))
        assert shown_ids(page) == found
    assert chips(page) == ["mark: Skip", "mark: Look again"]
    page.get_by_role("button", name="remove all").click()
    wait_total(page, 137)
    page.locator(".a-card").nth(1).focus()
    page.keyboard.press("s")
    wait_marks(page, 2)
    assert downloaded(page, tmp_path) == [expected[0], expected[2]] and page.faults == []


def test_any_id_and_class_name_comes_back_from_the_file(made, tmp_path):
    page = made[0]()
    for place, name in enumerate((*HOSTILE, "picture-00001.png")):
        view = f'{{"run":"{RUN}"}}'
        page.evaluate(
            "([view, id]) => { const state = { ...JSON.parse(view), filters: { ids: [id] } };"
            " location.hash = new URLSearchParams({ samples: JSON.stringify(state) }) }",
            [view, name],
        )
        page.reload()
        wait_total(page, 1)
        page.locator(".a-card").click()
        page.get_by_label("Right class").select_option(CLASSES[2])
        page.keyboard.press("Tab")
        page.locator("dialog [data-mark=wrong_label]").click()
        wait_marks(page, place + 1)
        page.keyboard.press("Escape")
        # The address follows when the sample is closed.
        page.wait_for_function("() => !location.hash.includes('open')")
    marks = downloaded(page, tmp_path)
    assert [mark.sample_id for mark in marks] == [*HOSTILE, "picture-00001.png"]
    assert {mark.label for mark in marks} == {CLASSES[2]}
    assert page.title() == "Samples" and page.faults == []


def test_a_sample_that_leaves_the_page_by_its_mark_is_closed(made, tmp_path):
    page = made[0]()
    ids = shown_ids(page)
    for place in (0, 3):
        page.locator(".a-card").nth(place).press("s")
        page.locator(".a-card").nth(place).locator(".a-badge.mark").wait_for()
    page.locator("[data-filter=marks][data-choice=skip]").check()
    wait_total(page, 2)
    page.locator(".a-card").first.click()
    page.locator("dialog [data-mark=skip][aria-pressed=true]").wait_for()
    page.keyboard.press("s")
    page.locator("dialog").wait_for(state="hidden")
    wait_total(page, 1)
    page.keyboard.press("w")  # for no sample, as none is open
    assert downloaded(page, tmp_path) == [Mark("valid", ids[3], "skip")] and page.faults == []


def test_what_a_spreadsheet_would_run_comes_back_as_it_was(made, tmp_path):
    names = ["=1+1", "'=1", "-5", "+a", "@b", "-b", "\ra", 'quote"d', "a,b", "'plain", "two\r\nlines", " "]
    code = """async names => {
        const { csvOf } = await import("assay/marks.js");
        return csvOf(names.map((name) => ({ loader: "train", sample_id: name, mark: "skip", label: name })));
    }"""
    (tmp_path / "marks.csv").write_bytes(made[0]().evaluate(code, names).encode())
    assert read_marks(tmp_path / "marks.csv") == [Mark("train", name, "skip", name) for name in names]


def test_a_wrong_label_without_a_chosen_class_has_none(made, tmp_path):
    page = made[0]()
    columns = made[1][0]
    row = int(np.flatnonzero(columns["suspect_rank"] == 1)[0])
    page.locator(".a-card").first.focus()
    page.keyboard.press("w")
    wait_marks(page, 1)
    assert downloaded(page, tmp_path) == [Mark("valid", columns["id"][row], "wrong_label")]
    # A class that is chosen afterwards is added.
    page.locator(".a-card").first.press("Enter")
    page.get_by_label("Right class").select_option(CLASSES[1])
    page.keyboard.press("Tab")
    page.locator("[data-key=sheet-close]").click()
    assert downloaded(page, tmp_path) == [Mark("valid", columns["id"][row], "wrong_label", CLASSES[1])]
