"""BatchNorm whose running statistics never move, or are those of the last batch alone.

Source: torch's ``momentum`` is the share of the new batch (0.1), Keras's is the share of the old (0.99): a number that
is carried over means the opposite.
Cost: none.
Risk: layers that are in evaluation mode or keep no statistics are left out; so are loaded ones with a small momentum,
whose statistics may be kept on purpose.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.model_probe import LayerProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.wording import share
from ..parts import batch_norms, is_loaded, owner, told, verb

# Keras's 0.9 and 0.99 begin here; nobody means more than half.
_TOO_LARGE = 0.9
# Published nets go down to 0.0003 (MNASNet).
_SMALL = 2.9e-4
# Share of the initial statistics that the whole run must not leave.
_LEFT = 0.5


@rule("norm-momentum", at="model", needs=["model"], explained_by=["evaluation-mode"])
def norm_momentum(probe: Probe) -> Iterator[Finding]:
    """Find values of ``momentum`` that mean the opposite of what they should."""
    if probe.model is None:
        return
    loaded = {owner(it.name) for it in probe.model.parameters if is_loaded(probe, it)}
    norms = [layer for layer in batch_norms(probe.model) if layer.training and _momentum(layer) is not None]
    norms = [layer for layer in norms if layer.options.get("track_running_stats", True)]
    large = [layer for layer in norms if (_momentum(layer) or 0) >= _TOO_LARGE]
    steps = probe.settings.epochs * probe.settings.steps_per_epoch * probe.settings.accumulate_steps
    small = [layer for layer in norms if layer.name not in loaded and _left(layer, steps) > _LEFT]
    if large:
        yield _wrong(large, "the running statistics are little more than the last batch's, and evaluation is noise")
    if small:
        left = share(_left(small[0], steps), 1)
        yield _wrong(
            small,
            f"after the {steps:,} batches of the run {left} of the initial running statistics are left, and validation "
            "normalizes by these",
        )


def _left(layer: LayerProbe, steps: int) -> float:
    """Return the share of the initial statistics that is left after so many batches; 0 of a usual momentum."""
    momentum = _momentum(layer) or 0.0
    return float((1 - momentum) ** steps) if momentum < _SMALL else 0.0


def _momentum(layer: LayerProbe) -> float | None:
    momentum = layer.options.get("momentum")
    return None if momentum is None else float(momentum)


def _wrong(layers: list[LayerProbe], why: str) -> Finding:
    names = [layer.name for layer in layers]
    return Finding(
        "warning",
        f"{told(names, 'BatchNorm layer')} {verb(names, 'has', 'have')} momentum {_momentum(layers[0]):g}: {why}",
        "set momentum to 0.1 or 0.01: in torch it is the share of the new batch, 1 minus that of Keras",
        Where(layer=names[0]),
        {"momentum": _momentum(layers[0]), "layers": names[:8]},
    )
