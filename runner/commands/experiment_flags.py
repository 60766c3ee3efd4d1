"""Build the flags, YAML keys, defaults and help of an experiment from its fields."""

import dataclasses
import inspect
import re
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

import docstring_parser
import jsonargparse

from assay.callbacks.errors import UsageError, unknown_name

from ..experiment.base import Experiment
from ..experiment.catalog import label
from ..experiment.field_names import check_field_names
from ..experiment.fields import GROUPS
from ..experiment.marks import Mark, marked
from ..saving.run_folder import CONFIG, read_config, read_environment
from ..saving.yaml_files import read_fields


class _Parser(jsonargparse.ArgumentParser):
    hints: dict[str, Any] = {}

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise usage_error(message, self.hints) from ex


def experiment_parser(experiment: type[Experiment], name: str) -> _Parser:
    """Return the parser of ``assay train NAME``.

    Raises:
        UsageError: a field has a reserved name.
    """
    check_field_names((field.name for field in dataclasses.fields(experiment) if field.init), Experiment)
    parser = _Parser(
        prog=f"assay train {name}",
        usage=f"assay train {name} [--config FILE] [--FIELD VALUE ...] [--run-dir DIR] [--resume RUN]",
        description=inspect.getdoc(inspect.getmodule(experiment)) or inspect.getdoc(experiment),
        formatter_class=_HelpFormatter,
        print_config=None,
    )
    parser.add_argument("--config", action="config", metavar="FILE", help="YAML file with fields: a run's config.yaml.")
    parser.add_argument("--run-dir", type=str, metavar="DIR", help="Folder of the run; by default runs/NAME/TIME.")
    parser.add_argument("--resume", type=str, metavar="RUN", help="Continue the run in this folder.")
    parser.add_argument("--debug", action="store_true", help="Show tracebacks.")
    docs, parser.hints = _field_docs(experiment), _field_types(experiment)
    groups: dict[type, Any] = {}
    for owner, field in _owned_fields(experiment):
        if owner not in groups:
            title = str(owner.__doc__).rstrip(".") if owner in GROUPS else f"{name} only"
            groups[owner] = parser.add_argument_group(title)
        hint = parser.hints[field.name]
        flag = groups[owner].add_argument(_flag_of(field.name), type=hint, help=docs.get(field.name))
        flag.option_strings = [_flag_of(field.name)]  # drops jsonargparse's second one, for appending to lists
        flag.metavar = flag.metavar or _metavar_of(hint)
    parser.set_defaults({field.name: _default_of(field) for _, field in _owned_fields(experiment)})
    return parser


def parse_experiment(
    experiment: type[Experiment], name: str, arguments: Sequence[str]
) -> tuple[Experiment, dict[str, Any]]:
    """Return the experiment that the arguments describe, and the options ``run_dir``, ``resume`` and ``debug``.

    Raises:
        UsageError: an unknown flag or field, a value of the wrong type or range, or one that cannot change in a resumed
            run.
    """
    parser = experiment_parser(experiment, name)
    known = [option for action in parser._actions for option in action.option_strings]
    arguments = _complete_bool_flags([_normalize_flag(argument, known) for argument in arguments], parser.hints)
    # A config of an older version keeps its meaning: fields that it lacks take the defaults of that time.
    for config in _flag_values("--config", arguments):
        parser.set_defaults(experiment.missing_fields(_check_config(config, parser.hints)))
    for run in _flag_values("--resume", arguments):
        config = str(Path(run) / CONFIG)
        read_config(Path(run))  # names a damaged run before jsonargparse reports a syntax error
        parser.set_defaults(experiment.missing_fields(_check_config(config, parser.hints)))
        before = {key: of for key, of in _parse_fields(parser, ["--config", config]).items() if key in parser.hints}
        # Without defaults: only fields that the user gave are compared with those of the run.
        _check_resume(experiment, run, name, before, _parse_fields(parser, arguments, defaults=False))
        arguments = ["--config", config, *arguments]  # first, as later arguments override earlier ones
    values = _parse_fields(parser, arguments, with_meta=False)
    options = {option: values.pop(option) for option in ("run_dir", "resume", "debug")}
    values.pop("config", None)
    return experiment(**values), options


