"""The class or labels that one sample's target means, by the rule of the measures."""

import numpy as np
import torch

from ...measures.targets import NO_CLASS, decide_targets

__all__ = ["NO_CLASS", "class_number", "class_numbers", "is_positive"]


def is_positive(target: np.ndarray) -> np.ndarray:
    """Return where a target of 0 and 1, or a soft one, means yes."""
    # Larger values, as 255 for pixels to ignore, are no yes.
    yes: np.ndarray = (target > 0.5) & (target <= 1)
    return yes


def class_numbers(target: np.ndarray, classes: int, ignore_index: int | None) -> np.ndarray:
    """Return class numbers, [H, W], of a target [H, W], [1, H, W] or, with a share of each class, [C, H, W]."""
    if target.ndim != 3 or len(target) != classes or classes == 1:
        return target.reshape(target.shape[-2:])
    # As int64, since torch cannot compute with every unsigned type of NumPy.
    shares = target if target.dtype.kind == "f" else target.astype(np.int64)
    found = decide_targets(torch.as_tensor(shares)[None], (1, *target.shape), "multiclass", ignore_index)
    return found[0].numpy()


def class_number(target: np.ndarray, classes: int, ignore_index: int | None) -> int:
    """Return the class of one sample; ``NO_CLASS`` where its target means none.

    Args:
        target: class number, or [C], a share of each class; for yes or no a number from 0 to 1.
        classes: C; 1 for yes or no.
        ignore_index: target value that does not count.
    """
    flat = target.reshape(-1)
    values = torch.as_tensor(flat if flat.dtype.kind == "f" else flat.astype(np.int64))
    if classes == 1:
        return int(decide_targets(values, (1,), "binary", ignore_index))
    if len(values) == 1:
        return int(decide_targets(values, (1, classes), "multiclass", ignore_index))
    return int(decide_targets(values[None], (1, len(values)), "multiclass", ignore_index))
