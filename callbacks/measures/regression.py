"""MAE, MSE and R2 of predicted numbers over a loader, counted without reading the device."""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ..support.checkpoint_values import stored_as

REGRESSION_METRICS = ("mae", "mse", "r2")

State = Mapping[str, Tensor]
Reduce = Callable[[State], State]

_SUMS = ("count", "absolute", "squared", "outside")


@stored_as("RegressionTotals")
class RegressionTotals:
    """Sums from which all ``REGRESSION_METRICS`` follow, over a loader and batch by batch.

    The state lives on the device, in float64, one value an output of the model. Means and squared distances from the
    mean are merged batch by batch (T. Chan, G. Golub, R. LeVeque, "Updating Formulae and a Pairwise Algorithm for
    Computing Sample Variances", 1979), so that targets far from 0 lose nothing.

    ============ ========================================================
    state        content, [D] each
    ============ ========================================================
    ``count``    numbers that count
    ``absolute`` sum of absolute errors
    ``squared``  sum of squared errors
    ``mean``     of the targets
    ``spread``   sum of squared distances of the targets from their mean
    ``outside``  targets that were NaN or infinite, and were left out
    ============ ========================================================

    Args:
        ignore_index: target value that is left out, also NaN; None: no value is.
        device: where the tensors are.

    Example:
        >>> measure = RegressionTotals()
        >>> batch = measure.update(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 2.0, 3.0]))
        >>> {name: round(regression_metric(name, measure.state).item(), 3) for name in REGRESSION_METRICS}
        {'mae': 0.333, 'mse': 0.333, 'r2': 0.5}
    """

    def __init__(self, ignore_index: float | None = None, device: torch.device | str = "cpu"):
        self.ignore_index = ignore_index
        self.state = _empty_state(0, torch.device(device))  # until the first batch shows D

    @torch.no_grad()
    def update(self, output: Tensor, target: Tensor) -> State:
        """Add one batch, and return its own state.

        Args:
            output: [N], [N, D], [N, H, W] or [N, D, H, W]; without the axis D it is one output.
            target: the same; its shape may differ by axes of length 1.
        """
        batch = _tally(_by_output(output, output.shape), _by_output(target, output.shape), self.ignore_index)
        self.state = _merge(self.state, batch) if len(self.state["count"]) else batch
        return batch

    def over_ranks(self, largest: Callable[[Tensor], Tensor], total: Reduce) -> State:
        """Return the state of all ranks together, the same on each. A collective: every rank calls it.

        Args:
            largest: returns the maximum over ranks, elementwise.
            total: returns the sums over ranks.
        """
        mine, device = self.state, self.state["count"].device
        outputs = int(largest(torch.tensor(len(mine["count"]), device=device)))
        # A rank without a batch does not know D, and adds nothing.
        mine = mine if len(mine["count"]) else _empty_state(outputs, device)
        sums = total({**{name: mine[name] for name in _SUMS}, "mean": mine["mean"] * mine["count"]})
        # In two messages, as squared distances are from the mean of all ranks, which the first one gives.
        mean = sums["mean"] / sums["count"].clamp(min=1)
        spread = mine["spread"] + mine["count"] * (mine["mean"] - mean) ** 2
        return {**sums, "mean": mean, **total({"spread": spread})}


def regression_metric(name: str, state: State) -> Tensor:
    """Return one of ``REGRESSION_METRICS``, float64, []: the plain mean over outputs, as in scikit-learn.

    ``mae`` is the mean absolute error, ``mse`` the mean squared error, ``r2`` the share of the targets' variance that
    is explained: 1 at best, 0 for a model that predicts their mean, and below for a worse one. Where the targets do
    not vary it is 1 without an error and 0 with one; with fewer than two it is NaN.

    Args:
        name: one of ``REGRESSION_METRICS``.
        state: see ``RegressionTotals``.
    """
    count = state["count"]
    if name != "r2":
        above = state["absolute" if name == "mae" else "squared"]
        return (above / count).mean()
    varies = state["spread"] > 0
    explained = 1 - state["squared"] / torch.where(varies, state["spread"], 1.0)
    constant = (state["squared"] == 0).to(torch.float64)
    scores = torch.where(varies | state["squared"].isnan(), explained, constant)
    return torch.where(count < 2, torch.nan, scores).mean()


def _by_output(part: Tensor, shape: Sequence[int]) -> Tensor:
    """Return numbers as [N, D, P] in float64."""
    # [N, D], [N, D, H, W] and [N, D, X, Y, Z] have the axis D; [N] and [N, H, W] are one output.
    outputs = shape[1] if len(shape) in (2, 4, 5) else 1
    places = math.prod(shape[1:]) // max(1, outputs)
    return part.detach().to(torch.float64).reshape(shape[0], outputs, places)


def _tally(output: Tensor, target: Tensor, ignore_index: float | None) -> dict[str, Tensor]:
    is_finite = target.isfinite()
    wanted = torch.ones_like(is_finite)
    if ignore_index is not None:
        wanted = ~target.isnan() if math.isnan(ignore_index) else target != ignore_index
    counts = wanted & is_finite
    error = torch.where(counts, output - target, 0.0)
    count = counts.sum(dim=(0, 2)).to(torch.float64)
    mean = torch.where(counts, target, 0.0).sum(dim=(0, 2)) / count.clamp(min=1)
    # From the mean of this batch: squares of large targets would cancel each other's digits.
    distance = torch.where(counts, target - mean[:, None], 0.0)
    return {
        "count": count,
        "absolute": error.abs().sum(dim=(0, 2)),
        "squared": error.square().sum(dim=(0, 2)),
        "mean": mean,
        "spread": distance.square().sum(dim=(0, 2)),
        "outside": (wanted & ~is_finite).sum(dim=(0, 2)).to(torch.float64),
    }


def _merge(one: State, other: State) -> dict[str, Tensor]:
    # Chan, Golub and LeVeque: spread + spread + (distance of the means)² * n * m / (n + m).
    sums = {name: one[name] + other[name] for name in _SUMS}
    share = other["count"] / sums["count"].clamp(min=1)
    apart = other["mean"] - one["mean"]
    spread = one["spread"] + other["spread"] + apart.square() * one["count"] * share
    return {**sums, "mean": one["mean"] + apart * share, "spread": spread}


def _empty_state(outputs: int, device: torch.device) -> dict[str, Tensor]:
    return {name: torch.zeros(outputs, dtype=torch.float64, device=device) for name in (*_SUMS, "mean", "spread")}
