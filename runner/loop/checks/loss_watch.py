"""Warn where a criterion that is taken for a mean over samples shows that it is a mean over something else."""

import inspect
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from assay.callbacks.support.host_targets import shown

from ...recipe.loss_counts import Counted
from .criterion_rules import kind_of, name_of

_log = logging.getLogger("assay")

# Functions whose calls show that a mean is not one over samples.
_OF_CLASSES = (F.cross_entropy, F.nll_loss)
_PICKS = (torch.masked_select, Tensor.masked_select, torch.nonzero, Tensor.nonzero)
_COUNTING = "lambda target: (target != {}).sum()"
_DIVIDES = (torch.div, Tensor.div, Tensor.__truediv__, torch.true_divide, torch.divide, Tensor.divide)


class LossWatch:
    """Watches the terms that are weighted by samples, and warns once per term where that may be wrong.

    The first value of a term is traced: whether a loss of torch in it has class weights or an ``ignore_index``, whether
    a mask picks values, and whether a sum is divided by a number that does not follow from the output. From then on
    targets are inspected where they lie on the host: whether the ``ignore_index`` occurs, and, for a mean of torch's
    over all values, whether samples differ in size.

    Args:
        is_main: whether this is the main process; it alone warns of what is the same on all ranks.
    """

    def __init__(self, *, is_main: bool = True):
        self.is_main = is_main
        self._terms: dict[str, _Term] = {}

    @contextmanager
    def looking(self, counted: Counted, given: Mapping[str, Any]) -> Iterator[None]:
        """Watch a term while its value is computed.

        Args:
            counted: the term.
            given: the batch as the loader gave it.
        """
        # Subclasses know what they are a mean over: there is nothing to find.
        if type(counted) is not Counted:
            yield
            return
        term = self._terms.get(counted.term.label)
        if term is None:
            term = self._terms[counted.term.label] = _Term(counted)
            # The first call alone, as a function mode slows down every call of torch.
            with term.trace():
                yield
            if self.is_main and term.calls.why is not None:
                weighing = "lambda target: weights[target].sum()" if term.calls.weighs else _COUNTING.format(255)
                term.warn(f"{term.name} {term.calls.why}", weighing)
        else:
            yield
        term.look(given.get(counted.term.target))


class _Term:
    def __init__(self, counted: Counted):
        self.term, self.own = counted.term, counted.own
        self.name = name_of(self.term if self.own is None else self.own)
        kind, options = kind_of(self.own)
        self.is_over_values = kind is not None and options("reduction", "mean") == "mean"
        self.sizes: set[int] = set()
        self.calls = _Calls()
        self.has_warned = False

    @contextmanager
    def trace(self) -> Iterator[None]:
        # Compiled code runs without calling torch's functions, so there is nothing to see.
        if getattr(self.own, "_compiled_call_impl", None) or hasattr(self.own, "_torchdynamo_orig_callable"):
            yield
            return
        with self.calls:
            yield

    def look(self, target: Any) -> None:
        """Warn of what the targets of a batch show."""
        on_host = isinstance(target, Tensor) and target.device.type == "cpu"
        if self.has_warned or not on_host or not target.ndim or not target.numel():
            return
        # On the host alone, where the loader left the targets: looking at them on a device would make the step wait.
        for value in self.calls.ignored:
            if bool((target == value).any()):
                self.warn(f"{self.name} leaves targets of {shown(value)} out", _COUNTING.format(shown(value)))
        self.sizes.add(target.numel() // len(target))
        if self.is_over_values and len(self.sizes) > 1:
            self.warn(f"its targets have {' or '.join(map(str, sorted(self.sizes)))} values per sample", "torch.numel")

    def warn(self, why: str, example: str) -> None:
        self.has_warned = True
        _log.warning(
            "%s: each batch weighs by its samples in a step of several and in an epoch's loss; as %s, say by count=... "
            "what its mean is over, such as count=%s; count=len leaves it as it is", self.term, why, example,
        )  # fmt: skip


class _Calls(TorchFunctionMode):
    """Records calls that a mean over samples does without."""

    def __init__(self) -> None:
        super().__init__()
        self.why: str | None = None
        self.weighs = False
        self.ignored: set[float] = set()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in _OF_CLASSES:
            self._note_classes(inspect.signature(function).bind(*args, **kwargs).arguments)
        elif function in _PICKS or (function is Tensor.__getitem__ and _is_mask(args[1])):
            self.why = self.why or "picks values by a mask"
        elif function in _DIVIDES and len(args) > 1 and _is_mean(*args[:2]):
            self.why = self.why or "divides by a number of its own"
        return function(*args, **kwargs)

    def _note_classes(self, given: Mapping[str, Any]) -> None:
        if given.get("reduction", "mean") == "mean":
            self.ignored.add(given.get("ignore_index", -100))
            if given.get("weight") is not None:
                self.why, self.weighs = "has class weights", True


def _is_mask(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, Tensor) and part.dtype is torch.bool and part.ndim > 0 for part in parts)


def _is_mean(total: Any, count: Any) -> bool:
    """Whether a sum that is trained is divided by what is not, as in a mean over a mask: in Dice both are trained."""
    if not isinstance(total, Tensor) or not isinstance(count, Tensor):
        return False
    return total.numel() == count.numel() == 1 and total.requires_grad and not count.requires_grad
