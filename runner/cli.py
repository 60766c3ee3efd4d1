"""The command line: ``assay list`` and ``assay train``."""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import NoReturn

from assay.callbacks.errors import UsageError, unknown_name

from .catalog import experiment_names, find_experiment

FAILED, USAGE, INTERRUPTED = 1, 2, 130

_DESCRIPTION = "Trains vision models, and shows in TensorBoard what they do."
_EPILOG = "assay train EXP --help lists the fields of an experiment."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 1 for a failed run, 2 for wrong use, 130 for Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(arguments)
    except UsageError as error:
        if "--debug" in arguments:
            traceback.print_exc()
        return _complain(str(error), USAGE)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except Exception as error:
        if "--debug" in arguments:
            traceback.print_exc()
            return FAILED
        return _complain_with_users_frames(error)


def _dispatch(arguments: list[str]) -> int:
    parser = _Parser(prog="assay", description=_DESCRIPTION, epilog=_EPILOG)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    commands.add_parser("list", help="name the experiments")
    train = commands.add_parser(
        "train", help="train an experiment: assay train EXP [--FIELD VALUE ...]", add_help=False
    )
    train.add_argument("experiment", metavar="EXP")
    train.add_argument("arguments", nargs=argparse.REMAINDER)
    if arguments[:1] == ["train"] and (len(arguments) == 1 or arguments[1] in ("-h", "--help")):
        train.description = "Train an experiment. EXP is a name that `assay list` shows, or a path to a file of yours."
        train.epilog = _EPILOG
        train.print_help()
        return 0 if len(arguments) > 1 else _complain("train: EXP is missing; `assay list` names them", USAGE)
    if arguments[:1] == ["list"] and len(arguments) == 1:
        return _list()
    if arguments and not arguments[0].startswith("-") and arguments[0] not in ("list", "train"):
        raise unknown_name("command", arguments[0], ["list", "train"])
    parsed = parser.parse_args(arguments)
    return _train(parsed.experiment, parsed.arguments) if parsed.command == "train" else _list()


def _list() -> int:
    experiments = experiment_names()
    width = max((len(name) for name in experiments), default=0)
    for name, summary in experiments.items():
        print(f"{name:<{width}}  {summary}")
    return 0


def _train(name: str, arguments: list[str]) -> int:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import asks the network for the newest version
    experiment_class = find_experiment(name)
    from .parser import parse_experiment
    from .train import train

    experiment, options = parse_experiment(experiment_class, name, arguments)
    name = os.path.abspath(name) if os.path.exists(name) and ("/" in name or name.endswith(".py")) else name
    train(experiment, name=name, run_dir=options["run_dir"], resume=options["resume"])
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def _complain(message: str, code: int) -> int:
    print(f"assay: error: {message}", file=sys.stderr)
    return code


def _complain_with_users_frames(error: Exception) -> int:
    """Print the traceback from the first frame that is the user's; an error without one in a line."""
    frame = error.__traceback__
    while frame is not None and not _is_users(frame):
        frame = frame.tb_next
    if frame is not None:
        traceback.print_exception(type(error), error, frame)
    message = " ".join(str(error).split())
    return _complain(f"{type(error).__name__}: {message} (--debug shows the traceback)", FAILED)


def _is_users(frame: TracebackType) -> bool:
    module = str(frame.tb_frame.f_globals.get("__name__", ""))
    return module.startswith(("assay_user_", "assay.experiments."))
