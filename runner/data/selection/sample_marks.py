"""Marks of samples applied to the items of a run: which are left out, and which get another label."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from assay.callbacks.errors import UsageError, described, listing, unknown_name
from assay.callbacks.history.marks import SKIP, WRONG_LABEL, Mark, read_marks
from assay.callbacks.keys import SAMPLE_ID_KEY, TARGET_KEY
from assay.callbacks.support.atomic_files import digest

from ..readers.item_list import ItemList, counted

EXCLUDE, RELABEL = "exclude.csv", "relabel.csv"
"""The files of a run folder that hold the marks that it was started with."""

Items = Sequence[Mapping[str, Any]]
_Items = TypeVar("_Items", bound=Items)


class SampleMarks:
    """What marks of samples change about the items of a run.

    ``exclude`` leaves out the samples that are marked ``skip``, and those marked ``wrong_label`` that ``relabel`` does
    not correct. ``relabel`` gives those marked ``wrong_label`` the label that stands there; a mark without a label
    changes nothing. ``look_again`` is a note alone.

    A mark is for the sample of its loader. One that is in another loader now, as in another fold, is found there.

    Args:
        exclude: path of a file of marks, see ``history.marks``; None: nothing is left out.
        relabel: path of a file of marks; None: no label changes.
        run: folder of the run that goes on or was reopened, which has the marks that it was started with.

    Attributes:
        lines: what was done, as text, once ``apply`` was called.
        counts: how many samples were ``excluded`` and ``relabelled`` in all.

    Raises:
        UsageError: a file is not there, or is no file of marks.
    """

    def __init__(self, exclude: str | None, relabel: str | None, run: Path | None = None):
        given = {EXCLUDE: exclude, RELABEL: relabel}
        self._shown = {name: path for name, path in given.items() if path is not None}
        # A run goes on with the marks that it was started with, though more may have joined.
        self._is_of_run = {name: run is not None and (run / name).is_file() for name in self._shown}
        self._paths = {
            name: run / name if run is not None and self._is_of_run[name] else Path(path)
            for name, path in self._shown.items()
        }
        self._marks = {name: read_marks(path) for name, path in self._paths.items()}
        self.lines: list[str] = []
        self.counts: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._paths)

    def checksums(self) -> dict[str, str]:
        """Return a checksum of each file of marks by the flag that names it."""
        flags = {EXCLUDE: "--exclude", RELABEL: "--relabel"}
        return {f"the checksum of {flags[name]}": digest(path) for name, path in self._paths.items()}

    def files(self) -> dict[str, str]:
        """Return the texts of the files by which a run remembers its marks, by name."""
        return {name: path.read_bytes().decode("utf-8", "backslashreplace") for name, path in self._paths.items()}

    def apply(self, parts: Mapping[str, _Items], class_names: Sequence[str] | None = None) -> dict[str, _Items]:
        """Return the items of each loader without those that are left out, and with the labels that were corrected.

        Args:
            parts: lists of dicts with a ``sample_id``, or ``ItemList``s, by the key of the loader.
            class_names: one name per class; None: those of the ``ItemList``s, or labels are numbers.

        Raises:
            UsageError: a label is no class, or the items have none; no marked sample is there; or a loader would be
                left without a sample.
        """
        places = {loader: _places(loader, items) for loader, items in parts.items()} if self else {}
        self.lines, self.counts = [], {}
        corrected = [mark for mark in self._marks.get(RELABEL, []) if mark.mark == WRONG_LABEL and mark.label]
        labels = self._find(RELABEL, corrected, places, self._notes_of_labels())
        right = {(loader, place) for loader, found in labels.items() for place in found}
        dropped = [mark for mark in self._marks.get(EXCLUDE, []) if mark.mark in (SKIP, WRONG_LABEL)]
        excluded = self._find(EXCLUDE, dropped, places, "", right)
        found = {}
        for loader, items in parts.items():
            of = _relabelled(loader, items, labels.get(loader, {}), class_names)
            found[loader] = _without(loader, of, excluded.get(loader, {}).keys())
        return found

    def _notes_of_labels(self) -> str:
        without = sum(mark.mark == WRONG_LABEL and not mark.label for mark in self._marks.get(RELABEL, []))
        return f"; {counted(without, 'mark')} without a label changed nothing" if without else ""

    def _find(
        self,
        name: str,
        marks: Sequence[Mark],
        places: Mapping[str, Mapping[str, int]],
        note: str,
        but: Iterable[tuple[str, int]] = (),
    ) -> dict[str, dict[int, str]]:
        """Return the labels of marked samples by loader and place, but for some places, and note what was found."""
        if name not in self._paths:
            return {}
        found: dict[str, dict[int, str]] = {}
        missing = []
        for mark in marks:
            loader = next((key for key in (mark.loader, *places) if mark.sample_id in places.get(key, {})), None)
            if loader is None:
                missing.append(mark.sample_id)
            elif (loader, place := places[loader][mark.sample_id]) not in but:
                found.setdefault(loader, {})[place] = mark.label
        # A run may be evaluated on other data than it was trained with.
        if marks and len(missing) == len(marks) and not self._is_of_run[name]:
            raise UsageError(
                f"none of the samples that {self._shown[name]} marks is in {listing(places)}, the first is "
                f"{missing[0]!r}: give the marks of this data set."
            )
        self._note(name, {loader: len(of) for loader, of in found.items()}, places, note, missing)
        return found

    def _note(
        self,
        name: str,
        counts: Mapping[str, int],
        places: Mapping[str, Mapping[str, int]],
        note: str,
        missing: Sequence[str],
    ) -> None:
        done = "left out" if name == EXCLUDE else "given another label"
        told = ", ".join(f"{of:,} of {len(places[loader]):,} of {loader}" for loader, of in counts.items())
        if missing:
            note += f"; {counted(len(missing), 'marked sample')} in no loader, the first is {missing[0]!r}"
        self.lines.append(f"{done} by {self._shown[name]}: {told or 'no sample'}{note}")
        self.counts["excluded" if name == EXCLUDE else "relabelled"] = sum(counts.values())


def _places(loader: str, items: Any) -> dict[str, int]:
    """Return the place of each sample by its id, as text."""
    if isinstance(items, ItemList):
        return {str(name): place for place, name in enumerate(items.column(SAMPLE_ID_KEY))}
    if not isinstance(items, list | tuple) or not all(isinstance(item, Mapping) for item in items):
        raise UsageError(f"marks need the items of {loader} as a list of dicts or an ItemList, got {described(items)}.")
    if any(SAMPLE_ID_KEY not in item for item in items):
        raise UsageError(f"marks need a {SAMPLE_ID_KEY!r} in each item of {loader}.")
    places = {str(item[SAMPLE_ID_KEY]): place for place, item in enumerate(items)}
    if len(places) < len(items):
        twice = Counter(str(item[SAMPLE_ID_KEY]) for item in items).most_common(1)[0][0]
        raise UsageError(f"marks need a {SAMPLE_ID_KEY!r} of its own for each item of {loader}, got {twice!r} twice.")
    return places


def _without(loader: str, items: Any, places: Iterable[int]) -> Any:
    left = np.setdiff1d(np.arange(len(items)), [*places])
    if len(left) == len(items):
        return items
    if not len(left):
        raise UsageError(f"exclude leaves no sample of {loader}: take some marks back.")
    return items.take(left) if isinstance(items, ItemList) else [items[place] for place in left]


def _relabelled(loader: str, items: Any, labels: Mapping[int, str], class_names: Sequence[str] | None) -> Any:
    if not labels:
        return items
    if isinstance(items, ItemList):
        if items.task not in ("multiclass", "binary"):
            raise UsageError(f"relabel needs one class per sample, and those of {items.task} have other targets.")
        names = items.class_names if class_names is None else class_names
        # A binary task may name its one label alone.
        names = (f"not {names[0]}", *names) if len(names) == 1 else names
        return items.with_targets({place: _number(label, names) for place, label in labels.items()})
    changed = list(items)
    for place, label in labels.items():
        before = items[place].get(TARGET_KEY)
        if isinstance(before, bool) or not isinstance(before, int | np.integer):
            raise UsageError(f"relabel needs a class number as {TARGET_KEY!r} in {loader}, got {described(before)}.")
        changed[place] = {**items[place], TARGET_KEY: _number(label, class_names)}
    return changed


def _number(label: str, names: Sequence[str] | None) -> int:
    """Return the number of a class by its name, or else by its number."""
    if names is not None and label in names:
        return list(names).index(label)
    if label.isdecimal() and (names is None or int(label) < len(names)):
        return int(label)
    if names is None:
        raise UsageError(f"relabel: the label {label!r} must be a class number, as the classes have no names.")
    raise unknown_name("label in the marks of relabel", label, names)
