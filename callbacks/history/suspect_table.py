"""The table of samples whose labels are probably wrong."""

import logging
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from ..samples.csv_table import write_table

if TYPE_CHECKING:
    from .groups import FoundGroups

HEADER = ("loader", "sample_id", "file", "label", "likely_label", "score", "epochs")
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

    def put(self, loader: str, found: "FoundGroups", files: Sequence[str]) -> None:
        """Replace the suspects of a loader.

        Args:
            loader: its key.
            found: its suspects, the surest first, where there are any.
            files: path of each of them; empty where it is not known.
        """
        suspects = found.suspects
        rows: list[tuple[str, ...]] = []
        if suspects is not None:
            told = zip(found.ids, files, suspects.target, suspects.likely, suspects.score, found.epochs, strict=True)
            rows = [
                (loader, name, file, self._name(target), self._name(likely), f"{score:.4f}", str(epochs))
                for name, file, target, likely, score, epochs in told
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
                named = (f"{name} is {label}, likely {likely}" for _, name, _, label, likely, *_ in rows[:_IN_LINE])
                more = ", ..." if len(rows) > _IN_LINE else ""
                labels = "1 label" if len(rows) == 1 else f"{len(rows):,} labels"
                _log.info("%s of %s may be wrong (%s%s): see %s", labels, loader, ", ".join(named), more, self.path)

    def _name(self, number: int) -> str:
        known = self.class_names is not None and number < len(self.class_names)
        return self.class_names[number] if known and self.class_names else str(number)
