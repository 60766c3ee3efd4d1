"""Trainable parameters that no optimizer has.

Source: "not all parameters are handed to the optimizer", a training fault in N. Humbatova et al., "Taxonomy of Real
Faults in Deep Learning Systems", 2020; the usual cause is a module that was added or replaced after the optimizer was
made.
Cost: names are compared.
Risk: a pretrained backbone may be left out on purpose instead of being frozen; where the parameters are known to be
loaded this is a note. A copy that follows by a moving average is left out where it is frozen, as it should be.
"""

from collections.abc import Collection, Iterator

from ....probe.finding import Finding, Where
from ....probe.model_probe import ParameterProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.wording import count
from ..parts import head_names, is_loaded, modules_of, owner, size, told
from ..trained import look_trained


@rule("no-optimizer-for", at="model", needs=["model"], explained_by=["all-frozen"])
def no_optimizer_for(probe: Probe) -> Iterator[Finding]:
    """Find parameters that would train if an optimizer had them."""
    if probe.model is None or not probe.settings.optimizer:
        return
    if probe.model.criterion_left_out:
        yield _of_criterion(probe.model.criterion_left_out)
    late = {*probe.model.late_parameters}
    trainable = [it for it in probe.model.parameters if it.trains and it.name not in late]
    left_out = [it for it in trainable if not it.optimized]
    if left_out and len(left_out) == len(trainable):
        yield Finding(
            "error",
            f"the optimizer has none of the model's {count(len(trainable), 'trainable parameter')}: nothing is learned",
            "make the optimizer of model.parameters(), of the very model that is trained",
            evidence={"left_out": len(left_out)},
        )
        return
    known = {owner(name) for name in look_trained(probe.model, [it for it in left_out if len(it.shape) > 1])}
    new = {it.name for it in left_out if not _is_known(probe, it, known) or _is_new_head(probe, it)}
    for loaded in (False, True):
        group = [it for it in left_out if (it.name not in new) == loaded]
        if group:
            yield _left_out(probe, group, loaded)


def _of_criterion(names: tuple[str, ...]) -> Finding:
    return Finding(
        "warning",
        f"no optimizer has {told(names, 'parameter')} of the criterion: the loss keeps the values it began with",
        "add the criterion's parameters to the optimizer, or set requires_grad to False",
        Where(layer=names[0]),
        {"parameters": list(names[:8])},
    )


def _is_known(probe: Probe, parameter: ParameterProbe, trained: Collection[str]) -> bool:
    return is_loaded(probe, parameter) or owner(parameter.name) in trained


def _is_new_head(probe: Probe, parameter: ParameterProbe) -> bool:
    """Whether it is of a head of a pretrained model, which is mostly new, as far as nobody tells."""
    heads = head_names(probe.model) if probe.model else frozenset()
    return owner(parameter.name) in heads and parameter.name not in probe.settings.loaded


def _left_out(probe: Probe, group: list[ParameterProbe], loaded: bool) -> Finding:
    model = probe.model
    names = [it.name for it in group]
    others = [it.name for it in model.parameters if it.name not in {*names}] if model else []
    modules = modules_of(names, others)
    stays = "stay as loaded" if loaded else "stay as they were initialized"
    what = f"no optimizer has the parameters of {told(modules, 'module')} ({size(group):,} numbers): they {stays}"
    do = "set requires_grad to False there if that is meant, else add them" if loaded else "add them to the optimizer"
    where = Where(layer=modules[0])
    return Finding("note" if loaded else "warning", what, do, where, {"parameters": names[:8], "numbers": size(group)})
