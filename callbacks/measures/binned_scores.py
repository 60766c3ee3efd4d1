"""How scores are distributed over the truth: counts by class, truth and bin, without reading the device."""

import math

import torch
from torch import Tensor

_OUTERMOST = 1000.0
_MOST_AT_ONCE = 2**20
_LARGEST = 1e30


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

    reductions = {"counts": "sum", "outside": "sum", "nan": "sum"}

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
        """
        classes = len(self.state["nan"])
        if self.task == "binary":
            output = output.reshape(-1, 1)
        scores = output.float().flatten(2) if output.ndim > 2 else output.float().unsqueeze(2)
        if self.task == "multiclass":
            scores = one_against_rest(scores)
        channels = 1 if self.task == "multiclass" else classes
        truth = target.to(torch.int64).reshape(scores.shape[0], channels, scores.shape[2])
        wanted = self._wanted(truth, classes if self.task == "multiclass" else 2)
        # Masks of many classes go in parts, so that what is computed on the way stays small.
        step = max(1, _MOST_AT_ONCE // max(1, scores.shape[0] * scores.shape[2]))
        for first in range(0, classes, step):
            part = slice(first, min(first + step, classes))
            if self.task == "multiclass":
                label = torch.arange(part.start, part.stop, device=scores.device).reshape(1, -1, 1)
                self._count(part, scores[:, part], truth == label, wanted)
            else:
                self._count(part, scores[:, part], truth[:, part] == 1, wanted[:, part])

    def _wanted(self, truth: Tensor, classes: int) -> Tensor:
        inside = (truth >= 0) & (truth < classes)
        if self.ignore_index is None:
            self.state["outside"] += (~inside).sum()
            return inside
        kept = truth != self.ignore_index
        self.state["outside"] += (kept & ~inside).sum()
        return inside & kept

    def _count(self, part: slice, scores: Tensor, positive: Tensor, wanted: Tensor) -> None:
        """Add the scores of some classes, [N, c, P]; ``positive`` and ``wanted`` broadcast against them."""
        counts = self.state["counts"]
        bins = counts.shape[2]
        unknown = scores.isnan()
        self.state["nan"][part].add_((unknown & wanted).sum(dim=(0, 2)))
        place = _asinh(scores - self.centre).mul_(_bins_a_unit(bins)).add_(bins // 2)
        place = place.nan_to_num_(0.0).clamp_(0, bins - 1).to(torch.int64)
        row = torch.arange(2 * part.start, 2 * part.stop, 2, device=scores.device).reshape(1, -1, 1)
        place += (row + positive) * bins
        # What is left out is counted as nothing: an index by mask would make the step wait.
        counted = (wanted & ~unknown).to(torch.int64)
        counts.view(-1).scatter_add_(0, place.reshape(-1), counted.reshape(-1))


def one_against_rest(logits: Tensor) -> Tensor:
    """Return the logit of each class's softmax probability, log p - log(1 - p), finite also where p rounds to 1.

    Args:
        logits: [N, C, ...], C at least 2, floating point. Infinite ones count as very large ones.
    """
    logits = logits.clamp(-_LARGEST, _LARGEST)
    largest, winner = logits.max(dim=1, keepdim=True)
    powers = (logits - largest).exp_()
    others = powers.scatter(1, winner, 0.0).sum(dim=1, keepdim=True)
    # Every class but the largest has the largest among its rivals: their sum is at least 1, so nothing cancels.
    scores = (logits - largest) - torch.log1p((others - powers).clamp_(min=0))
    best = largest - logits.scatter(1, winner, -math.inf).logsumexp(dim=1, keepdim=True)
    return scores.scatter_(1, winner, best)


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
