"""The rows of a workload run in turns for as long as there is time, and one that fails does not end the others."""

import json
import time

import pytest

from benchmarks.gpu import rows
from benchmarks.gpu.rows import AGAIN, BARE, FULL, LIGHTNING, ROWS, Turns


@pytest.fixture
def turns(tmp_path, monkeypatch):
    """Return the turns of a GPU whose rows are not trained: each run takes two seconds by its own account."""
    runs = []

    def run(name, workload, probe=None):
        if name == LIGHTNING:
            raise ModuleNotFoundError("No module named 'lightning'")
        runs.append((name, workload.train_steps))
        return {"seconds": 2.0, "cpu_seconds": 1.0, "step_ms": 1.0}

    def make(seconds):
        return Turns("classifier", "cuda", time.time() + seconds, str(tmp_path / "results.json"))

    monkeypatch.setattr(rows, "_run", run)
    make.runs, make.results = runs, tmp_path / "results.json"
    return make


def test_every_row_is_probed_and_then_trained_back_and_forth(turns):
    turns(63.0).run()
    names = [name for name in ROWS if name != LIGHTNING]
    assert [name for name, _ in turns.runs] == [*names, BARE, *names, *reversed(names)]
    found = json.loads(turns.results.read_text())
    assert found["broken"] == {LIGHTNING: "ModuleNotFoundError: No module named 'lightning'"}
    assert [set(turn) for turn in found["turns"]] == [set(names)] * 2
    assert found["probes"].keys() == set(names)
    assert found["settings"]["train_steps"] == 32  # 0.65 of 60 s for twelve runs of a tenth of a second per step


def test_no_run_begins_that_could_not_end_in_time(turns):
    turns(2.0).run()
    assert [name for name, _ in turns.runs][-1] == BARE  # the trial, and no turn after it
    found = json.loads(turns.results.read_text())
    assert found["probes"].keys() >= {BARE, AGAIN, FULL} and not any(found["turns"])
