"""Read and transform images in a background thread, and batch those of one shape."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..data.files.image_errors import BadImageError, bad_image_errors
from ..experiment.prediction_spec import Transform
from .inputs import Input
from .outcome import Outcome
from .transform import Place, Placing, apply_transform


class Ready(NamedTuple):
    """An image that is ready for the model."""

    input: Input
    picture: np.ndarray  # [H, W, C] uint8, as read from the file
    image: Tensor  # [C, h, w], transformed
    place: Place | None  # where the picture lies in the image, if requested


def read_batches(
    inputs: Iterable[Input],
    read: Callable[..., np.ndarray],
    transform: Transform,
    *,
    batch_size: int,
    outcome: Outcome,
    placing: Placing | None = None,
) -> Iterator[tuple[list[Ready], Tensor]]:
    """Yield images with their batch, [N, C, h, w]: consecutive images of one shape, at most ``batch_size``.

    Args:
        inputs: the images to read.
        read: reads a file.
        transform: converts a picture to a tensor.
        batch_size: the largest size of a batch.
        outcome: takes note of images that cannot be read; they are left out.
        placing: finds where an image lies after ``transform``.
    """

    def prepare(one: Input) -> Ready | BadImageError:
        try:
            # Errors travel as results: an exception in the thread would end all images after it.
            with bad_image_errors(one.path):
                picture = read(one.path)
            image = apply_transform(transform, picture, one.path)
            return Ready(one, picture, image, None if placing is None else placing(picture, image))
        except BadImageError as error:
            return error

    batch: list[Ready] = []
    for ready in _prepare_ahead(prepare, inputs, 2 * batch_size):  # one batch is read while the model has another
        if isinstance(ready, BadImageError):
            outcome.fail(ready)
            continue
        if batch and (len(batch) == batch_size or ready.image.shape != batch[0].image.shape):
            yield batch, torch.stack([of.image for of in batch])
            batch = []
        batch.append(ready)
    if batch:
        yield batch, torch.stack([of.image for of in batch])


def _prepare_ahead(
    prepare: Callable[[Input], Ready | BadImageError], inputs: Iterable[Input], count: int
) -> Iterator[Ready | BadImageError]:
    """Yield prepared items in order, while a thread works up to ``count`` items ahead."""
    # A single thread, because transforms have state. Not of ``ThreadPool``: there a result never arrives if the thread
    # raises something that is not an ``Exception``, such as SystemExit, and this one would wait for it for ever.
    thread = ThreadPoolExecutor(1)
    waiting: deque[Iterator[Ready | BadImageError]] = deque()
    try:
        for one in inputs:
            waiting.append(thread.map(prepare, [one]))
            if len(waiting) > count:
                yield next(waiting.popleft())
        while waiting:
            yield next(waiting.popleft())
    finally:
        # Where the consumer stops early, nothing more is read.
        thread.shutdown(cancel_futures=True)
