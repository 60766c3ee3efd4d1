"""The items of a data set as columns: images and targets by path, read when they are asked for."""

import operator
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np

from assay.callbacks.errors import UsageError, unknown_name
from assay.callbacks.keys import IMAGE_KEY, SAMPLE_ID_KEY, TARGET_KEY

Column = Sequence[Any] | np.ndarray
_Entry = TypeVar("_Entry")

TASKS = ("multiclass", "multilabel", "binary", "segmentation", "detection")
SPLITS = ("train", "valid", "test")
CLASSES_OF_MASKS = "classes_of_masks"
"""A column that is no part of an item: the classes that each mask holds, int64 [K], where all masks were looked at."""
_PARTS = frozenset({"image", "sample_id", "target", "bboxes", "labels", "iscrowd", "split"})
"""Columns of items alone: a further column of a table that is called so is none of them."""
PROBLEMS = "data_problems.txt"
"""The file of a run folder that lists what is wrong with the data."""
_SHOWN_PROBLEMS = 10
BACKGROUND = "background"
"""The first class name of a detection: torchvision's detectors keep label 0 for what is no object."""


class ItemList(Sequence[dict[str, Any]]):
    """Items of a data set, made when they are asked for, from columns: one million stay under 1 GiB.

    An item is a dict of what the columns hold for it. ``image``, and ``target`` where it names a mask, are full paths
    in it. ``split`` is no part of an item.

    ============= ====================================================================================
    column        what it holds for each item
    ============= ====================================================================================
    ``image``     a path, relative to ``root`` or absolute
    ``sample_id`` a unique text; without this column it is the image's path as given, with slashes
    ``target``    a class number; float32 [C] of 0 and 1 for multilabel, 0 or 1 for binary; for a
                  segmentation the path of a mask, or an array [H, W] that the column makes when asked
    ``bboxes``    float32 [M, 4]: left, top, right, bottom in pixels
    ``labels``    int64 [M]: classes of the boxes
    ``group``     a text: items of one group belong to one part of a split; "" for none
    ``split``     "train", "valid", "test" or None
    ============= ====================================================================================

    Args:
        root: the folder of relative paths.
        columns: sequences of one length; texts and arrays are packed, any other sequence is kept and asked by index.
        task: one of ``TASKS``.
        layout: what was found, in words: "a folder per class", "COCO".
        class_names: the name of each class or label; of a detection, label 0 is "background".
        problems: what was left out or looks wrong, one line each.
        extra_columns: further columns, which are no part of an item: those of a table that one may group by. One that
            is called like a part of items, such as ``labels``, is left out.

    Attributes:
        palette: colours of a segmentation's classes, [C, 3] uint8, where the data set has some.

    Raises:
        UsageError: the columns differ in length, hold no ``image``, or two items have one ``sample_id``.

    Example:
        >>> columns = {"image": ["a.jpg", "b.jpg"], "target": [0, 1]}
        >>> items = ItemList(Path("/photos"), columns, task="multiclass", layout="my own", class_names=["cat", "dog"])
        >>> items[1]
        {'image': '/photos/b.jpg', 'target': 1, 'sample_id': 'b.jpg'}
        >>> print(items.describe())
        my own: 2 images, 2 classes; no split given
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        columns: Mapping[str, Column],
        *,
        task: str,
        layout: str,
        class_names: Sequence[str],
        problems: Sequence[str] = (),
        extra_columns: Mapping[str, Column] | None = None,
    ):
        if task not in TASKS:
            raise unknown_name("task", task, TASKS)
        self.root = Path(root)
        self.task = task
        self.layout = layout
        self.class_names = tuple(class_names)
        self.problems = tuple(problems)
        self.palette: np.ndarray | None = None
        self._parts = tuple(name for name in (*columns, SAMPLE_ID_KEY) if name != "split")
        extra = {name: values for name, values in (extra_columns or {}).items() if name not in _PARTS}
        self._columns = _checked_columns({**extra, **columns})
        self._order: np.ndarray | None = None  # of the items in the columns; None: all of them, as they are

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all columns, also of those that are no part of an item."""
        return tuple(self._columns)

    def column(self, name: str) -> Sequence[Any]:
        """Return what a column holds, in the order of the items: an array, or a sequence of texts or arrays.

        Raises:
            UsageError: there is no such column.
        """
        if name not in self._columns:
            raise unknown_name("column", name, self.names)
        column = self._columns[name]
        if self._order is not None:
            column = column[self._order] if isinstance(column, np.ndarray) else Picked(column, self._order)
        values: Sequence[Any] = column
        return values

    def take(self, indices: Iterable[int]) -> "ItemList":
        """Return the items of some indices, in their order; the columns are shared, not copied."""
        chosen = np.asarray(indices if isinstance(indices, np.ndarray) else list(indices), dtype=np.int64)
        if chosen.size and not -len(self) <= chosen.min() <= chosen.max() < len(self):
            raise IndexError(f"indices must be below {len(self)}, got {chosen.min()} to {chosen.max()}.")
        taken = object.__new__(type(self))
        taken.__dict__.update(self.__dict__)
        taken._order = (np.arange(len(self)) if self._order is None else self._order)[chosen]
        return taken

    def with_targets(self, targets: Mapping[int, int]) -> "ItemList":
        """Return the items with other class numbers as targets of some, by their index; the other columns are shared.

        Raises:
            UsageError: the items have no class numbers as targets.
        """
        if self.task not in ("multiclass", "binary"):
            raise UsageError(f"with_targets needs one class per item, and those of {self.task} have other targets.")
        changed = np.array(self.column(TARGET_KEY))
        changed[list(targets)] = list(targets.values())
        whole = np.array(self._columns[TARGET_KEY])
        whole[slice(None) if self._order is None else self._order] = changed
        taken = object.__new__(type(self))
        taken.__dict__.update(self.__dict__)
        taken._columns = {**self._columns, TARGET_KEY: whole}
        return taken

    def describe(self) -> str:
        """Return one line: what was found, how much of it, and how it is split."""
        classes = len(self.class_names) - (self.task == "detection" and self.class_names[:1] == (BACKGROUND,))
        parts = [counted(len(self), "image"), counted(classes, "label" if self.task == "multilabel" else "class")]
        if "labels" in self._columns:
            boxes = self.column("labels")
            total = boxes.total if isinstance(boxes, Ragged) else sum(len(of) for of in boxes)
            parts.append(counted(total, "box"))
        wrong = f"; {counted(len(self.problems), 'problem')}" if self.problems else ""
        return f"{self.layout}: {', '.join(parts)}; {self._describe_split()}{wrong}"

    def describe_problems(self) -> list[str]:
        """Return the first problems, and how many more there are."""
        more = len(self.problems) - _SHOWN_PROBLEMS
        rest = [f"and {more:,} more problems, all in {PROBLEMS} of the run folder"] if more > 0 else []
        return [*self.problems[:_SHOWN_PROBLEMS], *rest]

    def file_of_problems(self) -> dict[str, str]:
        """Return the text of the file with all problems by its name; nothing where there is none."""
        return {PROBLEMS: "\n".join([*self.problems, ""])} if self.problems else {}

    def _describe_split(self) -> str:
        splits = list(self.column("split")) if "split" in self._columns else []
        counts = [(name, splits.count(name)) for name in (*SPLITS, None)]
        shown = [f"{name or 'without a split'} {count:,}" for name, count in counts if count]
        return ", ".join(shown) if splits.count(None) < len(splits) else "no split given"

    def __len__(self) -> int:
        return len(self._columns[IMAGE_KEY] if self._order is None else self._order)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> "ItemList": ...
    def __getitem__(self, index: int | slice) -> "dict[str, Any] | ItemList":
        if isinstance(index, slice):
            return self.take(range(len(self))[index])
        place = range(len(self))[operator.index(index)]  # negative ones count from the end; IndexError beyond
        row = place if self._order is None else int(self._order[place])
        return {name: self._part(name, self._columns[name][row]) for name in self._parts}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.describe()}>"

    def _part(self, name: str, value: Any) -> Any:
        if name == IMAGE_KEY or (name == TARGET_KEY and isinstance(value, str)):
            return os.path.join(self.root, value)  # a Path takes 20 times as long
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, np.ndarray):
            return value.copy()  # whoever changes an item in place must not change the column
        return "" if value is None else value  # torch collates no None