def usage_error(message: str, hints: dict[str, Any]) -> UsageError:
    """Return a multi-line error of jsonargparse as one line that names flag, rule and value.

    Args:
        message: jsonargparse's message.
        hints: the type of each field.
    """
    message = " ".join(message.split())
    wrong = re.match(r'Parser key "(\w+)".*(?:Got|Given) value: (.*)', message)
    if wrong and get_origin(hints.get(wrong[1])) is Literal:
        return unknown_name(wrong[1], wrong[2], get_args(hints[wrong[1]]))
    if wrong and wrong[1] in hints:
        expected = " or ".join(_type_names(hints[wrong[1]]))
        return UsageError(f"{_flag_of(wrong[1])} must be {expected}, got {wrong[2]!r}.")
    if missing := re.match("argument (--[^ :]+): expected one argument", message):
        return UsageError(f"{missing[1]} needs a value.")
    return UsageError(message)


def _parse_fields(parser: _Parser, arguments: Sequence[str], **options: Any) -> dict[str, Any]:
    return _wrap_single_items(parser.parse_args(list(arguments), **options).as_dict(), parser.hints)


def _check_config(path: str, known: Collection[str]) -> dict[str, Any]:
    """Return the fields of a YAML file; raise for unknown names."""
    fields = read_fields(Path(path), what=f"--config {path}")
    for name in fields:
        if name not in known:
            raise _unknown_name(f"field in {path}:", str(name), known)
    return fields


def _check_resume(
    experiment: type[Experiment], run: str, name: str, fields: dict[str, Any], given: dict[str, Any]
) -> None:
    """Raise for a run of another experiment, and for changed fields that must stay the same in a resumed run."""
    of = read_environment(Path(run))["experiment"]
    if label(of) != label(name):
        raise UsageError(f"--resume {run} is a run of {of!r}, not of {name!r}.")
    if given.get("run_dir") is not None:
        raise UsageError(f"--run-dir cannot be given with --resume: the run continues in {run}.")
    changed = {key: value for key, value in given.items() if key in fields and value != fields[key]}
    # In the order of --help, as the message lists them.
    marks = marked(experiment, Mark.RESUMABLE)
    resumable = [field.name for _, field in _owned_fields(experiment) if field.name in marks]
    for key, value in changed.items():
        if key not in resumable:
            raise UsageError(
                f"{_flag_of(key)} cannot change in a resumed run: it was {fields[key]!r}, got {value!r}. "
                f"These can: {', '.join(map(_flag_of, resumable))}."
            )
    if changed.get("epochs", fields["epochs"]) < fields["epochs"]:
        raise UsageError(f"--epochs of a resumed run must be at least {fields['epochs']}, got {changed['epochs']}.")
    if "epochs" in changed and fields.get("scheduler") == "one-cycle":
        raise UsageError("--epochs cannot be raised with the one-cycle schedule: it ends with the run.")


