"""All fields that every experiment has, and how their values are checked. It imports no torch."""

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from assay.callbacks.errors import UsageError

from ..recipe.monitor import parse_monitors
from .fields import Data, Diagnosing, FineTuning, Machine, Optimization, Saving, Schedule, Training
from .ignored_fields import ignored_by_all
from .ranges import check_values


@dataclass(kw_only=True)
class ExperimentFields(Training, Optimization, Schedule, FineTuning, Data, Machine, Saving, Diagnosing):
    """The fields of ``Experiment``, without what it does with them."""

    unused_fields: ClassVar[Sequence[str]] = ()
    """Fields that this experiment has no use for, such as ``data_dir`` where the data comes with a package: they are no
    flags of it."""

    @classmethod
    def fields_without_use(cls) -> set[str]:
        """Return ``unused_fields``, and ``pretrained`` unless the experiment declares it too, as one that reads it."""
        owners = [owner for owner in cls.__mro__ if "pretrained" in inspect.get_annotations(owner)]
        return {*cls.unused_fields, *(["pretrained"] if owners == [FineTuning] else [])}

    def ignored_fields(self) -> dict[str, str]:
        """Return the fields that the values of others leave without a use, such as ``gamma`` with a cosine schedule.

        A new run is refused where one of them differs from its default, by its flag and the text that it stands with
        here, such as ``has no use without --pseudo-labels: leave it out``. Add your own to those of ``super()``.
        """
        return ignored_by_all(self)

    def __post_init__(self) -> None:
        check_values(self)
        if self.overfit_batches is not None and self.limit_batches is not None:
            raise UsageError("overfit_batches and limit_batches do not go together: give one of them.")
        parse_monitors(self.monitor)
        if isinstance(self.freeze, str):
            _check_pattern(self.freeze)
        for name, options in (
            ("optimizer_options", self.optimizer_options),
            ("scheduler_options", self.scheduler_options),
        ):
            for option in options:
                # Field and option would reach torch as one argument that is given twice.
                if hasattr(self, option) and option != "lr_decay":  # Adagrad's, which is another thing
                    raise UsageError(f"{name} must not hold {option!r}: that is a field of its own.")

    @classmethod
    def missing_fields(cls, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields that a config of an older version lacks, where their defaults would change its meaning.

        Args:
            fields: those that the config holds.
        """
        return {}


def _check_pattern(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise UsageError(f"freeze must be a regular expression, got {pattern!r}: {error}.") from error
