"""Trainable weights in half precision.

Source: P. Micikevicius et al., "Mixed Precision Training", 2018: updates smaller than 1/2048 (float16) or 1/256
(bfloat16) of a weight are rounded away, so master weights stay in float32.
Cost: none.
Risk: large language models are trained in bfloat16 with optimizers that know how to; for bfloat16 it is a warning, as
plain optimizers lose most updates there. Frozen half weights, as of a base model under adapters, are fine.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ..parts import modules_of, told

_HALF = ("float16", "bfloat16")


@rule("half-weights", at="model", needs=["model"])
def half_weights(probe: Probe) -> Iterator[Finding]:
    """Find parameters that an optimizer steps in half precision."""
    parameters = probe.model.parameters if probe.model else ()
    half = [it for it in parameters if it.trains and it.optimized and it.dtype in _HALF]
    if not half:
        return
    modules = modules_of([it.name for it in half], [it.name for it in parameters if it not in half])
    kind = half[0].dtype
    lost = "1/2,048" if kind == "float16" else "1/256"
    yield Finding(
        "warning",
        f"the weights of {told(modules, 'module')} are {kind}: the optimizer's changes smaller than {lost} of a weight "
        "are rounded away",
        "keep the weights in float32 and compute in half precision by autocast (mixed precision)",
        Where(layer=modules[0]),
        {"dtype": kind, "parameters": len(half), "of": len(parameters)},
    )
