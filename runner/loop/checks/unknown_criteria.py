"""Hints on the targets of a user's own criterion, whose rules are unknown."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from assay.callbacks.errors import UsageError
from assay.callbacks.support.host_targets import HostTargets, shown

from ...recipe.losses import LossTerm
from .criterion_rules import Rule, name_of

_log = logging.getLogger("assay")


@contextmanager
def name_suspect(
    term: LossTerm, criterion: Any, parts: Mapping[str, Any], host: HostTargets, place: str
) -> Iterator[None]:
    """Where a criterion fails, name the first sample whose target is not a class of the output.

    Args:
        term: of the loss.
        criterion: the term's own.
        parts: the batch with its outputs.
        host: the targets as the loader yields them.
        place: opens the error message.

    Raises:
        UsageError: replaces the criterion's error, and quotes it.
    """
    try:
        yield
    except (UsageError, torch.OutOfMemoryError):
        raise  # says what is wrong already, or is no fault of the targets
    except (IndexError, RuntimeError, ValueError) as error:
        output, target = parts.get(term.output), parts.get(term.target)
        if (found := _find_outside(term, output, target, host)) is None:
            raise
        sample, value, classes = found
        # On one line, as torch's errors may have several.
        quoted = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(
            f"{place}, {sample}: {term.target!r} holds {shown(value)}, the classes of {term.output!r} are 0 to "
            f"{classes - 1}, and {name_of(criterion)} raised {quoted}"
        ) from error


def _find_outside(term: LossTerm, output: Any, target: Any, host: HostTargets) -> tuple[str, float, int] | None:
    if not isinstance(output, Tensor) or not isinstance(target, Tensor) or target.is_floating_point():
        return None
    # Only where the output has one number per class for each target; anything else is not a classification.
    if output.ndim < 2 or output.shape[1] < 2 or target.numel() * output.shape[1] != output.numel():
        return None
    classes = output.shape[1]
    found = host.find(term.target, target, Rule("", (), (), 0, classes - 1))
    return None if found is None else (*found, classes)


def warn_of_broadcast(term: LossTerm, criterion: Any, output: Tensor, target: Tensor, place: str) -> bool:
    """Warn where torch would broadcast every output against every target; return whether it warned."""
    pair = tuple(output.shape), tuple(target.shape)
    if not (output.is_floating_point() and target.is_floating_point()) or _long_sides(pair[0]) != _long_sides(pair[1]):
        return False
    try:
        together = torch.broadcast_shapes(*pair)
    except RuntimeError:
        return False
    # [N, 1] and [N] hold the same numbers, and broadcast to [N, N].
    if together.numel() <= max(output.numel(), target.numel()):
        return False
    _log.warning(
        "%s: %r is %s and %r %s, which torch broadcasts to %s where a loss subtracts one from the other. Unless %s "
        "brings them to one shape, its value is wrong: use target.reshape(output.shape).",
        place, term.output, list(pair[0]), term.target, list(pair[1]), list(together), name_of(criterion),
    )  # fmt: skip
    return True


def _long_sides(shape: tuple[int, ...]) -> list[int]:
    return [side for side in shape if side != 1]
