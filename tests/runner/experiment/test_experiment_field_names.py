"""Names of fields: those that mean something else are refused, all others reach the experiment."""

from dataclasses import make_dataclass

import pytest

from assay.runner import Experiment, UsageError
from assay.runner.commands.experiment_flags import parse_experiment


def parsed(name, *arguments):
    toy = make_dataclass("Toy", [(name, int, 3)], bases=(Experiment,), kw_only=True)
    return getattr(parse_experiment(toy, "toy", arguments)[0], name)


@pytest.mark.parametrize("name", ["n", "h", "x", "N", "keys", "items", "get", "update", "nnodes", "standalone"])
def test_a_field_may_be_called_like_a_flag_of_torchrun_or_a_method_of_a_parser(name):
    assert parsed(name) == 3
    assert parsed(name, f"--{name}", "5") == 5


@pytest.mark.parametrize("name", ["config", "run_dir", "resume", "debug", "help", "tune", "trials"])
def test_a_field_called_like_a_flag_of_every_experiment_is_refused(name):
    with pytest.raises(UsageError, match=f"the field '{name}' must have another name: --{name.replace('_', '-')} is a"):
        parsed(name)


@pytest.mark.parametrize("name", ["get_model", "make_data", "scaled_lr", "generated"])
def test_a_field_that_hides_what_every_experiment_has_is_refused(name):
    with pytest.raises(UsageError, match=f"the field '{name}' must have another name: every experiment has"):
        parsed(name)


def test_a_field_that_cannot_be_a_flag_is_refused():
    with pytest.raises(UsageError, match="the field '_n' must have a name that begins with a letter"):
        parsed("_n")
