"""Measure images as data sets give them: arrays, tensors or PIL images, with the channels first or last."""

from dataclasses import dataclass
from hashlib import sha1
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ...probe.loader_probe import KEPT_SIDE, SMALL

_CHANNELS = (1, 2, 3, 4)
_TAKEN_BY_OPENCV = ("uint8", "uint16", "int16", "float32", "float64")


@dataclass(frozen=True)
class Pixels:
    """An image that was measured; see ``SampleProbe`` for the fields.

    Attributes:
        planes: [C, H, W], or the array itself where it is no image of two or three dimensions.
        is_image: whether it is.
    """

    planes: NDArray[Any]
    is_image: bool
    digest: bytes
    shape: tuple[int, ...]
    dtype: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    lows: tuple[float, ...]
    highs: tuple[float, ...]
    non_finite: bool

    @property
    def low(self) -> float:
        """Return the smallest value."""
        return float(np.min(self.lows))

    @property
    def high(self) -> float:
        """Return the largest value."""
        return float(np.max(self.highs))

    def small(self) -> NDArray[np.float32] | None:
        """Return the image by areas at SMALL x SMALL."""
        return _scaled(self.planes, SMALL, SMALL).astype(np.float32) if self.is_image else None

    def kept(self) -> NDArray[Any] | None:
        """Return the image with its longer side at most KEPT_SIDE."""
        if not self.is_image:
            return None
        height, width = kept_size(self.planes.shape[1:])
        scaled = _scaled(self.planes, height, width)
        return (np.rint(scaled) if self.planes.dtype.kind in "iu" else scaled).astype(self.planes.dtype)


def as_array(value: Any) -> NDArray[Any] | None:
    """Return a tensor of the CPU, an array, a PIL image, a number or a list of numbers as an array; else None."""
    if isinstance(value, torch.Tensor):
        return None if value.device.type != "cpu" or value.is_sparse or value.is_quantized else _of_tensor(value)
    if isinstance(value, bool | int | float | np.ndarray | np.generic | Image.Image | list | tuple):
        try:
            array = np.asarray(value)
        except (ValueError, TypeError, OverflowError):  # lists of several lengths
            return None
        return array if array.dtype.kind in "buif" else None
    return None


def type_name(value: Any) -> str:
    """Return the name of the type of a value's numbers, as NumPy calls it where it knows it."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype).removeprefix("torch.")
    return str(np.asarray(value).dtype)


def digest_of(value: Any, array: NDArray[Any]) -> bytes:
    """Return a digest of numbers with their type and shape."""
    # Processors have instructions for it; it takes half the time of blake2b.
    digest = sha1(f"{type_name(value)}{array.shape}".encode(), usedforsecurity=False)
    # As bytes, since some types have no buffer that a digest takes.
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.digest()[:16]


def measure(value: Any) -> Pixels | None:
    """Return what an image measures; None where it is no array of numbers."""
    array = as_array(value)
    if array is None or array.ndim == 0 or array.size == 0:
        return None
    array = np.ascontiguousarray(array)
    planes = _planes(array, first_if_both=isinstance(value, torch.Tensor))
    is_image = planes is not None
    if planes is None:
        planes = array
    channels = planes if is_image else array.reshape(1, -1)
    mean, std, lows, highs = _statistics(channels)
    shape = planes.shape if is_image and array.ndim == 3 else array.shape
    non_finite = not np.isfinite([*lows, *highs, *mean]).all() and not bool(np.isfinite(array).all())
    digest, dtype = digest_of(value, array), type_name(value)
    return Pixels(planes, is_image, digest, shape, dtype, mean, std, lows, highs, non_finite)


def kept_size(size: tuple[int, ...]) -> tuple[int, int]:
    """Return height and width of an image whose longer side is at most KEPT_SIDE."""
    factor = min(1.0, KEPT_SIDE / max(size))
    height, width = (max(1, round(side * factor)) for side in size)
    return height, width


def nearest(mask: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Return a mask [..., H, W] at another size, of the nearest pixels."""
    if mask.shape[-2:] == size:
        return mask
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64) for new, old in zip(size, mask.shape[-2:], strict=True)
    )
    return mask[..., rows[:, None], columns]


def _of_tensor(value: torch.Tensor) -> NDArray[Any]:
    value = value.detach()
    if value.dtype in (torch.bfloat16, *_float8()):
        value = value.float()
    return value.resolve_conj().resolve_neg().numpy() if not value.is_complex() else np.abs(value.numpy())


def _float8() -> tuple[torch.dtype, ...]:
    return torch.float8_e4m3fn, torch.float8_e5m2


def _planes(array: NDArray[Any], *, first_if_both: bool) -> NDArray[Any] | None:
    if array.ndim == 2:
        return array[None]
    if array.ndim != 3:
        return None
    first, last = array.shape[0] in _CHANNELS, array.shape[2] in _CHANNELS
    if last and not (first and first_if_both):
        # The channels of satellites, 5 and more, are told from pixels by nothing but their smaller number.
        return np.ascontiguousarray(array.transpose(2, 0, 1))
    if not first and not last and not first_if_both and array.shape[2] < min(array.shape[:2]):
        return np.ascontiguousarray(array.transpose(2, 0, 1))
    return array


def _statistics(planes: NDArray[Any]) -> tuple[tuple[float, ...], ...]:
    """Return mean, deviation, smallest and largest value of each channel."""
    known = planes.dtype.name in _TAKEN_BY_OPENCV
    # OpenCV takes a tenth of NumPy's time; it knows no rows of more than 32,767 columns in some functions.
    if known and planes.ndim == 3 and max(planes.shape) < 32_000:
        of_each = [cv2.meanStdDev(np.ascontiguousarray(plane)) for plane in planes]
        mean = tuple(float(one[0].item()) for one in of_each)
        std = tuple(float(one[1].item()) for one in of_each)
        return mean, std, *_ends(planes)
    flat = planes.reshape(len(planes), -1).astype(np.float64)
    with np.errstate(all="ignore"):
        mean, std = (tuple(map(float, of(axis=1))) for of in (flat.mean, flat.std))
    return mean, std, *_ends(flat)


def _ends(planes: NDArray[Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(float(one.min()) for one in planes), tuple(float(one.max()) for one in planes)


def _scaled(planes: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    if planes.shape[1:] == (height, width):
        return planes
    taken = planes if planes.dtype.name in _TAKEN_BY_OPENCV else planes.astype(np.float32)
    by_area = [
        cv2.resize(np.ascontiguousarray(one), (width, height), interpolation=cv2.INTER_AREA) for one in _wide(taken)
    ]
    return np.stack(by_area)


def _wide(planes: NDArray[Any]) -> NDArray[Any]:
    # By areas in whole numbers would be rounded.
    return planes.astype(np.float32) if planes.dtype.kind in "iu" else planes
