"""Read the truth for images to predict, from any layout that training reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.callbacks.errors import UsageError, listing
from assay.callbacks.keys import IMAGE_KEY, SAMPLE_ID_KEY, TARGET_KEY

from ...data.readers.item_list import BACKGROUND, ItemList, MadeOnDemand
from ...data.readers.recognize import read_data
from ...data.readers.tables import TABLE_SUFFIXES
from ...experiment.prediction_spec import ClassPrediction, MaskPrediction, Prediction
from ..inputs import Input
from .labels import Labels, read_labels
from .matching import match_items, match_masks

_KINDS = {"classification": "classify", "segmentation": "segment", "detection": "detect"}
_UNNAMED = "object"  # what a table of boxes without classes calls them
_SHOWN = 5


@dataclass(frozen=True)
class Truth:
    """Images with their truth, and what the user should know of it.

    Attributes:
        items: one per image that has a truth, in the order of the images; class numbers are those of the model, and
            ``sample_id`` is the name of the image.
        notes: one line each: images without a truth, and irregular records.
    """

    items: ItemList
    notes: Sequence[str]


def read_truth(path: Path, prediction: Prediction, inputs: Sequence[Input]) -> Truth:
    """Return the images for which there is a truth.

    Args:
        path: a table of labels, a folder of masks, or any layout of the task that training reads.
        prediction: of the experiment; names the classes.
        inputs: the images.

    Raises:
        UsageError: there is no truth at the path, it is for none of the images, or names classes that the model does
            not know.
    """
    if not path.exists():
        raise UsageError(f"--truth {path} does not exist.")
    items = _read(path, prediction, inputs)
    if items is None or not len(items):
        raise UsageError(f"--truth {path} names none of the {len(inputs)} images of --input, by path or by name.")
    found = set(items.column(SAMPLE_ID_KEY))
    missing = [one.name for one in inputs if one.name not in found]
    notes = list(items.problems[:_SHOWN])
    if len(items.problems) > _SHOWN:
        notes.append(f"and {len(items.problems) - _SHOWN} more problems")
    if missing:
        shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        notes.append(f"{len(missing)} of {len(inputs)} images have none and are not scored: {shown}")
    return Truth(items, [f"--truth: {note}" for note in notes])


def _read(path: Path, prediction: Prediction, inputs: Sequence[Input]) -> ItemList | None:
    """Return the items of the images that have a truth; None where none has."""
    if isinstance(prediction, ClassPrediction) and path.suffix.lower() in TABLE_SUFFIXES and path.is_file():
        return _of_label_table(path, prediction, inputs)
    if isinstance(prediction, MaskPrediction) and path.is_dir() and (masks := match_masks(path, inputs)):
        return _of_mask_folder(path, prediction, inputs, masks)
    items = read_data(path, _KINDS[prediction.task], **_known_classes(path, prediction))
    matched = match_items(items, inputs)
    return _renumbered(items, matched, prediction, inputs, path) if matched else None


def _known_classes(path: Path, prediction: Prediction) -> dict[str, Any]:
    """Return an argument of the readers of masks: masks of a truth mean what they mean in training."""
    if not isinstance(prediction, MaskPrediction) or prediction.masks is None:
        return {}
    from ...data.readers.masks.coco import looks_like  # reads COCO by its own names

    return {} if looks_like(path) else {"classes": prediction.masks}


def _of_label_table(path: Path, prediction: ClassPrediction, inputs: Sequence[Input]) -> ItemList | None:
    targets, problems = read_labels(path, prediction, inputs)
    if not targets:
        return None
    labels = Labels(prediction)
    task = "multiclass" if not labels.are_flags else "multilabel" if len(labels.names) > 1 else "binary"
    order = sorted(targets)
    values = [targets[place] for place in order]
    column = np.stack(values) if task == "multilabel" else np.asarray(values)
    columns = {**_images(inputs, order), TARGET_KEY: column}
    return ItemList(path.parent, columns, task=task, layout=path.name, class_names=labels.names, problems=problems)


def _of_mask_folder(
    folder: Path, prediction: MaskPrediction, inputs: Sequence[Input], masks: dict[int, Path]
) -> ItemList:
    from ...data.readers.masks.mask_items import make_items

    order = sorted(masks)
    columns: dict[str, Any] = {**_images(inputs, order), TARGET_KEY: [str(masks[place].resolve()) for place in order]}
    items = make_items(folder, columns, layout="a folder of masks", problems=[], unnamed=prediction.masks)
    _check_mask_classes(items, prediction, folder)
    return items


def _images(inputs: Sequence[Input], order: Sequence[int]) -> dict[str, Any]:
    return {
        IMAGE_KEY: [str(inputs[place].path.absolute()) for place in order],
        SAMPLE_ID_KEY: [inputs[place].name for place in order],
    }


def _renumbered(
    items: ItemList, matched: dict[int, int], prediction: Prediction, inputs: Sequence[Input], path: Path
) -> ItemList:
    """Return the items that belong to images, with the class numbers of the model."""
    order = sorted(matched)
    taken = items.take([matched[place] for place in order])
    columns: dict[str, Any] = _images(inputs, order)
    if isinstance(prediction, MaskPrediction):
        _check_mask_classes(items, prediction, path)
        columns[TARGET_KEY] = taken.column(TARGET_KEY)
    else:
        numbers = _numbers(items, prediction, path)
        if "labels" in items.names:
            columns |= {name: taken.column(name) for name in ("bboxes", "iscrowd") if name in items.names}
            columns["labels"] = _Renumbered(taken.column("labels"), numbers)
        elif isinstance(prediction, ClassPrediction):
            columns[TARGET_KEY] = _class_targets(taken, numbers, Labels(prediction))
    names = list(getattr(prediction, "class_names", ())) or items.class_names
    return ItemList(
        items.root, columns, task=items.task, layout=items.layout, class_names=names, problems=items.problems
    )


class _Renumbered(MadeOnDemand[np.ndarray]):
    """The labels of boxes with other class numbers."""

    def __init__(self, labels: Sequence[Any], numbers: np.ndarray):
        self.labels, self.numbers = labels, numbers

    def __len__(self) -> int:
        return len(self.labels)

    def make(self, place: int) -> np.ndarray:
        return self.numbers[np.asarray(self.labels[place], dtype=np.int64)]


def _class_targets(items: ItemList, numbers: np.ndarray, labels: Labels) -> np.ndarray:
    targets = np.asarray(items.column(TARGET_KEY))
    classes = [[target] if items.task == "multiclass" else np.flatnonzero(np.atleast_1d(target)) for target in targets]
    return np.asarray([labels.target([int(numbers[it]) for it in of]) for of in classes])


def _numbers(items: ItemList, prediction: Prediction, path: Path) -> np.ndarray:
    """Return the model's class number of each class of a data set, by name."""
    known = list(getattr(prediction, "class_names", ()))
    if list(items.class_names) == [BACKGROUND, _UNNAMED] and len(known) == 2:
        return np.arange(2)  # boxes without a class, for a detector of a single one
    if unknown := [name for name in items.class_names if name not in known]:
        raise UsageError(f"--truth {path}: the model does not know {listing(unknown)}; it knows {listing(known)}.")
    return np.array([known.index(name) for name in items.class_names], dtype=np.int64)


def _of_two(names: Sequence[str]) -> list[str]:
    """Return what masks of yes and no are called that no file names, for a model of two classes."""
    return [BACKGROUND, _UNNAMED] if len(names) == 2 else []


def _check_mask_classes(items: ItemList, prediction: MaskPrediction, path: Path) -> None:
    # Of numbers without names, masks of few images may lack the last classes.
    known, found = list(prediction.class_names), list(items.class_names)
    if known and found not in (known[: len(found)], _of_two(known)):
        raise UsageError(
            f"--truth {path}: the classes of the masks are {', '.join(found)}, those of the model {', '.join(known)}: "
            "a file classes.txt beside the masks names them in order."
        )
