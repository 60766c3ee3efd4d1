"""The picture of the README: what diagnostics cost, by framework and one by one.

Run ``python -m benchmarks.chart``; it draws ``docs/overhead.png`` from ``benchmarks/results/overhead-DEVICE.json``.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .overhead import ALONE, ROWS
from .results import read

PATH = Path(__file__).resolve().parent.parent / "docs" / "overhead.png"
_OURS, _OTHERS, _INK = "#1f6feb", "#9aa4b0", "#24292f"


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chart", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args(arguments)
    draw(read("overhead", options.device), PATH)
    print(f"written: {PATH}")


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Draw the rows of ``overhead`` as bars, with the range over the turns.

    Args:
        results: what ``results.read`` returns.
        path: of the PNG.
    """
    alone = {f"{name} alone" for name in ALONE}
    frameworks = [name for name in ROWS if name in results["rows"] and name not in {"bare loop", *alone}]
    single = [name for name in ROWS if name in results["rows"] and name in alone]
    figure = Figure(figsize=(11, 4.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    settings = results["settings"]
    _bars(left, results["rows"], frameworks, {name: name for name in frameworks})
    left.set_title("time over that of a bare PyTorch loop", fontsize=10, loc="left")
    base = "assay, off"
    _bars(right, results["rows"], [base, *single], {name: name.removesuffix(" alone") for name in [base, *single]})
    right.set_title("one diagnostic at a time, added to off", fontsize=10, loc="left")
    figure.supxlabel(
        f"{settings['model']}, {settings['side']} x {settings['side']}, batch {settings['batch_size']}, "
        f"{settings['train_steps']} training and {settings['valid_steps']} validation steps an epoch; "
        f"{results['machine']['gpu'] or results['machine']['cpu']}, median of {settings['repetitions']}",
        fontsize=8,
    )
    figure.savefig(path)


def _bars(axes: Axes, rows: Mapping[str, Any], names: Sequence[str], labels: Mapping[str, str]) -> None:
    percent = [{part: 100 * (rows[name]["ratio"][part] - 1) for part in ("median", "low", "high")} for name in names]
    places = range(len(names))[::-1]
    for place, name, row in zip(places, names, percent, strict=True):
        ours = name.startswith("assay") or name.endswith(" alone")
        axes.barh(place, row["median"], color=_OURS if ours else _OTHERS, height=0.7)
        axes.plot([row["low"], row["high"]], [place, place], color=_INK, linewidth=1)
        axes.annotate(
            f"{row['median']:+.1f}%", (max(row["high"], row["median"], 0), place), xytext=(4, 0),
            textcoords="offset points", va="center", fontsize=8, color=_INK,
        )  # fmt: skip
    axes.set_yticks(list(places), [labels[name] for name in names], fontsize=8)
    axes.axvline(0, color=_INK, linewidth=0.8)
    axes.margins(x=0.12)
    axes.tick_params(axis="x", labelsize=8)
    axes.xaxis.set_major_formatter("{x:.0f}%")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


if __name__ == "__main__":
    main()
