"""The command line: ``assay train`` and its siblings, of which ``_add_commands`` has the list."""

import argparse
import os
import platform
import sys
import sysconfig
import traceback
from collections.abc import Callable, Collection, Sequence
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from assay.callbacks.errors import UsageError, listing, unknown_name

from ..experiment.catalog import experiment_names, find_experiment
from ..processes.early_stop import StoppedEarly, stops_early
from ..processes.exit_codes import FAILED, INTERRUPTED, PREEMPTED, USAGE, StoppedError
from .quick_imports import quick_imports
from .run_commands import USE_COMMANDS, add_use_commands, run_use_command
from .wrapping import WrappedHelp

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from ..experiment.base import Experiment
    from .tuning.request import Request

_DESCRIPTION = "Train vision models, and see in TensorBoard what they do."
_EPILOG = (
    "assay train EXP --help shows the fields of an experiment. "
    'To complete words in your shell: eval "$(register-python-argcomplete assay)"'
)
_TRAIN_USAGE = "assay train EXP [--config FILE] [--FIELD VALUE ...] [--run-dir DIR] [--resume RUN]"

_COMPLETING = "_ARGCOMPLETE"  # set by a shell that asks for words

_CHECK_USAGE = "assay check EXP [--config FILE] [--FIELD VALUE ...]"

_DATA_USAGE = "assay data EXP [--data-dir DIR]"

