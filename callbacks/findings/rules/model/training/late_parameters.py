"""Parameters that the first forward pass makes, after the optimizer was given its own.

Source: torch's documentation of lazy modules asks for a dry run before the optimizer is made; layers made in
``forward`` are a frequent question in its forum.
Cost: names are compared before and after one forward pass.
Risk: none known: lazy modules have their parameters before, without values, and an optimizer that has them keeps them.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.wording import count
from ..parts import modules_of, told


@rule("late-parameters", at="model", needs=["model"])
def late_parameters(probe: Probe) -> Iterator[Finding]:
    """Tell of parameters that did not exist when the optimizer was made."""
    if probe.model is None:
        return
    known = {it.name for it in probe.model.parameters if it.optimized}
    late = [name for name in probe.model.late_parameters if name not in known]
    if not late:
        return
    modules = modules_of(late, [it.name for it in probe.model.parameters if it.name not in {*late}])
    yield Finding(
        "warning",
        f"the first forward pass makes {count(len(late), 'parameter')} of {told(modules, 'module')}, "
        "after the optimizer was made, so they never train",
        "make these layers in __init__, or call the model once before the optimizer is made",
        Where(layer=modules[0]),
        {"parameters": late[:8]},
    )
