"""Flags, YAML and help, all made from an experiment's fields."""

import re
from dataclasses import dataclass, fields
from typing import Any

import pytest
from toy_fields import Toy

from assay.runner import Experiment, UsageError
from assay.runner.commands.experiment_flags import experiment_parser, parse_experiment, usage_error
from assay.runner.commands.experiment_help import field_docs
from assay.runner.commands.flag_names import SYNONYMS, unknown_flag
from assay.runner.experiment.catalog import experiment_names, find_experiment
from assay.runner.experiment.field_names import flag_of
from assay.runner.experiment.fields import GROUPS, MOST_USED

UNUSED = {"tune": None, "trials": None, "tune_storage": None}


def parse(*arguments):
    return parse_experiment(Toy, "toy", arguments)


@pytest.fixture
def help_of_toy(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    return experiment_parser(Toy, "toy").format_help()


def test_without_arguments_every_field_has_its_default():
    toy, options = parse()
    assert toy == Toy()
    assert options == {**UNUSED, "run_dir": None, "resume": None, "debug": False}


def test_two_parses_share_no_mutable_default():
    first, _ = parse()
    first.sizes.append(7)
    assert parse()[0].sizes == [3, 5]


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["--sizes", "[7, 9]"], "sizes", [7, 9]),
        (["--sizes", "7"], "sizes", [7]),
        (["--names", "[a, b]"], "names", ["a", "b"]),
        (["--names", "null"], "names", None),
        (["--crop", "[2, 3]"], "crop", (2, 3)),
        (["--kind=square"], "kind", "square"),
        (["--monitor", "valid/loss:max"], "monitor", ["valid/loss:max"]),
        (["--optimizer-options", "{nesterov: true}"], "optimizer_options", {"nesterov": True}),
        (["--optimizer_options.nesterov", "true"], "optimizer_options", {"nesterov": True}),
        (["--patience", "3"], "patience", 3),
        (["--patience", "null"], "patience", None),
        (["--deterministic", "true"], "deterministic", True),
        (["--deterministic"], "deterministic", True),
        (["--deterministic", "--epochs", "3"], "deterministic", True),
        (["--epochs", "3", "--deterministic"], "epochs", 3),
        (["--lr", "1e-3"], "lr", 0.001),
        (["--lr", "1"], "lr", 1.0),
        (["--data-dir", "a-b_c/--d"], "data_dir", "a-b_c/--d"),
        (["--data-dir=--odd-name"], "data_dir", "--odd-name"),
    ],
)
def test_a_flag_sets_its_field_with_the_right_type(arguments, name, value):
    toy, _ = parse(*arguments)
    assert getattr(toy, name) == value
    assert type(getattr(toy, name)) is type(value)


def test_options_of_the_run_are_no_fields():
    toy, options = parse("--run_dir", "here", "--debug")
    assert options == {**UNUSED, "run_dir": "here", "resume": None, "debug": True}
    assert toy == Toy()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "3"], "unknown flag '--size'; did you mean '--sizes'? --help-all explains them all."),
        (["--sizes+", "3"], "unknown flag '--sizes+'; did you mean '--sizes'? --help-all explains them all."),
        (["--print_config"], "unknown flag '--print_config'"),
        (["--kind", "rond"], "unknown kind 'rond'; did you mean 'round'? There is: 'round', 'square'."),
        (["--crop", "3"], "--crop must be tuple[int, int], got '3'."),
        (["--sizes", "x"], "--sizes must be list[int] or int, got 'x'."),
        (["--patience", "soon"], "--patience must be int or null, got 'soon'."),
        (["--patience", "0"], "patience must be at least 1, got 0."),
        (["--seed", "-1"], "seed must be at least 0, got -1."),
        (["--max-overhead", "0"], "max_overhead must be greater than 0, got 0"),
        (["--max-overhead", "-0.1"], "max_overhead must be greater than 0, got -0.1."),
        (["--max-overhead", "5"], "max_overhead must be at most 1 (0.05 is 5%), got 5"),
        (["--max-overhead", "abc"], "--max-overhead must be float or null, got 'abc'."),
        (["--max-overhead", "true"], "--max-overhead must be float or null, got 'true'."),
        (["--max-overhead", "nan"], "--max-overhead must be float or null, got 'nan'."),
    ],
)
def test_a_wrong_argument_is_named_with_its_rule_and_value(arguments, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}"):
        parse(*arguments)


@pytest.mark.parametrize("name", ["nan", "inf", "-inf"])
def test_a_learning_rate_that_is_not_finite_is_refused_from_a_flag(name):
    with pytest.raises(UsageError, match=r"^--lr must be float, got "):
        parse(f"--lr={name}")


def test_fields_without_a_default_are_refused():
    @dataclass(kw_only=True)
    class Bare(Experiment):
        """A toy."""

        depth: int

    with pytest.raises(UsageError, match=r"^the field 'depth' of an experiment must have a default"):
        parse_experiment(Bare, "bare", [])


def test_an_error_of_jsonargparse_becomes_one_line():
    hints: dict[str, Any] = {"epochs": int}
    assert str(usage_error("Parser key \"epochs\":\n  Expected a <class 'int'>. Got value: x", hints)) == (
        "--epochs must be int, got 'x'."
    )
    assert str(usage_error("argument --epochs: expected one argument", hints)) == "--epochs needs a value."
    assert str(usage_error("something\n  else\n", hints)) == "something else"


