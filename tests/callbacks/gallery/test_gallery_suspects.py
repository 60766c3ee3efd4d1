"""What is said of suspects in the gallery: their kind, what is wrong and what is right."""

import numpy as np
import pytest
from gallery_page import RUN, chips, opened_gallery, shown_ids, wait_total
from made_gallery import CLASSES, HOSTILE, KINDS

from assay.callbacks.history.suspects import SUSPECT_KINDS


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    with opened_gallery(tmp_path_factory.mktemp("gallery")) as (opened, tables):
        yield opened, tables[0]


def test_the_kinds_are_those_of_the_history():
    assert tuple(KINDS) == SUSPECT_KINDS


def test_each_kind_is_a_filter_with_its_count(gallery):
    opened, columns = gallery
    page = opened()
    for code, kind in enumerate(KINDS):
        count = int((columns["suspect_kind"] == code).sum())
        choice = page.locator(f"[data-filter=kinds][data-choice={kind}]")
        assert choice.locator("xpath=..").locator(".count").inner_text() == str(count)
    page.locator("[data-choice=missing_box]").check()
    page.locator("[data-choice=duplicate]").check()
    expected = np.flatnonzero(np.isin(columns["suspect_kind"], [4, 7]))
    wait_total(page, len(expected))
    assert sorted(shown_ids(page)) == sorted(columns["id"][row] for row in expected)
    assert chips(page) == ["Missing box", "Duplicate"]
    # The view has an address.
    page.reload()
    wait_total(page, len(expected))


def test_a_card_and_its_sheet_say_what_is_wrong_and_what_is_right(gallery):
    opened, columns = gallery
    row = int(np.flatnonzero(columns["suspect_rank"] == 6)[0])
    page = opened(f'{{"run":"{RUN}","filters":{{"kinds":["false_box"]}}}}')
    card = page.locator(".a-card").first
    names = [CLASSES[columns[name][row]] if columns[name][row] >= 0 else "" for name in ("suspect_label", "likely")]
    assert card.locator(".a-suspicion").inner_text() == "False box: " + " → ".join(filter(None, names))
    card.click()
    item = page.locator("[data-suspicion=false_box]")
    item.wait_for()
    assert item.inner_text() == (
        f"False box: {HOSTILE[0]}, score 0.50, at x 2 to 30, y 2 to 40 of the picture that the model saw"
    )
    assert page.faults == []
    assert page.locator("main script, dialog script").count() == 0
