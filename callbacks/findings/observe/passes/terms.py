"""The terms of the loss of one batch, as calls that can be made again with other outputs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ....support.runner_view import loss_terms
from ....support.unwrap import by_name
from ...probe.settings_probe import CriterionProbe, SettingsProbe
from ..settings.criteria import observe_criterion
from .stand_in import StandIn, criterion_callbacks

_FUNCTIONS = frozenset({
    F.cross_entropy, F.nll_loss, F.binary_cross_entropy, F.binary_cross_entropy_with_logits, F.mse_loss, F.l1_loss,
    F.smooth_l1_loss, F.huber_loss, F.kl_div, F.gaussian_nll_loss, F.poisson_nll_loss, F.multilabel_soft_margin_loss,
    F.multi_margin_loss, F.soft_margin_loss,
})  # fmt: skip

_PLACES = {0: "image", 1: "target"}  # of a tuple


@dataclass(frozen=True)
class Term:
    """One term of the loss on one batch.

    Attributes:
        label: see ``TermProbe``.
        weight: its factor in the loss.
        output: of the model, as the term takes it; None where a term computes its value in a way of its own.
        target: of the batch.
        output_key: name of the output.
        target_key: name of the target.
        call: computes the term, not weighted, of an output and a target.
        criterion: that was seen at work, of a term that nobody declares.
        grad: norm of the gradient that it alone gives the models, weighted, of such a term beside others.
    """

    label: str
    weight: float
    output: Any
    target: Any
    output_key: str
    target_key: str
    call: Callable[[Any, Any], Any]
    criterion: CriterionProbe | None = None
    grad: float | None = None

    def value(self) -> Any:
        """Return the term on the model's own output."""
        return self.call(self.output, self.target)


def declared_terms(stand: StandIn, parts: Mapping[str, Any]) -> list[Term]:
    """Return the terms that a runner declares, of a batch with its outputs."""
    return [_declared(term, stand.criterion, parts) for term in loss_terms(stand.real) or ()]


def _declared(term: Any, criterion: Any, parts: Mapping[str, Any]) -> Term:
    # A term with a way of its own may take any part of the batch.
    stock = "compute" not in vars(type(term)) or type(term).__name__ == "LossTerm"
    output = parts.get(term.output) if stock else None

    def call(output: Any, target: Any) -> Any:
        return term.compute(criterion, {**parts, term.output: output, term.target: target} if stock else parts)

    target = parts.get(term.target) if stock else None
    return Term(term.label, float(term.weight), output, target, term.output, term.target, call)


def supervised_terms(stand: StandIn, parts: Mapping[str, Any], settings: SettingsProbe) -> list[Term]:
    """Return the terms that Catalyst's callbacks compute, of a batch with its outputs."""
    weights = {term.label: term.weight for term in settings.terms}
    found = []
    for one in criterion_callbacks(stand.real):
        label = one.metric.metric_name
        plain = isinstance(one.input_key, str) and isinstance(one.target_key, str)
        if plain and (label in weights or not weights):
            own = by_name(stand.criterion).get(one.criterion_key or "")
            output, target = parts.get(one.input_key), parts.get(one.target_key)
            if own is not None:
                weight = weights.get(label, 1.0)
                found.append(Term(label, weight, output, target, one.input_key, one.target_key, own))
    return found


@dataclass
class LossCall:
    """One call of a loss: the function or criterion, its arguments, named ones, and what it returned.

    ``factor`` is that in the loss of which a backward pass was asked, None where it takes no part in one; ``grad`` the
    norm of the gradient that it alone gives the models, where several calls are in one loss.
    """

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    value: Tensor
    factor: float | None = None
    grad: float | None = None


