"""Check targets on the host before a criterion receives them, and name the wrong sample."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor

from assay.callbacks.errors import UsageError
from assay.callbacks.support.host_targets import MARKS, HostTargets, shown
from assay.callbacks.support.unwrap import by_name

from ...recipe.losses import LossTerm
from .box_checks import Labels, check_boxes, detector_labels
from .criterion_rules import Rule, find_rule, kind_of, name_of
from .unknown_criteria import name_suspect, warn_of_broadcast


class TargetChecks:
    """Checks the targets of a batch as the loader yields them, without reading the device.

    The checks run after the forward pass is queued, so that a GPU does not wait for them, and before the loss.
    """

    # On a GPU a wrong class number would end the run with a device-side assertion that names no sample.

    def __init__(self) -> None:
        self._labels: dict[int, Labels | None] = {}
        self._warned: set[str] = set()
        self.drop()

    def drop(self) -> None:
        """Forget the batch."""
        self.given: Mapping[str, Any] = {}
        self.host = HostTargets({})
        self._place = ""

    def take(self, given: Any, sent: Any, loader_key: str) -> None:
        """Remember a batch for the checks.

        Args:
            given: the batch as the loader yields it.
            sent: the batch on the device.
            loader_key: opens the error message.
        """
        self._place = f"loader {loader_key!r}"
        self.given = given if isinstance(given, Mapping) else {}
        self.host = HostTargets(self.given, sent if isinstance(sent, Mapping) else {})

    def check_boxes(self, models: Any) -> None:
        """Raise where the batch holds boxes that torchvision's detectors do not accept, see ``check_boxes``.

        Args:
            models: a model, or several by name.
        """
        # The search through the modules is kept per model: it would take longer than the check.
        if id(models) not in self._labels:
            self._labels = {id(models): detector_labels(by_name(models).values())}
        labels = self._labels[id(models)]
        if labels is not None:
            check_boxes(self.given, labels, self._place)

    def check(self, terms: Sequence[LossTerm], criterion: Any, parts: Mapping[str, Any]) -> list[bool]:
        """Raise where the target of a term is not what its criterion accepts.

        Args:
            terms: of the loss; a term that overrides ``compute`` is skipped.
            criterion: a criterion, or several by name.
            parts: the batch with its outputs.

        Returns:
            For each term whether all of its targets are known to count, none being ignored.

        Raises:
            UsageError: the shape, the type or a value of the target is wrong; a value is named with its sample.
        """
        # A term that overrides compute may take any target.
        return [
            type(term).compute is LossTerm.compute and self._check_term(term, term.pick_criterion(criterion), parts)
            for term in terms
        ]

    def known(self, terms: Sequence[LossTerm], criterion: Any, parts: Mapping[str, Any]) -> list[bool]:
        """Return for each term whether all of its targets are known to count, as ``check`` has found."""
        return [
            type(term).compute is LossTerm.compute and self._is_known(term, term.pick_criterion(criterion), parts)
            for term in terms
        ]

    def _is_known(self, term: LossTerm, criterion: Any, parts: Mapping[str, Any]) -> bool:
        output, target = parts.get(term.output), parts.get(term.target)
        if not isinstance(output, Tensor) or not isinstance(target, Tensor):
            return False
        rule = find_rule(criterion, output, target)
        return rule is not None and self.host.all_count(term.target, target, rule)

    def _check_term(self, term: LossTerm, criterion: Any, parts: Mapping[str, Any]) -> bool:
        output, target = parts.get(term.output), parts.get(term.target)
        if not isinstance(output, Tensor) or not isinstance(target, Tensor):
            self._check_type(term, criterion, output, target)
            return False
        rule = find_rule(criterion, output, target)
        if rule is None:
            if term.label not in self._warned and warn_of_broadcast(term, criterion, output, target, self._place):
                self._warned.add(term.label)
            return False
        # From cheap to dear: shape and type need no look at the values.
        takes = f"{name_of(criterion)} takes"
        if tuple(target.shape) != rule.shape:
            raise UsageError(self._shape_message(term, takes, rule, output, target))
        if target.dtype not in rule.dtypes:
            usual = rule.dtypes[0]  # what the advised call makes
            raise UsageError(f"{self._place}: {term.target!r} is {target.dtype}, and {takes} {usual}: {rule.advice}.")
        if (found := self.host.find(term.target, target, rule)) is not None:
            sample, value = found
            raise UsageError(
                f"{self._place}, {sample}: {term.target!r} holds {shown(value)}, and {takes} {rule.wanted} for "
                f"{term.output!r} {list(output.shape)}{_value_advice(value, rule)}."
            )
        # Known on the host, the count of the mean needs no read of the device.
        return self.host.all_count(term.target, target, rule)

    def _check_type(self, term: LossTerm, criterion: Any, output: Any, target: Any) -> None:
        # Only for criteria that are known to need tensors: a user's own may take lists.
        if isinstance(output, Tensor) and isinstance(target, str | list | tuple) and kind_of(criterion)[0]:
            kind = type(target).__name__
            of = f" of {type(target[0]).__name__}" if target and not isinstance(target, str) else ""
            raise UsageError(
                f"{self._place}: {term.target!r} is a {kind}{of}, and {name_of(criterion)} takes a tensor: let the "
                "data set give numbers."
            )

    def naming(self, term: LossTerm, criterion: Any, parts: Mapping[str, Any]) -> AbstractContextManager[None]:
        """Within the block, name the sample that makes a criterion fail, see ``name_suspect``."""
        own = term.pick_criterion(criterion) if type(term).compute is LossTerm.compute else term
        return name_suspect(term, own, parts, self.host, self._place)

    def _shape_message(self, term: LossTerm, takes: str, rule: Rule, output: Tensor, target: Tensor) -> str:
        advice = _reshape_advice(rule, target)
        return (
            f"{self._place}: {term.target!r} is {list(target.shape)}, and {takes} {list(rule.shape)} for "
            f"{term.output!r} {list(output.shape)}{advice}."
        )


def _reshape_advice(rule: Rule, target: Tensor) -> str:
    """Return advice how to give a target the wanted shape; "" where none is obvious."""
    shape, wanted = tuple(target.shape), rule.shape
    if [side for side in shape if side != 1] == [side for side in wanted if side != 1]:
        if len(shape) == len(wanted) + 1:
            axis = next(i for i in range(len(shape)) if shape[:i] + shape[i + 1 :] == wanted)
            return f": .squeeze({axis if axis < len(shape) - 1 else -1}) removes the axis"
        return f": .reshape({', '.join(map(str, wanted))}) gives it that shape"
    if len(shape) == len(wanted) and len(shape) > 2 and shape[:1] == wanted[:1]:
        return ": resize the masks, or the output, so that both have one size"
    if len(shape) == len(wanted) + 1 and shape[:1] + shape[2:] == wanted:
        return ": .argmax(1) makes class numbers of one-hot targets, .float() probabilities"
    return ""


def _value_advice(value: float, rule: Rule) -> str:
    if rule.ignored is not None and value in MARKS:
        return f": pass ignore_index={shown(value)} to the criterion if it marks pixels or samples to ignore"
    if rule.ignored is not None and rule.high is not None and value == rule.high + 1:
        return ": classes count from 0; subtract 1 from classes that count from 1"
    if rule.wanted.startswith("numbers from 0 to 1") and value == 255:
        return ": divide masks of 0 and 255 by 255"
    return ""
