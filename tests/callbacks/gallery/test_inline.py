"""A page that holds all it needs: whatever its data says, it stays data."""

import json
import re

import pytest
from offline_browser import offline_browser

from assay.callbacks.gallery.inline import embedded_json, inlined_page, modules_of

HOSTILE = [
    "</script><script>document.title = 'broken'</script>",
    "<!-- <script>",
    "]]>",
    "\u2028\u2029",
    "\x00\x1b\x7f",
    "'\"`${document.title = 1}\\",
    "<img src=x onerror=\"document.title='broken'\">",
    "\ud800 half of a character",
    "ÄÖÜ 漢字 🦉",
]


def data_in(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def test_hostile_texts_are_the_same_texts_on_the_other_side():
    page = inlined_page(HOSTILE[0], "report.js", {"texts": HOSTILE, HOSTILE[0]: HOSTILE[1]})
    assert data_in(page) == {"texts": HOSTILE, HOSTILE[0]: HOSTILE[1]}
    assert page.isascii()
    assert page.count("</script>") == 3 and "<!--" not in page


def test_numbers_that_json_does_not_know_are_refused():
    with pytest.raises(ValueError, match="JSON"):
        embedded_json([float("nan")])


def test_only_modules_of_the_folder_are_taken():
    for name in ("../inline.py", "/etc/passwd", "none.js"):
        with pytest.raises(FileNotFoundError):
            modules_of(name)
    modules = modules_of("report.js")
    assert "report_dom.js" in modules
    assert all("./" not in line for code in modules.values() for line in code.splitlines() if " from " in line[-40:])


@pytest.fixture(scope="module")
def open_file():
    with offline_browser() as open_file:
        yield open_file


def test_it_opens_from_disk_without_a_network_and_asks_for_nothing(open_file, tmp_path):
    path = tmp_path / "page.html"
    data = {"made": "now", "runs": [], "compare": None, "texts": HOSTILE}
    path.write_text(inlined_page(HOSTILE[0], "report.js", data), encoding="ascii")
    page = open_file(path)
    page.locator("#page > *").first.wait_for()
    assert page.title().startswith("</script><script>")
    assert page.evaluate("JSON.parse(document.getElementById('data').textContent)")["texts"][:2] == HOSTILE[:2]
    assert page.faults == []
    assert [url for url in page.requested if not url.startswith(("data:", "blob:"))] == [path.as_uri()]
    # The policy lets nothing in that the page does not hold.
    assert page.evaluate("""async () => {
        const script = document.createElement("script");
        script.textContent = "window.ran = true";
        document.body.append(script);
        const fetched = await fetch("http://127.0.0.1:9/").then(() => "went out", () => "blocked");
        return [window.ran === undefined, fetched];
    }""") == [True, "blocked"]