def _flag_of(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _normalize_flag(argument: str, known: Collection[str]) -> str:
    """Return a flag with dashes in place of underscores; raise for one that does not exist."""
    if not argument.startswith("--"):
        return argument
    flag, equals, value = argument.partition("=")
    flag, dot, key = flag.partition(".")  # --optimizer-options.nesterov
    if _flag_of(flag[2:]) not in known:
        raise _unknown_name("flag", flag, known)
    return f"{_flag_of(flag[2:])}{dot}{key}{equals}{value}"


def _complete_bool_flags(arguments: Sequence[str], hints: dict[str, Any]) -> list[str]:
    """Complete a bool flag without a value: ``--deterministic`` becomes ``--deterministic=true``."""
    flags = {_flag_of(name) for name, hint in hints.items() if hint is bool}
    followed = pairwise([*arguments, "--"])  # the last argument has no value after it either
    return [f"{one}=true" if one in flags and after.startswith("--") else one for one, after in followed]


def _unknown_name(kind: str, name: str, known: Collection[str]) -> UsageError:
    # There are too many flags to list them all.
    close = get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return UsageError(f"unknown {kind} {name!r}{hint} --help explains them all.")


def _flag_values(flag: str, arguments: Sequence[str]) -> list[str]:
    """Return each value that is given to a flag; none where it has no value."""
    # --flag=value, and --flag value.
    values = [value for name, _, value in (argument.partition("=") for argument in arguments) if name == flag and value]
    return values + [value for name, value in pairwise(arguments) if name == flag]


def _field_types(experiment: type[Experiment]) -> dict[str, Any]:
    """Return the type of each field; the type of a list also allows a single item."""
    hints = get_type_hints(experiment)
    names = [field.name for _, field in _owned_fields(experiment)]
    return {
        name: hints[name] | get_args(hints[name])[0] if get_origin(hints[name]) is list else hints[name]
        for name in names
    }


def _wrap_single_items(values: dict[str, Any], hints: dict[str, Any]) -> dict[str, Any]:
    """Wrap single items that were given for a list into a list."""
    return {
        name: [value] if _takes_list(hints.get(name)) and not isinstance(value, list | NoneType) else value
        for name, value in values.items()
    }


def _takes_list(hint: Any) -> bool:
    return any(get_origin(one) is list for one in get_args(hint))


def _metavar_of(hint: Any) -> str:
    if _takes_list(hint):
        return f"[{_type_names(hint)[-1].upper()},...]"
    return _type_names(hint)[0].partition("[")[0].upper()


def _type_names(hint: Any) -> list[str]:
    if get_origin(hint) in (Union, UnionType):
        return [name for one in get_args(hint) for name in _type_names(one)]
    if hint is NoneType:
        return ["null"]
    return [str(hint).replace("typing.", "") if get_origin(hint) else getattr(hint, "__name__", str(hint))]


def _owned_fields(experiment: type[Experiment]) -> list[tuple[type, dataclasses.Field[Any]]]:
    """Return each field with the class that introduced it; the experiment's own fields come first."""
    # From the base down: a subclass that only changes a default does not own the field.
    owners: dict[str, type] = {}
    for owner in reversed(experiment.__mro__):
        for name in inspect.get_annotations(owner):
            owners.setdefault(name, owner)
    owned = [(owners[field.name], field) for field in dataclasses.fields(experiment) if field.init]
    return sorted(owned, key=lambda pair: GROUPS.index(pair[0]) if pair[0] in GROUPS else -1)


def _field_docs(experiment: type[Experiment]) -> dict[str, str]:
    """Return the docstring of each field; a subclass that only changes a default inherits it."""
    docs: dict[str, str] = {}
    for owner in reversed(experiment.__mro__):
        if dataclasses.is_dataclass(owner):
            for parameter in docstring_parser.parse_from_object(owner).params:
                docs[parameter.arg_name] = " ".join((parameter.description or "").split())
    return docs


def _default_of(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    if field.default is dataclasses.MISSING:
        raise UsageError(f"the field {field.name!r} of an experiment must have a default.")
    return field.default


class _HelpFormatter(jsonargparse.DefaultHelpFormatter):
    """Shows the description as written, and types in place of repeated names."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **{**kwargs, "max_help_position": 34})

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(indent + line for line in text.splitlines())

    def _get_help_string(self, action: Any) -> str:
        return action.help if action.dest in ("run_dir", "resume", "debug") else str(super()._get_help_string(action))

    def _get_type_str(self, action: Any) -> None:
        """Leave the type out of the text, as it stands after the flag."""