class MadeOnDemand(Sequence[_Entry]):
    """Entries that are made when they are asked for; a slice is a list. A subclass defines ``make``."""

    def make(self, place: int) -> _Entry:
        """Return the entry of a place, from 0 on."""
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> _Entry: ...
    @overload
    def __getitem__(self, index: slice) -> list[_Entry]: ...
    def __getitem__(self, index: int | slice) -> Any:
        places = range(len(self))
        return [self.make(place) for place in places[index]] if isinstance(index, slice) else self.make(places[index])


class Texts(MadeOnDemand[str | None]):
    """Texts or None, packed into one array of bytes: a loader's workers share it, whereas they copy objects."""

    def __init__(self, texts: Iterable[str | None]):
        coded = [None if text is None else os.fsencode(text) for text in texts]
        self.is_none = np.array([text is None for text in coded], dtype=bool)
        self.ends = np.cumsum([len(text or b"") for text in coded], dtype=np.int64)
        self.data = np.frombuffer(b"".join(text for text in coded if text), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.ends)

    def make(self, place: int) -> str | None:
        if self.is_none[place]:
            return None
        return os.fsdecode(self.data[self.ends[place - 1] if place else 0 : self.ends[place]].tobytes())


class Ragged(MadeOnDemand[np.ndarray]):
    """Arrays that differ in their first dimension, packed into one.

    Args:
        flat: all of them, one after the other.
        ends: where each ends in ``flat``, [N].
    """

    def __init__(self, flat: np.ndarray, ends: Sequence[int] | np.ndarray):
        self.flat = flat
        self.ends = np.asarray(ends, dtype=np.int64)
        if len(flat) != (self.ends[-1] if len(self.ends) else 0) or np.any(np.diff(self.ends, prepend=0) < 0):
            raise UsageError(f"ends must rise from 0 to the {len(flat)} rows of flat.")

    @property
    def total(self) -> int:
        """How many rows all arrays have together."""
        return len(self.flat)

    def __len__(self) -> int:
        return len(self.ends)

    def make(self, place: int) -> np.ndarray:
        return self.flat[self.ends[place - 1] if place else 0 : self.ends[place]]


