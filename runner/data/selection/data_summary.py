"""What a run has to remember of its data set: the task and the names of the classes."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from assay.callbacks.errors import UsageError

from ..readers.item_list import ItemList


@dataclass(frozen=True)
class DataSummary:
    """Task and classes of a data set.

    Attributes:
        task: see ``ItemList``.
        class_names: see ``ItemList``.
        described: what was found, in one line.
        palette: colours of a segmentation's classes; None where the data set has none.
    """

    task: str
    class_names: tuple[str, ...]
    described: str
    palette: tuple[tuple[int, ...], ...] | None = None

    @classmethod
    def of(cls, items: ItemList) -> "DataSummary":
        """Return the summary of a data set."""
        palette = None if items.palette is None else _colours(items.palette.tolist())
        return cls(items.task, tuple(items.class_names), items.describe(), palette)

    @classmethod
    def read(cls, path: Path) -> "DataSummary":
        """Return the summary in a file of a run.

        Raises:
            UsageError: the file is damaged.
        """
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            palette = None if held.get("palette") is None else _colours(held["palette"])
            return cls(str(held["task"]), tuple(map(str, held["class_names"])), str(held["described"]), palette)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path} is damaged: put a copy in its place, or start a new run; {error}.") from error

    def to_json(self) -> str:
        """Return the text of a file for ``read``."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    def check_same(self, items: ItemList) -> None:
        """Raise where a data set has another task or other classes than the run was trained with."""
        if (self.task, self.class_names) != (items.task, tuple(items.class_names)):
            raise UsageError(
                f"the data set in {items.root} is {items.task} with the classes {_shown(items.class_names)}; the run "
                f"was trained with {self.task} and {_shown(self.class_names)}: give it the same, or start a new run."
            )


def _colours(rows: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(map(int, row)) for row in rows)


def _shown(names: tuple[str, ...]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
