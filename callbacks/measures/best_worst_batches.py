"""The best and the worst batch of an epoch by a metric, and which of their samples are shown."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..support.checkpoint_values import stored_as
from ..support.host_copy import read_tree


@stored_as("Candidate")
@dataclass(frozen=True)
class Candidate:
    """A batch that may be shown.

    Attributes:
        score: its metric, as a host number.
        position: its place in the loader, from 1.
        samples: what is kept of its samples, see ``select_samples``.
    """

    score: float
    position: int
    samples: Mapping[str, Any]


@stored_as("BestWorstBatches")
class BestWorstBatches:
    """Keeps the best and the worst batch seen so far, and no other.

    A batch whose score is NaN or infinite is worse than any other and never the best; of equals, the first wins.

    Args:
        minimize: whether a smaller score is better.
        max_samples: number of samples to keep of a batch, at least 1.
    """

    def __init__(self, *, minimize: bool = True, max_samples: int = 16):
        self.minimize = minimize
        self.max_samples = max_samples
        self.best: Candidate | None = None
        self.worst: Candidate | None = None

    def update(self, score: float, position: int, samples: Callable[[], Mapping[str, Any]]) -> None:
        """Compare one batch with those kept.

        Args:
            score: its metric.
            position: its place in the loader.
            samples: called only if the batch is kept; returns its parts by name, first axis [N] each: tensors on
                any device, or lists. ``loss`` [N], where it is there, decides which samples are kept.
        """
        badness = self._badness(score)
        # Strictly better or worse, so that the first of equals stays.
        leads = math.isfinite(score) and (self.best is None or badness < self._badness(self.best.score))
        trails = self.worst is None or badness > self._badness(self.worst.score)
        if not leads and not trails:
            return
        # Only now, as gathering the samples of every batch would cost more than the comparison.
        parts = samples()
        if leads:
            self.best = Candidate(score, position, select_samples(parts, self.max_samples, largest_loss=False))
        if trails:
            self.worst = Candidate(score, position, select_samples(parts, self.max_samples, largest_loss=True))

    def best_key(self, candidate: Candidate) -> tuple[Any, ...]:
        """Return what orders candidates for the best batch, over ranks too: the smallest wins."""
        # The position makes keys unique, so that all ranks choose the same batch.
        return (*self._badness(candidate.score), candidate.position)

    def worst_key(self, candidate: Candidate) -> tuple[Any, ...]:
        """Return what orders candidates for the worst batch, over ranks too: the smallest wins."""
        broken, badness = self._badness(candidate.score)
        return (not broken, -badness, candidate.position)

    def _badness(self, score: float) -> tuple[bool, float]:
        # A pair, as NaN has no place in an order of floats.
        if not math.isfinite(score):
            return True, 0.0
        return False, score if self.minimize else -score


def select_samples(samples: Mapping[str, Any], count: int, *, largest_loss: bool) -> dict[str, Any]:
    """Keep ``count`` samples of a batch: those with the largest or the smallest loss, in that order.

    Nothing is read from the device: tensors are gathered where they are, and a list (of ids, or of tensors of
    different sizes) is kept whole together with ``order``, by which ``read_samples`` cuts it later.

    Args:
        samples: parts of a batch by name, first axis [N] each: tensors, lists, or dicts of them. With ``loss`` [N] in
            it the losses decide (NaN counts as the largest, then infinity; -inf, of which nothing counts, comes last at
            either end); without, the first samples of the batch are kept.
        count: number of samples to keep; all, where the batch is smaller.
        largest_loss: whether to keep those with the largest loss, not the smallest.

    Returns:
        The parts, cut to [min(N, count)], and ``order``, the indices [min(N, count)] into the batch.
    """
    if "loss" in samples:
        order, losses = _rank_losses(samples["loss"], count, largest_first=largest_loss)
        samples = {name: part for name, part in samples.items() if name != "loss"}
        return {**_gather(samples, order), "loss": losses, "order": order}
    first = next(_tensors(samples), torch.empty(0))
    size = len(next(part for part in samples.values() if not isinstance(part, Mapping)))
    order = torch.arange(min(count, size), device=first.device)
    return {**_gather(_cut_lists(samples, count), order), "order": order}


def read_samples(samples: Mapping[str, Any]) -> dict[str, Any]:
    """Return kept samples, copied by ``copy_tree``, as host values: arrays, and lists cut to the kept entries."""
    read = read_tree(samples)
    order = read.pop("order").tolist()
    return {name: _pick(part, order) for name, part in read.items()}


def _rank_losses(loss: Tensor, count: int, *, largest_first: bool) -> tuple[Tensor, Tensor]:
    """Return the indices of the first losses in order, and these; one of -inf, of which nothing counts, comes last."""
    if largest_first:  # torch sorts NaN as the largest
        ranked, order = torch.sort(loss, descending=True, stable=True)
        return order[:count], ranked[:count]
    last = torch.nan_to_num(loss, nan=math.inf, posinf=math.inf, neginf=math.inf)
    order = torch.argsort(last, stable=True)[:count]
    return order, loss.index_select(0, order)


def _tensors(samples: Mapping[str, Any]) -> Iterator[Tensor]:
    for part in samples.values():
        if isinstance(part, Tensor):
            yield part
        elif isinstance(part, Mapping):
            yield from _tensors(part)


def _cut_lists(part: Any, count: int) -> Any:
    # Without losses the first samples are kept, which is known on the host: no more of a list is kept and copied.
    if isinstance(part, Mapping):
        return {name: _cut_lists(value, count) for name, value in part.items()}
    return part if isinstance(part, Tensor) else part[:count]


def _gather(part: Any, order: Tensor) -> Any:
    if isinstance(part, Tensor):
        return part.index_select(0, order)
    if isinstance(part, Mapping):
        return {name: _gather(value, order) for name, value in part.items()}
    return _clone(part)


def _clone(part: Any) -> Any:
    # A copy, as the loader or the model may write its next batch into the same memory.
    if isinstance(part, Tensor):
        return part.clone()
    if isinstance(part, np.ndarray):
        return [np.array(value) for value in part] if part.ndim else np.array(part)
    if isinstance(part, Mapping):
        return {name: _clone(value) for name, value in part.items()}
    return [_clone(value) for value in part] if isinstance(part, list | tuple) else part


def _pick(part: Any, order: Sequence[int]) -> Any:
    if isinstance(part, Mapping):
        return {name: _pick(value, order) for name, value in part.items()}
    return part if isinstance(part, np.ndarray) else [part[index] for index in order]
