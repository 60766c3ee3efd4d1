"""Scores of a loader, exactly while they are few, and counted in bins as soon as they are more."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..support.checkpoint_values import stored_as
from ..support.distributed import gather_rows
from .binned_scores import BinnedScores, one_against_rest
from .measure import Reductions
from .targets import decide_targets

MOST_ROWS = 4096  # samples, or pixels, whose scores are kept
_MOST_VALUES = 2**19  # of all classes together: 2 MiB on the device, and a sort of 0.1 s at the end of a loader
_LARGEST = 1e30  # infinite scores are cut here, so that the middle between two of them is a number


@dataclass(frozen=True)
class ExactScores:
    """Counts of scores with a bin of its own for each value, from which all numbers follow without an error.

    Attributes:
        counts: [C, 2, B], int64, on the host: by class, truth (no, yes) and value, rising.
        edges: [C, B + 1], float64: edge b lies below value b and above the one before.
    """

    counts: Tensor
    edges: Tensor


@stored_as("KeptScores")
class KeptScores:
    """Keeps the batches of a loader while they are few, and counts them in bins at its end, or when there are more.

    The state is that of ``BinnedScores``. While batches are kept, a step takes two copies instead of dozens of
    operations. Of up to 4,096 samples (fewer where there are more than 128 classes) ``exact`` gives the scores of all
    ranks themselves.

    Args:
        binned: what counts.
    """

    reductions: ClassVar[Reductions] = BinnedScores.reductions

    def __init__(self, binned: BinnedScores):
        self.binned = binned
        self.kept: list[tuple[Tensor, Tensor]] = []  # outputs and targets
        self.counted = 0  # how many of the kept batches are counted
        self.rows = 0  # samples of all batches, kept or not

    @property
    def state(self) -> dict[str, Tensor]:
        """The counts of all batches so far."""
        self._count()
        return self.binned.state

    @state.setter
    def state(self, state: dict[str, Tensor]) -> None:
        self.binned.state = state

    @property
    def most(self) -> int:
        """How many samples are kept."""
        return min(MOST_ROWS, _MOST_VALUES // len(self.binned.state["nan"]))

    @torch.no_grad()
    def update(self, output: Tensor, target: Tensor) -> None:
        """Add one batch, see ``BinnedScores.update``."""
        self.rows += output.numel() // len(self.binned.state["nan"])
        if self.rows <= self.most:
            # Cloned, as a loader or a compiled model may write its next batch into the same memory.
            self.kept.append((output.clone(), target.clone()))
            return
        self._count()
        self.kept, self.counted = [], 0
        self.binned.update(output, target)

    def continue_from(self, binned: BinnedScores) -> None:
        """Go on after what was counted before, of which no scores are kept."""
        self.binned.state = {name: value.to(self.binned.state[name].device) for name, value in binned.state.items()}
        self.rows = MOST_ROWS + 1

    def _count(self) -> None:
        for output, target in _joined(self.kept[self.counted :]):
            device = self.binned.state["nan"].device
            # Those that a checkpoint held are on the host.
            self.binned.update(output.to(device), target.to(device))
        self.counted = len(self.kept)

    @torch.no_grad()
    def exact(self) -> ExactScores | None:
        """Return the scores of all ranks; None if they are too many. A collective: every rank calls it."""
        classes, device = len(self.binned.state["nan"]), self.binned.state["nan"].device
        rows = None
        if self.rows <= self.most:
            width = classes + (1 if self.binned.task == "multiclass" else classes)
            parts = [_rows_of(self.binned, output, target).to(device) for output, target in _joined(self.kept)]
            rows = torch.cat([torch.empty((0, width), dtype=torch.float64, device=device), *parts])
        found = gather_rows(rows, self.most, device)
        return None if found is None else _count_values(*_split(found.cpu(), classes))


def _joined(batches: Sequence[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """Return the same samples in as few batches as their shapes allow."""
    # Counting takes dozens of operations, however few samples there are.
    joined: list[tuple[Tensor, Tensor]] = []
    for form, run in groupby(batches, key=_form):
        pairs = list(run)
        if form:
            outputs, targets = zip(*pairs, strict=True)
            pairs = [(torch.cat(outputs), torch.cat(targets))]
        joined += pairs
    return joined


def _form(batch: tuple[Tensor, Tensor]) -> tuple[object, ...]:
    """Return what batches that can be joined have in common; empty for one without dimensions."""
    if not all(part.ndim for part in batch):
        return ()
    return tuple((part.shape[1:], part.dtype, part.device) for part in batch)


def _rows_of(binned: BinnedScores, output: Tensor, target: Tensor) -> Tensor:
    """Return the scores of a batch and its truths, [n, C + 1] or [n, 2 C]; NaN is a score that does not count."""
    classes, is_multiclass = len(binned.state["nan"]), binned.task == "multiclass"
    truth = decide_targets(target, output.shape, binned.task, binned.ignore_index)
    if binned.task == "binary":
        output = output.reshape(-1, 1)
    output = (output.flatten(2) if output.ndim > 2 else output.unsqueeze(2)).double()
    scores = one_against_rest(output) if is_multiclass else output.clamp(-_LARGEST, _LARGEST)
    truth = truth.reshape(len(scores), 1 if is_multiclass else classes, scores.shape[2])
    counts = (truth >= 0) & (truth < (classes if is_multiclass else 2))
    if binned.ignore_index is not None:
        counts &= truth != binned.ignore_index
    scores = scores.masked_fill(~counts, torch.nan)
    return torch.cat([scores, truth.double()], dim=1).movedim(1, 2).flatten(0, 1)


def _split(rows: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return scores and truths, [C, n] each."""
    scores, truth = rows[:, :classes].T, rows[:, classes:].T
    # One truth for several classes is the number of the true one.
    if classes > 1 and len(truth) == 1:
        return scores, truth == torch.arange(classes, dtype=truth.dtype)[:, None]
    return scores, truth == 1


