"""Images from 0 to 255 that go into the model as they are.

Source: "missing preprocessing" of N. Humbatova et al., 2020; UMLAUT's input range (E. Schoop et al., 2021).
Cost: the spread of the first layer's outputs, which is observed anyway.
Risk: models that scale their inputs themselves: then the first layer with weights gives small values. A normalization
behind that layer repairs most of it where weights are not pretrained, so it is a note there.
"""

from collections.abc import Iterator

from ...probe.finding import Finding, Severity, Where
from ...probe.model_probe import LayerProbe, ModelProbe
from ...probe.probe import Probe
from ...probe.rule import rule
from ..pictures import pictures
from ..ranges import FEWEST, described, from_0_to_255

# Usual weights make outputs of about the size of their inputs: 70 of values up to 255, below 3 of normalized ones.
_LARGE = 10.0
_WITH_WEIGHTS = ("Conv", "Linear", "LSTM", "GRU", "RNN")


@rule(
    "scale-0-255",
    at="model",
    needs=("loaders", "model"),
    explained_by=["one-item", "different-scale", "unnormalized", "different-statistics"],
)
def scale_0_255(probe: Probe) -> Iterator[Finding]:
    """Find images up to 255 of which the first layer makes large values."""
    train, model = probe.train, probe.model
    if train is None or model is None:
        return
    # Numbers of words run from 0 as well.
    images = [sample for sample in pictures(train) if len(sample.shape) == 3]
    if len(images) < FEWEST or not from_0_to_255(images):
        return
    first = _first(model.layers)
    if first is None or first.out_std < _LARGE:
        return
    severity: Severity = "note" if _normalized_next(model, first) and not model.pretrained else "warning"
    yield Finding(
        severity,
        f"images of {train.key} run from {described(train)} and reach the model as they are: its first layer,"
        f" {first.name}, gives values with a deviation of {first.out_std:.0f}",
        "divide images by 255 and normalize them",
        Where(train.key, train.image_key, layer=first.name),
        {"range": described(train), "out_std": first.out_std},
    )


def _first(layers: tuple[LayerProbe, ...]) -> LayerProbe | None:
    for layer in layers:
        if layer.kind.startswith(_WITH_WEIGHTS):
            return layer
        if "Norm" in layer.kind:
            return None
    return None


def _normalized_next(model: ModelProbe, first: LayerProbe) -> bool:
    following = model.layers[model.layers.index(first) + 1 :]
    return bool(following) and "Norm" in following[0].kind
