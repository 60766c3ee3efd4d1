"""Summaries in TensorBoard's own format, for what a ``SummaryWriter`` cannot write or writes slowly."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tensorboard.compat.proto.summary_pb2 import Summary

from ..errors import UsageError

# TensorBoard's own encoder takes ten times as long: the best compression is not worth the loop's time.
_FAST = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT]
if hasattr(cv2, "IMWRITE_PNG_FILTER"):  # from OpenCV 4.12 on
    # One filter for all rows, of the kind that suits frames and enlarged pixels: trying each takes twice as long.
    _FAST += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]


def add_summary(sink: Any, summary: Summary, step: int | None = None) -> None:
    """Write a summary to a sink that has ``add_summary``, or to torch's ``SummaryWriter``, which hides it."""
    add = getattr(sink, "add_summary", None) or sink._get_file_writer().add_summary
    add(summary, step)


def add_picture(sink: Any, tag: str, picture: np.ndarray, step: int) -> None:
    """Write a picture, [H, W, 3] uint8 RGB, to a sink."""
    # The sinks of trackers take the pixels; a ``SummaryWriter`` takes the encoded picture.
    add = getattr(sink, "add_picture", None)
    if add is None:
        add_summary(sink, image_summary(tag, picture), step)
    else:
        add(tag, picture, step)


def event_folder(sink: Any) -> Path:
    """Return the event folder that a ``SummaryWriter``, torch's or tensorboardX's, writes to."""
    return Path(sink._get_file_writer().get_logdir())


def image_summary(tag: str, picture: np.ndarray) -> Summary:
    """Return a summary that holds a picture.

    Args:
        tag: its tag.
        picture: [H, W, 3], uint8, RGB.

    Raises:
        UsageError: the picture is of another shape or type.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise UsageError(f"picture must be [H, W, 3] uint8, got {picture.shape} {picture.dtype} for tag {tag!r}.")
    height, width = picture.shape[:2]
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encode_png(picture))
    return Summary(value=[Summary.Value(tag=tag, image=image)])


def encode_png(picture: np.ndarray) -> bytes:
    """Return an RGB picture as PNG, with fast compression."""
    _, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), _FAST)
    encoded: bytes = data.tobytes()
    return encoded
