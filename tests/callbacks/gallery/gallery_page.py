"""The gallery of made-up samples in a page from disk, in a real Chromium."""

from contextlib import contextmanager

from made_gallery import made_report
from offline_browser import offline_browser

from assay.callbacks.gallery.inline import inlined_page

RUN, OTHER = "made/20260101-120000", "made/20260102-120000"


@contextmanager
def opened_gallery(folder):
    """Yield a function that opens the gallery, of the first of two runs, and the columns of both.

    Args:
        folder: for the page.
    """
    data, tables = made_report()
    path = folder / "gallery.html"
    path.write_text(inlined_page("Samples", "local.js", data, function="mountLocal"))
    with offline_browser() as open_file:

        def opened(view=f'{{"run":"{RUN}"}}', **options):
            page = open_file(path, **options)
            page.evaluate("view => { location.hash = new URLSearchParams({ samples: view }) }", view)
            page.reload()
            page.locator(".a-card, .a-empty").first.wait_for()
            return page

        yield opened, tables


def shown_ids(page):
    """Return the ids of the cards, in their order."""
    return page.locator(".a-card").evaluate_all("cards => cards.map(card => card.dataset.id)")


def total(page):
    """Return how many samples the gallery says that there are."""
    return int(page.locator(".a-bar h2").inner_text().split()[0].replace(",", ""))


def chips(page):
    """Return the texts of the active filters."""
    return [text for text in page.locator(".a-chip").all_inner_texts() if text != "remove all"]


def wait_total(page, count):
    """Wait until so many samples are told."""
    page.wait_for_function(
        "count => document.querySelector('.a-bar h2').innerText.split(' ')[0].replace(',', '') === String(count) &&"
        " !document.querySelector('.a-grid.busy')",
        arg=int(count),
    )