class Picked(Sequence[Any]):
    """Some entries of a sequence, in any order."""

    def __init__(self, values: Sequence[Any], places: np.ndarray):
        self.values = values
        self.places = places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Picked(self.values, self.places[index])
        return self.values[int(self.places[index])]

    def __iter__(self) -> Iterator[Any]:
        return (self.values[place] for place in self.places.tolist())


def _checked_columns(columns: Mapping[str, Column]) -> dict[str, Any]:
    if IMAGE_KEY not in columns:
        raise UsageError(f"columns must hold {IMAGE_KEY!r}, got {', '.join(columns) or 'none'}.")
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise UsageError(f"columns must be of one length, got {lengths}.")
    ids = columns.get(SAMPLE_ID_KEY)
    if ids is None:
        ids = [str(path).replace(os.sep, "/") for path in columns[IMAGE_KEY]]
    _check_unique(ids)
    whole = {**columns, SAMPLE_ID_KEY: ids}
    # By object, as the paths of images are often their ids too.
    packed = {place: _pack(values) for place, values in {id(values): values for values in whole.values()}.items()}
    return {name: packed[id(values)] for name, values in whole.items()}


def _check_unique(ids: Column) -> None:
    if len(set(ids)) < len(ids):
        seen: set[Any] = set()
        twice = next(it for it in ids if it in seen or seen.add(it))  # type: ignore[func-returns-value]
        raise UsageError(f"{SAMPLE_ID_KEY} must be unique, got {twice!r} twice.")


def _pack(values: Column) -> Any:
    """Return texts, numbers and arrays of a list in a packed form; anything else as it is."""
    if not isinstance(values, list | tuple):
        return values
    if all(value is None or isinstance(value, str) for value in values):
        return Texts(values)
    if all(isinstance(value, int | float | np.number) for value in values):
        return np.asarray(values)
    if all(isinstance(value, np.ndarray) and value.ndim for value in values):
        same = len({value.shape[1:] for value in values}) == 1
        return Ragged(np.concatenate(values), np.cumsum([len(value) for value in values])) if same else values
    return values


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 box", "1,200 boxes"."""
    plural = noun + ("es" if noun.endswith(("s", "x")) else "s")
    return f"{number:,} {noun if number == 1 else plural}"
