"""The fast version of ``kill_and_resume.py``: few kills, without diagnostics."""

import random

import pytest
from kill_and_resume import differences, kill_one_rank, run_killed, run_straight

LIGHT = {"options": ["--diagnostics", "light", "--batch-size", "256"]}


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Return quiet runs by their number of processes, with how long their training took."""
    runs = {}

    def straight(processes):
        if processes not in runs:
            folder = tmp_path_factory.mktemp("straight") / "run"
            runs[processes] = folder, run_straight(folder, processes=processes, **LIGHT)
        return runs[processes]

    return straight


def test_a_run_that_is_killed_and_resumed_ends_like_a_quiet_one(straight, tmp_path):
    quiet, seconds = straight(1)
    moments, _ = run_killed(tmp_path / "killed", 2, seconds / 2, random.Random(3), **LIGHT)
    assert moments
    assert differences(quiet, tmp_path / "killed") == []


def test_a_run_whose_rank_is_killed_is_restarted_by_torchrun_and_ends_like_a_quiet_one(straight, tmp_path):
    quiet, _ = straight(2)
    kill_one_rank(tmp_path / "elastic", 2, **LIGHT)
    assert differences(quiet, tmp_path / "elastic") == []
