"""Build the flags, YAML keys, defaults and help of an experiment from its fields."""

import dataclasses
import inspect
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin, get_type_hints

import jsonargparse

from assay.callbacks.errors import UsageError, unknown_name

from ..experiment.catalog import label
from ..experiment.experiment_fields import ExperimentFields
from ..experiment.field_names import check_field_names
from ..experiment.marks import Mark, marked
from ..saving.run_folder import CONFIG, read_config, read_environment
from ..saving.yaml_files import read_fields
from .experiment_help import (
    HELP_ALL,
    HelpFormatter,
    field_helps,
    group_title,
    metavar_of,
    owned_fields,
    takes_list,
    type_names,
)
from .flag_names import complete_bool_flags, flag_of, flag_values, normalize_flag, unknown_field

AnyExperiment = TypeVar("AnyExperiment", bound=ExperimentFields)


class _Parser(jsonargparse.ArgumentParser):
    hints: dict[str, Any] = {}

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise usage_error(message, self.hints) from ex


def experiment_parser(experiment: type[ExperimentFields], name: str, *, every_field: bool = True) -> _Parser:
    """Return the parser of ``assay train NAME``.

    Args:
        experiment: the class.
        name: of the experiment.
        every_field: whether its help shows all fields, or the experiment's own and the most used ones.

    Raises:
        UsageError: a field has a reserved name.
    """
    check_field_names((field.name for field in dataclasses.fields(experiment) if field.init), experiment)
    parser = _Parser(
        prog=f"assay train {name}",
        usage=f"assay train {name} [--config FILE] [--FIELD VALUE ...] [--run-dir DIR] [--resume RUN]",
        description=inspect.getdoc(inspect.getmodule(experiment)) or inspect.getdoc(experiment),
        formatter_class=HelpFormatter,
        print_config=None,
    )
    parser.add_argument(HELP_ALL, action="help", help="Show all fields, not the most used ones alone.")
    parser.add_argument("--config", action="config", metavar="FILE", help="YAML file with fields: a run's config.yaml.")
    parser.add_argument("--run-dir", type=str, metavar="DIR", help="Folder of the run; by default runs/NAME/TIME.")
    parser.add_argument("--resume", type=str, metavar="RUN", help="Continue the run in this folder.")
    parser.add_argument("--debug", action="store_true", help="Show tracebacks.")
    parser.hints = _field_types(experiment)
    _add_fields(parser, experiment, name, every_field=every_field)
    parser.set_defaults({field.name: _default_of(field) for _, field in owned_fields(experiment)})
    return parser


def _add_fields(parser: _Parser, experiment: type[ExperimentFields], name: str, *, every_field: bool) -> None:
    helps = field_helps(experiment, every_field=every_field)
    groups: dict[str, Any] = {}
    for owner, field in owned_fields(experiment):
        title = group_title(owner, name, every_field=every_field)
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        hint = parser.hints[field.name]
        flag = groups[title].add_argument(flag_of(field.name), type=hint, help=helps[field.name])
        flag.option_strings = [flag_of(field.name)]  # drops jsonargparse's second one, for appending to lists
        flag.metavar = flag.metavar or metavar_of(hint)


def parse_experiment(
    experiment: type[AnyExperiment], name: str, arguments: Sequence[str]
) -> tuple[AnyExperiment, dict[str, Any]]:
    """Return the experiment that the arguments describe, and the options ``run_dir``, ``resume`` and ``debug``.

    Raises:
        UsageError: an unknown flag or field, a value of the wrong type or range, or one that cannot change in a resumed
            run.
    """
    parser = experiment_parser(experiment, name, every_field=HELP_ALL in arguments)
    known = [option for action in parser._actions for option in action.option_strings]
    arguments = complete_bool_flags([normalize_flag(argument, known) for argument in arguments], parser.hints)
    _check_unused(experiment, name, arguments)
    # A config of an older version keeps its meaning: fields that it lacks take the defaults of that time.
    for config in flag_values("--config", arguments):
        parser.set_defaults(experiment.missing_fields(_check_config(config, parser.hints)))
    for run in flag_values("--resume", arguments):
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


def _check_unused(experiment: type[ExperimentFields], name: str, arguments: Sequence[str]) -> None:
    # A config holds every field: those without a use have their defaults there.
    given = {argument.partition("=")[0] for argument in arguments}
    for field in sorted(experiment.fields_without_use()):
        if flag_of(field) in given:
            raise UsageError(f"{flag_of(field)} has no use in {name!r}, which would ignore it: leave it out.")


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
        expected = " or ".join(type_names(hints[wrong[1]]))
        return UsageError(f"{flag_of(wrong[1])} must be {expected}, got {wrong[2]!r}.")
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
            raise unknown_field(path, str(name), known)
    return fields


def _check_resume(
    experiment: type[AnyExperiment], run: str, name: str, fields: dict[str, Any], given: dict[str, Any]
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
    resumable = [field.name for _, field in owned_fields(experiment) if field.name in marks]
    for key, value in changed.items():
        if key not in resumable:
            raise UsageError(
                f"{flag_of(key)} cannot change in a resumed run: it was {fields[key]!r}, got {value!r}. "
                f"These can: {', '.join(map(flag_of, resumable))}."
            )
    if changed.get("epochs", fields["epochs"]) < fields["epochs"]:
        raise UsageError(f"--epochs of a resumed run must be at least {fields['epochs']}, got {changed['epochs']}.")
    if "epochs" in changed and fields.get("scheduler") == "one-cycle":
        raise UsageError("--epochs cannot be raised with the one-cycle schedule: it ends with the run.")


def _field_types(experiment: type[AnyExperiment]) -> dict[str, Any]:
    """Return the type of each field; the type of a list also allows a single item."""
    hints = get_type_hints(experiment)
    names = [field.name for _, field in owned_fields(experiment)]
    return {
        name: hints[name] | get_args(hints[name])[0] if get_origin(hints[name]) is list else hints[name]
        for name in names
    }


def _wrap_single_items(values: dict[str, Any], hints: dict[str, Any]) -> dict[str, Any]:
    """Wrap single items that were given for a list into a list."""
    return {
        name: [value] if takes_list(hints.get(name)) and not isinstance(value, list | NoneType) else value
        for name, value in values.items()
    }


def _default_of(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    if field.default is dataclasses.MISSING:
        raise UsageError(f"the field {field.name!r} of an experiment must have a default.")
    return field.default
