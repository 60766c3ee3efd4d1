"""The picture of the README: what diagnostics cost, by framework and one by one.

Run ``python -m benchmarks.chart``; it draws ``docs/overhead.png`` from ``overhead-DEVICE.json`` and
``alone-DEVICE.json`` in ``benchmarks/results/``.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .results import read

PATH = Path(__file__).resolve().parent.parent / "docs" / "overhead.png"
_PARTS = ("median", "low", "high")
_PEERS = ("Catalyst", "Lightning", "Ignite")
_OURS, _OTHERS, _INK = "#1f6feb", "#9aa4b0", "#24292f"


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chart", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args(arguments)
    draw(read("overhead", options.device), read("alone", options.device), PATH)
    print(f"written: {PATH}")


def draw(overhead: Mapping[str, Any], alone: Mapping[str, Any], path: Path) -> None:
    """Draw the rows of both sets of ``benchmarks.overhead`` as bars, with the range over the turns.

    Args:
        overhead: what ``results.read`` returns of the frameworks.
        alone: what it returns of single diagnostics.
        path: of the PNG.
    """
    figure = Figure(figsize=(11, 4.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.set_title("time over that of a bare PyTorch loop", fontsize=10, loc="left")
    ratios = {name: row["ratio"] for name, row in overhead["rows"].items() if name != "bare loop"}
    over = {name: {part: ratio[part] - 1 for part in _PARTS} for name, ratio in ratios.items()}
    _bars(left, over, "{:+z.1f}%")  # z: never -0.0
    right.set_title("time of one diagnostic, over that of the loop", fontsize=10, loc="left")
    _bars(right, {name: row["share"] for name, row in alone["rows"].items()}, "{:.2f}%")
    settings, machine = overhead["settings"], overhead["machine"]
    figure.supxlabel(
        f"{settings['model']}, {settings['side']} x {settings['side']}, batch {settings['batch_size']}, "
        f"{settings['train_steps']} training and {settings['valid_steps']} validation steps an epoch; "
        f"{machine['gpu'] or machine['cpu']}; left: medians and ranges of {settings['repetitions']} runs",
        fontsize=8,
    )
    figure.savefig(path)


def _bars(axes: Axes, shares: Mapping[str, Mapping[str, float]], text: str) -> None:
    places = range(len(shares))[::-1]
    for place, (name, share) in zip(places, shares.items(), strict=True):
        median, low, high = (100 * share[part] for part in _PARTS)
        axes.barh(place, median, color=_OTHERS if name.startswith(_PEERS) else _OURS, height=0.7)
        axes.plot([low, high], [place, place], color=_INK, linewidth=1)
        axes.annotate(
            text.format(median), (max(high, median, 0), place), xytext=(4, 0),
            textcoords="offset points", va="center", fontsize=8, color=_INK,
        )  # fmt: skip
    axes.set_yticks(list(places), list(shares), fontsize=8)
    axes.axvline(0, color=_INK, linewidth=0.8)
    axes.margins(x=0.12)
    axes.tick_params(axis="x", labelsize=8)
    axes.xaxis.set_major_formatter("{x:g}%")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


if __name__ == "__main__":
    main()
