"""Scores of a loader, exactly while they are few, and counted in bins as soon as they are more."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

import torch
from torch import Tensor

from ..support.checkpoint_values import stored_as
from ..support.distributed import gather_rows
from .binned_scores import BinnedScores, one_against_rest
from .measure import Reductions
from .targets import decide_targets

MOST_ROWS = 4096  # samples, or pixels, whose scores are kept
_MOST_VALUES = 2**20  # of all classes together: 4 MiB on the device, and a sort of 0.1 s at the end of a loader
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
    operations. Of up to 4,096 samples (fewer where there are more than 256 classes) ``exact`` gives the scores of all
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
    classes, size = scores.shape
    values, order = scores.sort(dim=1)
    known = ~values.isnan()
    # NaN is sorted to the end, where it shares a last value that nothing counts in.
    values = values.nan_to_num(torch.inf)
    ranks = torch.zeros_like(order)
    ranks[:, 1:] = (values[:, 1:] != values[:, :-1]).cumsum(dim=1)
    counts = torch.zeros((classes, 2, size), dtype=torch.int64)
    for kind in (0, 1):
        weights = (known & (truth.gather(1, order) == bool(kind))).long()
        counts[:, kind].scatter_add_(1, ranks, weights)
    found = torch.full((classes, size), torch.inf, dtype=torch.float64).scatter_(1, ranks, values)
    edges = torch.full((classes, size + 1), torch.inf, dtype=torch.float64)
    edges[:, 0] = -torch.inf
    below, above = found[:, :-1], found[:, 1:]
    middle = below + (above - below) / 2
    # Between neighbouring numbers there is none: the edge is the upper one, which counts as above it.
    edges[:, 1:-1] = torch.where(middle > below, middle, above)
    return ExactScores(counts, edges)
