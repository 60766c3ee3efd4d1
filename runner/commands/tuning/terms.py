"""What ``--tune`` says: the fields that a search chooses, and the values that each may take."""

import itertools
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin

from assay.callbacks.errors import UsageError

_FORM = "FIELD=LOW..HIGH, with ,log or ,step=N after it, or FIELD=A|B"
_BEGINS_TERM = r"\s+(?=[A-Za-z][\w-]*=)"
# Fields that decide on what a value means: trials with other ones could not be compared.
_FIXED = {"monitor": "trials are compared by it", "epochs": "trials are compared epoch by epoch"}


@dataclass(frozen=True)
class Range:
    """A field that takes numbers.

    Attributes:
        name: of the field.
        low: the smallest number.
        high: the largest one, included.
        whole: whether the numbers are integers.
        log: whether a factor counts, and not a difference.
        step: between neighbours; None: any number, or any integer.
    """

    name: str
    low: float
    high: float
    whole: bool
    log: bool = False
    step: float | None = None

    @property
    def examples(self) -> list[str]:
        """Values to check ahead, as the flag takes them: the ends, as the rules of a field are bounds."""
        return [_text(self.low), _text(self.high)]

    @property
    def values(self) -> list[Any] | None:
        """All values that may be tried; None where there is no end of them."""
        if self.step is None and not self.whole:
            return None
        step = self.step or 1
        return [self.low + i * step for i in range(round((self.high - self.low) / step) + 1)]

    def suggest(self, trial: Any) -> str:
        """Ask a trial of Optuna for a value; return it as the flag takes it."""
        if self.whole:
            return _text(trial.suggest_int(self.name, self.low, self.high, log=self.log, step=self.step or 1))
        return _text(trial.suggest_float(self.name, self.low, self.high, log=self.log, step=self.step))

    def __str__(self) -> str:
        step = "" if self.step is None else f",step={_text(self.step)}"
        return f"{self.name}={_text(self.low)}..{_text(self.high)}{',log' if self.log else ''}{step}"


@dataclass(frozen=True)
class Choices:
    """A field that takes some words, numbers or flags.

    Attributes:
        name: of the field.
        values: the words, as the flag takes them.
    """

    name: str
    values: list[str]

    @property
    def examples(self) -> list[str]:
        """Values to check ahead: all."""
        return self.values

    def suggest(self, trial: Any) -> str:
        """Ask a trial of Optuna for a value."""
        return str(trial.suggest_categorical(self.name, self.values))

    def __str__(self) -> str:
        return f"{self.name}={'|'.join(self.values)}"


Term = Range | Choices
Unknown = Callable[[str, str, Collection[str]], UsageError]


def parse_terms(texts: Sequence[str], hints: Mapping[str, Any], unknown: Unknown) -> list[Term]:
    """Read what is to be searched.

    Args:
        texts: one or several terms each, with blanks between them.
        hints: the type of each field of the experiment.
        unknown: makes the error for a name that no field has, of where it stands, the name and the known ones.

    Raises:
        UsageError: a term is not of the form, names no field, or does not fit the field's type.

    Example:
        >>> hints = {"lr": float, "batch_size": int}
        >>> terms = parse_terms(["lr=1e-4..1e-2,log batch-size=16|32"], hints, lambda *_: UsageError())
        >>> [str(term) for term in terms]
        ['lr=0.0001..0.01,log', 'batch_size=16|32']
    """
    terms = [_parse_term(term, hints, unknown) for text in texts for term in re.split(_BEGINS_TERM, text.strip())]
    names = [term.name for term in terms]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"--tune names {twice[0]!r} twice: give all its values in one term.")
    return terms


def combinations(terms: Sequence[Term], most: int) -> list[dict[str, Any]] | None:
    """Return all combinations of values, where they are no more than ``most``; otherwise None."""
    values = [term.values for term in terms]
    counted = [len(of) if of is not None else math.inf for of in values]
    if math.prod(counted) > most:
        return None
    names = [term.name for term in terms]
    return [dict(zip(names, of, strict=True)) for of in itertools.product(*(of or [] for of in values))]


def _parse_term(text: str, hints: Mapping[str, Any], unknown: Unknown) -> Term:
    written, equals, rest = text.partition("=")
    if not equals or not rest:
        raise UsageError(f"--tune must read {_FORM}, got {text!r}.")
    name = written.lstrip("-").replace("-", "_")
    if name not in hints:
        raise unknown("--tune", written, hints)
    if name in _FIXED:
        raise UsageError(f"--tune cannot search {name!r}: {_FIXED[name]}.")
    first, *options = rest.split(",")
    low, dots, high = first.partition("..")
    if dots and _is_number(low) and _is_number(high):
        return _parse_range(text, name, _number_kind(hints[name]), (low, high), options)
    words = rest.split("|")
    if len(words) < 2 or "" in words or len(set(words)) < len(words):
        raise UsageError(f"--tune must read {_FORM}, with at least two different values, got {text!r}.")
    return Choices(name, words)


def _parse_range(text: str, name: str, kind: type | None, ends: tuple[str, str], options: list[str]) -> Range:
    if kind is None:
        raise UsageError(f"--tune {text}: {name!r} takes no numbers, and has no range; give its values: {name}=A|B.")
    low, high = (_number(end, kind, text) for end in ends)
    if not low < high:
        raise UsageError(f"--tune {text}: the first number of a range must be less than the second.")
    log, step = False, None
    for option in options:
        if option == "log":
            log = True
        elif option.startswith("step="):
            step = _number(option.removeprefix("step="), kind, text)
        else:
            raise UsageError(f"--tune {text}: after a range may stand ,log or ,step=N, got {option!r}.")
    _check_steps(text, low, high, log, step)
    return Range(name, low, high, kind is int, log, step)


def _check_steps(text: str, low: float, high: float, log: bool, step: float | None) -> None:
    if log and low <= 0:
        raise UsageError(f"--tune {text}: a range with log must begin above 0.")
    if step is None:
        return
    if log:
        raise UsageError(f"--tune {text}: log and step do not go together; give one of them.")
    if step <= 0 or not math.isclose((high - low) / step, round((high - low) / step), abs_tol=1e-9):
        raise UsageError(f"--tune {text}: a whole number of steps must lead from the first number to the second.")


def _number_kind(hint: Any) -> type | None:
    """Return whether a field takes floats or integers; None where it takes neither."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return next((kind for kind in (float, int) if kind in kinds), None)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _number(text: str, kind: type, term: str) -> float:
    if not _is_number(text) or (kind is int and not float(text).is_integer()):
        raise UsageError(f"--tune {term}: {text!r} must be {'an integer' if kind is int else 'a number'}.")
    return int(float(text)) if kind is int else float(text)


def _text(value: float) -> str:
    return repr(value)
