"""The help of an experiment: its own fields and the most used ones, or all of them."""

import argparse
import dataclasses
import inspect
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import docstring_parser
import jsonargparse

from ..experiment.experiment_fields import ExperimentFields
from ..experiment.fields import GROUPS, MOST_USED
from .wrapping import wrapped, wrapped_usage

HELP_ALL = "--help-all"


def owned_fields(experiment: type[ExperimentFields]) -> list[tuple[type, dataclasses.Field[Any]]]:
    """Return each field with the class that introduced it; the experiment's own fields come first."""
    # From the base down: a subclass that only changes a default does not own the field.
    owners: dict[str, type] = {}
    for owner in reversed(experiment.__mro__):
        for name in inspect.get_annotations(owner):
            owners.setdefault(name, owner)
    owned = [(owners[field.name], field) for field in dataclasses.fields(experiment) if field.init]
    return sorted(owned, key=lambda pair: GROUPS.index(pair[0]) if pair[0] in GROUPS else -1)


def field_helps(experiment: type[ExperimentFields], *, every_field: bool) -> dict[str, str | None]:
    """Return the help of each field: its docstring, or what hides it.

    Args:
        experiment: the class.
        every_field: whether to show all fields, or the experiment's own and the most used ones alone. Fields that it
            has no use for stay hidden.
    """
    docs = field_docs(experiment)
    owned = [(owner, field.name) for owner, field in owned_fields(experiment)]
    shown = {name for owner, name in owned if every_field or owner not in GROUPS or name in MOST_USED}
    shown -= experiment.fields_without_use()
    return {name: docs.get(name) if name in shown else argparse.SUPPRESS for _, name in owned}


def field_docs(experiment: type) -> dict[str, str]:
    """Return the docstring of each field; a subclass that only changes a default inherits it."""
    docs: dict[str, str] = {}
    for owner in reversed(experiment.__mro__):
        if dataclasses.is_dataclass(owner):
            for parameter in docstring_parser.parse_from_object(owner).params:
                docs[parameter.arg_name] = " ".join((parameter.description or "").split())
    return docs


def group_title(owner: type, name: str, *, every_field: bool) -> str:
    """Return the title that a field stands under.

    Args:
        owner: the class that introduced the field.
        name: of the experiment.
        every_field: whether all fields are shown; the most used ones alone stand under one title.
    """
    if owner not in GROUPS:
        return f"{name} only"
    return str(owner.__doc__).rstrip(".") if every_field else "Most used"


def takes_list(hint: Any) -> bool:
    """Whether a field takes a list."""
    return any(get_origin(one) is list for one in get_args(hint))


def type_names(hint: Any) -> list[str]:
    """Return the names of the types that a field takes."""
    if get_origin(hint) in (Union, UnionType):
        return [name for one in get_args(hint) for name in type_names(one)]
    if hint is NoneType:
        return ["null"]
    if get_origin(hint) is Literal:
        return [str(word) for word in get_args(hint)]
    return [str(hint).replace("typing.", "") if get_origin(hint) else getattr(hint, "__name__", str(hint))]


def metavar_of(hint: Any) -> str:
    """Return what stands for the value of a flag."""
    if takes_list(hint):
        return f"[{type_names(hint)[-1].upper()},...]"
    names = [name.partition("[")[0].upper() for name in type_names(hint)]
    has_words = any(get_origin(one) is Literal for one in get_args(hint))
    return "|".join(name for name in names if name != "NULL") if has_words else names[0]


class HelpFormatter(jsonargparse.DefaultHelpFormatter):
    """Shows the description as written, and types in place of repeated names."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **{**kwargs, "max_help_position": 34})

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return wrapped(text, width)

    def _format_usage(self, *args: Any) -> str:
        return wrapped_usage(super()._format_usage(*args), self._width)

    def _get_help_string(self, action: Any) -> str:
        own = action.dest in ("help", "run_dir", "resume", "debug")
        return str(action.help if own else super()._get_help_string(action))

    def _get_type_str(self, action: Any) -> None:
        """Leave the type out of the text, as it stands after the flag."""
