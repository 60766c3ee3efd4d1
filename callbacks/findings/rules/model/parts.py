"""What several rules ask of a model: its weights, its heads, and the modules that a list of parameters makes up."""

from collections.abc import Collection, Iterable
from math import prod

from ...probe.model_probe import LayerProbe, ModelProbe, ParameterProbe
from ...probe.probe import Probe
from ...probe.wording import count, some

# Tables and vectors that are added to a signal or scale it; they may begin at any value.
_NO_WEIGHTS = ("pos", "token", "embed", "query", "prompt", "table", "gamma", "scale", "lora_", "zero_conv")


def owner(parameter: str) -> str:
    """Return the name of the module that a parameter belongs to."""
    return parameter.rpartition(".")[0]


def modules_of(names: Iterable[str], others: Iterable[str]) -> tuple[str, ...]:
    """Return the largest modules whose parameters are all among ``names`` and none among ``others``."""
    kept = {prefix for other in others for prefix in _prefixes(other)}
    found = (next((prefix for prefix in _prefixes(name) if prefix not in kept), name) for name in names)
    return tuple(dict.fromkeys(found))


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def size(parameters: Iterable[ParameterProbe]) -> int:
    """Return how many numbers the parameters hold."""
    return sum(prod(parameter.shape) for parameter in parameters)


def told(names: Collection[str], thing: str = "layer") -> str:
    """Return names with what they are, such as ``layer 'fc'`` and ``3 layers ('a', 'b' and 'c')``."""
    return f"{thing} {some(names)}" if len(names) == 1 else f"{count(len(names), thing)} ({some(names)})"


def verb(names: Collection[str], one: str, many: str) -> str:
    """Return the form of a verb that agrees with what ``told`` says."""
    return one if len(names) == 1 else many


def weights_of(model: ModelProbe) -> tuple[ParameterProbe, ...]:
    """Return the weights of linear, convolutional and recurrent layers, in the order in which layers are called."""
    place = {layer.name: index for index, layer in enumerate(model.layers)}
    kinds = {layer.name: layer.kind for layer in model.layers}
    found = [it for it in model.parameters if _is_weight(it) and "Embedding" not in kinds.get(owner(it.name), "")]
    return tuple(sorted(found, key=lambda it: place.get(owner(it.name), len(place))))


def _is_weight(parameter: ParameterProbe) -> bool:
    named = not any(part in parameter.name.lower() for part in _NO_WEIGHTS)
    return named and len(parameter.shape) >= 2 and prod(parameter.shape[1:]) > 1


def head_names(model: ModelProbe) -> frozenset[str]:
    """Return the modules that give outputs, as their shapes tell, and the last one with weights that is called."""
    shapes = {output.shape for output in model.outputs.values()}
    owners = {owner(weight.name) for weight in weights_of(model)}
    called = [layer for layer in model.layers if layer.name in owners]
    return frozenset({layer.name for layer in called if layer.out_shape in shapes} | {it.name for it in called[-1:]})


def fans(weight: ParameterProbe) -> tuple[int, int]:
    """Return how many numbers an output of the layer is made of, and how many outputs an input goes to."""
    window = prod(weight.shape[2:])
    return weight.shape[1] * window, weight.shape[0] * window


def is_loaded(probe: Probe, parameter: ParameterProbe) -> bool:
    """Whether a parameter has values that were trained before, as far as the run tells."""
    loaded = probe.settings.loaded
    return parameter.name in loaded if loaded else probe.model is not None and probe.model.pretrained


def batch_norms(model: ModelProbe) -> list[LayerProbe]:
    """Return the layers that normalize over the batch in training."""
    return [layer for layer in model.layers if "BatchNorm" in layer.kind and "Frozen" not in layer.kind]