def test_the_help_groups_fields_by_purpose_the_experiments_own_first(help_of_toy):
    titles = re.findall(r"^(\S.*):$", help_of_toy, re.M)
    assert titles == [
        "options", "toy only", "Training", "Optimizer", "Schedule of the learning rate", "Fine-tuning", "Data",
        "Machine", "Checkpoints and logs", "Diagnostics", "Search",
    ]  # fmt: skip
    own, training = help_of_toy.index("toy only:"), help_of_toy.index("\nTraining:")
    assert own < help_of_toy.index("--sizes") < training
    assert help_of_toy.index("--lr ") > help_of_toy.index("\nOptimizer:")  # only its default is the toy's own


@pytest.mark.parametrize("experiment", [*experiment_names(), "toy"])
def test_the_help_shows_every_field_with_its_docstring_and_default(experiment, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    cls = Toy if experiment == "toy" else find_experiment(experiment)
    text = experiment_parser(cls, experiment).format_help()
    defaults = cls()
    for one in fields(cls):
        if one.name in cls.fields_without_use():
            assert flag_of(one.name) not in re.findall(r"^  (\S+)", text, re.M)
            continue
        found = re.search(rf"^  --{one.name.replace('_', '-')} \S+\s+(\S.*\S) \(default: (.*)\)$", text, re.M)
        assert found, one.name
        explanation, default = found.groups()
        assert len(explanation) > 10, one.name
        value = getattr(defaults, one.name)
        assert default == ("null" if value is None else str(value)), one.name


def test_every_field_of_the_base_has_a_docstring_of_its_own():
    docs = field_docs(Experiment)
    names = [one.name for one in fields(Experiment)]
    assert {name for name in names if not docs.get(name)} == set()
    assert len({docs[name] for name in names}) == len(names)
    assert all(group.__doc__ for group in GROUPS)


def test_the_help_is_free_of_what_the_reader_does_not_need(help_of_toy):
    for clutter in ("type:", "<class", "typing", "print_config", "skip_default", "_dir", "+ ", "Literal"):
        assert clutter not in help_of_toy, clutter
    assert "usage: assay train toy [--config FILE] [--FIELD VALUE ...] [--run-dir DIR] [--resume RUN]\n" in help_of_toy


def test_the_help_fits_a_terminal_of_80_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, experiment_parser(Toy, "toy").format_help().splitlines())) <= 80


def shown_flags(*, every_field):
    text = experiment_parser(Toy, "toy", every_field=every_field).format_help()
    return re.findall(r"^  (--[\w-]+) ", text, re.M)


def test_the_short_help_shows_the_experiments_own_fields_and_the_most_used(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    options = ["--help-all", "--config", "--run-dir", "--resume", "--debug"]
    own = ["--sizes", "--names", "--crop", "--kind"]
    shown = shown_flags(every_field=False)
    assert shown[: len(options + own)] == options + own
    search = ["--tune", "--trials", "--tune-storage"]
    assert shown[-len(search) :] == search
    used = sorted(flag_of(name) for name in MOST_USED if name != "pretrained")
    assert sorted(shown[len(options + own) : -len(search)]) == used
    assert len(MOST_USED) == 12
    every = {flag_of(one.name) for one in fields(Toy)} - {"--pretrained"}  # of which a toy makes no use
    assert set(shown_flags(every_field=True)) == {*options, *search, *every}


@pytest.mark.parametrize(("flag", "every_field"), [("--help", False), ("-h", False), ("--help-all", True)])
def test_a_flag_prints_the_short_help_or_all_of_it(flag, every_field, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        parse(flag)
    assert capsys.readouterr().out == experiment_parser(Toy, "toy", every_field=every_field).format_help()


def test_what_other_programs_call_a_flag_leads_to_ours():
    known = [option for action in experiment_parser(Toy, "toy")._actions for option in action.option_strings]
    assert SYNONYMS.keys() <= set(known)
    for ours, words in SYNONYMS.items():
        for word in words:
            assert word not in known
            assert f"did you mean {ours!r}?" in str(unknown_flag(word, known)), word
            assert f"did you mean {ours!r}?" in str(unknown_flag(word.replace("-", "_").replace("__", "--"), known))


@pytest.mark.parametrize(
    ("flag", "meant"),
    [("--learnin-rate", "--lr"), ("--Learning_Rate", "--lr"), ("--epoch", "--epochs"), ("--batchsize", "--batch-size")],
)
def test_a_near_spelling_of_either_leads_to_ours(flag, meant):
    with pytest.raises(UsageError, match=f"^unknown flag '{flag}'; did you mean '{meant}'"):
        parse(flag, "3")


def test_a_field_of_another_name_in_a_file_leads_to_ours(tmp_path):
    (tmp_path / "a.yaml").write_text("learning_rate: 3\n")
    with pytest.raises(UsageError, match=r"unknown field in .*a\.yaml: 'learning_rate'; did you mean 'lr'\?"):
        parse("--config", str(tmp_path / "a.yaml"))


class Spare(Toy):
    """A toy that has no use for data."""

    unused_fields = ("data_dir", "workers")


@pytest.mark.parametrize("arguments", [["--data-dir", "x"], ["--data_dir=x"], ["--workers=0"]])
def test_a_field_without_a_use_is_refused(arguments):
    flag = arguments[0].partition("=")[0].replace("_", "-")
    with pytest.raises(UsageError, match=f"^{flag} has no use in 'spare', which would ignore it: leave it out"):
        parse_experiment(Spare, "spare", arguments)


def test_the_config_of_a_run_holds_a_field_without_a_use_too(tmp_path):
    (tmp_path / "a.yaml").write_text("data_dir: null\nlr: 2\n")
    assert parse_experiment(Spare, "spare", ["--config", str(tmp_path / "a.yaml")])[0].lr == 2
