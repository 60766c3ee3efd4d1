"""The folder of a run: one run in it, what it was made with, and nothing left half-written."""

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
import torch

from assay.runner import UsageError
from assay.runner.saving import run_folder as module
from assay.runner.saving.run_folder import (
    CONFIG,
    ENVIRONMENT,
    RunFolder,
    describe_environment,
    read_config,
    read_environment,
)


@pytest.fixture
def at_one_second(tmp_path, monkeypatch):
    """Work in an empty folder where it is always 3:04:05 on 2 January 2026."""

    class Still(datetime):
        @classmethod
        def now(cls):
            return cls(2026, 1, 2, 3, 4, 5)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "datetime", Still)
    return tmp_path


def test_a_new_run_has_the_time_in_its_name_and_the_second_of_one_second_a_suffix(at_one_second):
    folders = [RunFolder.create(None, "digits") for _ in range(3)]
    assert [folder.path for folder in folders] == [
        Path("runs/digits/20260102-030405"),
        Path("runs/digits/20260102-030405-2"),
        Path("runs/digits/20260102-030405-3"),
    ]
    assert all(folder.path.is_dir() for folder in folders)


def test_a_second_that_is_full_of_runs_is_refused(at_one_second):
    parent = at_one_second / "runs" / "digits"
    for number in range(1, 1000):
        (parent / ("20260102-030405" + (f"-{number}" if number > 1 else ""))).mkdir(parents=True)
    with pytest.raises(UsageError, match=r"runs/digits holds 1000 runs of this second already; pass --run-dir"):
        RunFolder.create(None, "digits")


@pytest.mark.parametrize("name", ["new", "new/below", "empty"])
def test_a_folder_that_is_new_or_empty_takes_a_run(tmp_path, name):
    (tmp_path / "empty").mkdir()
    folder = RunFolder.create(tmp_path / name, "digits")
    assert folder.path == tmp_path / name
    assert folder.path.is_dir()


def test_a_folder_that_holds_a_run_or_other_files_or_is_a_file_is_refused(tmp_path):
    run = RunFolder.create(tmp_path / "run", "digits")
    run.write_config({"lr": 0.1})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    with pytest.raises(UsageError, match=r"run holds a run already: choose another, or continue a run with --resume"):
        RunFolder.create(tmp_path / "run", "digits")
    with pytest.raises(UsageError, match=r"other holds other files: choose another"):
        RunFolder.create(tmp_path / "other", "digits")
    with pytest.raises(UsageError, match=r"notes\.txt must be a folder, and is a file"):
        RunFolder.create(tmp_path / "other" / "notes.txt", "digits")


def test_discarding_removes_the_run_and_every_folder_that_was_made_for_it(tmp_path):
    folder = RunFolder.create(tmp_path / "a" / "b" / "run", "digits")
    folder.write_config({"lr": 0.1})
    (folder.path / "checkpoints").mkdir()
    (folder.path / "checkpoints" / "index.json").touch()
    folder.discard()
    assert list(tmp_path.iterdir()) == []


def test_discarding_empties_a_folder_that_was_there_before_and_leaves_it(tmp_path):
    (tmp_path / "mine").mkdir()
    folder = RunFolder.create(tmp_path / "mine", "digits")
    folder.write_config({"lr": 0.1})
    folder.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert list((tmp_path / "mine").iterdir()) == []


def test_discarding_leaves_the_run_of_another_beside_it(at_one_second):
    first, second = RunFolder.create(None, "digits"), RunFolder.create(None, "digits")
    second.write_config({"lr": 0.1})
    first.discard()
    assert not first.path.exists()
    assert read_config(second.path) == {"lr": 0.1}


def test_the_fields_of_a_run_are_read_back_as_they_were_in_their_order(tmp_path):
    fields = {
        "lr": 1e-3,
        "epochs": 3,
        "momentum": None,
        "monitor": ["valid/loss:min"],
        "options": {"b": True, "a": "x"},
    }
    folder = RunFolder.create(tmp_path / "run", "digits")
    folder.write_config(fields)
    assert read_config(folder.path) == fields
    assert list(read_config(folder.path)) == list(fields)


