"""Dropout that leaves hardly anything.

Source: N. Srivastava et al., "Dropout", 2014: 0.5 is near the best for hidden units, 0.2 for inputs; torch's ``p``
is the share that is dropped, the paper's is the share that is kept.
Cost: none.
Risk: none known above 0.8.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.model_probe import LayerProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.wording import share
from ..parts import told, verb

# The largest value that published trainings use; a probability of keeping, given as one of dropping, is mostly above.
_HEAVY = 0.8


@rule("heavy-dropout", at="model", needs=["model"], explained_by=["evaluation-mode"])
def heavy_dropout(probe: Probe) -> Iterator[Finding]:
    """Find dropout of more than 80%."""
    layers = probe.model.layers if probe.model else ()
    heavy = [layer for layer in layers if layer.training and _p(layer) > _HEAVY]
    if not heavy:
        yield from _functions(probe)
        return
    names = [layer.name for layer in heavy]
    worst = max(map(_p, heavy))
    yield Finding(
        "error" if worst >= 1 else "warning",
        f"{told(names, heavy[0].kind)} {verb(names, 'sets', 'set')} {share(worst, 1)} of the values to 0 "
        f"in training (p={worst:g})",
        "use 0.1 to 0.5: p is the share that is dropped, not the share that is kept",
        Where(layer=names[0]),
        {"p": worst, "layers": names[:8]},
    )


def _p(layer: LayerProbe) -> float:
    p = layer.options.get("p") if "Drop" in layer.kind else None
    return float(p) if isinstance(p, int | float) else 0.0


def _functions(probe: Probe) -> Iterator[Finding]:
    """Find functions of dropout, which are no layers."""
    found = probe.model.dropouts if probe.model is not None else {}
    for place, p in found.items():
        if p > _HEAVY:
            yield Finding(
                "error" if p >= 1 else "warning",
                f"dropout in {place} sets {share(p, 1)} of the values to 0 in training (p={p:g})",
                "use 0.1 to 0.5: p is the share that is dropped, not the share that is kept",
                evidence={"p": p},
            )
