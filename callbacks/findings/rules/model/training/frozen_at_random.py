"""Layers that are frozen at the random values they were made with.

Source: freezing the backbone and forgetting ``pretrained=True`` (or the checkpoint), or freezing the new head with the
rest, in forum questions on fine-tuning.
Cost: names are compared.
Risk: networks that are frozen on purpose. Left out are: what is known to be loaded, or has values that no usual
initialization gives; copies of trained layers, as a
teacher or a momentum encoder is (same shape, mean and spread); tables such as positions; and what makes up less than a
twentieth of the model, such as fixed filters and projections, unless it gives an output.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.model_probe import ModelProbe, ParameterProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.wording import share
from ..parts import head_names, is_loaded, modules_of, owner, size, told, verb, weights_of
from ..trained import look_trained

# Fixed filters, random projections and the like are smaller; a backbone is most of a model.
_SMALL_PART = 0.05


@rule("frozen-at-random", at="model", needs=["model"], explained_by=["all-frozen"])
def frozen_at_random(probe: Probe) -> Iterator[Finding]:
    """Find frozen weights that were neither loaded nor copied from trained ones."""
    if probe.model is None:
        return
    weights = weights_of(probe.model)
    trained = {_values(it) for it in weights if it.trains}
    frozen = [it for it in weights if not it.trains and not is_loaded(probe, it) and it.high > it.low]
    known = look_trained(probe.model, frozen)
    frozen = [it for it in frozen if _values(it) not in trained and it.name not in known]
    heads = head_names(probe.model)
    part = size(frozen) / max(size(probe.model.parameters), 1)
    if frozen and (part >= _SMALL_PART or any(owner(it.name) in heads for it in frozen)):
        yield _random(probe.model, frozen, part)


def _values(weight: ParameterProbe) -> tuple[object, ...]:
    return weight.shape, weight.mean, weight.std, weight.norm


def _random(model: ModelProbe, frozen: list[ParameterProbe], part: float) -> Finding:
    free = [it.name for it in model.parameters if it.trains]
    modules = modules_of([it.name for it in frozen], free)
    return Finding(
        "warning",
        f"{told(modules, 'module')} with {share(part, 1)} of the model's numbers "
        f"{verb(modules, 'is', 'are')} frozen at random values: nothing was loaded there",
        "load pretrained weights before freezing, or let these layers train",
        Where(layer=modules[0]),
        {"modules": list(modules[:8]), "share": part},
    )
