"""Small pictures as JPEG files in memory."""

import cv2
import numpy as np

SIDE = 128  # pixels of the longer side of a thumbnail, at most
_TINY = 64  # pixels of the longer side up to which each one counts, so that its colour is kept too


def encode(picture: np.ndarray) -> bytes:
    """Return a picture as a JPEG file.

    Args:
        picture: [H, W] or [H, W, 1], grey, or [H, W, 3], RGB; uint8.
    """
    tiny = max(picture.shape[:2]) <= _TINY
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if tiny else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    options = [cv2.IMWRITE_JPEG_QUALITY, 90 if tiny else 85, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    # Their tables would be half of the file of a tiny picture.
    options += [cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    flat = picture[..., 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture
    order = np.ascontiguousarray(flat if flat.ndim == 2 else flat[..., ::-1])
    _, found = cv2.imencode(".jpg", order, options)
    return found.tobytes()


def encode_planes(planes: np.ndarray) -> bytes:
    """Return a picture of ``measures.small_pictures``, [c, h, w], as a JPEG file; red and green have no blue."""
    if len(planes) == 2:
        planes = np.concatenate([planes, np.zeros_like(planes[:1])])
    return encode(planes.transpose(1, 2, 0))


def decode(jpeg: bytes) -> np.ndarray:
    """Return the picture of a JPEG file, [H, W, 3], uint8, RGB.

    Raises:
        ValueError: it is none.
    """
    found: np.ndarray | None = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if found is None:
        raise ValueError("no JPEG file")
    rgb: np.ndarray = np.ascontiguousarray(found[..., ::-1])
    return rgb
