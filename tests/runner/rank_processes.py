"""Processes for the runs of several ranks: three, of which a run takes as many as it wants."""

import os
import sys
from pathlib import Path

import torch.distributed as dist
from accelerate.state import AcceleratorState

sys.path.append(str(Path(__file__).parents[1] / "callbacks"))
from rank_pool import RankPool

MOST = 3


class RankProcesses:
    def __init__(self, folder):
        self.folder = folder
        self.pool = None
        self.calls = 0

    def run(self, ranks, function, *arguments):
        """Call ``function(*arguments)`` on so many ranks, alone in this process for one; return what each returned."""
        if ranks == 1:
            AcceleratorState._reset_state(True)
            return [function(*arguments)]
        self.pool = self.pool or RankPool(MOST, self.folder)
        self.calls += 1
        meeting = f"file://{self.folder}/meeting-{self.calls}"
        return self.pool.run(call_as_rank, ranks, meeting, function, arguments)[:ranks]

    def stop(self):
        if self.pool is not None:
            self.pool.stop()


def call_as_rank(rank, ranks, meeting, function, arguments):
    """Join a group of its own for this call, as torchrun would have made it."""
    dist.destroy_process_group()
    group = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "OMP_NUM_THREADS": 1}
    os.environ.update({name: str(value) for name, value in group.items()})
    takes_part = rank < ranks
    mine = (rank, ranks) if takes_part else (0, 1)
    dist.init_process_group(
        "gloo", init_method=meeting if takes_part else f"{meeting}-{rank}", rank=mine[0], world_size=mine[1]
    )
    AcceleratorState._reset_state(True)
    return function(*arguments) if takes_part else None
