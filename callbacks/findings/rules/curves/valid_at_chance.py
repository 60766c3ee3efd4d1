"""A model that has learned its training data and knows nothing of validation's.

Source: the gap between both curves, of A. Karpathy's recipe, 2019.
Cost: none beyond the metrics of an epoch.
Risk: early epochs, whose statistics have not settled; so training has to be far better than chance, after a hundred
steps, and validation worse than knowing nothing.
"""

from collections.abc import Iterator

import numpy as np

from ...probe.epoch_probe import EpochProbe
from ...probe.finding import Finding, Where
from ...probe.probe import Probe
from ...probe.rule import rule

_FEWEST_STEPS = 100
_TIMES = 3.0
_FEWEST = 50
CAUSES = (
    "group-rate-too-high",
    "shared-images", "different-scale", "different-statistics", "different-orientation", "wrong-channel-order",
    "validation-augmented", "normalized-twice", "unnormalized", "wrong-normalization", "evaluation-mode",
    "norm-momentum", "small-batch-norm", "no-running-stats", "frozen-statistics", "loss-metric-keys", "label-base",
    "shifted-labels", "previous-labels", "noisy-labels", "unrelated-labels", "target-scales-differ", "missing-classes",
    "learning-rate-too-high", "monitor-direction", "exchanged-classes", "masks-not-following", "ordered-labels",
    "unmoved-average",
)  # fmt: skip


@rule("valid-at-chance", at="epoch", needs=["epochs"], explained_by=CAUSES)
def valid_at_chance(probe: Probe) -> Iterator[Finding]:
    """Find epochs after which the loss of validation is far above that of training, and above chance."""
    last = probe.epochs[-1]
    losses = {key: metrics["loss"] for key, metrics in last.metrics.items() if "loss" in metrics}
    train = next((loss for key, loss in losses.items() if key.startswith("train")), None)
    valid = next(((key, loss) for key, loss in losses.items() if key.startswith("valid")), None)
    if train is None or valid is None or (last.steps or 0) < _FEWEST_STEPS or train <= 0:
        return
    key, loss = valid
    chance = _chance(last, key)
    if chance is not None and train < chance / 2 and loss > chance and loss > _TIMES * train:
        yield Finding(
            "warning",
            f"after epoch {last.epoch} the loss of {key} is {loss:.3g}, above {chance:.3g} of knowing nothing, and "
            f"that of training is {train:.3g}: {key} is treated differently from training, or is other data",
            f"compare images, labels, normalization and the model's mode in {key} with those of training",
            Where(loader=key),
            {"train": train, "valid": loss, "chance": chance},
        )


def _chance(epoch: EpochProbe, key: str) -> float | None:
    """Return the entropy of a loader's labels; None where they were not counted."""
    counts = epoch.label_counts.get(key)
    if counts is None or counts.sum() < _FEWEST or (counts > 0).sum() < 2:
        return None
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