def _count_values(scores: Tensor, truth: Tensor) -> ExactScores:
    """Count scores [C, n] of truths by value."""
    if not scores.shape[1]:
        # One value that nothing has: without any there would be no bin.
        scores, truth = scores.new_full((len(scores), 1), torch.nan), truth.new_zeros((len(truth), 1))
    # By NumPy, which sorts doubles seven times as fast; NaN comes last, and nothing counts it.
    rows, truths = scores.contiguous().numpy(), truth.contiguous().numpy()
    (classes, size), order = rows.shape, rows.argsort(axis=1)
    values, truths = np.take_along_axis(rows, order, axis=1), np.take_along_axis(truths, order, axis=1)
    known, values = ~np.isnan(values), np.nan_to_num(values, nan=np.inf)
    is_new = np.ones_like(known)
    is_new[:, 1:] = values[:, 1:] != values[:, :-1]
    ranks = is_new.cumsum(axis=1) - 1
    places = (2 * np.arange(classes)[:, None] + truths) * size + ranks
    counts = np.bincount(places[known], minlength=2 * classes * size).reshape(classes, 2, size)
    found = np.full((classes, size), np.inf)
    found[np.nonzero(is_new)[0], ranks[is_new]] = values[is_new]
    edges = np.full((classes, size + 1), np.inf)
    edges[:, 0] = -np.inf
    below, above = found[:, :-1], found[:, 1:]
    some = np.isfinite(above)  # beyond the last value there is none
    middle = below[some] + (above[some] - below[some]) / 2
    # Between neighbouring numbers there is none: the edge is the upper one, which counts as above it.
    edges[:, 1:-1][some] = np.where(middle > below[some], middle, above[some])
    return ExactScores(torch.from_numpy(counts), torch.from_numpy(edges))
