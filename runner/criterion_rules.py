"""What targets the criteria of torch take: those of which it is certain, and nothing about others."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)  # see class_numbers
_SLACK = 1e-3  # of probabilities in half precision


@dataclass(frozen=True)
class Rule:
    """What a target must be, for one output.

    Attributes:
        wanted: in words, what values are taken.
        dtypes: that are taken.
        shape: that is taken.
        low: smallest value that is taken; None: any.
        high: largest value that is taken; None: any.
        ignored: a value that is taken too.
        ends: what the smallest and the largest value may be; empty: anything from ``low`` to ``high``.
        advice: what makes a target of another type one of these.
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
    """Return what a criterion takes for targets of an output; None where that is not certain.

    Args:
        criterion: a module of ``torch.nn`` whose ``forward`` is torch's own, one of ``torch.nn.functional``, or a
            ``functools.partial`` of one.
        output: of any device; its values are not looked at.
        target: likewise; class numbers and probabilities are told apart by its type.
    """
    kind, options = kind_of(criterion)
    make = None if kind is None or not output.ndim else _RULES.get(kind)
    return None if make is None else make(output, target, options)


def name_of(criterion: Any) -> str:
    """Return what a criterion is called."""
    criterion = criterion.func if isinstance(criterion, partial) else criterion
    return getattr(criterion, "__name__", type(criterion).__name__)


def kind_of(criterion: Any) -> tuple[type | None, Callable[[str, Any], Any]]:
    """Return the class of ``torch.nn`` that a criterion is like, and a function that gives its options."""
    keywords = criterion.keywords if isinstance(criterion, partial) else {}
    function = criterion.func if isinstance(criterion, partial) else criterion
    if function in _OF_FUNCTIONS:
        return _OF_FUNCTIONS[function], lambda name, default: keywords.get(name, default)
    for kind in type(criterion).__mro__:
        if kind in _RULES and type(criterion).forward is kind.forward:  # type: ignore[attr-defined]
            return kind, lambda name, default: getattr(criterion, name, default)
    return None, lambda name, default: default


def _classes(output: Tensor, target: Tensor, options: Callable[[str, Any], Any]) -> Rule:
    shape = tuple(output.shape)
    numbers = shape[:1] + shape[2:] if len(shape) > 1 else ()
    classes = shape[1] if len(shape) > 1 else shape[0]
    if target.is_floating_point() and tuple(target.shape) == shape:
        return Rule("probabilities from 0 to 1", (target.dtype,), shape, -_SLACK, 1 + _SLACK)
    ignored = options("ignore_index", -100)
    wanted = f"class numbers from 0 to {classes - 1} or ignore_index={ignored}"
    return Rule(wanted, _INTEGERS, numbers, 0, classes - 1, ignored, advice=".long()")


def _margin_classes(output: Tensor, target: Tensor, options: Callable[[str, Any], Any]) -> Rule:
    classes = output.shape[-1]
    shape = tuple(output.shape[:-1])
    return Rule(f"class numbers from 0 to {classes - 1}", (torch.int64,), shape, 0, classes - 1, advice=".long()")


def _yes_or_no(output: Tensor, target: Tensor, options: Callable[[str, Any], Any]) -> Rule:
    return Rule("numbers from 0 to 1", _FLOATS, tuple(output.shape), -_SLACK, 1 + _SLACK, advice=".float()")


def _either_side(output: Tensor, target: Tensor, options: Callable[[str, Any], Any]) -> Rule:
    return Rule("-1 and 1", _any(target), tuple(output.shape), -1, 1, ends=(-1, 1))


def _alike(output: Tensor, target: Tensor, options: Callable[[str, Any], Any]) -> Rule:
    return Rule("numbers", _any(target), tuple(output.shape))


def _alike_float(output: Tensor, target: Tensor, options: Callable[[str, Any], Any]) -> Rule:
    return Rule("numbers", _FLOATS, tuple(output.shape), advice=".float()")


def _chances(output: Tensor, target: Tensor, options: Callable[[str, Any], Any]) -> Rule:
    if options("log_target", False):
        return _alike(output, target, options)
    return Rule("probabilities from 0 to 1", _any(target), tuple(output.shape), -_SLACK, 1 + _SLACK)


def _counts(output: Tensor, target: Tensor, options: Callable[[str, Any], Any]) -> Rule:
    return Rule("counts of at least 0", _any(target), tuple(output.shape), low=0)


def _any(target: Tensor) -> tuple[torch.dtype, ...]:
    return (target.dtype,)


_RULES: dict[type, Callable[[Tensor, Tensor, Callable[[str, Any], Any]], Rule]] = {
    nn.CrossEntropyLoss: _classes,
    nn.NLLLoss: _classes,
    nn.MultiMarginLoss: _margin_classes,
    nn.BCEWithLogitsLoss: _yes_or_no,
    nn.BCELoss: _yes_or_no,
    nn.MultiLabelSoftMarginLoss: _yes_or_no,
    nn.SoftMarginLoss: _either_side,
    nn.HingeEmbeddingLoss: _either_side,
    nn.MSELoss: _alike,
    nn.L1Loss: _alike,
    nn.SmoothL1Loss: _alike,
    nn.HuberLoss: _alike_float,
    nn.KLDivLoss: _chances,
    nn.PoissonNLLLoss: _counts,
}
_OF_FUNCTIONS: dict[Any, type] = {
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
