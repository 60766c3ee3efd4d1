"""A group of parameters whose learning rate is 0, beside others that train.

Source: groups for fine-tuning, of which one was left at 0; "wrong learning rate" of N. Humbatova et al., 2020.
Cost: none.
Risk: a group that is held still on purpose: parameters that were loaded, or that do not train anyway, are left out.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.wording import count

_SHOWN = 3


@rule("group-without-rate", at="model", needs=["settings"], explained_by=["schedule-at-zero"])
def group_without_rate(probe: Probe) -> Iterator[Finding]:
    """Find groups with a learning rate of 0 whose parameters begin at random values."""
    settings = probe.settings
    frozen = {it.name for it in probe.model.parameters if not it.trains} if probe.model is not None else set()
    still = settings.frozen_on_purpose | settings.loaded | frozen
    if not any(group.lr > 0 for group in settings.groups):
        return
    for group in settings.groups:
        names = [name for name in group.parameters if name not in still]
        if group.lr == 0 and names:
            more = f" and {count(len(names) - _SHOWN, 'more', 'more')}" if len(names) > _SHOWN else ""
            yield Finding(
                "warning",
                f"the learning rate of {', '.join(names[:_SHOWN])}{more} is 0, while that of other parameters is "
                f"{max(one.lr for one in settings.groups):g}: they stay at their initial values",
                "give this group of the optimizer a learning rate above 0, or freeze it by requires_grad_(False)",
                Where(layer=names[0].rpartition(".")[0] or names[0], field="lr"),
                {"parameters": len(names)},
            )
