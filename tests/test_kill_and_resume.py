"""The fast version of ``kill_and_resume.py``: few kills, and the diagnostics that are fast to import."""

import random

import pytest
from kill_and_resume import differences, run_killed, run_restarted, run_straight

pytestmark = pytest.mark.long("trains anew after each kill; test_mid_epoch and test_resuming are the quick ones")
SETUP = {"processes": 2, "options": ["--diagnostics", "light"]}


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Return a quiet run of two ranks, and how fast it was."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    return folder, run_straight(folder, **SETUP)


def test_a_run_that_is_killed_and_resumed_ends_like_a_quiet_one(straight, tmp_path):
    quiet, seconds = straight
    within = {**SETUP, "options": [*SETUP["options"], "--save-every-steps", "2"]}
    assert run_killed(tmp_path / "killed", 3, seconds, random.Random(3), workers=2, **within)
    assert differences(quiet, tmp_path / "killed") == []


def test_a_run_whose_rank_is_killed_is_restarted_by_torchrun_and_ends_like_a_quiet_one(straight, tmp_path):
    quiet, _ = straight
    run_restarted(tmp_path / "restarted", **SETUP)
    assert differences(quiet, tmp_path / "restarted") == []
