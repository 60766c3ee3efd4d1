"""Marks on parameters of what a run was told of them: that they start from trained weights, that they are frozen."""

from collections.abc import Iterable

from torch import nn

# Attributes of the parameter itself, which move with it from module to module.
_LOADED = "starts_from_trained_weights"
_FROZEN = "is_frozen_on_purpose"


def mark_loaded(parameters: Iterable[nn.Parameter]) -> None:
    """Note that parameters hold trained weights now."""
    for parameter in parameters:
        setattr(parameter, _LOADED, True)


def is_loaded(parameter: nn.Parameter) -> bool:
    """Whether a parameter has been marked as one that holds trained weights."""
    return getattr(parameter, _LOADED, False)


def mark_frozen(parameters: Iterable[nn.Parameter]) -> None:
    """Note that the run was told to freeze parameters, at least for its first epochs."""
    for parameter in parameters:
        setattr(parameter, _FROZEN, True)


def is_frozen_on_purpose(parameter: nn.Parameter) -> bool:
    """Whether the run was told to freeze a parameter; ``requires_grad=False`` alone may be a mistake."""
    return getattr(parameter, _FROZEN, False)
