"""The table of samples whose labels are probably wrong."""

import logging
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from ..samples.csv_table import write_table
from .suspects import Suspects

HEADER = ("loader", "sample_id", "label", "likely_label", "score")
_IN_LINE = 3  # samples that the line at the end of a run names

_log = logging.getLogger("assay")


class SuspectTable:
    """A CSV file of the suspects of all loaders, which is written whole whenever those of one are known.

    Args:
        path: of the file.
        class_names: one per class; None: classes are shown by number.
    """

    def __init__(self, path: Path, class_names: Sequence[str] | None):
        self.path, self.class_names = path, class_names
        self._rows: dict[str, list[tuple[str, ...]]] = {}
        self._lock = Lock()  # each loader has a thread of its own

    def __deepcopy__(self, memo: dict[int, Any]) -> "SuspectTable":
        # A lock cannot be copied. The validation before the first epoch runs copies of all callbacks.
        return SuspectTable(self.path, self.class_names)

    def put(self, loader: str, found: Suspects, ids: Sequence[str]) -> None:
        """Replace the suspects of a loader.

        Args:
            loader: its key.
            found: its suspects, the surest first.
            ids: of each of them.
        """
        rows: list[tuple[str, ...]] = [
            (loader, name, self._name(target), self._name(likely), f"{score:.4f}")
            for name, target, likely, score in zip(ids, found.target, found.likely, found.score, strict=True)
        ]
        with self._lock:
            self._rows[loader] = rows
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with write_table(self.path, HEADER) as table:
                for of in sorted(self._rows):
                    for row in self._rows[of]:
                        table.add(row)

    def tell(self) -> None:
        """Log a line on each loader that has suspects."""
        for loader, rows in sorted(self._rows.items()):
            if rows:
                named = (f"{name} is {label}, likely {likely}" for _, name, label, likely, _ in rows[:_IN_LINE])
                more = ", ..." if len(rows) > _IN_LINE else ""
                labels = "1 label" if len(rows) == 1 else f"{len(rows):,} labels"
                _log.info("%s of %s may be wrong (%s%s): see %s", labels, loader, ", ".join(named), more, self.path)

    def _name(self, number: int) -> str:
        known = self.class_names is not None and number < len(self.class_names)
        return self.class_names[number] if known and self.class_names else str(number)
