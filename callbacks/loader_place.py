"""Where a batch stands in its loader."""

import math
from dataclasses import dataclass

from catalyst import dl

from .batch_size import batch_size, counts_samples


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

    A ``DictRunner`` knows it. Catalyst's own runners count every batch once a rank; there the ranks take the batches
    in turn.
    """
    place: Place | None = getattr(runner, "place", None)
    if place is not None:
        return place
    ranks, rank = runner.engine.num_processes, runner.engine.process_index
    batches = runner.loader_batch_step - ranks
    before = batches * runner.loader_batch_size
    if counts_samples(runner):
        before = runner.loader_sample_step - ranks * runner.batch_size
    return Place(batches + rank + 1, before + rank * runner.loader_batch_size)


def positions_in_loader(runner: dl.IRunner, count: int) -> range:
    """Return the positions in the loader of the samples that the batch holds.

    The ``handle_batch`` of a stock runner may make more samples than the loader gave, as a GAN's does of true and made
    images. These are counted instead, with as many for each sample of the loader in every batch.

    Args:
        runner: whose batch it is.
        count: number of samples.
    """
    first = place_in_loader(runner).first_sample * max(1, math.ceil(count / max(1, batch_size(runner))))
    return range(first, first + count)


def batches_in_loader(runner: dl.IRunner) -> int:
    """Return the number of batches of the loader that the runner is at, of all ranks together."""
    batches: int | None = getattr(runner, "loader_batches", None)
    return runner.loader_batch_len * runner.engine.num_processes if batches is None else batches
