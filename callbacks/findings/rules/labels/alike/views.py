"""Images as short vectors, in which images of a class may be near each other."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_GRAINED, _COARSE = 16, 4  # sides: of shapes, of colours
_WAVES = 10  # lowest frequencies of the spectrum, which hold most of what survives a shift


def views(images: Sequence[Floats]) -> dict[str, Floats]:
    """Return each view of small images [C, S, S] of one shape, as [n, D].

    Shapes ignore brightness and contrast, colours ignore detail, and the spectrum ignores where things are, so that
    images that are augmented by shifts and flips have a view that tells something.
    """
    stack = np.nan_to_num(np.stack(images).astype(np.float32))
    return {
        "shapes": _even(_pooled(stack, _GRAINED).reshape(len(stack), -1)),
        "colours": _scaled(_pooled(stack, _COARSE).reshape(len(stack), -1)),
        "spectrum": _even(_spectrum(stack.mean(1))),
    }


def _pooled(stack: Floats, side: int) -> Floats:
    count, channels, height, width = stack.shape
    pooled: Floats = stack.reshape(count, channels, side, height // side, side, width // side).mean((3, 5))
    return pooled


def _even(vectors: Floats) -> Floats:
    centred = vectors - vectors.mean(1, keepdims=True)
    unit: Floats = centred / (np.linalg.norm(centred, axis=1, keepdims=True) + 1e-6)
    return unit


def _scaled(vectors: Floats) -> Floats:
    scaled: Floats = (vectors - vectors.mean(0)) / (vectors.std(0) + 1e-6)
    return scaled


def _spectrum(grey: Floats) -> Floats:
    waves = np.abs(np.fft.rfft2(grey - grey.mean((1, 2), keepdims=True)))
    low = np.concatenate([waves[:, :_WAVES, :_WAVES], waves[:, -_WAVES + 1 :, :_WAVES]], axis=1)
    # Amplitudes fall with frequency: their logarithm lets the fine ones count.
    logarithms: Floats = np.log1p(low.reshape(len(grey), -1)).astype(np.float32)
    return logarithms
