"""A sink that hands every picture also to a function, as PNG."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .summaries import add_summary, image_summary

KeepPicture = Callable[[str, bytes], None]
"""Called with the tag of a picture and the picture as PNG."""


class KeptPictures:
    """Forwards everything to a sink, and the pictures to a function too.

    Args:
        sink: a ``SummaryWriter``, or what stands in for one.
        keep: gets each picture after the sink.
    """

    def __init__(self, sink: Any, keep: KeepPicture):
        self._sink, self._keep = sink, keep

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)

    def add_picture(self, tag: str, picture: np.ndarray, step: int) -> None:
        # Encoded once for both.
        summary = image_summary(tag, picture)
        add_summary(self._sink, summary, step)
        self._keep(tag, summary.value[0].image.encoded_image_string)
