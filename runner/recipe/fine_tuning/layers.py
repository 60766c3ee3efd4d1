"""The layers of a model in order, from the input to the head, as learning rates decay by them."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from torch import nn

from assay.callbacks.support.unwrap import eager_name

from .loaded import fresh_names, named_parameters

# How the last layer is called in timm, torchvision, and most projects.
_HEADS = ("head", "heads", "classifier", "fc", "roi_heads", "classification_head", "segmentation_head")


def layers_of(models: Mapping[str, nn.Module]) -> list[list[str]]:
    """Return the names of the parameters of each layer, the layers in order from the input; the last is the head.

    A model of timm says itself which of its parameters are a layer (``group_matcher``: the stem, each block, the head).
    Of any other the layers are its parts in the order in which they were made. Two kinds of parts are looked into, and
    their own parts take their place: one that holds all parameters, as in a wrapper; and one that holds at least half
    of them and is a model itself, not a plain ``nn.Sequential`` or ``nn.ModuleList``, as a backbone. Parameters that
    stand beside parts, such as a class token, belong to the first of them.

    Args:
        models: by name, in the order in which they are called; the only one is called ``""``.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1))
        >>> layers_of({"": net})
        [['0.weight'], ['2.weight', '2.bias']]
    """
    known = {name for name, _ in named_parameters(models)}  # of shared ones, the first name alone
    layers: list[list[str]] = []
    for key, model in models.items():
        total = sum(parameter.numel() for parameter in model.parameters())
        layers += _layers(model, f"{key}." if key else "", total)
    named = [[name for name in map(eager_name, layer) if name in known] for layer in layers]
    return [layer for layer in named if layer]


def _layers(module: nn.Module, prefix: str, total: int) -> list[list[str]]:
    """Return the layers of a module that is looked into."""
    if hasattr(module, "group_matcher"):
        return _layers_of_timm(module, prefix)
    layers: list[list[str]] = []
    for name, part in module.named_children():
        place = f"{prefix}{name}."
        if _is_looked_into(part, total):
            layers += _layers(part, place, total)
        elif names := [f"{place}{parameter}" for parameter, _ in part.named_parameters()]:
            layers.append(names)
    beside = [f"{prefix}{name}" for name, _ in module.named_parameters(recurse=False)]
    if beside and layers:
        layers[0] = [*beside, *layers[0]]
    return layers or [beside]


def _is_looked_into(part: nn.Module, total: int) -> bool:
    size = sum(parameter.numel() for parameter in part.parameters())
    if not any(True for child in part.children() for _ in child.parameters()):
        return False
    if hasattr(part, "group_matcher") or size == total:
        return True
    return 2 * size >= total and type(part) not in (nn.Sequential, nn.ModuleList)


def _layers_of_timm(model: Any, prefix: str) -> list[list[str]]:
    from timm.models import group_parameters  # there is one of its models

    layers: dict[int, list[str]] = defaultdict(list)
    for name, number in group_parameters(model, model.group_matcher(coarse=False), reverse=True).items():
        layers[number].append(f"{prefix}{name}")
    return [layers[number] for number in sorted(layers)]


def head_of(models: Mapping[str, nn.Module]) -> list[str]:
    """Return the names of the parameters that ``--lr-head`` is for.

    Where others start from trained weights, these are those that do not. Else they are the classifier: of a model of
    timm its own, of any other the first part that is called head, heads, classifier or fc, looked for from the outside
    in, or the last layer with parameters.
    """
    if fresh := fresh_names(models):
        return fresh
    heads = [name for name, _ in named_parameters(models)]
    for key, model in models.items():
        prefix = f"{key}." if key else ""
        heads = [f"{prefix}{eager_name(name)}" for name in _head_names(model)]
    return heads


def _head_names(model: nn.Module) -> list[str]:
    modules = [(name, module) for name, module in model.named_modules() if any(True for _ in module.parameters())]
    modules.sort(key=lambda item: len(item[0].split(".")) if item[0] else 0)  # from outside; else as they were made
    for _, module in modules:
        classifier = module.get_classifier() if hasattr(module, "get_classifier") else None
        parts = classifier if isinstance(classifier, tuple | list) else [classifier]
        own = {id(it) for part in parts if isinstance(part, nn.Module) for it in part.parameters()}
        if own:
            return [name for name, parameter in model.named_parameters() if id(parameter) in own]
    named = [name for name, _ in modules if name.rpartition(".")[2] in _HEADS]
    # By its parameters, as layers without any may follow it.
    place = named[0] if named else list(dict(model.named_parameters()))[-1].rpartition(".")[0]
    return [name for name, _ in model.named_parameters() if not place or name.startswith(f"{place}.")]
