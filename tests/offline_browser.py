"""A real Chromium, and one without a network for pages that must open from disk."""

import os
import shutil
from contextlib import contextmanager

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def chromium():
    """Yield the system's Chromium as playwright drives it; skip where either is not there."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    missing = "the package playwright" if sync_playwright is None else "a browser: install chromium"
    if sync_playwright is None or CHROMIUM is None:
        (pytest.fail if os.environ.get("BROWSER_TESTS") == "required" else pytest.skip)(f"needs {missing}")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@contextmanager
def offline_browser():
    """Yield a function that opens a file, with the requests that a page makes and the errors that it logs."""
    with chromium() as browser:

        def open_file(path, *, width=1440, height=900, theme="light", **options):
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=theme, offline=True, **options
            )
            page = context.new_page()
            page.set_default_timeout(30_000)
            page.requested, page.faults = [], []
            page.on("request", lambda request: page.requested.append(request.url))
            page.on("pageerror", lambda error: page.faults.append(str(error)))
            page.on("console", lambda message: page.faults.append(message.text) if message.type == "error" else None)
            page.goto(path.as_uri())
            return page

        yield open_file
