"""The gallery and the report below the cell of a notebook."""

import html
import re

import nbformat
import pytest
from nbclient import NotebookClient
from offline_browser import offline_browser
from report_runs import write_run, write_samples

from assay.callbacks import UsageError, show_report, show_samples


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = write_run(tmp_path_factory.mktemp("runs") / "run")
    write_samples(run)
    return run


def page_in(frame):
    return html.unescape(re.search(r'srcdoc="([^"]*)"', frame)[1])


def test_the_frame_holds_the_page_as_one_attribute(run):
    frame = show_samples(run, height=500)
    text = frame._repr_html_()
    assert page_in(text) == frame.page and "height: 500px" in text and text.count("<") == 2
    # The page in it reaches neither the notebook nor what the notebook may read.
    assert 'sandbox="allow-scripts allow-downloads"' in text
    assert repr(frame).startswith("<samples of run, ")


def test_what_cannot_be_shown_is_refused_in_one_line(run, tmp_path):
    with pytest.raises(UsageError, match="there is no such folder"):
        show_samples(tmp_path / "none")
    with pytest.raises(UsageError, match="height must be at least 200 pixels, got 100"):
        show_report(run, height=100)
    bare = write_run(tmp_path / "bare")
    with pytest.raises(UsageError, match=r"has no samples to show: SampleHistory writes them\.$"):
        show_samples(bare)


@pytest.mark.long("starts the kernel of a notebook, which imports torch anew, and a browser")
def test_a_notebook_shows_them_and_a_browser_opens_what_it_has_kept(run, tmp_path):
    cells = [
        "from assay.callbacks import show_report, show_samples",
        f"show_samples({str(run)!r})",
        f"show_report({str(run)!r})",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    NotebookClient(book, kernel_name="python3", timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    _, samples, report = (
        [output.data["text/html"] for output in cell.outputs if "text/html" in output.get("data", {})]
        for cell in book.cells
    )
    # As the page of a notebook has it, beside other outputs.
    (tmp_path / "book.html").write_text(f"<!doctype html><body>{samples[0]}{report[0]}", encoding="utf-8")
    with offline_browser() as open_file:
        page = open_file(tmp_path / "book.html", height=2000)
        gallery, told = page.frame_locator("iframe >> nth=0"), page.frame_locator("iframe >> nth=1")
        gallery.locator(".a-card").first.wait_for()
        told.locator("section").first.wait_for()
        assert gallery.locator(".a-card").count() == 60
        assert told.locator("[data-title=Settings]").count() == 1
        assert page.faults == []
        assert [url for url in page.requested if not url.startswith(("data:", "blob:", "about:"))] == [
            (tmp_path / "book.html").as_uri()
        ]
