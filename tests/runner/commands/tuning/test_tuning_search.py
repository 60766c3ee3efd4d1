"""A search runs real trials, each in a process of its own, and is Optuna's: with the same values and the same ends."""

import csv
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import optuna
import pytest
from kit import read_events
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState
from tensorboard_server import serve
from toys.parabola import loss_of

from assay.runner.commands.main import main
from assay.runner.saving.loggers import read_metrics

PARABOLA = str(Path(__file__).parents[2] / "toys" / "parabola.py")
FAST = ["--diagnostics", "off", "--sanity-batches", "0"]


def tune(*arguments):
    return main(["train", PARABOLA, *FAST, *map(str, arguments)])


def trials_of(folder, storage=None):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = str(folder / "study.log")
    storage = storage or JournalStorage(JournalFileBackend(path, lock_obj=JournalFileOpenLock(path)))
    return optuna.load_study(study_name=folder.name, storage=storage).trials


def reference(seed, count, epochs=3):
    """Search by Optuna alone, in memory, with the seeds of the trials as documented."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="minimize", pruner=optuna.pruners.MedianPruner())
    for number in range(count):
        generator = np.random.SeedSequence([seed, number])
        study.sampler = optuna.samplers.TPESampler(seed=int(generator.generate_state(1)[0]))
        trial = study.ask()
        x = trial.suggest_float("x", -1, 1)
        kind = trial.suggest_categorical("kind", ["near", "far"])
        losses = []
        for epoch in range(1, epochs + 1):
            losses.append(loss_of(x, kind, epoch))
            trial.report(losses[-1], epoch)
            if epoch < epochs and trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, min(losses))
    return study


@pytest.mark.long("each trial is a process that trains")
def test_it_is_the_search_of_optuna_and_ends_with_the_command_for_the_best(tmp_path, capfd, monkeypatch):
    folder, count = tmp_path / "study", 12
    assert tune("--tune", "x=-1..1 kind=near|far", "--trials", count, "--seed", 5, "--run-dir", folder) == 0
    found, expected = trials_of(folder), reference(5, count)
    assert [trial.params for trial in found] == [trial.params for trial in expected.trials]
    assert [trial.state for trial in found] == [trial.state for trial in expected.trials]
    assert TrialState.PRUNED in [trial.state for trial in found]
    for one, two in zip(found, expected.trials, strict=True):
        assert one.intermediate_values == pytest.approx(two.intermediate_values, rel=1e-5)
        assert one.value == pytest.approx(two.value, rel=1e-5)
    out = capfd.readouterr().out
    best = expected.best_trial
    assert f"best: trial {best.number}, {folder}/trial-{best.number:04d}" in out
    _check_table(folder, found)
    _check_hparams(folder, found)
    # The command trains the best once more, to the same value.
    command = shlex.split(re.search("^train it again: assay (.*)$", out, re.M)[1])
    assert main([*command, "--run-dir", str(tmp_path / "again")]) == 0
    again = read_events(tmp_path / "again" / "train").Scalars("10_best/valid/loss")[-1].value
    assert again == pytest.approx(best.value, rel=1e-5)
    assert (tmp_path / "again" / "report.html").exists() and not list(folder.rglob("report.html"))


def _check_table(folder, trials):
    rows = list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))
    states = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}
    assert [row["state"] for row in rows] == [states[trial.state] for trial in trials]
    assert [float(row["x"]) for row in rows] == [trial.params["x"] for trial in trials]
    assert [int(row["epochs"]) for row in rows] == [trial.last_step for trial in trials]
    values = [min(trial.intermediate_values.values()) for trial in trials]
    assert [float(row["valid/loss"]) for row in rows] == pytest.approx(values)


def _check_hparams(folder, trials):
    """Each trial is one session of the HPARAMS tab, with its values and its result."""
    columns = [{"metric": {"tag": "10_best/valid/loss", "group": ""}, "includeInResult": True}]
    columns += [{"hparam": name, "includeInResult": True} for name in ("x", "kind")]
    statuses = ["STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
    request = {"allowedStatuses": statuses, "sliceSize": 100, "colParams": columns}

    def rows(server):
        found = server.post("plugin/hparams/session_groups", request).get("sessionGroups", [])
        return found if len(found) == len(trials) else None

    with serve(folder, folder.parent / "server.txt") as server:
        groups = {group["name"]: group for group in server.wait(rows)}
    assert set(groups) == {f"trial-{trial.number:04d}/train" for trial in trials}
    for trial in trials:
        group = groups[f"trial-{trial.number:04d}/train"]
        assert len(group["sessions"]) == 1
        assert (group["hparams"]["x"], group["hparams"]["kind"]) == (trial.params["x"], trial.params["kind"])
        best = [it["value"] for it in group["metricValues"] if it["name"]["tag"] == "10_best/valid/loss"]
        assert best == [pytest.approx(min(trial.intermediate_values.values()), rel=1e-5)]


@pytest.mark.long("each trial is a process that trains")
def test_started_again_it_goes_on_as_if_it_had_not_ended(tmp_path, capfd):
    folder, search = tmp_path / "study", ["--tune", "x=-1..1 kind=near|far", "--epochs", "2"]
    assert tune(*search, "--trials", 2, "--run-dir", folder) == 0
    assert tune(*search, "--trials", 4, "--run-dir", folder) == 0
    assert "2 trials remain of 4" in capfd.readouterr().out
    assert [trial.params for trial in trials_of(folder)] == [trial.params for trial in reference(42, 4, 2).trials]
    assert tune(*search, "--trials", 4, "--run-dir", folder) == 0
    assert len(trials_of(folder)) == 4
    # Another search has no place in it.
    for change, what in (
        (["--tune", "x=-1..0.5 kind=near|far"], "--tune"),
        (["--weight-decay", "0.1"], "--weight-decay"),
    ):
        assert tune(*search, *change, "--trials", 5, "--run-dir", folder) == 2
        assert f"holds a search with another {what}: it was" in capfd.readouterr().err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    assert tune(*search, "--run-dir", tmp_path / "other") == 2
    assert "holds other files" in capfd.readouterr().err


@pytest.mark.long("each trial is a process that trains")
def test_few_combinations_are_tried_once_each(tmp_path, capfd):
    folder, search = tmp_path / "study", ["--tune", "kind=near|far steps=1..2", "--epochs", 1]
    assert tune(*search, "--trials", 1, "--run-dir", folder) == 0
    assert len(trials_of(folder)) == 1
    assert tune(*search, "--trials", 9, "--run-dir", folder) == 0
    out = capfd.readouterr().out
    assert "4 combinations of values: each is tried once" in out
    assert "3 trials remain of 4" in out
    found = {(trial.params["kind"], trial.params["steps"]): trial.value for trial in trials_of(folder)}
    assert found == pytest.approx({(k, s): loss_of(0.0, k, 1) for k in ("near", "far") for s in (1, 2)}, rel=1e-5)
    assert "4 trials: 4 to the end" in out


@pytest.mark.long("each trial is a process that trains")
def test_a_trial_that_fails_is_told_and_the_search_goes_on(tmp_path, capfd):
    folder, fails = tmp_path / "study", ["--epochs", "1", "--fails-at", "0.1"]
    assert tune("--tune", "x=-1..1,step=0.5", *fails, "--trials", 5, "--run-dir", folder) == 0
    states = {trial.params["x"]: trial.state for trial in trials_of(folder)}
    failed, complete = TrialState.FAIL, TrialState.COMPLETE
    assert states == {-1.0: complete, -0.5: complete, 0.0: complete, 0.5: failed, 1.0: failed}
    assert "5 trials: 3 to the end, 2 failed" in capfd.readouterr().out
    # What all trials have in common is not tried twenty times.
    assert tune("--tune", "x=0.5..1", *fails, "--trials", 20, "--run-dir", tmp_path / "other") == 1
    assert "stopped: the last 3 trials failed" in capfd.readouterr().out
    assert len(trials_of(tmp_path / "other")) == 3


@pytest.mark.long("each trial is a process that trains")
def test_digits_are_searched_by_accuracy(tmp_path, capfd):
    folder, flags = tmp_path / "study", [*FAST, "--epochs", "2", "--limit-batches", "4", "--device", "cpu"]
    search = ["--tune", "lr=1e-3..1e-2,log", "width=8|16", "--trials", "2", "--run-dir", str(folder)]
    assert main(["train", "digits", *flags, *search]) == 0
    for trial in trials_of(folder):
        metrics = read_metrics(folder / f"trial-{trial.number:04d}" / "metrics.csv")
        expected = {epoch: metrics[epoch, "valid", "accuracy"] for epoch in (1, 2)}
        assert trial.intermediate_values == pytest.approx(expected, abs=1e-6)
        assert trial.value == pytest.approx(max(expected.values()), abs=1e-6)


@pytest.mark.long("each trial is a process that trains")
def test_sqlite_holds_a_search_too(tmp_path):
    folder, url = tmp_path / "study", f"sqlite:///{tmp_path}/study.db"
    assert tune("--tune", "x=0..1", "--epochs", 1, "--trials", 2, "--tune-storage", url, "--run-dir", folder) == 0
    trials = trials_of(folder, optuna.storages.RDBStorage(url))
    assert [trial.value for trial in trials] == pytest.approx(
        [loss_of(t.params["x"], "near", 1) for t in trials], rel=1e-5
    )
    assert not (folder / "study.log").exists()


def start(folder, *arguments):
    words = [sys.executable, "-m", "assay.runner", "train", PARABOLA, *FAST, "--run-dir", str(folder), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # A group of its own, to which a terminal would send Ctrl-C; a shell has what it runs in the background ignore it.
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def wait_for(folder, file, timeout_s=120):
    until = time.monotonic() + timeout_s
    while not list(folder.glob(file)):
        assert time.monotonic() < until, f"{file} did not come"
        time.sleep(0.1)


@pytest.mark.long("six processes import torch")
@pytest.mark.parametrize("how", ["terminal", "kill -INT", "kill -TERM"])
def test_a_signal_ends_it_cleanly_and_it_goes_on(how, tmp_path):
    folder = tmp_path / "study"
    search = ["--tune", "x=-1..1", "--trials", "2", "--epochs", "2"]
    process = start(folder, *search, "--sleep-s", "3")
    wait_for(folder, "trial-0000/checkpoints/last.pt")
    number = signal.SIGTERM if how == "kill -TERM" else signal.SIGINT
    os.killpg(process.pid, number) if how == "terminal" else process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == (75 if how == "kill -TERM" else 130), errors
    assert (
        f"stopped by {signal.Signals(number).name} in trial 0, which is marked as failed; go on with: assay" in errors
    )
    assert "Traceback" not in errors
    trials = trials_of(folder)
    assert [trial.state for trial in trials] == [TrialState.FAIL, TrialState.WAITING]
    assert not list((folder / "workers").iterdir())
    again = shlex.split(errors.split("go on with: assay ")[-1])
    done = subprocess.run([sys.executable, "-m", "assay.runner", *again], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    found = trials_of(folder)
    assert [trial.state for trial in found] == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
    assert found[1].params == found[0].params
    assert "3 trials: 2 to the end, 1 interrupted" in done.stdout


@pytest.mark.long("six processes import torch")
def test_processes_share_a_search_and_what_a_killed_one_left_is_done_by_another(tmp_path):
    folder = tmp_path / "study"
    search = ["--tune", "x=-1..1", "--trials", "5", "--epochs", "2", "--sleep-s", "2"]
    lost = start(folder, *search)
    wait_for(folder, "trial-0000/checkpoints/last.pt")
    lost.kill()  # not the trial's process: it finds out by itself
    both = [start(folder, *search) for _ in range(2)]
    outputs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert "this trial ends, as the process of its search has" in lost.communicate(timeout=120)[1]
    trials = trials_of(folder)
    assert [trial.state for trial in trials].count(TrialState.COMPLETE) == 5
    assert [trial.state for trial in trials].count(TrialState.FAIL) == 1
    assert trials[0].state == TrialState.FAIL
    values = [trial.params["x"] for trial in trials if trial.state == TrialState.COMPLETE]
    assert len(set(values)) == 5
    assert trials[0].params["x"] in values
    # Both took part.
    assert len({trial.user_attrs["worker"] for trial in trials if trial.state == TrialState.COMPLETE}) == 2
