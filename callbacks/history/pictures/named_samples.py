"""Which samples of a loader its lists name: suspects first, then those of the groups."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

_GROUPS = ("newly_wrong", "stuck", "forgotten", "unstable")  # easy ones are most samples, and nobody looks at them


def named_samples(folder: Path) -> Sequence[int]:
    """Return the numbers of the samples that ``groups.parquet`` in a folder names, the surest suspects first."""
    import pyarrow.parquet as pq

    path = folder / "groups.parquet"
    if not path.exists():
        return ()
    table = pq.read_table(path)
    index = table["index"].to_numpy()
    found: list[int] = []
    if "suspect_rank" in table.column_names:
        ranks = table["suspect_rank"].to_numpy(zero_copy_only=False).astype(np.float64)  # null is NaN
        order = np.argsort(ranks, kind="stable")
        found += index[order[: int(np.isfinite(ranks).sum())]].tolist()
    for name in _GROUPS:
        if name in table.column_names:
            found += index[np.asarray(table[name].fill_null(False))].tolist()
    return list(dict.fromkeys(found))