_STDLIB = sysconfig.get_path("stdlib")
_PACKAGE_FOLDERS = {"site-packages", "dist-packages"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, or one of ``exit_codes``."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    return _exit_code(lambda: _run_command(arguments), arguments)


def train_trial(name: str, arguments: list[str], connection: "Connection[tuple[int, float], bool]") -> NoReturn:
    """Train one trial of a search, and end the process with the exit code of ``assay train``.

    Args:
        name: of the experiment.
        arguments: its flags.
        connection: to the search.
    """
    sys.exit(_exit_code(lambda: _train_experiment(name, arguments, connection), arguments))


def _exit_code(run: Callable[[], int], arguments: Sequence[str]) -> int:
    try:
        with stops_early():
            return run()
    except UsageError as error:
        _let_cause_report_first(error)
        if "--debug" in arguments:
            traceback.print_exc()
        return _print_error(str(error), USAGE)
    except StoppedError as stopped:
        return _print_stopped(stopped.message, stopped.exit_code)
    except StoppedEarly as stopped:
        return _print_stopped(f"stopped by {stopped.signal_name} before anything was saved; start it again", PREEMPTED)
    except KeyboardInterrupt:
        return _print_error("interrupted", INTERRUPTED)
    except Exception as error:
        _let_cause_report_first(error)
        if "--debug" in arguments:
            traceback.print_exc()
            return FAILED
        from ..loop.fault_messages import explain
        from ..processes.process_exit import explain_lost_rank

        if (meaning := explain(error) or explain_lost_rank(error)) is not None:
            return _print_error(meaning, FAILED)
        return _print_users_frames(error)


def _let_cause_report_first(error: Exception) -> None:
    if "TORCHELASTIC_RUN_ID" in os.environ:  # otherwise not, as it imports torch
        from ..processes.process_exit import let_cause_report_first

        let_cause_report_first(error)


def _run_command(arguments: list[str]) -> int:
    if arguments[:1] == ["--version"]:
        return _print_version()
    parser = _Parser(prog="assay", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("--version", action="store_true", help="print the versions of assay and of what it runs on")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    _add_commands(commands)
    if _COMPLETING in os.environ:
        from .completion import complete

        complete(parser)
    _check_first_words(arguments, commands.choices)
    if arguments[0] in USE_COMMANDS:
        arguments = [_dash_flag(argument) for argument in arguments]
    parsed = parser.parse_args(arguments)
    if parsed.command in USE_COMMANDS:
        lines, exit_code = run_use_command(parsed)
        print(*lines, sep="\n", end="\n" if lines else "")
        return exit_code
    if parsed.command == "data":
        return _make_data(parsed.experiment, parsed.data_dir)
    if parsed.command == "check":
        return _check_experiment(parsed.experiment, parsed.arguments)
    return _train_experiment(parsed.experiment, parsed.arguments) if parsed.command == "train" else _list_experiments()


def _add_commands(commands: Any) -> None:
    commands.add_parser("list", help="name the experiments")
    data = commands.add_parser("data", help="make a small data set for an experiment", usage=_DATA_USAGE)
    data.add_argument("experiment", metavar="EXP", help="a name that `assay list` shows, or a path to a file of yours")
    data.add_argument("--data-dir", metavar="DIR", help="where to make it; by default data/EXP-generated")
    data.add_argument("--debug", action="store_true", help="show tracebacks")
    check = commands.add_parser(
        "check", help="say what is wrong with data, model, loss and settings, without training", usage=_CHECK_USAGE
    )
    train = commands.add_parser("train", help="train an experiment", usage=_TRAIN_USAGE, epilog=_EPILOG)
    add_use_commands(commands)
    if _COMPLETING in os.environ:
        from .completion import add_flags_to_complete

        add_flags_to_complete(check, trains=False)
        add_flags_to_complete(train, trains=True)
        return
    for command in (check, train):
        command.add_argument(
            "experiment", metavar="EXP", help="a name that `assay list` shows, or a path to a file of yours"
        )
        # Its flags are the experiment's fields, which are known only once it is imported, and that takes seconds.
        command.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def _check_first_words(arguments: list[str], commands: Collection[str]) -> None:
    # argparse's own messages name neither the rule nor the closest name.
    first, second = [*arguments, "", ""][:2]
    if first in ("check", "train") and second not in ("-h", "--help") and (not second or second.startswith("-")):
        raise UsageError(f"{first} needs an experiment first: assay {first} EXP; `assay list` names them.")
    if not first:
        raise UsageError(f"a command is missing: {listing(commands)}; `assay --help` explains them.")
    if not first.startswith("-") and first not in commands:
        raise unknown_name("command", first, commands)


def _dash_flag(argument: str) -> str:
    flag, equals, value = argument.partition("=")
    return f"{flag.replace('_', '-')}{equals}{value}" if argument.startswith("--") else argument


def _print_version() -> int:
    names = {"assay": "catalyst-assay", "torch": "torch", "catalyst": "catalyst"}
    versions = [f"{name} {metadata.version(package)}" for name, package in names.items()]
    print(", ".join([*versions, f"Python {platform.python_version()}"]))
    return 0


def _list_experiments() -> int:
    experiments = experiment_names()
    width = max((len(name) for name in experiments), default=0)
    for name, summary in experiments.items():
        print(f"{name:<{width}}  {summary}")
    return 0


def _make_data(name: str, data_dir: str | None) -> int:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    with quick_imports():
        experiment = find_experiment(name)()
    if not experiment.makes_data:
        raise UsageError(f"experiment {name!r} cannot make data; its docstring says where its data comes from.")
    from ..experiment.generated_data import make_new

    print(make_new(Path(data_dir) if data_dir is not None else experiment.generated_folder, experiment.make_data))
    return 0


def _check_experiment(name: str, arguments: list[str]) -> int:
    _, experiment, _ = _parse("check", name, arguments)
    from .check import check

    lines, code = check(experiment, name=name)
    print(*lines, sep="\n", end="\n" if lines else "")
    return code


def _train_experiment(
    name: str, arguments: list[str], search: "Connection[tuple[int, float], bool] | None" = None
) -> int:
    experiment_class, experiment, options = _parse("train", name, arguments, quickly=search is None)
    if options["tune"] is not None:
        from .experiment_flags import request_of

        return _search(request_of(experiment_class, name, arguments, experiment, options))
    from ..loop.fault_messages import quiet_event_threads
    from .train import train

    if name not in experiment_names():
        name = os.path.abspath(name)  # so that the run finds its file again from any folder
    with quiet_event_threads():
        train(experiment, name=name, run_dir=options["run_dir"], resume=options["resume"], search=search)
    return 0


def _parse(
    command: str, name: str, arguments: list[str], *, quickly: bool = True
) -> tuple[type["Experiment"], "Experiment", dict[str, Any]]:
    """Return the class of an experiment, the experiment that the arguments describe, and the other options."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # importing it queries the network for its newest version
    with quick_imports():
        from .experiment_flags import parse_experiment

        # Of several ranks each would print what is wrong; the slower check has one of them report it.
        if name in experiment_names() and "RANK" not in os.environ and quickly:
            from .quick_check import check_arguments

            check_arguments(name, arguments, command)
        experiment_class = find_experiment(name)
        from ..processes.process_exit import end_with_launcher

        end_with_launcher()
        # Before the rest is imported: a wrong flag of the user's own file waits for what that file imports alone.
        experiment, options = parse_experiment(experiment_class, name, arguments, command)
        if command == "train" and options["tune"] is None:
            from . import train  # noqa: F401 - within quick_imports
    return experiment_class, experiment, options


def _search(request: "Request") -> int:
    try:
        from .tuning.search import Search
    except ModuleNotFoundError as error:
        raise UsageError(f"--tune needs the package {error.name!r}: pip install 'catalyst-assay[tune]'.") from error
    from .how_to_look import how_to_look

    own = request.experiment in experiment_names()
    modules = ["assay.runner.commands.train", *([f"assay.experiments.{request.experiment}"] if own else [])]
    search = Search(request, train_trial, modules)
    lines, code = search.run()
    if code == 0:
        lines += how_to_look(search.study.folder)
    print(*lines, sep="\n", end="\n" if lines else "")
    return code


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any):
        super().__init__(**{**options, "formatter_class": WrappedHelp})

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def _print_stopped(message: str, code: int) -> int:
    if os.environ.get("RANK", "0") == "0":  # all ranks stop for the same reason
        print(f"assay: {message}", file=sys.stderr)
    return code


def _print_error(message: str, code: int) -> int:
    print(f"assay: error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _print_users_frames(error: Exception) -> int:
    """Print the traceback from the user's first frame on; an error without such a frame as one line."""
    # Imported here, as a mistyped command should not wait for torch.
    from ..data.worker_errors import one_line, worker_error

    if (worker := worker_error(error)) is not None:
        message, frames = worker
        if frames:
            print(frames, file=sys.stderr)
        return _print_error(f"{message} (--debug shows the traceback)", FAILED)
    frame = error.__traceback__
    while frame is not None and not _is_users_frame(frame):
        frame = frame.tb_next
    if frame is not None:
        traceback.print_exception(type(error), error, frame)
    message = one_line(f"{type(error).__name__}: {error}", getattr(error, "__notes__", []))
    return _print_error(f"{message} (--debug shows the traceback)", FAILED)


def _is_users_frame(frame: TracebackType) -> bool:
    """Whether code is the user's: an experiment, or what it imports outside this project and libraries."""
    module = str(frame.tb_frame.f_globals.get("__name__", ""))
    if module.startswith(("assay_user_", "assay.experiments.")):
        return True
    file = Path(frame.tb_frame.f_code.co_filename)
    # Code that was generated, or frozen into Python, has no file.
    is_library = not file.is_file() or file.is_relative_to(_STDLIB) or not _PACKAGE_FOLDERS.isdisjoint(file.parts)
    return not module.startswith("assay.") and not is_library
