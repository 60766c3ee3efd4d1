"""The models of a run as one module from tensors to named tensors, and its capture by ``torch.export``."""

import inspect
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from assay.callbacks.errors import UsageError, described
from assay.callbacks.keys import pick
from assay.callbacks.support.unwrap import by_name

from .detectors import followable

BOX_PARTS = ("boxes", "scores", "labels")


class Graph(nn.Module):
    """One model, or several that are called in their order, as a module of tensors.

    It maps the tensors of ``inputs``, in this order, to a dict of tensors. Of a detector's output, a list of one dict,
    the dict holds the parts under their own names.

    Args:
        models: one, or several by name.
        input_key: what a model is given, see ``DictRunner``.
        inputs: the names of the tensors to be given, see ``find_inputs``.
    """

    def __init__(self, models: Any, input_key: Any, inputs: Sequence[str]):
        super().__init__()
        parts = by_name(models)
        self.parts = nn.ModuleList(parts.values())
        self.keys = [keys_of(input_key, name) for name in parts]
        self.inputs = tuple(inputs)

    def forward(self, *tensors: Tensor) -> dict[str, Tensor]:
        given: dict[str, Any] = dict(zip(self.inputs, tensors, strict=True))
        outputs: dict[str, Any] = {}
        for part, keys in zip(self.parts, self.keys, strict=True):
            known = {**given, **outputs}
            if isinstance(keys, str):
                found = part(pick(known, keys, f"input_key={keys!r}"))
            else:
                found = part(**{key: known[key] for key in keys if key in known})
            outputs.update(found)
        return flattened(outputs)

    @torch.no_grad()
    def run(self, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return the outputs for some inputs, by plain PyTorch."""
        outputs: dict[str, Tensor] = self(*tensors)
        return outputs


def keys_of(input_key: Any, name: str) -> str | list[str]:
    """Return the key of a model's only argument, or the keys of those that it is given by name."""
    if isinstance(input_key, Mapping):
        input_key = pick(input_key, name, "the model", source_name="mapping input_key")
    return input_key if isinstance(input_key, str) else list(input_key)


def find_inputs(models: Any, input_key: Any, batch: Mapping[str, Any], targets: Collection[str]) -> list[str]:
    """Return the names of the tensors that models are given.

    An argument with a default is left out where it is a target, as in training, or where a batch has no tensor for it.

    Args:
        models: one, or several by name.
        input_key: what a model is given, see ``DictRunner``.
        batch: an example.
        targets: the targets of the loss.

    Raises:
        UsageError: an argument without a default is no tensor.
    """
    found: dict[str, None] = {}
    for name, model in by_name(models).items():
        keys = keys_of(input_key, name)
        for key in [keys] if isinstance(keys, str) else keys:
            optional = not isinstance(keys, str) and _has_default(model, key)
            if isinstance(batch.get(key), Tensor) and not (optional and key in targets):
                found[key] = None
            elif key in batch and not optional:
                raise UsageError(
                    f"the model's input {key!r} is {described(batch[key])} and has no default: an exported model takes "
                    "tensors alone. Give its argument the default None, and do without it in evaluation."
                )
    return list(found)


def _has_default(model: nn.Module, key: str) -> bool:
    argument = inspect.signature(model.forward).parameters.get(key)
    return argument is not None and argument.default is not inspect.Parameter.empty


def flattened(outputs: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return named outputs as tensors; those within a list or a dict get the names of both, except for boxes.

    Raises:
        UsageError: something is neither a tensor nor a list or dict of tensors.
    """
    flat: dict[str, Tensor] = {}
    for name, value in outputs.items():
        for inner, tensor in _tensors(name, value):
            flat[inner if inner not in flat else f"{name}_{inner}"] = tensor
    return flat


def _tensors(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif is_boxes(value):
        yield from value[0].items()
    elif isinstance(value, Mapping | list | tuple):
        for key, part in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _tensors(f"{name}_{key}", part)
    else:
        raise UsageError(
            f"the model's output {name!r} is {described(value)}: an exported model returns tensors, or lists and "
            "dicts of them. Leave it out in evaluation."
        )


def is_boxes(value: Any) -> bool:
    """Whether an output is that of a detector for one image: a list of one dict with ``BOX_PARTS``."""
    is_list = isinstance(value, list | tuple) and len(value) == 1 and isinstance(value[0], Mapping)
    return is_list and all(isinstance(value[0].get(part), Tensor) for part in BOX_PARTS)


def capture(graph: Graph, example: Sequence[Tensor], *, dynamic: bool, step: int = 0) -> ExportedProgram:
    """Return the graph as a program of operators.

    Args:
        graph: in evaluation mode; it must have run on an image of the same size.
        example: its inputs, [N, ...] each.
        dynamic: whether the program takes any number of samples, or N alone.
        step: its sides, the last two dimensions, may also be any multiples of this from twice on, as those of the
            example are; 0: they are fixed.
    """
    shapes = None
    if dynamic:
        sizes: dict[int, Any] = {0: Dim("batch", min=1)}
        if step:  # from twice on, as torch takes a size of 1 on the coarsest map for a special one
            sizes |= {place: step * Dim(f"_{name}", min=2) for place, name in ((2, "height"), (3, "width"))}
        # An example of one sample would fix the number: torch takes a size of 1 for a special one.
        example = [tensor if len(tensor) > 1 else torch.cat([tensor, tensor]) for tensor in example]
        shapes = (tuple(sizes for _ in example),)
    with torch.no_grad(), followable(graph), _plain_operators(), warnings.catch_warnings(action="ignore"):
        return torch.export.export(graph, tuple(example), dynamic_shapes=shapes, strict=False)


@contextmanager
def _plain_operators() -> Iterator[None]:
    """Have torch's transformer layers run as plain operators, which any format has, within the block."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
