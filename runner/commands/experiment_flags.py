"""Build the flags, YAML keys, defaults and help of an experiment from its fields."""

import dataclasses
import inspect
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin, get_type_hints

import jsonargparse

from assay.callbacks.errors import UsageError, unknown_name

from ..experiment.catalog import label
from ..experiment.experiment_fields import ExperimentFields
from ..experiment.field_names import check_field_names, flag_of
from ..experiment.ignored_fields import check_ignored
from ..experiment.marks import Mark, marked
from ..recipe.monitor import parse_monitors
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
from .flag_names import complete_bool_flags, flag_values, normalize_flag, spaced_mapping, unknown_field
from .tuning.request import Request, check_examples
from .tuning.terms import parse_terms

_SEARCH = ("tune", "trials", "tune_storage")
AnyExperiment = TypeVar("AnyExperiment", bound=ExperimentFields)


class _Parser(jsonargparse.ArgumentParser):
    hints: dict[str, Any] = {}

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise usage_error(message, self.hints) from ex


def experiment_parser(
    experiment: type[ExperimentFields], name: str, command: str = "train", *, every_field: bool = True
) -> _Parser:
    """Return the parser of ``assay COMMAND NAME``.

    Args:
        experiment: the class.
        name: of the experiment.
        command: ``train``, or ``check``, which has no run folder and no search.
        every_field: whether its help shows all fields, or the experiment's own and the most used ones.

    Raises:
        UsageError: a field has a reserved name.
    """
    trains = command == "train"
    check_field_names((field.name for field in dataclasses.fields(experiment) if field.init), experiment)
    parser = _Parser(
        prog=f"assay {command} {name}",
        usage=f"assay {command} {name} [--config FILE] [--FIELD VALUE ...]{' [--run-dir DIR] [--resume RUN]' * trains}",
        description=inspect.getdoc(inspect.getmodule(experiment)) or inspect.getdoc(experiment),
        formatter_class=HelpFormatter,
        print_config=None,
    )
    parser.add_argument(HELP_ALL, action="help", help="Show all fields, not the most used ones alone.")
    parser.add_argument("--config", action="config", metavar="FILE", help="YAML file with fields: a run's config.yaml.")
    if trains:
        parser.add_argument("--run-dir", type=str, metavar="DIR", help="Folder of the run; by default runs/NAME/TIME.")
        parser.add_argument("--resume", type=str, metavar="RUN", help="Continue the run in this folder.")
    parser.add_argument("--debug", action="store_true", help="Show tracebacks.")
    parser.hints = _field_types(experiment)
    _add_fields(parser, experiment, name, every_field=every_field)
    if trains:
        _add_search(parser)
    parser.set_defaults({field.name: _default_of(field) for _, field in owned_fields(experiment)})
    return parser


def _add_search(parser: _Parser) -> None:
    search = parser.add_argument_group("Search")
    search.add_argument(
        "--tune",
        type=str,
        nargs="+",
        metavar="FIELD=VALUES",
        help="Search fields by Optuna: 'lr=1e-4..1e-2,log batch_size=16|32'.",
    )
    search.add_argument("--trials", type=int, metavar="N", help="How many, over all processes; by default 20.")
    search.add_argument(
        "--tune-storage", type=str, metavar="FILE", help="Journal of the search; by default study.log in its folder."
    )


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
    experiment: type[AnyExperiment], name: str, arguments: Sequence[str], command: str = "train"
) -> tuple[AnyExperiment, dict[str, Any]]:
    """Return the experiment that the arguments describe, and the options that are none of its fields.

    Raises:
        UsageError: an unknown flag or field, a value of the wrong type or range, or one that cannot change in a resumed
            run.
    """
    values, options = parse_values(experiment, name, arguments, command)
    _check_search(options)
    return experiment(**values), options


def parse_values(
    experiment: type[ExperimentFields], name: str, arguments: Sequence[str], command: str = "train"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields by name, and the options; see ``parse_experiment``."""
    parser = experiment_parser(experiment, name, command, every_field=HELP_ALL in arguments)
    known = [option for action in parser._actions for option in action.option_strings]
    plain = [spaced_mapping(normalize_flag(argument, known)) for argument in arguments]
    arguments = complete_bool_flags(plain, parser.hints)
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
    options = {option: values.pop(option, None) for option in ("run_dir", "resume", "debug", *_SEARCH)}
    values.pop("config", None)
    return values, options


def request_of(
    kind: type[ExperimentFields],
    name: str,
    arguments: Sequence[str],
    experiment: ExperimentFields,
    options: dict[str, Any],
) -> Request:
    """Return the search that ``--tune`` asks for, after each value was checked with the experiment.

    Args:
        kind: the class of the experiment.
        name: its name.
        arguments: all that were given.
        experiment: what they describe.
        options: those that are none of its fields.

    Raises:
        UsageError: a value does not fit its field, or the search does not go together with other arguments.
    """
    terms = parse_terms(options["tune"], _field_types(kind), unknown_field)
    kept = _without(arguments, {flag_of(option) for option in (*_SEARCH, "run_dir")})
    for term in terms:
        if flag_of(term.name) in {argument.partition("=")[0].replace("_", "-") for argument in kept}:
            raise UsageError(f"{flag_of(term.name)} is given and searched by --tune: leave one of them out.")
    fields = dataclasses.asdict(experiment)
    varying = {term.name for term in terms} | marked(kind, Mark.PER_MACHINE) | marked(kind, Mark.OBSERVING)
    request = Request(
        experiment=name,
        terms=terms,
        trials=20 if options["trials"] is None else options["trials"],
        arguments=kept,
        fields={key: value for key, value in fields.items() if key not in varying},
        monitor=parse_monitors(experiment.monitor)[0],
        epochs=experiment.epochs,
        seed=experiment.seed,
        storage=options["tune_storage"],
        folder=None if options["run_dir"] is None else Path(options["run_dir"]),
    )

    alike, _ = parse_values(kind, name, kept)

    def check(values: Mapping[str, Any]) -> None:
        check_ignored(kind(**{**alike, **values}), label(name))

    check_examples(terms, lambda words: parse_values(kind, name, request.flags(words))[0], check)
    return request


def _check_search(options: dict[str, Any]) -> None:
    if options["tune"] is None:
        if given := [option for option in _SEARCH if options[option] is not None]:
            raise UsageError(f"{flag_of(given[0])} has no use without --tune: leave it out.")
        return
    if options["trials"] is not None and options["trials"] < 1:
        raise UsageError(f"--trials must be at least 1, got {options['trials']}.")
    if options["resume"] is not None:
        raise UsageError("--tune does not go together with --resume: a search goes on with --run-dir, its folder.")
    storage = options["tune_storage"] or ""
    if "://" in storage and not storage.startswith("sqlite:///"):
        raise UsageError(f"--tune-storage must be a file, or sqlite:///FILE on one machine, got {storage!r}.")
    if "RANK" in os.environ:
        raise UsageError(
            "--tune trains each trial with one process, not with torchrun: leave PROCS out, and start the same command "
            "with --run-dir several times to run trials at once, each with its own CUDA_VISIBLE_DEVICES."
        )


def _without(arguments: Sequence[str], flags: Collection[str]) -> list[str]:
    """Return the arguments without some flags and what follows them."""
    kept, drops = [], False
    for argument in arguments:
        if argument.startswith("--"):
            drops = flag_of(argument[2:].partition("=")[0]) in flags
        if not drops:
            kept.append(argument)
    return kept


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
        expected = " or ".join(type_names(hints[wrong[1]])).replace("dict[str, float]", "{name: number}")
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
