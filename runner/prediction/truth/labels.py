"""Read the classes of images to predict from a table, by the names or numbers of the model's classes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.callbacks.errors import UsageError, listing

from ...data.readers.label_table import IMAGE_COLUMNS, missing_header
from ...data.readers.label_targets import FLAGS, LABEL_COLUMNS, SEPARATORS, is_flag, is_written_list, written_list
from ...data.readers.tables import Table, read_table
from ...experiment.prediction_spec import ClassPrediction
from ..inputs import Input
from .matching import ImageNames


def read_labels(path: Path, prediction: ClassPrediction, inputs: Sequence[Input]) -> tuple[dict[int, Any], list[str]]:
    """Return the target of each image that has one, by the image's place, and what is irregular.

    The table has a column that names images, and one of labels, or a column of 0 and 1 for each class of the model.
    Several labels of an image are separated as in a table to train on.

    Args:
        path: the table.
        prediction: names the classes.
        inputs: the images.

    Raises:
        UsageError: a column is not found, or an image has a label that the model does not know.
    """
    names = ImageNames(inputs)
    table = read_table(path, missing_header(path, lambda cell: names.find(cell) is not None))
    image = table.find(*IMAGE_COLUMNS) or table.header[0]
    read_row = _row_reader(table, image, Labels(prediction))
    found: dict[int, Any] = {}
    problems = list(table.problems)
    for row, name in enumerate(table.column(image)):
        place = names.find(name)
        if place is None:  # the table may be that of a larger set
            continue
        if place in found:
            problems.append(f"{table.where(row)}: {name} again; left out")
            continue
        target = read_row(row)
        if target is None:
            problems.append(f"{table.where(row)}: {name} has no label; left out")
        else:
            found[place] = target
    return found, problems


class Labels:
    """Makes targets of texts, as the model is trained on them.

    Args:
        prediction: names the classes.
    """

    def __init__(self, prediction: ClassPrediction):
        self.names = list(prediction.class_names)
        self.are_flags = prediction.multilabel or len(self.names) == 1

    def number(self, text: str, where: str) -> int:
        """Return the class of a name, or of a number from 0 on.

        Raises:
            UsageError: the model knows no such class.
        """
        if self.knows(text):
            return self.names.index(text) if text in self.names else int(text)
        raise UsageError(f"{where}: the model does not know the class {text!r}; it knows {listing(self.names)}.")

    def knows(self, text: str) -> bool:
        """Whether a text is the name of a class, or its number where no name is a number."""
        is_number = text.isascii() and text.isdecimal() and int(text) < len(self.names)
        return text in self.names or (is_number and not any(name.isdecimal() for name in self.names))

    def parts(self, cell: str) -> list[str]:
        """Return the labels in a cell: of all separators, the first that makes them known is taken."""
        if is_written_list(cell):
            return written_list(cell)
        ways = [[cell], *([part.strip() for part in cell.split(separator)] for separator in SEPARATORS)]
        ways = [[part for part in way if part] for way in ways]
        return next((way for way in ways if all(map(self.knows, way))), ways[1])

    def target(self, classes: Sequence[int]) -> Any:
        """Return the target of a sample of some classes: a class number, or 0 and 1 for each class."""
        if not self.are_flags:
            return classes[0]
        flags = np.zeros(len(self.names), dtype=np.float32)
        flags[list(classes)] = 1
        return flags if len(flags) > 1 else float(flags[0])


def _row_reader(table: Table, image: str, labels: Labels) -> Callable[[int], Any]:
    """Return what reads the target in a row; None where there is none."""
    others = [name for name in table.header if name != image]
    if len(labels.names) > 1 and set(labels.names) <= set(others):
        # A table that marks what is there, and nothing else, says no by empty cells.
        marks = not any(FLAGS.get(cell.lower()) == 0 for name in labels.names for cell in table.column(name))
        return lambda row: _of_flags(table, row, labels, "0" if marks else "")
    column = table.find(*LABEL_COLUMNS)
    if column not in others:
        column = next(iter(others), None) if len(others) == 1 else None
    if column is None and len(labels.names) == 1 and labels.names[0] in others:
        column = labels.names[0]
    if column is None:
        raise UsageError(
            f"--truth {table.path}: no column holds labels: looked for 'label', 'class' and the like, and for a column "
            f"for each class of the model; found {listing(table.header)}."
        )
    cells = table.column(column)
    return lambda row: _of_cell(cells[row], f"--truth {table.where(row)}", labels)


def _of_cell(cell: str, where: str, labels: Labels) -> Any:
    if len(labels.names) == 1 and is_flag(cell):
        return float(FLAGS[cell.lower()])
    if not labels.are_flags:
        return labels.target([labels.number(cell, where)]) if cell else None
    return labels.target([labels.number(part, where) for part in labels.parts(cell)])


def _of_flags(table: Table, row: int, labels: Labels, empty: str) -> Any:
    cells = [table.rows[row][table.header.index(name)] or empty for name in labels.names]
    if wrong := [cell for cell in cells if not is_flag(cell)]:
        raise UsageError(f"--truth {table.where(row)}: a class is 0 or 1, got {wrong[0]!r}.")
    chosen = [number for number, cell in enumerate(cells) if FLAGS[cell.lower()]]
    if not labels.are_flags and len(chosen) != 1:
        raise UsageError(f"--truth {table.where(row)}: an image is of one class here, got {len(chosen)}.")
    return labels.target(chosen)
