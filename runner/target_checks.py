"""Wrong targets, named before a criterion sees them: on a GPU they would end the run without a word on which it was."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from assay.callbacks.errors import UsageError
from assay.callbacks.unwrapped import by_name

from .box_checks import Labels, check_boxes, detector_labels, sample_of
from .criterion_rules import Rule, find_rule, name_of
from .losses import LossTerm

_MARKS = (255, -1, -100)  # what data sets write where nothing is known


class TargetChecks:
    """Looks at the targets of a batch on the host, where the loader gave them, and reads nothing from the device.

    It looks when the forward pass is on its way, so that a GPU does not wait for it, and before the loss is computed.
    """

    def __init__(self) -> None:
        self._labels: dict[int, Labels | None] = {}
        self.drop()

    def drop(self) -> None:
        """Forget the batch."""
        self._given: Mapping[str, Any] = {}
        self._read: dict[str, np.ndarray] = {}
        self.sent = {}
        self._place = ""

    @property
    def sent(self) -> Any:
        """What the batch is on the device."""
        return self._sent

    @sent.setter
    def sent(self, batch: Any) -> None:
        self._sent = batch
        self._versions = {key: _version(batch.get(key)) for key in self._read}

    def take(self, terms: Sequence[LossTerm], given: Any, loader_key: str) -> None:
        """Remember a batch; what it is on the device is to be put into ``sent``.

        Args:
            terms: of the loss, which name the targets.
            given: by the loader.
            loader_key: opens the error.
        """
        self._place = f"loader {loader_key!r}"
        self._given = given if isinstance(given, Mapping) else {}
        targets = {term.target: self._given.get(term.target) for term in terms}
        self._read = {key: _to_numpy(one) for key, one in targets.items() if _is_on_host(one)}

    def check_boxes(self, models: Any) -> None:
        """Raise where the batch holds boxes that one of torchvision's detectors does not take, see ``check_boxes``.

        Args:
            models: one, or several by name.
        """
        if id(models) not in self._labels:
            self._labels = {id(models): detector_labels(by_name(models).values())}
        labels = self._labels[id(models)]
        if labels is not None:
            check_boxes(self._given, labels, self._place)

    def check(self, terms: Sequence[LossTerm], criterion: Any, parts: Mapping[str, Any]) -> list[bool]:
        """Raise where the target of a term is not what its criterion takes.

        Args:
            terms: of the loss; one that computes its value in a way of its own is left out.
            criterion: one, or several by name.
            parts: the batch with its outputs.

        Returns:
            For each term whether all of its targets are known to be values that count.

        Raises:
            UsageError: the form, the type or a value of the target is wrong; a value is named with its sample.
        """
        return [
            type(term).compute is LossTerm.compute and self._check(term, term.pick_criterion(criterion), parts)
            for term in terms
        ]

    def _check(self, term: LossTerm, criterion: Any, parts: Mapping[str, Any]) -> bool:
        output, target = parts.get(term.output), parts.get(term.target)
        if not isinstance(output, Tensor) or not isinstance(target, Tensor):
            return False
        rule = find_rule(criterion, output, target)
        if rule is None:
            return False
        takes = f"{name_of(criterion)} takes"
        if tuple(target.shape) != rule.shape:
            raise UsageError(self._wrong_shape(term, takes, rule, output, target))
        if target.dtype not in rule.dtypes:
            types = " or ".join(str(dtype) for dtype in rule.dtypes[:1])
            raise UsageError(f"{self._place}: {term.target!r} is {target.dtype}, and {takes} {types}: {rule.advice}.")
        host = self._as_given(term.target, target)
        if host is None:
            return False
        if _takes_all(host, rule):
            return host.size > 0 and not _ignores_within(rule) and self._is_as_sent(term.target)
        if (found := _first_outside(host, rule)) is not None:
            index, value = found
            place = f"{self._place}, {sample_of(self._given, index)}"
            raise UsageError(
                f"{place}: {term.target!r} holds {value:g}, and {takes} {rule.wanted} for {term.output!r} "
                f"{list(output.shape)}{_advice(value, rule)}."
            )
        return False

    def _as_given(self, key: str, target: Tensor) -> np.ndarray | None:
        """Return what the loader gave of a target; None where a callback has put another in its place."""
        return self._read.get(key) if target is self.sent.get(key) else None

    def _is_as_sent(self, key: str) -> bool:
        """Whether nothing has worked in place on a target: on a GPU the host would not see that."""
        version = self._versions.get(key)
        return version is not None and version == _version(self._sent[key])

    def _wrong_shape(self, term: LossTerm, takes: str, rule: Rule, output: Tensor, target: Tensor) -> str:
        got = f"{self._place}: {term.target!r} is {list(target.shape)}"
        return (
            f"{got}, and {takes} {list(rule.shape)} for {term.output!r} {list(output.shape)}{_reshaping(rule, target)}."
        )


def _to_numpy(target: Tensor) -> np.ndarray:
    array: np.ndarray = (target.float() if target.dtype == torch.bfloat16 else target).numpy()
    return array


def _version(target: Any) -> int | None:
    """Return how often a tensor was changed in place; None where that is not counted."""
    return target._version if isinstance(target, Tensor) and not target.is_inference() else None


def _is_on_host(target: Any) -> TypeGuard[Tensor]:
    return type(target) is Tensor and target.device.type == "cpu" and not target.requires_grad


def find_outside(target: np.ndarray, rule: Rule) -> tuple[int, float] | None:
    """Return the first sample of a target [N, ...] with a value that is not taken, and the value; None if all are.

    NaN is left to the guard against it.
    """
    return None if _takes_all(target, rule) else _first_outside(target, rule)


def _takes_all(target: np.ndarray, rule: Rule) -> bool:
    return not target.size or (rule.low is None and rule.high is None and not rule.ends) or _is_inside(target, rule)


def _ignores_within(rule: Rule) -> bool:
    """Whether one of the values between those that are taken is ignored."""
    if rule.ignored is None or rule.low is None or rule.high is None:
        return False
    return rule.low <= rule.ignored <= rule.high


def _first_outside(target: np.ndarray, rule: Rule) -> tuple[int, float] | None:
    for index, part in enumerate(target):
        if not _is_inside(part, rule) and not _has_only_the_ignored(part, rule):
            values = _outside(part.reshape(-1), rule)
            if len(values):
                return index, values[np.abs(values).argmax()].item()
    return None


def _is_inside(target: np.ndarray, rule: Rule) -> bool:
    """Return whether all values lie between those that are taken; one that does not may still be the ignored one."""
    if target.dtype == np.int64 and rule.low == 0 and rule.high is not None and target.flags.c_contiguous:
        return bool(target.view(np.uint64).max() <= rule.high)  # one look instead of two: negative ones are the largest
    low, high = target.min(), target.max()
    if rule.ends:
        return low in rule.ends and high in rule.ends
    return bool((rule.low is None or low >= rule.low) and (rule.high is None or high <= rule.high))


def _outside(values: np.ndarray, rule: Rule) -> np.ndarray:
    """Return those of the values [P] that are not taken."""
    if rule.ends:
        return values[~np.isin(values, rule.ends)]
    wrong = np.zeros(len(values), dtype=bool)
    if rule.low is not None:
        wrong |= values < rule.low
    if rule.high is not None:
        wrong |= values > rule.high
    return values[wrong & (values != rule.ignored)] if rule.ignored is not None else values[wrong]


def _has_only_the_ignored(target: np.ndarray, rule: Rule) -> bool:
    """Return whether nothing but the largest value, which is ignored, is outside: for masks, where that is the rule.

    As bytes less that value, class numbers are the largest ones but for what lies between them and it. This takes a
    fifth of the time of comparing every pixel.
    """
    ignored, last = rule.ignored, rule.high
    if ignored is None or last is None or target.dtype.kind not in "iu" or not last < ignored <= 255:
        return False
    if target.min() < 0 or target.max() != ignored:
        return False
    shifted = np.asarray(target).astype(np.uint8)
    shifted -= np.uint8(ignored)
    return bool(shifted.max() <= (last - ignored) % 256)


def _reshaping(rule: Rule, target: Tensor) -> str:
    """Return what makes a target of another shape one that is taken, where that is plain."""
    shape, wanted = tuple(target.shape), rule.shape
    if [side for side in shape if side != 1] == [side for side in wanted if side != 1]:
        if len(shape) == len(wanted) + 1:
            axis = next(i for i in range(len(shape)) if shape[:i] + shape[i + 1 :] == wanted)
            return f": .squeeze({axis if axis < len(shape) - 1 else -1}) takes the axis out"
        return f": .reshape({', '.join(map(str, wanted))}) gives it that shape"
    if len(shape) == len(wanted) and len(shape) > 2 and shape[:1] == wanted[:1]:
        return ": resize the masks, or the output, so that both have one size"
    if len(shape) == len(wanted) + 1 and shape[:1] + shape[2:] == wanted:
        return ": .argmax(1) makes class numbers of one-hot targets, .float() probabilities"
    return ""


def _advice(value: float, rule: Rule) -> str:
    if rule.ignored is not None and value in _MARKS:
        return f": pass ignore_index={value:g} to the criterion where it marks what does not count"
    if rule.ignored is not None and rule.high is not None and value == rule.high + 1:
        return ": classes count from 0, and those of data that count from 1 need 1 less"
    if rule.wanted.startswith("numbers from 0 to 1") and value == 255:
        return ": divide masks of 0 and 255 by 255"
    return ""
