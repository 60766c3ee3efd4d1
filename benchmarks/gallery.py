"""Measure how long the gallery takes to answer for very many samples, and how much memory it needs.

The samples are made up: logits of a model that learns, over three epochs. Each question is asked of the routes of the
tab, first with nothing in memory for it and then again. Then the tab is opened in a browser, where there is one, with
as many samples and with as many as the browser takes whole, and filtered, sorted and so on.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from tensorboard.plugins.base_plugin import TBContext
from werkzeug.test import Client

from assay.callbacks.gallery.tab.answers import MOST_ROWS
from assay.callbacks.gallery.tab.plugin import SamplesPlugin
from assay.callbacks.history.collected import SampleRows
from assay.callbacks.history.files import SampleFiles
from benchmarks import gallery_browser, results

LIMIT_S = 0.3  # for an answer that was asked for before
EPOCHS, CLASSES = 3, 10
OF = {"run": "run", "loader": "valid"}
QUESTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "first page": ("query", {}),
    "page by loss": ("query", {"q": {"sort": "loss", "descending": True}}),
    "page of an id": ("query", {"q": {"filters": {"text": "99"}}}),
    "page by four filters": (
        "query",
        {
            "q": {
                "sort": "aum",
                "filters": {"text": "7", "target": [1, 2], "correct": "wrong", "ranges": {"loss": [1, 9]}},
            }
        },
    ),
    "counts of choices": ("facets", {}),
    "confusion": ("aggregate", {"kind": "confusion"}),
    "distribution": ("aggregate", {"kind": "distribution", "options": {"column": "loss"}}),
    "scatter": ("aggregate", {"kind": "scatter"}),
    "precision and recall": ("aggregate", {"kind": "precision_recall", "options": {"class": 3}}),
    "curves of a page": ("curves", {"index": ",".join(map(str, range(60)))}),
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gallery", description=__doc__)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--browser-samples", type=int, default=100_000, help="that the browser takes whole")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args(arguments)
    with TemporaryDirectory() as folder:
        make_samples(Path(folder) / "run" / "samples" / "valid", options.samples)
        # In a process of its own, whose memory holds nothing that the making has left.
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            rows = pool.submit(measure, Path(folder), options.repetitions).result()
    rows["browser"] = {}
    for count in dict.fromkeys((min(options.browser_samples, options.samples), options.samples)):
        if why_not := gallery_browser.missing():
            print(why_not)
            break
        with TemporaryDirectory() as folder:
            make_samples(Path(folder) / "run" / "samples" / "valid", count)
            found = gallery_browser.measure(Path(folder), options.repetitions, takes_whole=count <= MOST_ROWS)
            rows["browser"][str(count)] = found
        print(f"{count:,} samples in the browser", *gallery_browser.told(found), sep="\n  ")
    for name, row in rows["answers"].items():
        again = row["again_s"]
        print(f"{name:22} first {row['first_s']:.2f} s, again {again['median']:.3f} s; at most {LIMIT_S:g} s is wanted")
    print(f"memory: {rows['memory_mib']:.0f} MiB")
    settings = vars(options) | {"limit_s": LIMIT_S, "epochs": EPOCHS, "load": os.getloadavg()[0]}
    results.write("gallery", "cpu", settings, rows)


def make_samples(folder: Path, count: int) -> None:
    """Write the files of a loader."""
    files = SampleFiles(folder, {"loader": "valid", "class_names": None})
    draw = np.random.default_rng(0)
    target, rows = draw.integers(0, CLASSES, count), np.arange(count)
    logits = draw.normal(size=(count, CLASSES)).astype(np.float32)
    ids = [f"images/{number:07}.png" for number in range(count)]
    for epoch in range(1, EPOCHS + 1):
        logits += draw.normal(scale=0.5, size=logits.shape).astype(np.float32)
        logits[rows, target] += 0.7
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        own, others = shares[rows, target], logits.copy()
        others[rows, target] = -np.inf
        margin = logits[rows, target] - others.max(axis=1)
        el2n = np.sqrt(np.maximum((shares**2).sum(axis=1) - 2 * own + 1, 0))
        columns = [target, logits.argmax(axis=1), shares.max(axis=1), own, margin, el2n, -np.log(own)]
        files.add(epoch, SampleRows(rows, ids, np.stack(columns, axis=1).astype(np.float32), shares.astype(np.float16)))


def measure(logdir: Path, repetitions: int) -> dict[str, Any]:
    """Return seconds by question, and the memory that the server takes beside."""
    apps = SamplesPlugin(TBContext(logdir=str(logdir), flags=None)).get_plugin_apps()
    client = Client(lambda environ, start: apps[environ["PATH_INFO"]](environ, start))
    client.get("/runs")
    before, found = _resident_mib(), {}
    for name, (route, parameters) in QUESTIONS.items():
        seconds = [_timed(lambda: _ask(client, route, parameters)) for _ in range(repetitions + 1)]  # noqa: B023
        found[name] = {"first_s": seconds[0], "again_s": results.spread(seconds[1:])}
    return {"answers": found, "memory_mib": _resident_mib() - before}


def _ask(client: Client, route: str, parameters: Mapping[str, Any]) -> None:
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in parameters.items()}
    answer = client.get(f"/{route}", query_string=OF | texts)
    if answer.status_code != 200:
        raise RuntimeError(f"{route} answers {answer.status_code}: {answer.text}")


def _timed(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
