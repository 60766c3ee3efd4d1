"""Rules for the targets that torch's own criteria accept; other criteria have none."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...recipe.mean_losses import NamedLoss

_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)  # see class_numbers
_SLACK = 1e-3  # rounding of probabilities in half precision


@dataclass(frozen=True)
class Rule:
    """What a target must be, for one output.

    Attributes:
        wanted: the accepted values, in words.
        dtypes: the accepted types.
        shape: the accepted shape.
        low: the smallest accepted value; None: any.
        high: the largest accepted value; None: any.
        ignored: a value that is accepted as well.
        ends: the accepted smallest and largest values; empty: anything from ``low`` to ``high``.
        advice: the call that converts a target of another type.
    """

    wanted: str
    dtypes: tuple[torch.dtype, ...]
    shape: tuple[int, ...]
    low: float | None = None
    high: float | None = None
    ignored: float | None = None
    ends: tuple[float, ...] = ()
    advice: str = ""


def find_rule(criterion: Any, output: Tensor, target: Tensor) -> Rule | None:
    """Return what a criterion accepts as the target of an output; None where that is not certain.

    Args:
        criterion: a module of ``torch.nn`` with torch's own ``forward``, a function of ``torch.nn.functional``, or a
            ``functools.partial`` of one.
        output: on any device; its values are not read.
        target: on any device; its type distinguishes class numbers from probabilities.
    """
    if isinstance(criterion, NamedLoss) and output.ndim:
        return _named_rule(criterion, output, target)
    kind, options = kind_of(criterion)
    make = None if kind is None or not output.ndim else _RULES.get(kind)
    return None if make is None else make(output, target, options)


def name_of(criterion: Any) -> str:
    """Return the name of a criterion for messages."""
    criterion = criterion.func if isinstance(criterion, partial) else criterion
    return getattr(criterion, "__name__", type(criterion).__name__)


def kind_of(criterion: Any) -> tuple[type | None, Callable[[str, Any], Any]]:
    """Return the class of ``torch.nn`` that a criterion behaves like, and a function that returns its options."""
    keywords = criterion.keywords if isinstance(criterion, partial) else {}
    function = criterion.func if isinstance(criterion, partial) else criterion
    if function in _KIND_OF_FUNCTION:
        return _KIND_OF_FUNCTION[function], lambda name, default: keywords.get(name, default)
    # A subclass follows the rule of its base, unless it overrides forward and may then accept anything.
    for kind in type(criterion).__mro__:
        if kind in _RULES and type(criterion).forward is kind.forward:  # type: ignore[attr-defined]
            return kind, lambda name, default: getattr(criterion, name, default)
    return None, lambda name, default: default


def _class_rule(output: Tensor, target: Tensor, options: Callable[[str, Any], Any]) -> Rule:
    shape = tuple(output.shape)
    numbers = shape[:1] + shape[2:] if len(shape) > 1 else ()
    classes = shape[1] if len(shape) > 1 else shape[0]
    # By torch's convention, floats in the shape of the output are class probabilities.
    if target.is_floating_point() and tuple(target.shape) == shape:
        return Rule("probabilities from 0 to 1", (target.dtype,), shape, -_SLACK, 1 + _SLACK)
    ignored = options("ignore_index", -100)
    wanted = f"class numbers from 0 to {classes - 1} or ignore_index={ignored}"
    return Rule(wanted, _INTEGERS, numbers, 0, classes - 1, ignored, advice=".long()")


# torch's multi_margin_loss takes int64 alone, and knows no ignore_index.
def _margin_rule(output: Tensor, target: Tensor, options: Callable[[str, Any], Any]) -> Rule:
    classes = output.shape[-1]
    shape = tuple(output.shape[:-1])
    return Rule(f"class numbers from 0 to {classes - 1}", (torch.int64,), shape, 0, classes - 1, advice=".long()")


def _binary_rule(output: Tensor, target: Tensor, options: Callable[[str, Any], Any]) -> Rule:
    return Rule("numbers from 0 to 1", _FLOATS, tuple(output.shape), -_SLACK, 1 + _SLACK, advice=".float()")


def _named_rule(criterion: NamedLoss, output: Tensor, target: Tensor) -> Rule:
    ignored = criterion.ignore_index
    if criterion.task == "multiclass":
        return _class_rule(output, target, lambda name, default: default if ignored is None else ignored)
    shape = tuple(output.shape)
    if output.ndim != target.ndim:  # masks of a single class have no axis of classes
        shape = (*shape, 1) if output.ndim == 1 else shape[:1] + shape[2:] if shape[1] == 1 else shape
    if target.is_floating_point():
        return Rule(f"numbers from 0 to 1{_or(ignored)}", (target.dtype,), shape, -_SLACK, 1 + _SLACK, ignored)
    return Rule(f"0 and 1{_or(ignored)}", (target.dtype,), shape, 0, 1, ignored)


def _or(ignored: int | None) -> str:
    return "" if ignored is None else f" or ignore_index={ignored}"


def _sign_rule(output: Tensor, target: Tensor, options: Callable[[str, Any], Any]) -> Rule:
    return Rule("-1 and 1", _dtype_of(target), tuple(output.shape), -1, 1, ends=(-1, 1))


# mse_loss and its like take integers; huber_loss does not, in the backward pass.
def _same_shape_rule(output: Tensor, target: Tensor, options: Callable[[str, Any], Any]) -> Rule:
    return Rule("numbers", _dtype_of(target), tuple(output.shape))


def _float_rule(output: Tensor, target: Tensor, options: Callable[[str, Any], Any]) -> Rule:
    return Rule("numbers", _FLOATS, tuple(output.shape), advice=".float()")


def _probability_rule(output: Tensor, target: Tensor, options: Callable[[str, Any], Any]) -> Rule:
    if options("log_target", False):
        return _same_shape_rule(output, target, options)
    return Rule("probabilities from 0 to 1", _dtype_of(target), tuple(output.shape), -_SLACK, 1 + _SLACK)


def _count_rule(output: Tensor, target: Tensor, options: Callable[[str, Any], Any]) -> Rule:
    return Rule("counts of at least 0", _dtype_of(target), tuple(output.shape), low=0)


def _dtype_of(target: Tensor) -> tuple[torch.dtype, ...]:
    return (target.dtype,)


_RULES: dict[type, Callable[[Tensor, Tensor, Callable[[str, Any], Any]], Rule]] = {
    nn.CrossEntropyLoss: _class_rule,
    nn.NLLLoss: _class_rule,
    nn.MultiMarginLoss: _margin_rule,
    nn.BCEWithLogitsLoss: _binary_rule,
    nn.BCELoss: _binary_rule,
    nn.MultiLabelSoftMarginLoss: _binary_rule,
    nn.SoftMarginLoss: _sign_rule,
    nn.HingeEmbeddingLoss: _sign_rule,
    nn.MSELoss: _same_shape_rule,
    nn.L1Loss: _same_shape_rule,
    nn.SmoothL1Loss: _same_shape_rule,
    nn.HuberLoss: _float_rule,
    nn.KLDivLoss: _probability_rule,
    nn.PoissonNLLLoss: _count_rule,
}
# Functions follow the rules of the modules that call them.
_KIND_OF_FUNCTION: dict[Any, type] = {
    F.cross_entropy: nn.CrossEntropyLoss,
    F.nll_loss: nn.NLLLoss,
    F.multi_margin_loss: nn.MultiMarginLoss,
    F.binary_cross_entropy_with_logits: nn.BCEWithLogitsLoss,
    F.binary_cross_entropy: nn.BCELoss,
    F.multilabel_soft_margin_loss: nn.MultiLabelSoftMarginLoss,
    F.soft_margin_loss: nn.SoftMarginLoss,
    F.hinge_embedding_loss: nn.HingeEmbeddingLoss,
    F.mse_loss: nn.MSELoss,
    F.l1_loss: nn.L1Loss,
    F.smooth_l1_loss: nn.SmoothL1Loss,
    F.huber_loss: nn.HuberLoss,
    F.kl_div: nn.KLDivLoss,
    F.poisson_nll_loss: nn.PoissonNLLLoss,
}
