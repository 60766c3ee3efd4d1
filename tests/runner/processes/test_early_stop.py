"""Signals before there is a run to save: an exit code of 75, one line, and nothing left."""

import contextlib
import os
import signal
import threading

import pytest
from toy_experiment import Toy

from assay.runner import train
from assay.runner.commands import train as module
from assay.runner.commands.main import main
from assay.runner.processes.early_stop import SIGNALS, StoppedEarly, held_signals, raise_if_signalled, stops_early
from assay.runner.processes.exit_codes import StoppedError


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_block_and_afterwards_means_what_it_did(number):
    before = signal.getsignal(number)
    with pytest.raises(StoppedEarly) as stopped, stops_early():
        send(number)
    assert stopped.value.signal_name == signal.Signals(number).name
    assert signal.getsignal(number) is before


def test_an_import_that_is_tried_does_not_swallow_it():
    def tried():
        with contextlib.suppress(Exception):
            send(signal.SIGTERM)

    with pytest.raises(StoppedEarly), stops_early():
        tried()


def test_signals_wait_while_they_are_held():
    reached = []
    with pytest.raises(StoppedEarly), stops_early():
        with held_signals():
            send(signal.SIGTERM)
            reached.append("held")
        reached.append("free")
        raise_if_signalled()
        reached.append("never")
    assert reached == ["held", "free"]
    with stops_early():
        raise_if_signalled()  # it was told once


def test_another_thread_runs_without():
    failed = []

    def work():
        try:
            with stops_early():
                pass
        except ValueError as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failed == []


class Stopped(Toy):
    """Is told to stop where it makes one of its parts."""

    def at(self, part):
        if type(self).part == part:
            send(type(self).number)

    def get_loaders(self):
        self.at("loaders")
        return super().get_loaders()

    def get_model(self):
        self.at("model")
        return super().get_model()

    def get_callbacks(self):
        self.at("callbacks")
        return super().get_callbacks()


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("part", ["loaders", "model", "callbacks"])
def test_a_signal_while_a_part_is_made_leaves_no_run(tmp_path, part, number):
    Stopped.part, Stopped.number = part, number
    with pytest.raises(StoppedEarly), stops_early():
        train(Stopped(), name="toy", run_dir=tmp_path / "a" / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_signal_while_the_folder_is_made_leaves_no_run(tmp_path, monkeypatch):
    make = module.RunFolder.create

    def told(*arguments):
        send(signal.SIGTERM)
        return make(*arguments)

    monkeypatch.setattr(module.RunFolder, "create", told)
    with pytest.raises(StoppedEarly), stops_early():
        train(Toy(), name="toy", run_dir=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_goes_on_and_is_told_to_stop_before_it_does_keeps_all_and_says_how(tmp_path):
    run = train(Toy(epochs=1), name="toy", run_dir=tmp_path / "my run")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    Stopped.part, Stopped.number = "model", signal.SIGUSR1
    with pytest.raises(StoppedError) as stopped, stops_early():
        train(Stopped(epochs=2), name="toy", resume=run)
    assert stopped.value.exit_code == 75
    assert stopped.value.message.startswith("stopped by SIGUSR1 ")
    assert stopped.value.message.endswith(f"assay train toy --resume '{run}'")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_the_command_ends_with_75_and_one_line_that_does_not_speak_of_going_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n")
    assert main(["train", "./mine.py"]) == 75
    assert capsys.readouterr().err == "assay: stopped by SIGTERM before anything was saved; start it again\n"
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == {"mine.py"}
