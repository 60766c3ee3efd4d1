"""``TracedLoss``: what a loss does to an output and a target: by which functions, over which axes, in which shapes."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from math import isclose, prod
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ...probe.settings_probe import CriterionProbe
from ..settings.criteria import criterion_kind, observe_criterion

_SOFTMAXES = ("softmax", "log_softmax")
_SIGMOIDS = ("sigmoid", "logsigmoid", "log_sigmoid")
# These leave the numbers as they are.
_COPIES = ("float", "to", "clone", "contiguous", "double", "type_as", "nan_to_num")
# These may take axes away; all others keep the shape, or make one on purpose.
_SELECTS = ("__getitem__", "squeeze", "select", "mean", "sum", "amax", "amin")
_TURNS = ("t", "transpose", "permute", "__get__", "unsqueeze", "expand", "view", "reshape", "matmul", "mm", "cdist")
_TOLERANCE = 1e-4


class TracedLoss(TorchFunctionMode):
    """Watches a loss at work; a context.

    Args:
        output: that it is given.
        target: that it is given.

    Attributes:
        spread: shapes of an output and a target that were repeated along each other; None: there were none.
        softmax_axes: over which softmaxes of the output were taken.
        seen: the one loss of torch's that has computed the value of the output itself; None where there is none.
    """

    def __init__(self, output: Any, target: Any):
        super().__init__()
        self.spread: tuple[tuple[int, ...], tuple[int, ...]] | None = None
        self.softmax_axes: list[int] = []
        self.seen: CriterionProbe | None = None
        self._rank = output.ndim if isinstance(output, Tensor) else 0
        self._itself: dict[int, Tensor] = {}  # the tensors are kept, so that no other one gets their id
        self._outputs: dict[int, Tensor] = {}
        self._targets: dict[int, Tensor] = {}
        self._calls: list[tuple[Any, Any]] = []
        self._takes = ""
        self._target = target
        if isinstance(output, Tensor) and isinstance(target, Tensor):
            self._itself[id(output)] = self._outputs[id(output)] = output
            self._targets[id(target)] = target

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        value = func(*args, **(kwargs or {}))
        with suppress(Exception):  # whatever is not understood is not told of
            self._note(func, args, kwargs or {}, value)
        return value

    def takes(self) -> str:
        """Return the kind of the function that takes the output itself, as ``CriterionProbe`` has it; "" if none."""
        return self._takes

    def end(self, value: Any) -> None:
        """Compare what the loss has returned with the values of torch's losses in it."""
        if len(self._calls) != 1 or not isinstance(value, Tensor):
            return
        function, found = self._calls[0]
        same = isclose(float(found.float().mean()), float(value.float().mean()), rel_tol=_TOLERANCE, abs_tol=1e-12)
        self.seen = observe_criterion(function) if same else None

    def _note(self, func: Callable[..., Any], args: Any, kwargs: Any, value: Any) -> None:
        name = getattr(func, "__name__", "")
        tensors = [one for one in (*args, *kwargs.values()) if isinstance(one, Tensor)]
        first = args[0] if args else kwargs.get("input")
        if id(first) in self._itself:
            given = args[1] if len(args) > 1 else kwargs.get("target")
            self._note_itself(func, name, given, kwargs, value)
        if name in _SOFTMAXES and id(first) in self._outputs and first.ndim == self._rank:
            axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
            self.softmax_axes += [axis % first.ndim] if isinstance(axis, int) else []
        outputs = [one for one in tensors if id(one) in self._outputs]
        targets = [one for one in tensors if id(one) in self._targets]
        pairs = [(tuple(one.shape), tuple(other.shape)) for one in outputs for other in targets]
        kind = criterion_kind(func)
        for one, other in pairs:
            if is_spread(one, other) and isinstance(value, Tensor) and (kind or value.shape == _both(one, other)):
                self.spread = self.spread or (one, other)
        self._follow(name, value, outputs, targets)

    def _note_itself(self, func: Any, name: str, given: Any, kwargs: Any, value: Any) -> None:
        kind = criterion_kind(func)
        if kind and isinstance(value, Tensor):
            self._takes = self._takes or kind
            options = {key: option for key, option in kwargs.items() if key not in ("input", "target")}
            # What compares the output with something else, made of the target, is no loss of this target.
            if self._is_target(given):
                self._calls.append((partial(func, **options), value.detach()))
        elif name in _SOFTMAXES or name in _SIGMOIDS:
            self._takes = self._takes or ("cross_entropy" if name in _SOFTMAXES else "bce_logits")
        elif name in _COPIES:
            self._itself[id(value)] = value

    def _is_target(self, given: Any) -> bool:
        target = self._target
        if not isinstance(given, Tensor) or not isinstance(target, Tensor) or given.numel() != target.numel():
            return False
        return bool((given.reshape(-1) == target.reshape(-1)).all())

    def _follow(self, name: str, value: Any, outputs: list[Tensor], targets: list[Tensor]) -> None:
        """Take note of what is made of outputs and targets without another axis."""
        for known, group in ((self._outputs, outputs), (self._targets, targets)):
            for one in group:
                smaller = isinstance(value, Tensor) and name in _SELECTS and 0 < value.ndim < one.ndim
                same = isinstance(value, Tensor) and value.shape == one.shape and name not in _TURNS
                if smaller or same:
                    known[id(value)] = value
                    return


def is_spread(output: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether shapes fit each other only by repeating both."""
    both = _both(output, target)
    return bool(both) and prod(both) > max(prod(output), prod(target))


def _both(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape in which tensors of two shapes are compared; () where they do not fit."""
    try:
        return tuple(torch.broadcast_shapes(one, other))
    except RuntimeError:
        return ()
