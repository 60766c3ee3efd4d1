"""The table of samples whose labels are probably wrong, and what the run says of them at its end."""

import logging
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from ..samples.csv_table import write_table

if TYPE_CHECKING:
    from .groups import FoundGroups

HEADER = ("loader", "sample_id", "file", "kind", "label", "likely_label", "score", "epochs", "where")
_IN_LINE = 3  # samples that the line at the end of a run names
# Of each kind: how one and several are called, what they may be, and what is said of one: its id, its label, the likely
# one, and where.
_WORDS = {
    "label": ("label", "labels", "be wrong", "{0} is {1}, likely {2}"),
    "missing_label": ("label", "labels", "be missing", "{0} is likely {2} too"),
    "false_label": ("label", "labels", "be false", "{0} is likely not {1}"),
    "region": ("region", "regions", "have a wrong class", "{0} has {1}, likely {2}{3}"),
    "missing_box": ("box", "boxes", "be missing", "{0} has likely {2}{3}"),
    "false_box": ("box", "boxes", "be false", "{0} has likely no {1}{3}"),
    "swapped_box": ("box", "boxes", "have a wrong class", "{0} has {1}, likely {2}{3}"),
    "duplicate": ("label", "labels", "be wrong, as a duplicate has another one", "{0} is {1}, its duplicate {2}"),
}

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
            found: its suspects, the surest first. Where nothing tells any more which there are, it has none.
            files: path of the sample of each of them; empty where it is not known.
        """
        rows: list[tuple[str, ...]] = [
            (loader, one.name, file, one.kind, self._name(one.target), self._name(one.likely), f"{one.score:.4f}",
             str(one.epochs), one.where)
            for one, file in zip(found.rows(), files, strict=True)
        ]  # fmt: skip
        with self._lock:
            if found.suspects is None and loader not in self._rows:
                return
            self._rows[loader] = rows
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with write_table(self.path, HEADER) as table:
                for of in sorted(self._rows):
                    for row in self._rows[of]:
                        table.add(row)

    def tell(self) -> None:
        """Log a line on each kind of suspects of each loader, the surest first."""
        for loader, rows in sorted(self._rows.items()):
            for kind in dict.fromkeys(row[3] for row in rows):
                _log.info("%s: see %s", _line(kind, loader, [row for row in rows if row[3] == kind]), self.path)

    def _name(self, number: int) -> str:
        if number < 0:
            return ""
        known = self.class_names is not None and number < len(self.class_names)
        return self.class_names[number] if known and self.class_names else str(number)


def _line(kind: str, loader: str, rows: Sequence[tuple[str, ...]]) -> str:
    """Return what is said of the suspects of a kind, of at least one."""
    one, several, what, form = _WORDS[kind]
    named = [
        form.format(name, label or "nothing", likely or "nothing", f" at {where}" if where else "")
        for _, name, _, _, label, likely, _, _, where in rows[:_IN_LINE]
    ]
    more = ", ..." if len(rows) > _IN_LINE else ""
    return f"{len(rows):,} {one if len(rows) == 1 else several} of {loader} may {what} ({', '.join(named)}{more})"
