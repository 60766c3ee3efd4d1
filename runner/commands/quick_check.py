"""Answer wrong arguments before torch is imported, which takes seconds."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.callbacks.errors import UsageError

from ..experiment.experiment_fields import ExperimentFields
from ..experiment.ignored_fields import check_ignored
from ..experiment.source_fields import fields_class
from ..recipe.optimizer_names import exported_names, find_name
from ..saving.run_folder import check_new_folder, check_weights_there
from .experiment_flags import parse_experiment, request_of


def check_arguments(name: str, arguments: Sequence[str], command: str = "train") -> None:
    """Raise for arguments that one of assay's own experiments does not take, or print its help.

    What is let through is checked again with the experiment itself, whose source may not tell everything.

    Raises:
        UsageError: an argument is wrong.
    """
    with fields_class(name) as experiment:
        if experiment is None:
            return
        try:
            fields, options = parse_experiment(experiment, name, arguments, command)
            _check_values(fields, options, name)
            if options["tune"] is not None:
                request_of(experiment, name, arguments, fields, options)
        except UsageError:
            raise
        except Exception:  # noqa: BLE001 - a check that needs what the experiment imports may raise anything
            return


def _check_values(fields: ExperimentFields, options: Mapping[str, Any], name: str) -> None:
    if names := exported_names():  # none of a torch that exports them in another way
        find_name(fields.optimizer, names)
    if options["resume"] is None and options["tune"] is None:  # of a search, what it chooses decides too
        check_ignored(fields, name)
    if options["resume"] is None and isinstance(fields.weights, str):
        check_weights_there(fields.weights)
    # After a restart by torchrun the folder is there, and the run goes on in it; a search goes on in its own.
    goes_on = "TORCHELASTIC_RUN_ID" in os.environ or options["tune"] is not None
    if options["run_dir"] is not None and not goes_on:
        check_new_folder(Path(options["run_dir"]))
