"""Wrong targets, named before a criterion sees them: on a GPU they would end the run without a word on which it was."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor

from assay.callbacks.errors import UsageError
from assay.callbacks.host_targets import MARKS, HostTargets, shown
from assay.callbacks.unwrapped import by_name

from .box_checks import Labels, check_boxes, detector_labels
from .criterion_rules import Rule, find_rule, kind_of, name_of
from .losses import LossTerm
from .unknown_criteria import suspect_named, warn_of_broadcast


class TargetChecks:
    """Looks at the targets of a batch on the host, where the loader gave them, and reads nothing from the device.

    It looks when the forward pass is on its way, so that a GPU does not wait for it, and before the loss is computed.
    """

    def __init__(self) -> None:
        self._labels: dict[int, Labels | None] = {}
        self._said: set[str] = set()
        self.drop()

    def drop(self) -> None:
        """Forget the batch."""
        self.given: Mapping[str, Any] = {}
        self.host = HostTargets({})
        self._place = ""

    def take(self, given: Any, sent: Any, loader_key: str) -> None:
        """Remember a batch.

        Args:
            given: by the loader.
            sent: what it is on the device.
            loader_key: opens the error.
        """
        self._place = f"loader {loader_key!r}"
        self.given = given if isinstance(given, Mapping) else {}
        self.host = HostTargets(self.given, sent if isinstance(sent, Mapping) else {})

    def check_boxes(self, models: Any) -> None:
        """Raise where the batch holds boxes that one of torchvision's detectors does not take, see ``check_boxes``.

        Args:
            models: one, or several by name.
        """
        if id(models) not in self._labels:
            self._labels = {id(models): detector_labels(by_name(models).values())}
        labels = self._labels[id(models)]
        if labels is not None:
            check_boxes(self.given, labels, self._place)

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
            self._check_kind(term, criterion, output, target)
            return False
        rule = find_rule(criterion, output, target)
        if rule is None:
            if term.label not in self._said and warn_of_broadcast(term, criterion, output, target, self._place):
                self._said.add(term.label)
            return False
        takes = f"{name_of(criterion)} takes"
        if tuple(target.shape) != rule.shape:
            raise UsageError(self._wrong_shape(term, takes, rule, output, target))
        if target.dtype not in rule.dtypes:
            types = " or ".join(str(dtype) for dtype in rule.dtypes[:1])
            raise UsageError(f"{self._place}: {term.target!r} is {target.dtype}, and {takes} {types}: {rule.advice}.")
        if (found := self.host.find(term.target, target, rule)) is not None:
            sample, value = found
            raise UsageError(
                f"{self._place}, {sample}: {term.target!r} holds {shown(value)}, and {takes} {rule.wanted} for "
                f"{term.output!r} {list(output.shape)}{_advice(value, rule)}."
            )
        return self.host.all_count(term.target, target, rule)

    def _check_kind(self, term: LossTerm, criterion: Any, output: Any, target: Any) -> None:
        if isinstance(output, Tensor) and isinstance(target, str | list | tuple) and kind_of(criterion)[0]:
            kind = type(target).__name__
            of = f" of {type(target[0]).__name__}" if target and not isinstance(target, str) else ""
            raise UsageError(
                f"{self._place}: {term.target!r} is a {kind}{of}, and {name_of(criterion)} takes a tensor: let the "
                "data set give numbers."
            )

    def naming(self, term: LossTerm, criterion: Any, parts: Mapping[str, Any]) -> AbstractContextManager[None]:
        """Name within it the sample that makes a criterion fail, see ``suspect_named``."""
        own = term.pick_criterion(criterion) if type(term).compute is LossTerm.compute else term
        return suspect_named(term, own, parts, self.host, self._place)

    def _wrong_shape(self, term: LossTerm, takes: str, rule: Rule, output: Tensor, target: Tensor) -> str:
        got = f"{self._place}: {term.target!r} is {list(target.shape)}"
        return (
            f"{got}, and {takes} {list(rule.shape)} for {term.output!r} {list(output.shape)}{_reshaping(rule, target)}."
        )


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
    if rule.ignored is not None and value in MARKS:
        return f": pass ignore_index={shown(value)} to the criterion where it marks what does not count"
    if rule.ignored is not None and rule.high is not None and value == rule.high + 1:
        return ": classes count from 0, and those of data that count from 1 need 1 less"
    if rule.wanted.startswith("numbers from 0 to 1") and value == 255:
        return ": divide masks of 0 and 255 by 255"
    return ""
