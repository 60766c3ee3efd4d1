"""Convert a picture from any callback, in any usual layout, to 8-bit RGB."""

from typing import Any

import numpy as np
from torch import Tensor

from assay.callbacks.errors import UsageError


def as_rgb(image: Any) -> np.ndarray:
    """Return a picture as a copy, [H, W, 3] uint8.

    Args:
        image: [H, W], [H, W, 1], [H, W, 3] or [H, W, 4], whose last channel is opacity over white; uint8 or floating
            point from 0 to 1; an array or a tensor.

    Raises:
        UsageError: it is none of these.
    """
    # NumPy has no bfloat16, hence float() before numpy().
    array = image.detach().float().cpu().numpy() if isinstance(image, Tensor) and image.is_floating_point() else image
    array = np.asarray(array)
    array = array[..., None] if array.ndim == 2 else array
    is_float = array.dtype.kind == "f"
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or not (is_float or array.dtype == np.uint8):
        raise UsageError(
            "log_image takes a picture [H, W], [H, W, 1], [H, W, 3] or [H, W, 4], uint8 or floating point from 0 to 1, "
            f"got {list(np.shape(image))} of {array.dtype}."
        )
    # NaN is shown as black rather than as a random byte.
    shares = np.nan_to_num(array.astype(np.float64)).clip(0, 1) if is_float else array / 255.0
    if shares.shape[2] == 4:
        opacity = shares[..., 3:]
        shares = shares[..., :3] * opacity + (1 - opacity)
    return np.broadcast_to(np.rint(shares * 255).astype(np.uint8), (*shares.shape[:2], 3)).copy()
