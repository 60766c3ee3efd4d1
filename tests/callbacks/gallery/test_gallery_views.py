"""The gallery in a real Chromium: one sample large, views by address, keys, hostile texts, themes and widths."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from gallery_page import OTHER, RUN, chips, opened_gallery, shown_ids, total, wait_total
from legibility import seen_apart
from made_gallery import CLASSES, EPOCHS, HOSTILE

pytestmark = pytest.mark.long("opens a browser; filters, marks and the report are opened in one each time")

VISIBLE = [*HOSTILE[:2], "tab[U+0009]and[U+000A]line", "[U+202E]gnp.exe"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with opened_gallery(tmp_path_factory.mktemp("gallery")) as found:
        yield found


def view(**state):
    return json.dumps({"run": RUN, **state})


def test_a_sample_is_large_with_classes_history_and_all_that_is_known(made):
    columns, page = made[1][0], made[0]()
    row = int(np.flatnonzero((columns["pictured"] == 1) & (columns["suspect_rank"] > 0))[0])
    page = made[0](view(filters={"ids": [columns["id"][row]]}))
    page.locator(".a-card").click()
    dialog = page.locator("dialog")
    dialog.locator(".a-bars .value").first.wait_for()
    names = dialog.locator(".a-bars .a-cut").evaluate_all("all => all.map(one => one.textContent)")
    values = [float(text) for text in dialog.locator(".a-bars .value").all_inner_texts()]
    means = json.loads(page.locator("#data").text_content())["runs"][0]["loaders"][0]["samples"][str(row)]
    shares = means["mean_probability"]
    order = sorted(range(len(CLASSES)), key=lambda number: -shares[number])
    assert names == [CLASSES[number] for number in order]
    assert values == [pytest.approx(shares[number], abs=6e-4) for number in order]
    known = dict(
        dialog.locator(".a-known div").evaluate_all(
            "all => all.map(one => [...one.children].map(of => of.textContent))"
        )
    )
    assert known["truth"] == CLASSES[columns["target"][row]] and known["file"] == f"/data/{row}.png"
    assert known["loss"] == f"{columns['loss'][row]:.4f}" and known["suspect rank"] == str(columns["suspect_rank"][row])
    assert known["times forgotten"] == str(columns["forgetting"][row])
    lines = dialog.locator(".a-chart path.a-line").evaluate_all("all => all.map(one => one.getAttribute('d'))")
    assert [line.count("L") for line in lines] == [len(EPOCHS) - 1] * 2
    assert dialog.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 96


def test_the_kinds_of_pictures_of_a_sample_can_be_turned_to(made):
    columns = made[1][0]
    page = made[0](view(filters={"ids": [columns["id"][0]]}, open=0))
    dialog = page.locator("dialog")
    dialog.locator("[data-kind=image][aria-pressed=true]").wait_for()
    first = dialog.locator("img").get_attribute("src")
    dialog.locator("[data-kind=grad_cam]").click()
    dialog.locator("[data-kind=grad_cam][aria-pressed=true]").wait_for()
    assert dialog.locator("img").get_attribute("src") not in (first, None)


def test_keys_move_between_samples_and_close_what_is_open(made):
    page = made[0]()
    ids = shown_ids(page)
    page.locator(".a-card").first.focus()
    page.keyboard.press("ArrowDown")
    across = page.evaluate("Number(document.activeElement.dataset.place)")
    assert across == 5  # at 1,440 pixels
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    heading = page.locator("dialog h2")
    heading.wait_for()
    assert heading.get_attribute("title") == ids[4]
    page.keyboard.press("ArrowRight")
    page.locator(f'dialog [data-id="{ids[5]}"]').wait_for()
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="hidden")
    page.wait_for_function("id => document.activeElement.dataset.id === id", arg=ids[5])
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_a_view_is_in_the_address_and_comes_back_from_it(made):
    columns, page = made[1][0], made[0]()
    page.locator("[data-filter=groups][data-choice=forgotten]").check()
    wait_total(page, (columns["forgotten"] == 1).sum())
    page.get_by_label("Sort by").select_option("aum")
    page.locator("[data-door=scatter]").click()
    page.locator("[data-plot]").wait_for()
    page.locator(".a-card").nth(2).click()
    page.wait_for_function("() => location.hash.includes('open')")
    ids, address = shown_ids(page), page.evaluate("location.hash")
    again = made[0](page.evaluate("new URLSearchParams(location.hash.slice(1)).get('samples')"))
    again.locator("dialog h2").wait_for()
    assert again.evaluate("location.hash") == address
    assert (shown_ids(again), chips(again)) == (ids, ["Forgotten"])
    assert again.locator("dialog h2").get_attribute("title") == ids[2]
    assert again.locator("[data-door=scatter]").get_attribute("aria-selected") == "true"


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "null",
        '{"run": 7, "filters": {"target": "a", "ranges": {"loss": ["x", 1]}, "groups": [1]}, "page": -4, "sort": {}}',
        '{"run": "../../etc", "loader": "no such", "epoch": 99, "other": "none", "door": "none", "sort": "none"}',
        '{"filters": {"class_score": {"class": "a"}, "text": 4}, "open": 1000000}',
    ],
)
def test_an_address_that_anybody_wrote_shows_all_samples(made, text):
    page = made[0](text)
    assert total(page) == 137 and chips(page) == [] and page.faults == []


def test_texts_from_data_are_shown_as_they_are(made):
    columns = made[1][0]
    page = made[0](view(filters={"ids": HOSTILE}, sort="id"))
    wait_total(page, len(HOSTILE))
    shown = page.locator(".a-card .a-small").evaluate_all("all => all.map(one => one.textContent)")
    assert sorted(shown) == sorted(VISIBLE)
    for place in range(len(HOSTILE)):
        page.locator(".a-card").nth(place).click()
        page.locator("dialog .a-bars").wait_for()
        assert page.locator("dialog h2").text_content() in VISIBLE
        page.keyboard.press("Escape")
        page.locator("dialog").wait_for(state="hidden")
    page.locator("[data-filter=target][data-choice='2']").check()
    wait_total(page, sum(columns["target"][columns["id"].index(one)] == 2 for one in HOSTILE))
    # Nothing of it became markup, or ran.
    assert page.locator("#page script, #page img[src=x]").count() == 0
    assert page.title() == "Samples" and page.faults == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in page.requested)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 1024])
def test_it_is_readable_in_both_themes_and_widths(made, theme, width):
    page = made[0](width=width, theme=theme)
    page.locator("[data-cell]").first.wait_for()
    # Nothing is cut off at the side, and no text is small.
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for part in (".a-side", ".a-main", ".a-doors"):
        assert page.locator(part).evaluate("one => one.scrollWidth <= one.clientWidth"), part
    sizes = page.locator(".assay *:not(:has(*))").evaluate_all(
        "all => all.filter(one => one.checkVisibility() && one.innerText)"
        ".map(one => parseFloat(getComputedStyle(one).fontSize))"
    )
    assert min(sizes) >= 11
    texts = page.locator(".a-chart text").evaluate_all("all => all.map(one => one.getBoundingClientRect())")
    box = page.locator(".a-chart").bounding_box()
    assert all(box["x"] - 1 <= one["x"] and one["right"] <= box["x"] + box["width"] + 1 for one in texts)
    scale = page.locator(".a-chart").evaluate("one => one.getBoundingClientRect().width / one.viewBox.baseVal.width")
    size = page.locator(".a-chart text").last.evaluate("one => parseFloat(getComputedStyle(one).fontSize)")
    assert size * scale >= 10
    colours = page.locator(".assay").evaluate(
        "root => [getComputedStyle(root).color, getComputedStyle(root).backgroundColor]"
    )
    assert contrast(*colours) > 12
    soft = page.locator(".a-side h3").first.evaluate("one => getComputedStyle(one).color")
    assert contrast(soft, page.locator(".a-side").evaluate("one => getComputedStyle(one).backgroundColor")) > 4.5
    assert (luminance(colours[1]) > 0.5) == (theme == "light")
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"gallery-{width}-{theme}.png")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_right_and_wrong_are_apart_for_all_kinds_of_eyes(made, theme):
    page = made[0](theme=theme)
    code = "name => getComputedStyle(document.querySelector(name)).color"
    colours = [page.evaluate(code, f".a-card .{name}") for name in ("a-right", "a-wrong")]
    right, wrong = (tuple(map(int, one[4:-1].split(","))) for one in colours)
    assert min(seen_apart(right, wrong)) >= 40
    # Nor by colour alone.
    assert page.locator(".a-card .a-wrong").first.inner_text().startswith("✕")
    assert page.locator(".a-card .a-right").first.inner_text().startswith("✓")


def test_the_theme_can_be_switched_and_stays(made):
    page = made[0](theme="light")
    page.get_by_role("button", name="Dark colours").click()
    back = "getComputedStyle(document.querySelector('.assay')).backgroundColor"
    assert luminance(page.evaluate(back)) < 0.05
    page.reload()
    page.locator(".a-card").first.wait_for()
    assert luminance(page.evaluate(back)) < 0.05
    page.get_by_role("button", name="Light colours").click()
    assert luminance(page.evaluate(back)) > 0.9


def luminance(colour):
    """Return the relative luminance of rgb(...), as WCAG 2 defines it."""
    parts = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_without_runs_it_says_how_samples_come_about(made):
    page = made[0]()
    page.evaluate("""async () => {
        const { mountLocal } = await import("assay/local.js");
        document.getElementById("page").replaceChildren();
        await mountLocal(document.getElementById("page"), { runs: [] }, { address: null }).ready;
    }""")
    page.locator(".a-empty", has_text="No samples yet").wait_for()
    assert "SampleHistory" in page.locator(".a-empty").inner_text() and page.faults == []


def test_another_run_is_opened_by_its_name(made):
    page = made[0]()
    page.get_by_label("Run", exact=True).select_option(OTHER)
    row = int(np.flatnonzero(made[1][1]["suspect_rank"] == 1)[0])
    page.locator(f".a-card[data-id='{made[1][1]['id'][row]}']").wait_for()
    assert shown_ids(page)[0] == made[1][1]["id"][row] and total(page) == 137
