"""What a run says at its end about how to look at it."""

import shlex
import shutil
import sys
from pathlib import Path

import pytest

from assay.runner.commands.how_to_look import how_to_look

OPEN = ", then open http://localhost:6006"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SSH_CONNECTION", raising=False)


@pytest.fixture
def makefile():
    Path("Makefile").write_text("tensorboard: setup  ## look at the runs\n\ttensorboard --logdir runs\n")


def test_a_run_among_others_is_shown_beside_them():
    (line,) = how_to_look(Path("runs/digits/1"))
    program, *flags = line.removeprefix("look at it: ").removesuffix(OPEN).split()
    assert shutil.which(program) is not None  # it can be typed as it stands
    assert flags == ["--logdir", "runs"]


def test_in_a_checkout_it_is_a_target_of_make(makefile):
    assert how_to_look(Path("runs/digits/1")) == [f"look at it: make tensorboard{OPEN}"]


def test_a_run_elsewhere_is_shown_by_its_folder(makefile, tmp_path):
    odd = tmp_path / "it's a run (2) $HOME"
    (line,) = how_to_look(odd)
    assert shlex.split(line.removesuffix(OPEN))[-2:] == ["--logdir", str(odd)]


def test_a_makefile_of_the_users_has_no_such_target():
    Path("Makefile").write_text("all:\n\ttrue\n")
    assert "--logdir runs" in how_to_look(Path("runs/a"))[0]


def test_over_ssh_it_says_how_to_reach_the_port(monkeypatch):
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.7 51000 192.0.2.9 22")
    lines = how_to_look(Path("runs/a"))
    assert lines[1:] == ["over ssh, first run on your own machine: ssh -L 6006:localhost:6006 HOST"]


def test_the_program_beside_this_python_is_named_where_there_is_no_other(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "")
    beside = Path(sys.executable).with_name("tensorboard")
    assert how_to_look(Path("runs/a"))[0].startswith(f"look at it: {beside} --logdir runs,")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    (tmp_path / "bin").mkdir()
    assert how_to_look(Path("runs/a"))[0].startswith("look at it: tensorboard --logdir runs,")
    (tmp_path / "bin" / "tensorboard").touch()
    assert how_to_look(Path("runs/a"))[0].startswith("look at it: bin/tensorboard --logdir runs,")
