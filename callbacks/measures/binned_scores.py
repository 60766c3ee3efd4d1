"""Histograms of scores by class and truth, counted in bins of logits without reading the device."""

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ..support.checkpoint_values import stored_as
from .measure import Reductions, is_on_cpu
from .targets import decide_targets, inside_classes

_OUTERMOST = 1000.0  # logit of the last edge, in units from chance: sigmoid is exactly 1 far before it
# Scores that are binned together, so that what is computed on the way stays small, and on a CPU in its cache.
_MOST_AT_ONCE = 2**19
_MOST_AT_ONCE_ON_GPU = 2**22
_ROUNDING = 0.005  # of a bin's width: more than float32 errs, less than matters
_LARGEST = 1e30  # logits are cut here: their differences stay finite in float32


@stored_as("BinnedScores")
class BinnedScores:
    """Counts of scores over a loader, each score a logit: log p - log(1 - p).

    The state lives on the device, in int64, and is valid before the first update. It takes 16 bytes per class and bin.

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
        task: ``binary`` (a logit per target), ``multilabel`` (one per label) or ``multiclass`` (one against the rest).
        classes: C, number of classes or labels; 1 for ``binary``.
        bins: B, an even number, at most 65536.
        ignore_index: target value that is left out; None: nothing is.
        device: where the tensors are.
    """

    reductions: ClassVar[Reductions] = {"counts": "sum", "outside": "sum", "nan": "sum"}
    _edges: "_Edges | None" = None

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
        if not is_on_cpu(self.state["nan"]):
            self._edges = self.edges  # now, and not in a step

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
        truth, wanted, outside = inside_classes(truth, classes if self.task == "multiclass" else 2, self.ignore_index)
        self.state["outside"] += outside
        count = self._count_classes if self.task == "multiclass" else self._count_labels
        for part in _split(scores):
            count(scores[part].float(), truth[part], wanted[part])

    def __getstate__(self) -> dict[str, Any]:
        # Edges follow from the rest, and would make checkpoints larger.
        return {name: value for name, value in vars(self).items() if name != "_edges"}

    def _count_labels(self, scores: Tensor, truth: Tensor, wanted: Tensor) -> None:
        """Add scores, [n, C, p], of truths of that shape."""
        unknown = scores.isnan()
        self.state["nan"] += (unknown & wanted).sum(dim=(0, 2))
        bins = self._bins(scores) if is_on_cpu(scores) else self.edges.find(scores)
        place = self._places(bins).add_(truth, alpha=self.state["counts"].shape[2])
        self._scatter(place, (wanted & ~unknown).to(torch.int64))

    def _count_classes(self, logits: Tensor, truth: Tensor, wanted: Tensor) -> None:
        """Add logits, [n, C, p], of true classes, [n, 1, p]."""
        if is_on_cpu(logits):
            scores = one_against_rest(logits)
            bins = self._bins(scores)
        else:
            scores, bins = self.edges.find_against_rest(logits)
        unknown = scores[:, :1].isnan()  # one NaN makes the softmax of all classes NaN
        self.state["nan"] += (unknown & wanted).sum()
        # So far every class counts as not true: the true one moves over.
        place = self._places(bins)
        place.scatter_(1, truth, self.state["counts"].shape[2], reduce="add")
        # What is left out counts with weight 0: indexing by a mask would wait for the device.
        self._scatter(place, (wanted & ~unknown).to(torch.int64))

    def _bins(self, scores: Tensor) -> Tensor:
        """Return the bin of each score by arithmetic, int64; any bin for NaN."""
        bins = self.state["counts"].shape[2]
        place = _asinh(scores - self.centre).mul_(_bins_per_unit(bins)).add_(bins // 2)
        return place.nan_to_num_(0.0).clamp_(0, bins - 1).to(torch.int64)

    @property
    def edges(self) -> "_Edges":
        """The bins' edges, on the device of the state."""
        if self._edges is None:
            classes, _, bins = self.state["counts"].shape
            self._edges = _Edges(self.task, classes, bins, self.state["counts"].device)
        return self._edges

    def _places(self, bins: Tensor) -> Tensor:
        """Return indices in the flat counts for a truth of no, in place of bins [n, C, p]."""
        classes, _, count = self.state["counts"].shape
        return bins.add_(torch.arange(0, 2 * count * classes, 2 * count, device=bins.device).reshape(1, -1, 1))

    def _scatter(self, place: Tensor, weights: Tensor) -> None:
        self.state["counts"].view(-1).scatter_add_(0, place.reshape(-1), weights.expand(place.shape).reshape(-1))


class _Edges:
    """Finds bins by searching their edges: a tenth of the operations that arithmetic takes, and on a CPU more time.

    A class that does not win has a probability p of at most a half, so the logarithm of p is as exact as its score, and
    rises with it. Of the winner that of 1 - p is as exact, from the classes that it won against, and falls.

    Args:
        task: see ``BinnedScores``.
        classes: C, see there.
        bins: B, see there.
        device: where the scores are.
    """

    def __init__(self, task: str, classes: int, bins: int, device: torch.device):
        inner = score_edges(task, classes, bins)[1:-1]
        # A little below, as scores that are equal to an edge but for rounding, as of equal logits, are above it.
        below = score_edges(task, classes, bins, shift=-_ROUNDING)[1:-1]
        self.count = bins
        self._scores = inner.float().to(device, non_blocking=True)
        self._shares = logsigmoid(below).float().to(device, non_blocking=True)
        self._rests = logsigmoid(-below).flip(0).float().to(device, non_blocking=True)

    def find(self, scores: Tensor) -> Tensor:
        """Return the bin of each score, int64; any bin for NaN."""
        return torch.bucketize(scores.contiguous(), self._scores, right=True)

    def find_against_rest(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logarithms of the softmax of logits, [n, C, p], and the bins of ``one_against_rest``, int64."""
        shares = logits.clamp(-_LARGEST, _LARGEST).log_softmax(dim=1)
        winner = shares.argmax(dim=1, keepdim=True)
        rest = shares.scatter(1, winner, -math.inf).logcumsumexp(dim=1)[:, -1:].contiguous()
        bins = torch.bucketize(shares, self._shares, right=True)
        return shares, bins.scatter_(1, winner, self.count - 1 - torch.bucketize(rest, self._rests))


def _split(scores: Tensor) -> Iterator[tuple[slice, slice, slice]]:
    """Return slices that cut scores, [N, C, P], by samples or by pixels."""
    count, classes, pixels = scores.shape
    at_once = _MOST_AT_ONCE if is_on_cpu(scores) else _MOST_AT_ONCE_ON_GPU
    most = max(1, at_once // max(1, classes))
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
    """Return the logit of chance, where bins are finest: of 1 / C for ``multiclass``, of 0.5 for the others."""
    return -math.log(classes - 1) if task == "multiclass" else 0.0


def default_bins(classes: int) -> int:
    """Return a number of bins with which counts take at most 32 MiB up to 2,048 classes: 8192 for 256 or fewer."""
    return max(1024, min(8192, 2**21 // classes // 2 * 2))


def score_edges(task: str, classes: int, bins: int, *, shift: float = 0.0) -> Tensor:
    """Return the bins' edges, [B + 1] logits in float64, from minus to plus infinity; bin b is [b, b + 1).

    They are equidistant in asinh(logit - chance): about as fine as 15 / B near chance, 15 / B of the logit far from it.
    All are moved by ``shift``, a part of a bin.
    """
    edges = torch.sinh((torch.arange(bins + 1, dtype=torch.float64) - bins // 2 + shift) / _bins_per_unit(bins))
    edges += chance_logit(task, classes)
    edges[0], edges[-1] = -math.inf, math.inf
    return edges


def _asinh(values: Tensor) -> Tensor:
    """Return the inverse hyperbolic sine to 1e-6."""
    # On a CPU torch.asinh takes five times as long.
    return values.square().add_(1).sqrt_().add_(values.abs()).log_().copysign_(values)


def _bins_per_unit(bins: int) -> float:
    return bins / 2 / math.asinh(_OUTERMOST)
