"""Modules and parameters in plain lists, tuples or dicts, which torch does not see.

Source: torch's documentation of ``ModuleList`` and ``ModuleDict``; a frequent question in its forum.
Cost: attributes of modules are looked through.
Risk: a frozen network is sometimes hidden in a list on purpose, so that it is not saved; the observer lists only what
nothing registers and what would train. If an optimizer was given such parameters by hand, they train nevertheless, but
are neither saved nor moved.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ..parts import told, verb


@rule("unregistered-modules", at="model", needs=["model"])
def unregistered_modules(probe: Probe) -> Iterator[Finding]:
    """Tell of modules that stand in plain containers."""
    if probe.model is None or not probe.model.plain_modules:
        return
    names = probe.model.plain_modules
    yield Finding(
        "warning",
        f"{told(names, 'module')} {verb(names, 'stands', 'stand')} in a plain list or dict, where torch does not see "
        "parameters: never trained, saved or moved to a GPU",
        "put them into nn.ModuleList, nn.ModuleDict, nn.ParameterList or nn.ParameterDict",
        Where(layer=names[0]),
        {"modules": list(names[:8]), "count": len(names)},
    )
