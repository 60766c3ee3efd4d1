"""The class or labels that a target means, also a soft one: the one rule for all measures."""

from collections.abc import Sequence

import torch
from torch import Tensor

NO_CLASS = -(2**62)  # a target that means no class: outside of every range, and no ignore_index

_SUM_ROUNDING = 0.01  # of shares in half precision


@torch.no_grad()
def decide_targets(target: Tensor, output: Sequence[int], task: str, ignore_index: int | None = None) -> Tensor:
    """Return targets as whole numbers, without reading the device.

    ============================ ================== ==================================================================
    task                         target             becomes
    ============================ ================== ==================================================================
    ``multiclass``               [N, ...]           class numbers as they are; ``NO_CLASS`` of a fraction or NaN
    ``multiclass``               [N, C, ...] floats number of the largest share, the first of equals (label smoothing,
                                                    Mixup, CutMix, votes); ``NO_CLASS`` where no share is positive
    ``multiclass``               [N, C, ...] whole  number of the 1 of a one-hot target; ``NO_CLASS`` where there is
                                                    not exactly one 1 among zeros
    ``binary``, ``multilabel``   integers, bool     as they are
    ``binary``, ``multilabel``   floats             1 above 0.5, otherwise 0; ``NO_CLASS`` outside of 0 to 1
    ============================ ================== ==================================================================

    A value of ``ignore_index`` stays. A sample of ``multiclass`` with C values becomes ``ignore_index`` where all of
    them are ``ignore_index``, or none is positive.

    The task tells one class from several labels, as a one-hot target looks like labels.

    Args:
        target: the shape of the output, but for axes of length 1; for ``multiclass`` also without axis 1.
        output: the shape of the output, [N, C, ...], for ``binary`` of any shape.
        task: ``binary``, ``multiclass`` or ``multilabel``.
        ignore_index: target value that is left out.

    Returns:
        int64, [N, ...] for ``multiclass``, otherwise in the output's shape.

    Example:
        >>> shares = torch.tensor([[0.1, 0.9, 0.0], [0.7, 0.2, 0.1]])
        >>> decide_targets(shares, output=[2, 3], task="multiclass")
        tensor([1, 0])
    """
    if task != "multiclass":
        return _yes_or_no(target, ignore_index).reshape(tuple(output))
    if has_shares(target.shape, output):
        return _largest_share(target, ignore_index)
    return _class_numbers(target).reshape((*output[:1], *output[2:]))


def inside_classes(target: Tensor, classes: int, ignore_index: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return a class for each target, whether it counts, and how many are neither a class nor ``ignore_index``.

    Args:
        target: int64, of any shape.
        classes: how many there are.
        ignore_index: target value that is left out.

    Returns:
        int64 in the target's shape, any class where the target does not count; bool; and int64, [].
    """
    nearest = target.clamp(0, classes - 1)
    inside = nearest == target
    if ignore_index is None:
        return nearest, inside, (~inside).sum()
    wanted = target != ignore_index
    return nearest, inside & wanted, (wanted & ~inside).sum()


def has_shares(target: Sequence[int], output: Sequence[int]) -> bool:
    """Whether a target of one class has a value for each class."""
    return len(target) == len(output) > 1 and target[1] == output[1] > 1


def is_paired(target: Sequence[int], output: Sequence[int], task: str) -> bool:
    """Whether a target has the shape that the task asks for, see ``decide_targets``."""
    if task == "multiclass":
        return tuple(target) in (tuple(output), (*output[:1], *output[2:]))
    if task == "multilabel":
        return tuple(target) == tuple(output)
    return _sides_without_ones(target) == _sides_without_ones(output)


@torch.no_grad()
def class_of_distribution(shares: Tensor) -> Tensor:
    """Return the class of each target where no task is given: of its largest share, where the shares add up to 1.

    Args:
        shares: [N, C, ...], of any type.

    Returns:
        int64, [N, ...]; ``NO_CLASS`` where the sum is more than 0.01 from 1, so that these may be several labels.
    """
    off = (shares.float().sum(dim=1) - 1).abs() > _SUM_ROUNDING
    return torch.where(off, NO_CLASS, _largest_share(shares, None))


def _sides_without_ones(shape: Sequence[int]) -> list[int]:
    return [side for side in shape if side != 1]


def _class_numbers(target: Tensor) -> Tensor:
    # A fraction is no class number; NaN is unequal to whatever integer it becomes.
    whole = target.to(torch.int64)
    return torch.where(whole == target, whole, NO_CLASS) if target.is_floating_point() else whole


def _yes_or_no(target: Tensor, ignore_index: int | None) -> Tensor:
    if not target.is_floating_point():
        return target.to(torch.int64)
    decided = torch.where((target >= 0) & (target <= 1), (target > 0.5).to(torch.int64), NO_CLASS)
    return decided if ignore_index is None else torch.where(target == ignore_index, ignore_index, decided)


def _largest_share(shares: Tensor, ignore_index: int | None) -> Tensor:
    if shares.is_floating_point():
        largest, found = shares.max(dim=1)
        means_one = largest > 0
    else:
        is_one = shares == 1
        # argmax is not defined for bool.
        found = is_one.to(torch.uint8).argmax(dim=1)
        means_one = (is_one.sum(dim=1) == 1) & ((shares != 0).sum(dim=1) == 1)
    if ignore_index is None:
        return torch.where(means_one, found, NO_CLASS)
    # A one-hot encoding has no place for ignore_index: encoders leave all values 0 or set all of them to it.
    ignored = (shares == ignore_index).all(dim=1) | (shares <= 0).all(dim=1)
    return torch.where(ignored, ignore_index, torch.where(means_one, found, NO_CLASS))
