"""The flags of an experiment, made from its fields: one place for flags, YAML, defaults and help."""

import dataclasses
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

import docstring_parser
import jsonargparse

from assay.callbacks.errors import UsageError, unknown_name

from .experiment import Experiment
from .fields import GROUPS
from .run_folder import read_config

# What may change when a run goes on: its length, and where it runs. All else would make it another run.
_RESUMABLE = ("epochs", "device", "workers", "threads", "data_dir")


class _Parser(jsonargparse.ArgumentParser):
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise UsageError(one_line(message)) from ex


def experiment_parser(experiment: type[Experiment], name: str) -> jsonargparse.ArgumentParser:
    """Return the parser of ``assay train NAME``."""
    description = inspect.getdoc(inspect.getmodule(experiment)) or inspect.getdoc(experiment)
    parser = _Parser(
        prog=f"assay train {name}",
        description=description,
        formatter_class=_HelpFormatter,
        exit_on_error=True,
    )
    parser.add_argument("--config", action="config", help="YAML file with fields, such as the config.yaml of a run.")
    parser.add_argument("--run_dir", type=str | None, help="Folder of the run; by default runs/NAME/TIME.")
    parser.add_argument("--resume", type=str | None, help="Go on with the run in this folder.")
    parser.add_argument("--debug", action="store_true", help="Show tracebacks.")
    docs, hints = _docs(experiment), get_type_hints(experiment)
    groups: dict[type, Any] = {}
    for owner, field in sorted(_owned_fields(experiment), key=lambda pair: pair[0] in GROUPS):
        if owner not in groups:
            title = str(owner.__doc__).rstrip(".") if owner in GROUPS else f"{name} only"
            groups[owner] = parser.add_argument_group(title)
        groups[owner].add_argument(f"--{field.name}", type=hints[field.name], help=docs.get(field.name))
    parser.set_defaults({field.name: _default(field) for _, field in _owned_fields(experiment)})
    return parser


def parse_experiment(
    experiment: type[Experiment], name: str, arguments: Sequence[str]
) -> tuple[Experiment, dict[str, Any]]:
    """Return the experiment that the arguments describe, and the options ``run_dir``, ``resume`` and ``debug``.

    Raises:
        UsageError: an unknown flag, or a value of the wrong type or range.
    """
    parser = experiment_parser(experiment, name)
    known = {action.dest for action in parser._actions}
    arguments = [_normalized(argument, known) for argument in arguments]
    resumed = _resumed_run(arguments)
    if resumed is not None:
        fields = read_config_of(resumed)
        given = vars(parser.parse_args(arguments, defaults=False))
        changed = {key: value for key, value in given.items() if key in fields and value != fields[key]}
        for key in changed:
            if key not in _RESUMABLE:
                raise UsageError(
                    f"--{key} cannot change when a run goes on: it was {fields[key]!r}, got {changed[key]!r}. "
                    f"These can: {', '.join(_RESUMABLE)}."
                )
        if fields.get("epochs", 0) > changed.get("epochs", fields.get("epochs", 0)):
            raise UsageError(f"--epochs of a resumed run must be at least {fields['epochs']}, got {changed['epochs']}.")
        if "epochs" in changed and fields.get("scheduler") == "one-cycle":
            raise UsageError("--epochs cannot be raised with the one-cycle schedule: it ends with the run.")
        parser.set_defaults({**fields})
    values = vars(parser.parse_args(arguments, with_meta=False))
    options = {option: values.pop(option) for option in ("run_dir", "resume", "debug")}
    values.pop("config", None)
    return experiment(**values), options


def read_config_of(run: str) -> dict[str, Any]:
    """Return the fields of the run to go on with."""
    return read_config(Path(run))


def one_line(message: str) -> str:
    """Return a message of jsonargparse as one line, without its hints on itself."""
    lines = [line.strip() for line in str(message).splitlines() if line.strip()]
    return " ".join(lines)


def _normalized(argument: str, known: set[str]) -> str:
    """Return a flag with underscores, whichever it was written with; complain about one that does not exist."""
    if not argument.startswith("--"):
        return argument
    flag, equals, value = argument.partition("=")
    name = flag[2:].replace("-", "_")
    if name.partition(".")[0] not in known:
        raise unknown_name("flag", flag, [f"--{one.replace('_', '-')}" for one in sorted(known)])
    return f"--{name}{equals}{value}"


def _resumed_run(arguments: Sequence[str]) -> str | None:
    for index, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag == "--resume":
            return value if equals else next(iter(arguments[index + 1 :]), None)
    return None


def _owned_fields(experiment: type[Experiment]) -> list[tuple[type, dataclasses.Field[Any]]]:
    """Return each field with the class that introduced it."""
    owners: dict[str, type] = {}
    for owner in reversed(experiment.__mro__):
        for name in inspect.get_annotations(owner):
            owners.setdefault(name, owner)
    return [(owners[field.name], field) for field in dataclasses.fields(experiment) if field.init]


def _docs(experiment: type[Experiment]) -> dict[str, str]:
    """Return the docstring of each field; a subclass that only changes a default inherits it."""
    docs: dict[str, str] = {}
    for owner in reversed(experiment.__mro__):
        if dataclasses.is_dataclass(owner):
            for parameter in docstring_parser.parse_from_object(owner).params:
                docs[parameter.arg_name] = " ".join((parameter.description or "").split())
    return docs


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    if field.default is dataclasses.MISSING:
        raise UsageError(f"the field {field.name!r} of an experiment must have a default.")
    return field.default


class _HelpFormatter(jsonargparse.DefaultHelpFormatter):
    """Help with the description as it was written."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(indent + line for line in text.splitlines())
