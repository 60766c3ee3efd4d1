"""How scores are distributed over the truth: counts by class, truth and bin, without reading the device."""

import math
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from ..loader_state import stored_as
from .measure import Reductions
from .targets import decide_targets

_OUTERMOST = 1000.0
_MOST_AT_ONCE = 2**19
_LARGEST = 1e30


@stored_as("BinnedScores")
class BinnedScores:
    """Counts of scores over a loader, each score a logit: log p - log(1 - p).

    The state lives on the device, in int64, and is valid before the first update. Its size is 16 bytes a class and bin.

    ============ ==============================================================================================
    state        content
    ============ ==============================================================================================
    ``counts``   [C, 2, B]: by class or label, truth (no, yes) and bin; ``score_edges`` are the bins' edges
    ``outside``  targets that were no class, and were left out
    ``nan``      [C]: scores that were NaN, and were left out
    ============ ==============================================================================================

    A bin is found by arithmetic in float32: a score that is within 1% of a bin's width of an edge may count on the
    other side.

    Args:
        task: ``binary`` (one logit a target), ``multilabel`` (one a label) or ``multiclass`` (one against the rest).
        classes: C, number of classes or labels; 1 for ``binary``.
        bins: B, an even number, at most 65536.
        ignore_index: target value that is left out; None: nothing is.
        device: where the tensors are.
    """

    reductions: ClassVar[Reductions] = {"counts": "sum", "outside": "sum", "nan": "sum"}

    def __init__(
        self,
        task: str,
        classes: int,
        bins: int,
        ignore_index: int | None = None,
        device: torch.device | str = "cpu",
    ):
        self.task = task
        self.ignore_index = ignore_index
        self.centre = chance_logit(task, classes)
        self.state = {
            "counts": torch.zeros((classes, 2, bins), dtype=torch.int64, device=device),
            "outside": torch.zeros((), dtype=torch.int64, device=device),
            "nan": torch.zeros(classes, dtype=torch.int64, device=device),
        }

    @torch.no_grad()
    def update(self, output: Tensor, target: Tensor) -> None:
        """Add one batch.

        Args:
            output: logits, [N, C, ...], or of any shape for ``binary``.
            target: class numbers [N, ...] for ``multiclass``, otherwise 0 and 1 in the output's shape; of any type.
                See ``decide_targets`` for those that are soft.
        """
        classes = len(self.state["nan"])
        target = decide_targets(target, output.shape, self.task, self.ignore_index)
        if self.task == "binary":
            output = output.reshape(1, 1, -1)
        scores = output.flatten(2) if output.ndim > 2 else output.unsqueeze(2)
        channels = 1 if self.task == "multiclass" else classes
        truth = target.reshape(scores.shape[0], channels, scores.shape[2])
        wanted = self._wanted(truth, classes if self.task == "multiclass" else 2)
        count = self._count_classes if self.task == "multiclass" else self._count_labels
        for part in _parts(scores):
            count(scores[part].float(), truth[part], wanted[part])

    def _wanted(self, truth: Tensor, classes: int) -> Tensor:
        inside = (truth >= 0) & (truth < classes)
        if self.ignore_index is None:
            self.state["outside"] += (~inside).sum()
            return inside
        kept = truth != self.ignore_index
        self.state["outside"] += (kept & ~inside).sum()
        return inside & kept

    def _count_labels(self, scores: Tensor, truth: Tensor, wanted: Tensor) -> None:
        """Add scores, [n, C, p], of truths of that shape."""
        unknown = scores.isnan()
        self.state["nan"] += (unknown & wanted).sum(dim=(0, 2))
        place = self._place(scores).add_(truth == 1, alpha=self.state["counts"].shape[2])
        self._add(place, (wanted & ~unknown).to(torch.int64))

    def _count_classes(self, logits: Tensor, truth: Tensor, wanted: Tensor) -> None:
        """Add logits, [n, C, p], of true classes, [n, 1, p]."""
        scores = one_against_rest(logits)
        unknown = scores[:, :1].isnan()  # of one class as of all
        self.state["nan"] += (unknown & wanted).sum()
        # What is left out is counted as nothing: an index by mask would make the step wait.
        place, weights = self._place(scores), (wanted & ~unknown).to(torch.int64)
        self._add(place, weights)
        # That was as if no class were true; now the one that is moves over.
        own = place.gather(1, truth.clamp(0, scores.shape[1] - 1))
        moved = torch.cat([own, own + self.state["counts"].shape[2]], dim=1)
        self._add(moved, torch.cat([-weights, weights], dim=1))

    def _place(self, scores: Tensor) -> Tensor:
        """Return where scores, [n, C, p], count in the flat counts, were the truth no; any place for NaN."""
        classes, _, bins = self.state["counts"].shape
        place = _asinh(scores - self.centre).mul_(_bins_a_unit(bins)).add_(bins // 2)
        label = torch.arange(0, 2 * bins * classes, 2 * bins, device=scores.device).reshape(1, -1, 1)
        return place.nan_to_num_(0.0).clamp_(0, bins - 1).to(torch.int64).add_(label)

    def _add(self, place: Tensor, weights: Tensor) -> None:
        self.state["counts"].view(-1).scatter_add_(0, place.reshape(-1), weights.expand(place.shape).reshape(-1))


def _parts(scores: Tensor) -> Iterator[tuple[slice, slice, slice]]:
    """Cut scores, [N, C, P], by samples or by pixels into parts, so that what is computed on the way stays small."""
    count, classes, pixels = scores.shape
    most = max(1, _MOST_AT_ONCE // max(1, classes))
    samples, width = max(1, most // max(1, pixels)), min(most, max(1, pixels))
    for first in range(0, count, samples):
        for left in range(0, pixels, width):
            yield slice(first, first + samples), slice(None), slice(left, left + width)


def one_against_rest(logits: Tensor) -> Tensor:
    """Return the logit of each class's softmax probability, log p - log(1 - p), finite also where p rounds to 1.

    Args:
        logits: [N, C, ...], C at least 2, floating point. Infinite ones count as very large ones.
    """
    logits = logits.clamp(-_LARGEST, _LARGEST)
    largest, winner = logits.max(dim=1, keepdim=True)
    rivals = logits.scatter(1, winner, -math.inf)
    second = rivals.amax(dim=1, keepdim=True)
    powers = rivals.sub_(second).exp_()
    total = powers.sum(dim=1, keepdim=True)
    # Every class but the largest has the largest among its rivals: their sum is at least 1, so nothing cancels.
    others = powers.neg_().add_(total).mul_((second - largest).exp_()).log1p_()
    return logits.sub_(largest).sub_(others).scatter_(1, winner, largest - second - total.log())


def chance_logit(task: str, classes: int) -> float:
    """Return the logit where bins are finest: that of 1 / C for ``multiclass``, of 0.5 for the others."""
    return -math.log(classes - 1) if task == "multiclass" else 0.0


def default_bins(classes: int) -> int:
    """Return a number of bins with which counts take at most 32 MiB up to 2,048 classes: 8192 for 256 or fewer."""
    return max(1024, min(8192, 2**21 // classes // 2 * 2))


def score_edges(task: str, classes: int, bins: int) -> Tensor:
    """Return the bins' edges, [B + 1] logits in float64, from minus to plus infinity; bin b is [b, b + 1).

    They are equidistant in asinh(logit - chance): about as fine as 15 / B near chance, 15 / B of the logit far from it.
    """
    edges = torch.sinh((torch.arange(bins + 1, dtype=torch.float64) - bins // 2) / _bins_a_unit(bins))
    edges += chance_logit(task, classes)
    edges[0], edges[-1] = -math.inf, math.inf
    return edges


def _asinh(values: Tensor) -> Tensor:
    """Return the inverse hyperbolic sine to 1e-6: on a CPU torch's own takes five times as long."""
    return values.square().add_(1).sqrt_().add_(values.abs()).log_().copysign_(values)


def _bins_a_unit(bins: int) -> float:
    return bins / 2 / math.asinh(_OUTERMOST)
