"""What a search is asked for, checked before anything starts."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.callbacks.errors import UsageError

from ...experiment.field_names import flag_of
from ...recipe.monitor import Monitor
from .terms import Term

_MOST_COMBINATIONS = 2000  # that are tried out ahead; of more, each value is with the first ones of the others


@dataclass(frozen=True)
class Request:
    """A search.

    Attributes:
        experiment: its name, or the path of its file.
        terms: what is searched.
        trials: how many, over all processes and starts.
        arguments: flags of all trials alike.
        fields: the experiment's fields that all trials must have alike, as plain values.
        monitor: the metric by which trials are compared.
        epochs: of each trial.
        seed: what the values follow from.
        storage: what ``--tune-storage`` says.
        folder: the study's folder; None: a new one.
    """

    experiment: str
    terms: list[Term]
    trials: int
    arguments: list[str]
    fields: Mapping[str, Any]
    monitor: Monitor
    epochs: int
    seed: int
    storage: str | None = None
    folder: Path | None = None

    def flags(self, words: Mapping[str, str]) -> list[str]:
        """Return the flags of a trial, of its value for each term, as a text."""
        return [*self.arguments, *(f"{flag_of(name)}={value}" for name, value in words.items())]


def check_examples(
    terms: Sequence[Term],
    values_of: Callable[[Mapping[str, str]], Mapping[str, Any]],
    check: Callable[[Mapping[str, Any]], None],
) -> None:
    """Raise where a value, or a combination of values, is one that the experiment refuses.

    Args:
        terms: what is searched.
        values_of: reads one value of each term, given as texts by name.
        check: makes the experiment with some values, and raises where it cannot be trained.

    Raises:
        UsageError: the experiment's own, after the term that it is about.
    """
    typed: dict[str, list[Any]] = {term.name: [] for term in terms}
    for i in range(max(len(term.examples) for term in terms)):
        read = values_of({term.name: term.examples[i % len(term.examples)] for term in terms})
        for term in terms:
            if i < len(term.examples):
                typed[term.name].append(read[term.name])
    first = {name: of[0] for name, of in typed.items()}
    singles = [{**first, name: value} for name, of in typed.items() for value in of]
    products = (dict(zip(typed, of, strict=True)) for of in itertools.product(*typed.values()))
    for one in [*singles, *itertools.islice(products, _MOST_COMBINATIONS)]:
        try:
            check(one)
        except UsageError as error:
            values = " ".join(f"{name}={value}" for name, value in one.items())
            raise UsageError(f"--tune with {values}: {error}") from error
