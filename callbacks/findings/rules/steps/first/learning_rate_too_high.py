"""A learning rate at which the first steps throw the weights about.

Source: "the update is about a thousandth of the weight" (A. Karpathy, CS231n); AUTOTRAINER (X. Zhang et al., 2021).
Cost: the norms of the first updates.
Risk: losses that rise for some steps before normalization has settled, and the first steps of RMSprop. So the loss has
to explode, or steps be as large as the weights while it hardly falls, or both be in between.
"""

from collections.abc import Iterator, Sequence
from math import isfinite
from statistics import mean, median

from ....probe.finding import Finding, Severity, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from .updates import seen_ratios, weight_names

# Half of the weight replaced in each of the first steps: nothing of the initialization is left. A head of small weights
# on features that are given learns even so, up to a size.
_ALONE, _LEARNS, _NEVER = 0.5, 0.7, 2.0
# A tenth, a hundred times the usual, with a loss that does not fall below where it began; ...
_WITH_LOSS, _WORSE = 0.05, 1.2
# ... or with one that jumps up on the way; healthy ones rise by half at most. Batches of a few samples, some of which
# are easy, are compared with the middle one of all.
_JUMPS, _FEW_SAMPLES = 3.0, 8
# ... and a loss that explodes needs steps that are not small.
_WITH_EXPLOSION, _EXPLODES = 0.01, 5.0
_FEWEST = 5
_FIRST = 10
_MOST_SHOWN = 10.0


@rule("learning-rate-too-high", at="steps", needs=["steps"], explained_by=[
    "gradients-not-zeroed", "inverted-loss", "outputs-not-finite", "weights-not-finite", "loss-not-finite",
    "exploding-signal", "momentum-out-of-range", "summed-loss", "target-scale", "dominant-term", "large-weights",
    "unnormalized", "scale-0-255", "logits-for-probabilities", "broadcast-shapes", "non-finite-images",
    "group-rate-too-high",
])  # fmt: skip
def learning_rate_too_high(probe: Probe) -> Iterator[Finding]:
    """Find updates that are as large as the weights, with what they do to the loss."""
    steps = probe.steps.steps if probe.steps is not None else ()
    found = seen_ratios(steps[:_FIRST], weight_names(probe))
    losses = [step.loss for step in steps]
    if len(found) < 3 or len(steps) < _FEWEST or any(step.broken for step in steps):
        return
    size = median(one if isfinite(one) else 1e9 for one in found)
    if not _is_too_high(size, losses, (probe.settings.batch_size or _FEW_SAMPLES) * probe.settings.accumulate_steps):
        return
    broke, finite = _broke(losses), [loss for loss in losses if isfinite(loss)]
    end = mean(finite[-5:]) if finite else 0.0
    severity: Severity = "error" if broke else "warning"
    top = max(finite)
    then = "and breaks" if broke else f"up to {top:.3g}" if top > _JUMPS * end else f"to {end:.3g}"
    rate = max((step_lr for step in steps for step_lr in step.lr), default=0.0)
    yield Finding(
        severity,
        f"the learning rate {rate:g} of {probe.settings.optimizer or 'the optimizer'} is too high: in each of the "
        f"first steps weights change by {_percent(size)} (about 0.1% is usual), and the loss goes from {losses[0]:.3g} "
        f"{then} in {len(steps)} steps",
        "divide the learning rate by 10 to 100",
        Where(field="lr"),
        {"ratio": size, "lr": rate, "first": losses[0], "last": losses[-1] if isfinite(losses[-1]) else None},
    )


def _percent(size: float) -> str:
    return f"{size:.0%}" if size < _MOST_SHOWN else f"more than {_MOST_SHOWN:,.0%}"


def _broke(losses: Sequence[float]) -> bool:
    return isfinite(losses[0]) and not all(map(isfinite, losses))


def _is_too_high(size: float, losses: Sequence[float], samples: int) -> bool:
    """Return whether the loss of steps of a size, and of so many samples, is that of steps that are too large."""
    broke, finite = _broke(losses), [loss for loss in losses if isfinite(loss)]
    floor = median(finite) if finite and samples < _FEW_SAMPLES else 0.0
    begin = max(min(finite[:2], default=0.0), floor)
    end = mean(finite[-5:]) if finite else 0.0
    jumps = max(finite[:_FIRST], default=0.0) > _JUMPS * begin
    worse = begin > 0 and (broke or jumps or end > _WORSE * max(mean(finite[:2]), floor))
    # A loss that breaks without a rise before breaks for another reason.
    exploded = begin > 0 and ((broke and jumps) or end > _EXPLODES * begin)
    learns = size < _NEVER and 0 < end < _LEARNS * begin and not broke and not jumps
    alone = size >= _ALONE and not learns
    return alone or (size > _WITH_LOSS and worse) or (size > _WITH_EXPLOSION and exploded)
