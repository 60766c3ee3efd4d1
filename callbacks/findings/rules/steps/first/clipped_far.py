"""Gradients that are clipped by a large factor in each step.

Source: R. Pascanu et al., "On the difficulty of training recurrent neural networks", 2013: a limit is for exceptions.
Cost: the norm before clipping.
Risk: large gradients of the first steps that settle; so the smallest one of thirty steps counts as well. Optimizers
that divide by the size of the gradients make up for a clipping that is alike in all steps. Of a runner that clips by
itself only what is alike in all steps and next to nothing is told.
"""

from collections.abc import Iterator, Sequence
from math import isfinite, prod, sqrt
from statistics import median

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule

_ALL, _MIDDLE = 10.0, 20.0
# So much farther where it hardly matters.
_ADAPTIVE, _FARTHER = ("ada", "rms", "lion", "lamb", "rprop"), 100.0
_FEWEST = 5
# What a runner clips by itself is alike in each step, as nothing else is; and below what any training needs.
_ALIKE, _TINY_NORM, _TINY_VALUE = 1.001, 1e-3, 1e-5
_LARGE = 100  # numbers of a weight, of which a few may have a gradient of 0


@rule("clipped-far", at="steps", needs=["steps", "settings"], explained_by=[
    "group-rate-too-high",
    "tiny-clip", "large-weights", "exploding-signal", "target-scale", "summed-loss", "dominant-term", "unnormalized",
    "scale-0-255", "broadcast-shapes", "learning-rate-too-high", "gradients-not-zeroed",
])  # fmt: skip
def clipped_far(probe: Probe) -> Iterator[Finding]:
    """Compare the norm of the gradients with what they are clipped to."""
    limit = probe.settings.clip_grad_norm
    steps = probe.steps.steps if probe.steps is not None else ()
    norms = [step.grad_norm for step in steps if step.grad_norm is not None and isfinite(step.grad_norm)]
    if len(norms) < _FEWEST:
        return
    if not limit:
        yield from _in_loop(probe, norms)
        return
    far = _FARTHER if any(one in probe.settings.optimizer.lower() for one in _ADAPTIVE) else 1.0
    if min(norms) > far * _ALL * limit and median(norms) > far * _MIDDLE * limit:
        yield Finding(
            "warning",
            f"clip_grad_norm {limit:g} cuts the gradients of every step far down: their norm is {median(norms):.3g}, "
            f"{median(norms) / limit:,.0f} times as large, and {min(norms):.3g} at the least",
            f"set clip_grad_norm to about {median(norms):.2g}, or leave it out",
            Where(field="clip_grad_norm"),
            {"limit": limit, "median": median(norms), "least": min(norms)},
        )


def _in_loop(probe: Probe, norms: Sequence[float]) -> Iterator[Finding]:
    """Find gradients that a runner of one's own clips to next to nothing, by the norm or by the value."""
    values = _values(probe)
    by_norm = 0 < max(norms) < _ALIKE * min(norms) and max(norms) < _TINY_NORM
    by_value = len(values) >= _FEWEST and 0 < max(values) < _ALIKE * min(values) and max(values) < _TINY_VALUE
    if by_norm or by_value:
        size = f"values of {max(values):.2g} at the most" if by_value else f"a norm of {max(norms):.2g}"
        yield Finding(
            "warning",
            f"the gradients that the optimizer gets have {size} in each of the first {len(norms)} steps: the runner "
            "clips them to next to nothing",
            "clip to a norm of about 1, or to values of about 0.5, or leave it out",
            Where(field="clip_grad_value" if by_value else "clip_grad_norm"),
            {"norm": max(norms)},
        )


def _values(probe: Probe) -> list[float]:
    """Return the largest root mean square of the gradient of a large weight, of each step; that of a clipped one."""
    numbers = {it.name: prod(it.shape) for it in probe.model.parameters} if probe.model is not None else {}
    steps = probe.steps.steps if probe.steps is not None else ()
    sizes = [
        [norm / sqrt(numbers[name]) for name, norm in step.grads.items() if numbers.get(name, 0) >= _LARGE]
        for step in steps
    ]
    return [max(of) for of in sizes if of]
