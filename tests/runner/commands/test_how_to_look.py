"""What a run says at its end about how to look at it."""

import shlex
import shutil
import sys
from pathlib import Path

import pytest

from assay.runner.commands.how_to_look import how_to_look

OPEN = "then open http://localhost:6006"
ALL_PICTURES = ["--samples_per_plugin", "images=200"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SSH_CONNECTION", raising=False)


@pytest.fixture
def makefile():
    Path("Makefile").write_text("tensorboard: setup  ## look at the runs\n\ttensorboard --logdir runs\n")


def command_for(run):
    first, *others = how_to_look(Path(run))
    assert others == [OPEN]
    return shlex.split(first.removeprefix("look at it: "))


def test_a_run_among_others_is_shown_beside_them_with_the_pictures_of_all_epochs():
    program, *flags = command_for("runs/digits/1")
    assert shutil.which(program) is not None  # it can be typed as it stands
    assert flags == ["--logdir", "runs", *ALL_PICTURES]


def test_in_a_checkout_it_is_a_target_of_make(makefile):
    assert how_to_look(Path("runs/digits/1")) == [f"look at it: make tensorboard, {OPEN}"]


def test_the_target_of_this_projects_makefile_shows_the_pictures_of_all_epochs_too():
    makefile = (Path(__file__).parents[3] / "Makefile").read_text()
    recipe = makefile.partition("\ntensorboard:")[2].splitlines()[1]
    assert shlex.split(recipe)[-2:] == ALL_PICTURES


@pytest.mark.parametrize("program", ["tensorboard", ".venv/bin/tensorboard"])
@pytest.mark.parametrize("ssh", [False, True])
def test_no_line_is_longer_than_80_columns(program, ssh, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", str(tmp_path / program.replace("tensorboard", "python")))
    (tmp_path / program).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / program).touch()
    if ssh:
        monkeypatch.setenv("SSH_CONNECTION", "192.0.2.7 51000 192.0.2.9 22")
    lines = how_to_look(Path("runs/digits/20260102-030405"))
    assert command_for("runs/a")[0] == program if not ssh else len(lines) == 3
    assert max(map(len, lines)) <= 80


def test_a_run_elsewhere_is_shown_by_its_folder(makefile, tmp_path):
    odd = tmp_path / "it's a run (2) $HOME"
    assert command_for(odd)[-4:] == ["--logdir", str(odd), *ALL_PICTURES]


def test_a_makefile_of_the_users_has_no_such_target():
    Path("Makefile").write_text("all:\n\ttrue\n")
    assert "--logdir runs" in how_to_look(Path("runs/a"))[0]


def test_over_ssh_it_says_how_to_reach_the_port(monkeypatch):
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.7 51000 192.0.2.9 22")
    lines = how_to_look(Path("runs/a"))
    assert lines[1:] == [OPEN, "over ssh, first run on your own machine: ssh -L 6006:localhost:6006 HOST"]


def test_the_program_beside_this_python_is_named_where_there_is_no_other(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "")
    beside = Path(sys.executable).with_name("tensorboard")
    assert how_to_look(Path("runs/a"))[0].startswith(f"look at it: {beside} --logdir runs ")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    (tmp_path / "bin").mkdir()
    assert how_to_look(Path("runs/a"))[0].startswith("look at it: tensorboard --logdir runs ")
    (tmp_path / "bin" / "tensorboard").touch()
    assert how_to_look(Path("runs/a"))[0].startswith("look at it: bin/tensorboard --logdir runs ")
