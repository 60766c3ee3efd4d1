"""Steps whose loss or gradients are NaN or infinite.

Source: DeepLocalize (M. Wardat et al., 2021).
Cost: a sum of each batch beyond the norms of the gradients.
Risk: a gradient scaler begins too high on purpose; there only losses count.
"""

from collections.abc import Iterator
from math import isfinite, isnan

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.steps_probe import StepProbe
from ....probe.wording import some

# Of the steps from the first broken one on: weights have become NaN.
_LASTS = 0.8
_FEWEST = 3


@rule("non-finite-steps", at="steps", needs=["steps"], explained_by=[
    "gradients-not-finite", "group-rate-too-high",
    "learning-rate-too-high", "outputs-not-finite", "weights-not-finite", "loss-not-finite", "non-finite-images",
    "inverted-loss", "logits-for-probabilities", "gradients-not-zeroed",
    "large-weights", "exploding-signal", "target-scale", "summed-loss", "dominant-term", "momentum-out-of-range",
    "unnormalized", "scale-0-255", "broadcast-shapes",
])  # fmt: skip
def non_finite_steps(probe: Probe) -> Iterator[Finding]:
    """Find the first step that broke."""
    steps = probe.steps.steps if probe.steps is not None else ()
    # A loss that nobody names is NaN in every step.
    named = not all(isnan(step.loss) for step in steps)
    for number, step in enumerate(steps, start=1):
        lost = named and not isfinite(step.loss)
        broken = step.grad_norm is not None and not isfinite(step.grad_norm) and step.scale is None
        if lost or broken:
            count = sum(not it.finite for it in steps)
            what = (
                f"the {'loss' if lost else 'gradient'} is not finite in step {number} ({count} of the first "
                f"{len(steps)} steps are broken)"
            )
            evidence = {"step": number, "broken": count}
            yield _of_input(what, step, len(steps), evidence) if step.broken else _of_computation(what, evidence)
            return


def _of_input(what: str, step: StepProbe, steps: int, evidence: dict[str, int]) -> Finding:
    key, names = next(iter(step.broken.items()))
    # Of a run that holds broken steps back, most are whole.
    lasts = evidence["broken"] >= _FEWEST and evidence["broken"] > _LASTS * (steps - evidence["step"] + 1)
    return Finding(
        "error" if lasts else "warning",
        f"{key!r} of samples of the training batch of step {evidence['step']} holds NaN or infinity ({some(names)}), "
        f"so that {what}",
        "look for a division by zero or a logarithm in how these samples are read, or for missing values",
        Where(key=key, samples=names),
        evidence,
    )


def _of_computation(what: str, evidence: dict[str, int]) -> Finding:
    return Finding(
        "warning",
        what,
        "look for a logarithm or root of 0 or a division by 0, and at the batch of that step",
        evidence=evidence,
    )
