"""What --tune says is read as it is written, and refused before anything starts where it does not fit."""

import itertools
import re
import sys
from pathlib import Path

import pytest

from assay.callbacks import UsageError
from assay.runner.commands.flag_names import unknown_field
from assay.runner.commands.main import main
from assay.runner.commands.tuning.terms import Choices, Range, combinations, parse_terms

PARABOLA = str(Path(__file__).parents[2] / "toys" / "parabola.py")
HINTS = {"lr": float, "width": int, "momentum": float | None, "kind": str, "sizes": list[int], "deep": bool}


def parsed(*texts):
    return parse_terms(texts, HINTS, unknown_field)


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("lr=1e-4..1e-2,log", Range("lr", 1e-4, 1e-2, whole=False, log=True)),
        ("lr=0..1", Range("lr", 0.0, 1.0, whole=False)),
        ("lr=-0.5..0.5,step=0.25", Range("lr", -0.5, 0.5, whole=False, step=0.25)),
        ("width=8..64", Range("width", 8, 64, whole=True)),
        ("width=16..64,step=16", Range("width", 16, 64, whole=True, step=16)),
        ("width=1e1..1e3,log", Range("width", 10, 1000, whole=True, log=True)),
        ("momentum=0.8..0.99", Range("momentum", 0.8, 0.99, whole=False)),
        ("momentum=0.9|null", Choices("momentum", ["0.9", "null"])),
        ("width=16|32", Choices("width", ["16", "32"])),
        ("kind=a..b|../c", Choices("kind", ["a..b", "../c"])),
        ("sizes=[1,2]|[3, 4]", Choices("sizes", ["[1,2]", "[3, 4]"])),
        ("--deep=true|false", Choices("deep", ["true", "false"])),
    ],
)
def test_a_term_is_read(text, term):
    assert parsed(text) == [term]
    assert parsed(str(term)) == [term]


def test_terms_stand_in_one_text_or_in_several():
    assert parsed("lr=0..1 width=8|16", "deep=true|false") == parsed("lr=0..1", "width=8|16", "deep=true|false")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr", "--tune must read FIELD=LOW..HIGH, .* got 'lr'"),
        ("lr=", "--tune must read"),
        ("lr=0.1", "with at least two different values, got 'lr=0.1'"),
        ("kind=a|a", "with at least two different values"),
        ("kind=a||b", "with at least two different values"),
        ("lrr=0..1", "unknown field in --tune: 'lrr'; did you mean 'lr'"),
        ("widht=1..2", "did you mean 'width'"),
        ("kind=1..2", "'kind' takes no numbers, and has no range; give its values: kind=A|B"),
        ("deep=0..1", "'deep' takes no numbers"),
        ("lr=1..1", "the first number of a range must be less than the second"),
        ("lr=2..1", "the first number of a range must be less than the second"),
        ("width=1.5..3", "'1.5' must be an integer"),
        ("lr=0..1,log", "a range with log must begin above 0"),
        ("lr=1..2,log,step=1", "log and step do not go together"),
        ("lr=0..1,step=0.3", "a whole number of steps must lead from the first number to the second"),
        ("lr=0..1,step=0", "a whole number of steps"),
        ("lr=0..1,step=x", "'x' must be a number"),
        ("lr=0..1,lin", "after a range may stand ,log or ,step=N, got 'lin'"),
        ("lr=0..1 lr=2..3", "--tune names 'lr' twice"),
    ],
)
def test_what_cannot_be_read_is_named(text, message):
    with pytest.raises(UsageError, match=message):
        parsed(text)


def test_fields_that_trials_are_compared_by_are_not_searched():
    for name in ("monitor", "epochs"):
        with pytest.raises(UsageError, match=f"--tune cannot search {name!r}"):
            parse_terms([f"{name}=1|2"], {name: int}, unknown_field)


def test_all_combinations_are_listed_where_they_are_few():
    terms = parsed("width=16..48,step=16 kind=a|b deep=true|false")
    expected = [
        {"width": width, "kind": kind, "deep": deep}
        for width, kind, deep in itertools.product([16, 32, 48], "ab", ["true", "false"])
    ]
    assert combinations(terms, 12) == expected
    assert combinations(terms, 11) is None
    assert combinations(parsed("lr=0..1 deep=true|false"), 1000) is None
    assert combinations(parsed("lr=0..1,step=0.25"), 5) == [{"lr": value} for value in (0, 0.25, 0.5, 0.75, 1)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tune", "x=-2..0.5"], "--tune with x=-2.0: x must be at least -1, got -2.0."),
        (["--tune", "x=0..5"], "--tune with x=5.0: x must be at most 1"),
        (["--tune", "kind=near|fra"], "unknown kind 'fra'; did you mean 'far'"),
        (["--tune", "steps=1|two"], "--steps must be int, got 'two'."),
        (["--tune", "lr=0..1"], "--tune with lr=0.0: lr must be greater than 0"),
        (["--tune", "stepps=1..2"], "unknown field in --tune: 'stepps'; did you mean 'steps'"),
        (["--tune", "x=0..1", "--x", "0.5"], "--x is given and searched by --tune: leave one of them out"),
        (["--tune", "scheduler=cosine|none", "lr_min=0..1e-3"], "scheduler=none lr_min=0.001: --lr-min has no use"),
        (["--tune", "kind=near|far steps=1..2", "--forbidden"], "kind=far steps=2: kind far takes no steps above 1"),
        (["--tune", "x=0..1", "--trials", "0"], "--trials must be at least 1, got 0"),
        (["--tune", "x=0..1", "--resume", "somewhere"], "somewhere|--tune does not go together with --resume"),
        (["--tune", "x=0..1", "--tune-storage", "mysql://a/b"], "--tune-storage must be a file, or sqlite:///FILE"),
        (["--trials", "3"], "--trials has no use without --tune"),
        (["--tune-storage", "a.log"], "--tune-storage has no use without --tune"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_experiment_is_refused_before_anything_starts(
    arguments, message, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    assert main(["train", PARABOLA, *arguments]) == 2
    line = capfd.readouterr().err
    assert line.startswith("assay: error: ") and line.count("\n") == 1
    assert re.search(message, line), line
    assert list(tmp_path.iterdir()) == []


def test_under_torchrun_it_is_refused(monkeypatch, capfd):
    monkeypatch.setenv("RANK", "0")
    assert main(["train", PARABOLA, "--tune", "x=0..1"]) == 2
    assert "--tune trains each trial with one process, not with torchrun" in capfd.readouterr().err


def test_without_optuna_a_line_says_how_to_install_it(monkeypatch, capfd, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "assay.runner.commands.tuning.search", raising=False)
    assert main(["train", PARABOLA, "--tune", "x=0..1"]) == 2
    assert "--tune needs the package 'optuna': pip install 'catalyst-assay[tune]'." in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []
