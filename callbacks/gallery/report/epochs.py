"""Earlier epochs of the samples that a page holds, small enough for a slider over them."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import UsageError
from ..run_samples import RunSamples
from ..table import FLAGS, INTEGERS, NUMBERS, UNKNOWN, UNKNOWN_FLAG, Table

_MOST_EPOCHS = 40  # earlier ones, so that making the page does not take long
_LARGEST_HALF = 60_000  # of float16, which ends at 65,504
_OF_RUN = (  # that are of all epochs, or of the sample, and so the same in each
    "index", "target", "seen", "learned", "forgetting", "suspect_rank", "suspect_kind", "suspect_label", "likely",
    "aum", "mean_el2n", "confidence", "variability", "suspect_score", "pictured", "boxes",
)  # fmt: skip


def earlier_epochs(samples: RunSamples, table: Table, rows: np.ndarray, budget: int) -> tuple[dict[str, Any], int]:
    """Return what changed from epoch to epoch of some samples, of as many epochs as fit, and their bytes.

    Args:
        samples: of the run.
        table: of the last epoch of a loader.
        rows: of it, those that the page holds, ascending.
        budget: bytes.

    Returns:
        ``numbers`` of the epochs, ascending, without the last one; ``left_out``, how many are missing; and ``tables``,
        one per epoch: ``columns`` as those of a table document, for all ``rows``, and ``seen``, base64 of a byte per
        row, or None where all were seen. Fractions have the three digits of float16.
    """
    earlier = [epoch for epoch in table.epochs if epoch < table.epoch]
    # One is enough to know how large each is.
    size = _bytes_of(table, len(rows))
    kept = spread_evenly(earlier, min(_MOST_EPOCHS, budget // max(size, 1)))
    found: dict[str, Any] = {"numbers": [], "left_out": len(earlier), "tables": []}
    used = 0
    for epoch in kept:
        try:
            of_epoch = _of_epoch(samples.table(table.loader, epoch), table.columns["index"][rows])
        except UsageError:  # a file that is damaged or has just gone is left out, and counted as such
            continue
        found["numbers"].append(epoch)
        found["tables"].append(of_epoch)
        found["left_out"] -= 1
        used += size
    return found, used


def spread_evenly(epochs: Sequence[int], most: int) -> list[int]:
    """Return at most so many of the epochs, evenly, the first one among them."""
    if len(epochs) <= most:
        return list(epochs)
    places = np.linspace(0, len(epochs), max(most, 0), endpoint=False)
    return [epochs[int(place)] for place in places]


def _changing(columns: Mapping[str, np.ndarray]) -> list[str]:
    known = {*INTEGERS, *NUMBERS, *FLAGS} - {*_OF_RUN, *(name for name in FLAGS if name != "correct")}
    return [name for name in columns if name in known]


def _bytes_of(table: Table, count: int) -> int:
    names = _changing(table.columns)
    widths = [_packed(table.columns[name]).dtype.itemsize for name in names]
    return int(count * (sum(widths) + 1) * 4 / 3) + 60 * (len(names) + 1)


def _of_epoch(table: Table, indices: np.ndarray) -> dict[str, Any]:
    index = table.columns["index"]
    place = np.minimum(np.searchsorted(index, indices), max(len(index) - 1, 0))
    seen = index[place] == indices if len(index) else np.zeros(len(indices), bool)
    columns = {}
    for name in _changing(table.columns):
        values = table.columns[name]
        unknown = {np.uint8: UNKNOWN_FLAG, np.int32: UNKNOWN}.get(values.dtype.type, np.nan)
        taken = np.full(len(indices), unknown, values.dtype)
        taken[seen] = values[place[seen]]
        packed = _packed(taken)
        columns[name] = {"type": packed.dtype.name, "data": _encoded(packed)}
    return {"columns": columns, "seen": None if seen.all() else _encoded(seen.astype(np.uint8))}


def _packed(values: np.ndarray) -> np.ndarray:
    """Return numbers in as few bytes as hold them: whole ones exactly, fractions to three digits."""
    if values.dtype == np.int32:
        most = max(int(values.max(initial=0)), -int(values.min(initial=0)))
        return values.astype(np.int8 if most < 128 else np.int16 if most < 32_768 else np.int32)
    if values.dtype == np.float32 and np.abs(values[np.isfinite(values)]).max(initial=0) < _LARGEST_HALF:
        return values.astype(np.float16)
    return values


def _encoded(values: np.ndarray) -> str:
    return base64.b64encode(values.astype(values.dtype.newbyteorder("<")).tobytes()).decode("ascii")
