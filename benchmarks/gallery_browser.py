"""Measure how long the tab Samples takes in a browser: to show the first samples, to filter, to sort, and so on.

The real server of TensorBoard over made-up samples, and Debian's Chromium, which playwright drives. What is timed ends
when the page says that it is ready, not with an answer of the server.
"""

import contextlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import results

LIMITS_MS = {"filter": 200, "sort": 200, "first view": 2000}
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_READY = "() => !document.querySelector('.a-grid.busy') && document.querySelector('.a-card') !== null"
# Keeps when the first samples are there, in the frame of the tab.
_FIRST = """new MutationObserver((_, watcher) => {
    if (!document.querySelector('.a-card')) return;
    watcher.disconnect();
    requestAnimationFrame(() => setTimeout(() => { window.firstSamples = performance.now(); }));
}).observe(document, { childList: true, subtree: true })"""
# Does something, and returns the milliseconds until the cards are other ones and the screen has shown them.
_TIMED = """async (act) => {
    const grid = document.querySelector('.a-grid');
    const start = performance.now();
    const changed = new Promise((resolve) => {
        const watcher = new MutationObserver(() => {
            if (grid.classList.contains('busy') || !grid.querySelector('.a-card')) return;
            watcher.disconnect();
            requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - start)));
        });
        watcher.observe(grid, { childList: true });
    });
    const [selector, kind, value] = act;
    const element = document.querySelector(selector);
    if (kind === 'click') element.dispatchEvent(new MouseEvent('click', { bubbles: true }));
    else {
        element.value = value;
        element.dispatchEvent(new Event(kind, { bubbles: true }));
    }
    return changed;
}"""
# What is done, in turn; each is undone by the next one of the same kind.
ACTS: dict[str, list[tuple[str, str, str]]] = {
    "filter": [
        ("[data-key=correct-wrong]", "click", ""),
        ("[data-key=correct-right]", "click", ""),
        ("[data-key=correct-null]", "click", ""),
        ("[data-key=target-3]", "click", ""),
        ("[data-key=target-3]", "click", ""),
    ],
    "sort": [
        ("[data-key=sort]", "change", "aum"),
        ("[data-key=sort]", "change", "margin"),
        ("[data-key=direction]", "click", ""),
        ("[data-key=sort]", "change", "id"),
        ("[data-key=sort]", "change", "loss"),
    ],
    "door": [
        (".a-door [data-cell]", "click", ""),
        (".a-chip", "click", ""),
    ],
    "slider": [("[data-key=epoch]", "change", "0"), ("[data-key=epoch]", "change", "1")],
}  # fmt: skip


def missing() -> str:
    """Return why there is no browser to measure with; empty: there is."""
    if _chromium() is None:
        return "the browser is not measured: install chromium"
    try:
        import playwright.sync_api  # noqa: F401 - whether it is there
    except ImportError:
        return "the browser is not measured: pip install playwright"
    return ""


def measure(logdir: Path, repetitions: int, *, takes_whole: bool) -> dict[str, Any]:
    """Return milliseconds and what the page takes, for the run in a folder.

    Args:
        logdir: with one run.
        repetitions: how often the page is opened.
        takes_whole: whether the browser takes the whole table, and filters by itself once it is there.
    """
    from playwright.sync_api import sync_playwright

    with _served(logdir) as address, sync_playwright() as play:
        options = ["--no-sandbox", "--disable-gpu", "--enable-precise-memory-info", "--js-flags=--expose-gc"]
        browser = play.chromium.launch(executable_path=_chromium(), args=options)
        opened = [_open(browser, address) for _ in range(repetitions + 1)]
        for _, page, _ in opened[:-1]:
            page.close()
        _, page, _ = opened[-1]
        frame = next(frame for frame in page.frames if frame != page.main_frame)
        if takes_whole:
            frame.wait_for_function(
                "() => performance.getEntriesByType('resource').some((one) => /.table[?]/.test(one.name))"
            )
            page.wait_for_timeout(1_000)
        rows = {name: _acts(frame, acts, repetitions) for name, acts in ACTS.items()}
        memory = frame.evaluate("() => { gc(); return performance.memory.usedJSHeapSize / 2 ** 20 }")
        browser.close()
    return {
        "first view": {"first": opened[0][0], "again": results.spread([one[0] for one in opened[1:]])},
        "tensorboard until the tab": results.spread([one[2] for one in opened]),
        **rows,
        "page_mib": memory,
    }


def _open(browser: Any, address: str) -> tuple[float, Any, float]:
    """Return milliseconds from the tab's beginning to its first samples, the page, and those of TensorBoard before."""
    page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    page.set_default_timeout(120_000)
    page.add_init_script(_FIRST)
    page.goto(f"{address}#assay_samples")
    page.frame_locator("iframe").locator(".a-card").first.wait_for()
    frame = next(frame for frame in page.frames if frame != page.main_frame)
    frame.wait_for_function(_READY)
    begun = frame.evaluate("performance.timeOrigin") - page.evaluate("performance.timeOrigin")
    frame.wait_for_function("() => window.firstSamples > 0")
    return frame.evaluate("window.firstSamples"), page, begun


def _acts(frame: Any, acts: list[tuple[str, str, str]], repetitions: int) -> dict[str, Any]:
    values = []
    for _ in range(repetitions):
        for act in acts:
            frame.wait_for_function("(selector) => document.querySelector(selector) !== null", arg=act[0])
            values.append(frame.evaluate(_TIMED, list(act)))
    return results.spread(values)


def _chromium() -> str | None:
    return next(filter(None, map(shutil.which, _BROWSERS)), None)


@contextlib.contextmanager
def _served(logdir: Path) -> Iterator[str]:
    """Yield the address of TensorBoard's server over a folder."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--host", "127.0.0.1", "--port", "0"]
    with TemporaryDirectory() as folder, open(Path(folder) / "log.txt", "w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield _waited(lambda: re.search(r"http://127\.0\.0\.1:\d+/", Path(log.name).read_text()), process)
        finally:
            process.kill()
            process.wait()


def _waited(find: Callable[[], "re.Match[str] | None"], process: "subprocess.Popen[bytes]") -> str:
    deadline = time.monotonic() + 120
    while (found := find()) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("TensorBoard does not start")
        time.sleep(0.1)
    return found.group()


def told(rows: dict[str, Any]) -> list[str]:
    """Return a line for each of what was measured."""
    first = rows["first view"]
    lines = [f"first view: {first['first']:.0f} ms, again {first['again']['median']:.0f} ms"]
    for name in ACTS:
        limit = f"; at most {LIMITS_MS[name]} ms is wanted" if name in LIMITS_MS else ""
        lines.append(
            f"{name}: {rows[name]['median']:.0f} ms ({rows[name]['low']:.0f} to {rows[name]['high']:.0f}){limit}"
        )
    return [*lines, f"memory of the page: {rows['page_mib']:.0f} MiB"]
