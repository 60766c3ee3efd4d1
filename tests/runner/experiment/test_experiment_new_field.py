"""A field of all experiments is written once: everything that is to be known of it follows."""

import re
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import yaml
from toy_experiment import Toy

from assay.callbacks.errors import UsageError
from assay.runner import AtMost, GreaterThan, LessThan, Mark, MultipleOf, train
from assay.runner.commands.experiment_flags import experiment_parser, parse_experiment
from assay.runner.experiment.experiment_settings import check_fields, experiment_settings
from assay.runner.experiment.marks import marked

ROOT = Path(__file__).parents[3]


@dataclass(kw_only=True)
class Clipping(Toy):
    """An experiment with two more fields."""

    clip_something: Annotated[float | None, GreaterThan(0)] = None
    """Largest something."""
    cache: Annotated[str, Mark.RESUMABLE, Mark.PER_MACHINE] = "here"
    """Folder for copies of the data."""


@dataclass(kw_only=True)
class Derived(Clipping):
    """A variant that only has other defaults."""

    clip_something: float | None = 2.0
    cache: str = "there"


def parse(*arguments, kind=Clipping):
    return parse_experiment(kind, "clipping", arguments)[0]


def test_it_is_a_flag_and_stands_in_the_help_with_its_type_and_default():
    assert parse("--clip-something", "0.5").clip_something == 0.5
    text = " ".join(experiment_parser(Clipping, "clipping").format_help().split())
    assert "--clip-something FLOAT Largest something." in text
    assert parse(kind=Derived).clip_something == 2.0


def test_it_is_a_key_of_yaml(tmp_path):
    (tmp_path / "config.yaml").write_text("clip_something: 0.25\n")
    assert parse("--config", str(tmp_path / "config.yaml")).clip_something == 0.25


@pytest.mark.parametrize(("rule", "words"), [(AtMost(1), "at most 1"), (LessThan(1), "less than 1")])
def test_an_upper_bound_alone_refuses_nan_too(rule, words):
    with pytest.raises(UsageError, match=f"share must be {words}, got nan"):
        rule.check("share", float("nan"))


@pytest.mark.parametrize(("value", "is_refused"), [(32, False), (96, False), (48, True), (0, True), (-32, True)])
def test_a_multiple_of_a_number_is_positive(value, is_refused):
    refused = pytest.raises(UsageError, match=f"channels must be a multiple of 32, got {value}")
    with refused if is_refused else nullcontext():
        MultipleOf(32).check("channels", value)


def test_none_is_refused_where_the_type_has_no_none():
    assert Clipping(clip_something=None, patience=None).clip_something is None
    for name in ("seed", "epochs", "device", "non_finite", "scheduler"):
        with pytest.raises(UsageError, match=f"{name} must have a value, got None"):
            Clipping(**{name: None})


@pytest.mark.parametrize("kind", [Clipping, Derived])
def test_its_range_is_checked(kind):
    with pytest.raises(UsageError, match=r"clip_something must be greater than 0, got 0\.0\."):
        kind(clip_something=0.0)


@pytest.mark.parametrize("kind", [Clipping, Derived])
def test_it_is_compared_on_resume_unless_a_mark_lets_it_change(tmp_path, kind):
    run = train(kind(epochs=1, clip_something=1.0), name="clipping", run_dir=tmp_path / "run")
    assert yaml.safe_load((run / "config.yaml").read_text())["clip_something"] == 1.0
    with pytest.raises(UsageError, match=r"--clip-something cannot change in a resumed run: .* These can: --cache, "):
        parse("--resume", str(run), "--clip-something", "2", kind=kind)
    assert parse("--resume", str(run), "--cache", "elsewhere", kind=kind).cache == "elsewhere"


@pytest.mark.parametrize("kind", [Clipping, Derived])
def test_processes_must_agree_in_it_unless_a_mark_gives_it_to_the_machine(kind):
    mine = experiment_settings("clipping", kind())
    assert mine == experiment_settings("clipping", kind(cache="elsewhere"))
    assert mine != experiment_settings("clipping", kind(clip_something=9.0))


def test_an_edit_of_a_marked_field_is_taken_without_a_warning(caplog):
    check_fields("run", {"cache": "a"}, {"cache": "b"}, Clipping)
    assert caplog.messages == []
    check_fields("run", {"clip_something": 1.0}, {"clip_something": 2.0}, Clipping)
    assert caplog.messages == ["clip_something is 2.0 from now on; until the checkpoint it was 1.0."]


def test_each_mark_is_given_to_a_field_of_all_experiments():
    assert {mark: "epochs" in marked(Toy, mark) for mark in Mark} == {mark: mark is Mark.RESUMABLE for mark in Mark}
    assert all(marked(Toy, mark) for mark in Mark)


def test_an_option_of_the_step_stands_in_three_files():
    # Where it is a field, where it is an argument of the runner, and where it acts.
    files = [path for path in (ROOT / "runner").rglob("*.py") if re.search(r"\bclip_grad_value\b", path.read_text())]
    assert {path.name for path in files} == {"fields.py", "dict_runner.py", "optimizer_step.py"}