class LossCalls(TorchFunctionMode):
    """Records the losses that a ``handle_batch`` of a user's own computes, by criteria or torch's functions.

    Args:
        stand: whose criterion is listened to.

    Attributes:
        calls: in order.
    """

    def __init__(self, stand: StandIn):
        super().__init__()
        self.stand = stand
        self.calls: list[LossCall] = []
        self._depth = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen while the context is open."""
        criteria = by_name(self.stand.criterion)
        with ExitStack() as stack:
            for one in [*self.stand.models.values(), *criteria.values()]:
                if isinstance(one, nn.Module):
                    stack.callback(one.register_forward_pre_hook(self._enter).remove)
                    keep = any(one is other for other in criteria.values())
                    hook = self._leave_criterion if keep else self._leave
                    handle = one.register_forward_hook(hook, with_kwargs=True, always_call=True)
                    stack.callback(handle.remove)
            self._wrap(criteria)
            stack.enter_context(self)
            yield

    def _wrap(self, criteria: Mapping[str, Any]) -> None:
        wrapped = {key: one if isinstance(one, nn.Module) else self._recorded(one) for key, one in criteria.items()}
        if wrapped:
            self.stand.runner.criterion = wrapped.get("", wrapped)

    def _recorded(self, function: Any) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._depth += 1
            value = function(*args, **kwargs)
            self._depth -= 1
            self._record(function, args, kwargs, value)
            return value

        return call

    def _enter(self, *_: Any) -> None:
        self._depth += 1

    def _leave(self, *_: Any) -> None:
        self._depth -= 1

    def _leave_criterion(self, module: nn.Module, args: Any, kwargs: Any, value: Any) -> None:
        self._depth -= 1
        self._record(module, args, kwargs, value)

    def _record(self, function: Any, args: Any, kwargs: Any, value: Any) -> None:
        named = dict(kwargs)
        given = [*args, *(named.pop(name) for name in ("input", "target") if name in named)]
        if self._depth == 0 and isinstance(value, Tensor) and len(given) >= 2:
            self.calls.append(LossCall(function, tuple(given), named, value))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.backward and args:
            with suppress(Exception):  # the backward pass itself says what is wrong
                self.weigh(args[0])
        value = func(*args, **(kwargs or {}))
        if func in _FUNCTIONS:
            self._record(func, args, kwargs or {}, value)
        return value

    def weigh(self, loss: Tensor) -> None:
        """Find out the part of each call in a loss, before its backward pass frees what it needs."""
        parts = []
        for call in self.calls:
            if call.factor is None and call.value.requires_grad:
                (grad,) = torch.autograd.grad(loss, call.value, retain_graph=True, allow_unused=True)
                parts += [(call, grad)] if grad is not None else []
        for call, grad in parts:
            call.factor = float(grad.sum())
            call.grad = self._norm(call.value, grad) if len(parts) > 1 else None

    def _norm(self, value: Tensor, grad: Tensor) -> float:
        models = self.stand.models.values()
        held = [one for model in models for one in model.parameters() if one.requires_grad]
        found = torch.autograd.grad(value, held, grad, retain_graph=True, allow_unused=True)
        squares = [one.detach().float().square().sum() for one in found if one is not None]
        return float(torch.stack(squares).sum().sqrt()) if squares else 0.0

    def terms(self, outputs: Mapping[str, Any], batch: Any) -> list[Term]:
        """Return the calls as terms."""
        found: dict[str, Term] = {}
        for call in self.calls:
            name = getattr(call.function, "__name__", type(call.function).__name__)
            key = _name_of(call.args[0], outputs)
            label = "loss" if len(self.calls) == 1 else name if key is None else f"loss_{key}"
            key = key or f"input of {name}"
            while label in found:
                label += "_"
            found[label] = Term(
                label, 1.0 if call.factor is None else call.factor, call.args[0], call.args[1], key,
                _target_name(call.args[1], batch) or f"target of {name}",
                _again(call.function, call.args[2:], call.kwargs), _criterion(call), call.grad,
            )  # fmt: skip
        return [*found.values()]


def _criterion(call: LossCall) -> CriterionProbe:
    return observe_criterion(partial(call.function, **call.kwargs) if call.kwargs else call.function)


def _again(function: Any, rest: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[Any, Any], Any]:
    return lambda output, target: function(output, target, *rest, **kwargs)


def _name_of(part: Any, named: Mapping[str, Any]) -> str | None:
    """Return by which name a tensor, or one of the same numbers, stands."""
    for name, value in named.items():
        if isinstance(value, Tensor) and isinstance(part, Tensor) and value.data_ptr() == part.data_ptr():
            return str(name)
    return None


def _target_name(target: Any, batch: Any) -> str | None:
    """Return by which name a target, or one of the same numbers, stands in a batch; of a tuple, see ``Keys``."""
    if isinstance(batch, Tensor) or not isinstance(target, Tensor):
        return None
    named = {_PLACES.get(place, f"[{place}]"): one for place, one in enumerate(batch)}
    parts = batch.items() if isinstance(batch, Mapping) else named.items()
    return next((str(name) for name, one in parts if isinstance(one, Tensor) and _is_alike(target, one)), None)


def _is_alike(one: Tensor, other: Tensor) -> bool:
    return one.numel() == other.numel() and bool((one.detach().reshape(-1) == other.detach().reshape(-1)).all())
