"""Which parameters of a model start from trained weights, so that the others may learn faster."""

from collections.abc import Collection, Iterable, Iterator, Mapping

from torch import nn

from assay.callbacks.support.unwrap import eager_name

_MARK = "starts_from_trained_weights"  # an attribute of the parameter, which moves with it from module to module


def mark_loaded(parameters: Iterable[nn.Parameter]) -> None:
    """Note that parameters hold trained weights now."""
    for parameter in parameters:
        setattr(parameter, _MARK, True)


def is_loaded(parameter: nn.Parameter) -> bool:
    """Whether a parameter has been marked."""
    return getattr(parameter, _MARK, False)


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
