"""An optimizer that makes a loss larger which is meant to become small.

Source: ``maximize=True``, of torch's optimizers; "wrong optimization function" of N. Humbatova et al., 2020.
Cost: none.
Risk: rewards and adversaries are maximized on purpose; so each term of the loss has to be a known one to be minimized.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule

_MINIMIZED = frozenset({"cross_entropy", "nll", "bce_logits", "bce", "mse", "l1", "smooth_l1", "dice", "focal"})


@rule("maximized-loss", at="model", needs=["settings"])
def maximized_loss(probe: Probe) -> Iterator[Finding]:
    """Find groups that are maximized, where all terms are losses."""
    settings = probe.settings
    known = settings.terms and all(it.criterion.kind in _MINIMIZED and it.weight > 0 for it in settings.terms)
    if known and settings.groups and all(group.maximize for group in settings.groups):
        yield Finding(
            "error",
            f"{settings.optimizer} has maximize=True: each step makes the loss "
            f"({', '.join(dict.fromkeys(it.criterion.name for it in settings.terms))}) larger instead of smaller",
            "leave out maximize=True",
            Where(field="optimizer"),
            {"terms": [it.label for it in settings.terms]},
        )
