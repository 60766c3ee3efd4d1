"""Complete words in a shell: commands, experiments, their flags with the words they take, and files.

``eval "$(register-python-argcomplete assay)"`` in a shell turns it on.
"""

import argparse
import os
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ..experiment.catalog import experiment_names
from ..experiment.field_names import flag_of
from ..experiment.source_fields import fields_class
from .experiment_help import owned_fields

_OF_TRAINING = ("--run-dir", "--resume", "--tune", "--trials", "--tune-storage")


def complete(parser: argparse.ArgumentParser) -> None:
    """Print what may follow in the line that a shell asks about, and end the process."""
    import argcomplete  # a shell asks only where it is installed

    argcomplete.autocomplete(parser)


def add_flags_to_complete(parser: argparse.ArgumentParser, *, trains: bool) -> None:
    """Add the experiments to the parser of ``assay train`` or ``check``, and the flags of the one named."""
    from argcomplete.completers import FilesCompleter

    names, files = list(experiment_names()), FilesCompleter(["py"])
    _add(parser, "experiment", lambda prefix, **_: [*names, *files(prefix)])
    for flag in ("--config", *(_OF_TRAINING if trains else ())):
        parser.add_argument(flag)
    for flag in ("--help-all", "--debug"):
        parser.add_argument(flag, action="store_true")
    words = os.environ.get("COMP_LINE", "").split()
    with fields_class(words[2] if len(words) > 2 else "") as experiment:
        if experiment is not None:
            hints, without_use = get_type_hints(experiment), experiment.fields_without_use()
            for _, field in owned_fields(experiment):
                if field.name not in without_use:
                    parser.add_argument(flag_of(field.name), choices=_words(hints[field.name]))


def _add(parser: argparse.ArgumentParser, name: str, completer: Any) -> None:
    action: Any = parser.add_argument(name)
    action.completer = completer


def _words(hint: Any) -> list[str] | None:
    """Return the words that a field takes; None where it takes any."""
    if hint is bool:
        return ["true", "false"]
    if get_origin(hint) is Literal:
        return [str(word) for word in get_args(hint)]
    return None
