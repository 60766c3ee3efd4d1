"""A rank that lost another one lets that one report, and ends with the launcher."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
LOSES_A_RANK = """
import os, signal, sys
from dataclasses import dataclass

import torch.distributed as dist
from catalyst import dl

sys.path.append(os.environ["TESTS"])
from small_experiment import Small


class Lose(dl.Callback):
    def __init__(self):
        super().__init__(order=0)

    def on_batch_start(self, runner):
        if not runner.is_train_loader:  # validation is tried out before
            return
        os.kill(os.getpid(), signal.SIGTERM)  # as by a launcher that has noticed first
        raise dist.DistError("Connection closed by peer")


@dataclass(kw_only=True)
class Losing(Small):
    def get_callbacks(self):
        return [*super().get_callbacks(), Lose()]
"""


@pytest.mark.long("a process of its own imports torch")
def test_a_rank_that_is_told_to_end_before_it_has_lost_another_one_ends_without_a_message(tmp_path):
    (tmp_path / "losing.py").write_text(LOSES_A_RANK)
    words = [sys.executable, "-m", "assay.runner", "train", "./losing.py", "--diagnostics", "off", "--device", "cpu"]
    environment = {**os.environ, "TORCHELASTIC_RUN_ID": "a run", "TESTS": str(TESTS), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")
