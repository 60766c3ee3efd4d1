"""Tables as JSON, for the front end."""

import base64
from typing import Any

import numpy as np
import pyarrow as pa

from .table import Table


def table_document(table: Table, rows: np.ndarray | None = None) -> dict[str, Any]:
    """Return a table for JSON: numbers as base64 of little-endian bytes, texts as lists.

    Args:
        table: of a loader in an epoch.
        rows: those to take, in this order; None: all.
    """
    ids = table.ids if rows is None else table.ids.take(pa.array(rows))
    columns: dict[str, Any] = {}
    for name, values in table.columns.items():
        of = values if rows is None else values[rows]
        data = of.astype(of.dtype.newbyteorder("<")).tobytes()
        columns[name] = {"type": of.dtype.name, "data": base64.b64encode(data).decode("ascii")}
    columns["id"] = {"type": "text", "data": ids.to_pylist()}
    if table.findings is not None:
        places = range(len(table)) if rows is None else rows.tolist()
        columns["findings"] = {"type": "text", "data": [" ".join(table.findings.get(row, ())) for row in places]}
    return {
        "run": table.run, "loader": table.loader, "task": table.task,
        "classes": None if table.classes is None else list(table.classes), "epoch": table.epoch,
        "epochs": list(table.epochs), "count": len(ids), "columns": columns,
    }  # fmt: skip
