"""Which values a field of an experiment accepts, as a part of its type, and the check of all fields."""

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from assay.callbacks.errors import UsageError, unknown_name


@dataclass(frozen=True)
class AtLeast:
    """Range of a field, such as ``Annotated[int, AtLeast(1)]``: the smallest number that is accepted."""

    bound: float

    def check(self, name: str, value: float) -> None:
        check_range(name, value, self.bound)


@dataclass(frozen=True)
class GreaterThan:
    """Range of a field: the number that all accepted ones are above."""

    bound: float

    def check(self, name: str, value: float) -> None:
        check_range(name, value, self.bound, included=False)


@dataclass(frozen=True)
class AtMost:
    """Range of a field: the largest number that is accepted, and a hint that the error of a larger one ends with."""

    bound: float
    hint: str = ""

    def check(self, name: str, value: float) -> None:
        if not value <= self.bound:  # so that NaN is refused
            hint = f" ({self.hint})" if self.hint else ""
            raise UsageError(f"{name} must be at most {self.bound}{hint}, got {value}.")


@dataclass(frozen=True)
class LessThan:
    """Range of a field: the number that all accepted ones are below."""

    bound: float

    def check(self, name: str, value: float) -> None:
        if not value < self.bound:  # so that NaN is refused
            raise UsageError(f"{name} must be less than {self.bound}, got {value}.")


@dataclass(frozen=True)
class MultipleOf:
    """Range of a field: the positive number that all accepted ones are multiples of, itself included."""

    unit: int

    def check(self, name: str, value: int) -> None:
        if value < self.unit or value % self.unit:
            raise UsageError(f"{name} must be a multiple of {self.unit}, got {value}.")


@dataclass(frozen=True)
class OneOf:
    """Choices of a field: the words that are accepted, with dashes or underscores."""

    choices: Sequence[str]

    def check(self, name: str, value: Any) -> None:
        # A word may be written either way: some choices, such as names of models, have underscores themselves.
        if value not in self.choices and not (isinstance(value, str) and value.replace("_", "-") in self.choices):
            raise unknown_name(name, value, self.choices)


Rule = AtLeast | GreaterThan | AtMost | LessThan | MultipleOf | OneOf


def check_values(experiment: Any) -> None:
    """Raise for the first field whose value breaks a rule of its type, or is None where the type has no None.

    A rule stands in the type: ``Annotated[int, AtLeast(1)]``, or ``Literal["full", "off"]`` for words.

    Example:
        >>> @dataclass
        ... class Crops:
        ...     crop: Annotated[int, AtLeast(32), AtMost(512)] = 256
        ...     resize: Literal["area", "cubic"] = "area"
        >>> check_values(Crops(crop=64))
        >>> check_values(Crops(crop=16))
        Traceback (most recent call last):
            ...
        assay.callbacks.errors.UsageError: crop must be at least 32, got 16.
        >>> check_values(Crops(resize="cubik"))
        Traceback (most recent call last):
            ...
        assay.callbacks.errors.UsageError: unknown resize 'cubik'; did you mean 'cubic'? There is: 'area', 'cubic'.
    """
    kind: Any = type(experiment)
    for name, rules in _rules_of(kind).items():
        value = getattr(experiment, name)
        if value is None and rules and not any(map(_has_none, field_hints(kind)[name])):
            raise UsageError(f"{name} must have a value, got None.")
        for rule in rules if value is not None else ():
            rule.check(name, value)


def check_range(name: str, value: float | None, smallest: float, *, included: bool = True) -> None:
    """Raise where a number is below what it may be, or not finite; None is let through."""
    if value is None or (math.isfinite(value) and (value > smallest or (included and value == smallest))):
        return
    bound = f"at least {smallest}" if included else f"greater than {smallest}"
    raise UsageError(f"{name} must be {bound}, got {value}.")


@cache
def field_hints(experiment: type) -> dict[str, list[Any]]:
    """Return the types that each field was declared with, with what ``Annotated`` adds; the base's come first."""
    found: dict[str, list[Any]] = {field.name: [] for field in fields(experiment)}
    # All of them: a subclass that declares a field anew, for another default, keeps the rules of its base.
    for owner in reversed(experiment.__mro__):
        hints = get_type_hints(owner, include_extras=True)
        for name in found.keys() & inspect.get_annotations(owner).keys():
            found[name].append(hints[name])
    return found


@cache
def _rules_of(experiment: type) -> dict[str, list[Rule]]:
    return {name: [rule for hint in hints for rule in _rules(hint)] for name, hints in field_hints(experiment).items()}


def _rules(hint: Any) -> list[Rule]:
    if get_origin(hint) is Literal:
        words = get_args(hint)
        # The type check of the command line refuses numbers; None may stand in a Literal too.
        return [OneOf(words)] if all(isinstance(word, str) for word in words) else []
    if get_origin(hint) is Annotated:
        return [*_rules(get_args(hint)[0]), *(rule for rule in hint.__metadata__ if isinstance(rule, Rule))]
    return []


def _has_none(hint: Any) -> bool:
    return type(None) in get_args(get_args(hint)[0] if get_origin(hint) is Annotated else hint)
