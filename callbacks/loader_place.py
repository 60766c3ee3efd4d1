"""Where a batch stands in its loader."""

from dataclasses import dataclass

from catalyst import dl


@dataclass(frozen=True)
class Place:
    """A place in the loader of all ranks together.

    Attributes:
        batch: number of the batch, from 1.
        first_sample: number of its first sample, from 0.
    """

    batch: int
    first_sample: int


def place_in_loader(runner: dl.IRunner) -> Place:
    """Return the place of the batch that the runner is at.

    Catalyst counts every batch once a rank; the ranks take the batches in turn.
    """
    ranks, rank = runner.engine.num_processes, runner.engine.process_index
    before = runner.loader_sample_step - ranks * runner.batch_size
    return Place(runner.loader_batch_step - ranks + rank + 1, before + rank * runner.loader_batch_size)