def test_writing_again_replaces_a_file_and_never_cuts_it_short(tmp_path):
    """A process that is killed within the writing leaves the file of before."""
    folder = RunFolder.create(tmp_path / "run", "digits")
    folder.write_config({"lr": 0.1})
    folder.write_environment("digits", torch.device("cpu"), generated=True)
    with open(folder.path / CONFIG) as config, open(folder.path / ENVIRONMENT) as environment:
        folder.write_config({"lr": 0.2})
        folder.write_environment("wheat", torch.device("cpu"), generated=False)
        assert config.read() == "lr: 0.1\n"
        assert json.load(environment)["experiment"] == "digits"
    assert read_config(folder.path) == {"lr": 0.2}
    assert read_environment(folder.path)["experiment"] == "wheat"
    assert sorted(path.name for path in folder.path.iterdir()) == [CONFIG, ENVIRONMENT]


def test_a_run_that_goes_on_has_no_half_written_files_of_a_process_that_was_killed(tmp_path):
    folder = RunFolder.create(tmp_path / "run", "digits")
    folder.write_config({"lr": 0.1})
    (folder.path / f".{CONFIG}.4711.tmp").write_text("lr: ")
    again = RunFolder.reopen(folder.path)
    assert [path.name for path in again.path.iterdir()] == [CONFIG]
    assert again.created == []


@pytest.mark.parametrize("text", ["", "3", "[1, 2", "a: b: c"])
def test_a_file_that_holds_no_fields_is_damaged(tmp_path, text):
    for name, read in ((CONFIG, read_config), (ENVIRONMENT, read_environment)):
        (tmp_path / name).write_text(text)
        with pytest.raises(UsageError, match=rf"{name} is damaged: put a copy in its place, or start a new run"):
            read(tmp_path)


def test_the_environment_says_what_the_run_was_made_with(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/assay", "train", "digits", "--epochs", "3"])
    folder = RunFolder.create(tmp_path / "run", "digits")
    folder.write_environment("digits", torch.device("cpu"), generated=True)
    environment = read_environment(folder.path)
    assert environment["command"] == ["assay", "train", "digits", "--epochs", "3"]
    assert (environment["experiment"], environment["generated"], environment["device"]) == ("digits", True, "cpu")
    assert environment["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert environment["packages"]["catalyst"] == "22.4"
    assert environment["python"] == ".".join(map(str, sys.version_info[:3]))
    assert datetime.fromisoformat(environment["started"]).tzinfo is not None


def test_a_package_that_is_not_installed_has_no_version(monkeypatch):
    monkeypatch.setattr(module, "_PACKAGES", ("torch", "no-such-package-anywhere"))
    assert describe_environment(torch.device("cpu"))["packages"]["no-such-package-anywhere"] is None


def test_commit_and_dirtiness_are_those_of_the_repository_one_works_in(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    assert describe_environment(torch.device("cpu"))["git"] is None
    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message", "first")
    commit = git("rev-parse", "HEAD")
    assert describe_environment(torch.device("cpu"))["git"] == {"commit": commit, "dirty": False}
    (tmp_path / "new.txt").touch()
    assert describe_environment(torch.device("cpu"))["git"] == {"commit": commit, "dirty": True}


@pytest.mark.parametrize(("read", "file"), [(read_config, "config.yaml"), (read_environment, "environment.json")])
def test_a_folder_without_a_run_is_refused(tmp_path, read, file):
    with pytest.raises(UsageError, match=rf"is not a run folder: it holds no {file}"):
        read(tmp_path)


def test_the_environment_is_json_that_any_reader_takes(tmp_path):
    folder = RunFolder.create(tmp_path / "run", "digits")
    folder.write_environment("digits", torch.device("cpu"), generated=False)
    assert json.loads((folder.path / "environment.json").read_text())["generated"] is False
