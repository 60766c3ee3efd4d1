"""Weight decay that takes weights away faster than they are learned.

Source: I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", 2019; "wrong regularization" of N.
Humbatova et al., 2020.
Cost: none.
Risk: published recipes take up to 3e-4 of each weight per step (ViT: 1e-3 * 0.3; ResNet with momentum 0.9: 5e-4). Where
the decay itself is a usual one, it is the learning rate that is too high.
"""

from collections.abc import Iterator
from math import log

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.settings_probe import GroupProbe

# Share of each weight per step: at 0.002, half of it is gone after 350 steps.
_PER_STEP = 2e-3
# Where it is a part of the gradient that Adam scales, it is larger than the gradient itself from about here on.
_COUPLED = 0.1
# A decoupled decay of 1 is ten times the strongest that is published, unless the learning rate makes up for it.
_DECOUPLED, _LEAST_PER_STEP = 1.0, 3e-4
# Lion and its like are published with decays of 1 to 10, as their learning rates are smaller.
_PUBLISHED = ("AdamW", "SGD")
# Of torch's AdamW, and of SGD and all others.
_USUAL, _USUAL_OF_SGD = 0.01, 1e-3
_SCALED = ("Adam", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad", "Adadelta")


@rule("heavy-weight-decay", at="model", needs=["settings"])
def heavy_weight_decay(probe: Probe) -> Iterator[Finding]:
    """Find groups whose decay takes a large share of each weight per step."""
    name = probe.settings.optimizer
    for index, group in enumerate(probe.settings.groups):
        if group.weight_decay <= (_USUAL_OF_SGD if name == "SGD" else _USUAL) or "," in name:
            continue
        part = _per_step(name, group)
        coupled = name in _SCALED
        if coupled and group.weight_decay >= _COUPLED:
            effect = f"it is added to the gradient, which {name} scales, and outweighs what the loss says"
        elif not coupled and (
            part >= _PER_STEP or (name in _PUBLISHED and group.weight_decay >= _DECOUPLED and part >= _LEAST_PER_STEP)
        ):
            effect = f"it takes {part:.2%} of each weight per step, half of it in {round(log(2) / part):,} steps"
        else:
            continue
        which = f" of group {index}" if len(probe.settings.groups) > 1 else ""
        yield Finding(
            "warning",
            f"the weight decay {group.weight_decay:g}{which} of {name} (learning rate {group.lr:g}) eats the weights: "
            f"{effect}",
            "set weight_decay to 1e-4 for SGD or 0.01 to 0.1 for AdamW",
            Where(field="weight_decay"),
            {"weight_decay": group.weight_decay, "lr": group.lr, "per_step": part},
        )
        return


def _per_step(name: str, group: GroupProbe) -> float:
    """Return the share of a weight that goes in a step at the full learning rate."""
    momentum = group.momentum if name == "SGD" and 0 <= group.momentum < 1 else 0.0
    return group.lr * group.weight_decay / (1 - momentum)
