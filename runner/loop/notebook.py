"""What a run shows in a notebook: a bar, a table of epochs that grows, and pages of HTML."""

import sys
import warnings
from collections.abc import Mapping
from html import escape
from typing import Any

Metrics = Mapping[str, Mapping[str, float]]
"""Metrics of an epoch by loader and name."""

_SHOWN_EPOCHS = 20


def in_notebook() -> bool:
    """Return whether the process is the kernel of a notebook, which shows HTML."""
    # Not imported: where nothing else has imported IPython, there is no kernel.
    module = sys.modules.get("IPython")
    shell = None if module is None else module.get_ipython()
    return getattr(shell, "kernel", None) is not None


def make_bar(**options: Any) -> Any:
    """Return a progress bar: a widget in a notebook that has ``ipywidgets``, else text."""
    with warnings.catch_warnings():
        # Without ipywidgets tqdm warns, and its bar of text does as well.
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm
    return tqdm(**options)


def show_html(html: str) -> Any:
    """Show HTML below the cell; return a handle whose ``update`` replaces it."""
    from IPython.display import HTML, display

    return display(HTML(html), display_id=True)


class NotebookTable:
    """A table below the cell that gains a row per epoch."""

    def __init__(self) -> None:
        self._epochs: dict[int, Metrics] = {}
        self._seconds: dict[int, float] = {}
        self._best: int | None = None
        self._handle: Any = None

    def add(self, epoch: int, metrics: Metrics, seconds: float, *, best: bool) -> None:
        """Show the metrics of an epoch, how long it took, and whether no epoch so far is better."""
        self._epochs[epoch], self._seconds[epoch] = metrics, seconds
        self._best = epoch if best else self._best
        html = epoch_table(self._epochs, self._seconds, self._best)
        if self._handle is None:
            self._handle = show_html(html)
        else:
            from IPython.display import HTML

            self._handle.update(HTML(html))


def epoch_table(
    epochs: Mapping[int, Metrics], seconds: Mapping[int, float] | None = None, best: int | None = None
) -> str:
    """Return a table of the last epochs and of the best one as HTML.

    Args:
        epochs: metrics by epoch, loader and name.
        seconds: how long each took.
        best: the epoch that is printed bold; None: there is none.

    Example:
        >>> epoch_table({1: {"valid": {"loss": 0.25}}}).count("<tr>")
        2
    """
    columns = list(dict.fromkeys((loader, name) for by in epochs.values() for loader, of in by.items() for name in of))
    last = sorted(epochs)[-_SHOWN_EPOCHS:]
    shown = last if best is None or best not in epochs else sorted({best, *last})
    heads = ["epoch", *(f"{escape(loader)}<br>{escape(name)}" for loader, name in columns)]
    heads += [] if seconds is None else ["seconds"]
    rows = [_row("th", heads)]
    for epoch in shown:
        cells = [str(epoch), *(_number(epochs[epoch].get(loader, {}).get(name)) for loader, name in columns)]
        cells += [] if seconds is None else [f"{seconds[epoch]:.1f}" if epoch in seconds else ""]
        rows.append(_row("td", [f"<b>{cell}</b>" for cell in cells] if epoch == best else cells))
    hidden = len(epochs) - len(shown)
    note = f"<p>{hidden} more epochs are in metrics.csv</p>" if hidden else ""
    return f"<table>{''.join(rows)}</table>{note}"


def _row(kind: str, cells: list[str]) -> str:
    return f"<tr>{''.join(f'<{kind}>{cell}</{kind}>' for cell in cells)}</tr>"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
