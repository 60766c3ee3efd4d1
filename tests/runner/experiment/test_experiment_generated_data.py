"""Data that an experiment makes for itself: once, whole or not at all, and never over what is there."""

import multiprocessing
import subprocess
import sys
from dataclasses import dataclass

import pytest

from assay.callbacks.errors import UsageError
from assay.runner import Experiment
from assay.runner.commands.main import main
from assay.runner.experiment.generated_data import make_new, make_once


@dataclass(kw_only=True)
class Paper(Experiment):
    def make_data(self, folder):
        (folder / "page").write_text("blank")


def test_data_is_made_whole_and_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = Paper().data_folder()
    assert str(folder) == "data/paper-generated" and (folder / "page").read_text() == "blank"
    (folder / "page").write_text("mine")
    assert (Paper().data_folder() / "page").read_text() == "mine"
    assert capsys.readouterr().out == "making a small data set in data/paper-generated\n"
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["paper-generated"]


def test_nothing_is_left_where_making_fails(tmp_path):
    def make(folder):
        (folder / "half").touch()
        raise RuntimeError("no more paper")

    with pytest.raises(RuntimeError, match="no more paper"):
        make_once(tmp_path / "data", make)
    assert list(tmp_path.iterdir()) == []


def _count(folder):
    with open(folder.parent / "made", "a") as file:
        file.write("x")


def test_of_several_processes_one_makes_it(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=make_once, args=(tmp_path / "data", _count)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert (tmp_path / "made").read_text() == "x"


def test_the_users_data_dir_is_used_and_must_be_a_folder(tmp_path):
    assert Paper(data_dir=str(tmp_path)).data_folder() == tmp_path
    assert not Paper(data_dir=str(tmp_path)).generated
    with pytest.raises(UsageError, match="data_dir must be a folder, got 'nowhere'"):
        Paper(data_dir="nowhere").data_folder()
    with pytest.raises(UsageError, match="data_dir is needed"):
        Experiment().data_folder()


def test_on_request_it_goes_into_an_empty_folder_only(tmp_path):
    (tmp_path / "empty").mkdir()
    assert (make_new(tmp_path / "empty", Paper().make_data) / "page").exists()
    with pytest.raises(UsageError, match="exists already: remove it, or name another with --data-dir"):
        make_new(tmp_path / "empty", Paper().make_data)


def test_the_command_refuses_an_experiment_that_makes_none(capsys):
    assert main(["data", "digits"]) == 2
    assert "'digits' cannot make data" in capsys.readouterr().err


def test_a_missing_package_is_named(tmp_path):
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "from assay.runner.commands.main import main\nsys.exit(main(['train', 'digits']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "'digits' needs the package 'sklearn': pip install 'catalyst-assay[experiments]'" in done.stderr
