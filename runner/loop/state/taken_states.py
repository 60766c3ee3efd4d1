"""Check states of a checkpoint, and name the part of a run that cannot take its own."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from assay.callbacks.errors import UsageError

# A state is handed to code of torch, of loggers and of users: each has its own error for one that is not its own.
_NOT_TAKEN = (AttributeError, LookupError, RuntimeError, TypeError, ValueError)

# What torch's optimizers keep of each element of a parameter.
_OF_ELEMENTS = (
    "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "momentum_buffer", "square_avg", "grad_avg", "acc_delta",
    "sum", "ax", "prev", "step_size",
)  # fmt: skip


@contextmanager
def naming_state(part: str) -> Iterator[None]:
    """Raise UsageError, with the part's name, where the block cannot restore its state."""
    try:
        yield
    except UsageError:
        raise
    except _NOT_TAKEN as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(f"the checkpoint does not fit: the state of {part} cannot be taken ({reason}).") from error


def check_optimizer_state(state: Any) -> None:
    """Raise where the state of an optimizer does not have the form that torch gives it."""
    groups, of_parameters = (state.get("param_groups"), state.get("state")) if isinstance(state, Mapping) else (0, 0)
    has_groups = isinstance(groups, list) and all(isinstance(group, dict) and "params" in group for group in groups)
    if not has_groups or not groups or not isinstance(of_parameters, dict):
        raise UsageError(
            "the checkpoint does not fit: the state of an optimizer must hold 'param_groups', a list of dicts with "
            "'params', and 'state', a dict."
        )


def check_shapes(parameters: Mapping[int, nn.Parameter], states: Mapping[int, Mapping[str, Any]]) -> None:
    """Raise where what an optimizer keeps of each element has another shape than the parameter.

    Args:
        parameters: of the optimizer, by their places in its state.
        states: of the parameters, by the same places.
    """
    # torch does not compare them, and a fused optimizer would read and write beyond the end of the smaller one.
    for place, parameter in parameters.items():
        of = states.get(place, {})
        for name in (name for name in _OF_ELEMENTS if name in of):
            value = of[name]
            if isinstance(value, Tensor) and value.shape != parameter.shape:
                raise UsageError(
                    f"the checkpoint does not fit: its optimizer keeps {name} of shape {list(value.shape)} for "
                    f"parameter {place}, which has the shape {list(parameter.shape)}: give the optimizer the same "
                    "parameters in the same order."
                )
