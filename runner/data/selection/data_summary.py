"""What a run has to remember of its data set: the task and the names of the classes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from assay.callbacks.errors import UsageError
from assay.callbacks.keys import TARGET_KEY

from ..readers.item_list import ItemList
from ..readers.masks.mask_classes import MaskClasses
from ..readers.masks.mask_items import MaskFiles


@dataclass(frozen=True)
class DataSummary:
    """Task and classes of a data set.

    Attributes:
        task: see ``ItemList``.
        class_names: see ``ItemList``.
        described: what was found, in one line.
        palette: colours of a segmentation's classes; None where the data set has none.
        masks: what the values of mask files mean; None where there are none, and in runs of former versions.
    """

    task: str
    class_names: tuple[str, ...]
    described: str
    palette: tuple[tuple[int, ...], ...] | None = None
    masks: MaskClasses | None = None

    @classmethod
    def of(cls, items: ItemList) -> "DataSummary":
        """Return the summary of a data set."""
        palette = None if items.palette is None else _colours(items.palette.tolist())
        target = items.column(TARGET_KEY) if items.task == "segmentation" else None
        masks = target.classes if isinstance(target, MaskFiles) else None
        return cls(items.task, tuple(items.class_names), items.describe(), palette, masks)

    @classmethod
    def read(cls, path: Path) -> "DataSummary":
        """Return the summary in a file of a run.

        Raises:
            UsageError: the file is damaged.
        """
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            palette = None if held.get("palette") is None else _colours(held["palette"])
            names, masks = tuple(map(str, held["class_names"])), held.get("masks")
            classes = None if masks is None else _mask_classes(names, palette, **masks)
            return cls(str(held["task"]), names, str(held["described"]), palette, classes)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path} is damaged: put a copy in its place, or start a new run; {error}.") from error

    def to_json(self) -> str:
        """Return the text of a file for ``read``."""
        held: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.masks is not None:
            of = self.masks
            pairs = [[value, number] for value, number in of.class_of.items()]
            held["masks"] = {"class_of": pairs, "are_colours": of.are_colours, "described": of.described}
        return json.dumps(held, indent=2, ensure_ascii=False) + "\n"

    def check_same(self, items: ItemList) -> None:
        """Raise where a data set has another task or other classes than the run was trained with."""
        if (self.task, self.class_names) != (items.task, tuple(items.class_names)):
            raise UsageError(
                f"the data set in {items.root} is {items.task} with the classes {_shown(items.class_names)}; the run "
                f"was trained with {self.task} and {_shown(self.class_names)}: give it the same, or start a new run."
            )


def _mask_classes(
    names: tuple[str, ...],
    palette: Sequence[Sequence[int]] | None,
    class_of: Sequence[tuple[int, int]],
    are_colours: bool,
    described: str,
) -> MaskClasses:
    colours = None if palette is None else np.array(palette, dtype=np.uint8)
    values = {int(value): int(number) for value, number in class_of}
    return MaskClasses(names, values, bool(are_colours), colours, described)


def _colours(rows: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(map(int, row)) for row in rows)


def _shown(names: tuple[str, ...]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
