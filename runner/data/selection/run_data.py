"""The data set of a run: found and split when the run begins, and as it was then when the run goes on."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from assay.callbacks.errors import UsageError

from ..readers.item_list import ItemList
from .data_summary import DataSummary
from .split_files import write_split
from .splits import Split, make_split

SPLIT, SUMMARY = "split.csv", "data.json"


class RunData:
    """The items of a data set, their split and their classes; each is found when it is asked for.

    Args:
        read: returns all items. It is not called for what the files of the run say, such as the class names.
        run: folder of the run that is under way, goes on or was reopened; None outside of one.
        default_share: the value of ``valid_share`` that asks for nothing.
        options: the arguments of ``make_split``, for a run that has no split yet.
    """

    def __init__(self, read: Callable[[], ItemList], run: Path | None, default_share: float, **options: Any):
        self.read = read
        self.run = run
        self.default_share = default_share
        self.options = options

    @cached_property
    def items(self) -> ItemList:
        """All items, before they are split."""
        return self.read()

    @cached_property
    def summary(self) -> DataSummary:
        """Task and class names, as the run has them, so that a prediction needs no data set."""
        of_run = self._file(SUMMARY)
        return DataSummary.of(self.items) if of_run is None else DataSummary.read(of_run)

    @cached_property
    def split(self) -> Split:
        """The split: that of the run, also where files were added to the data set since.

        Raises:
            UsageError: the data set has no longer the classes and the images of the run; a share is given for one that
                is split already; see also ``make_split``.
        """
        of_run = self._file(SPLIT)
        if of_run is not None:
            self.summary.check_same(self.items)
            return make_split(self.items, split=of_run)
        split = make_split(self.items, **self.options)
        if not split.is_drawn and self.options["valid_share"] != self.default_share:
            raise UsageError("--valid-share has no use: the data set is split already; leave it out, or draw a --fold.")
        return split

    def describe(self) -> list[str]:
        """Return lines that say what was found and how it is split."""
        counts = ", ".join(f"{name} {len(items):,}" for name, items in self.split.parts.items())
        return [f"data: {self.items.describe()}", f"split: {counts}, {self.split.how}", *self.split.notes]

    def describe_problems(self) -> list[str]:
        """Return the first problems of the data set, and how many more there are."""
        return self.items.describe_problems()

    def files(self) -> dict[str, str]:
        """Return the texts of the files by which the run remembers its data, by name."""
        files = {SPLIT: write_split(self.split.parts), SUMMARY: self.summary.to_json()}
        return files | self.items.file_of_problems()

    def _file(self, name: str) -> Path | None:
        path = None if self.run is None else self.run / name
        return path if path is not None and path.is_file() else None
