"""Which parameters of a model start from trained weights, so that the others may learn faster."""

from collections.abc import Collection, Iterator, Mapping

from torch import nn

from assay.callbacks.base.trained_marks import is_loaded, mark_loaded
from assay.callbacks.support.unwrap import eager_name

__all__ = ["fresh_names", "is_loaded", "mark_all_but", "mark_loaded", "named_parameters"]


def named_parameters(models: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters of models by name, each once, as ``MODEL.NAME``; the only model is called ``""``."""
    seen: set[int] = set()
    for key, model in models.items():
        for name, parameter in model.named_parameters():
            if id(parameter) not in seen:  # several models may share parameters
                seen.add(id(parameter))
                yield eager_name(f"{key}.{name}" if key else name), parameter


def fresh_names(models: Mapping[str, nn.Module]) -> list[str]:
    """Return the names of parameters that were not loaded while others were; nothing where all or none were."""
    parameters = dict(named_parameters(models))
    fresh = [name for name, parameter in parameters.items() if not is_loaded(parameter)]
    return fresh if len(fresh) < len(parameters) else []


def mark_all_but(models: Mapping[str, nn.Module], fresh: Collection[str]) -> None:
    """Mark the parameters as they were when ``fresh_names`` returned these names, of the same models."""
    if fresh:
        mark_loaded(parameter for name, parameter in named_parameters(models) if name not in fresh)
