"""Reading images in their order, ahead of the model, in batches of one shape."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .images import BadImageError, bad_image_errors
from .predict_inputs import Input
from .predict_outcome import Outcome
from .predict_transform import Place, Placing, transformed
from .prediction import Transform


class Ready(NamedTuple):
    """An image as the model takes it."""

    input: Input
    picture: np.ndarray  # [H, W, C] uint8, as it is in the file
    image: Tensor  # [C, h, w]
    place: Place | None  # of the picture in it, where that was asked for


def read_batches(
    inputs: Iterable[Input],
    read: Callable[..., np.ndarray],
    transform: Transform,
    *,
    batch_size: int,
    outcome: Outcome,
    placing: Placing | None = None,
) -> Iterator[tuple[list[Ready], Tensor]]:
    """Yield images and their batch, [N, C, h, w]: at most ``batch_size`` that follow each other and have one shape.

    Args:
        inputs: which images.
        read: returns one, by its path.
        transform: makes a tensor of it.
        batch_size: the most in a batch.
        outcome: is told of an image that cannot be read, which is left out.
        placing: finds where an image lies after ``transform``.
    """

    def prepare(one: Input) -> Ready | BadImageError:
        try:
            with bad_image_errors(one.path):
                picture = read(one.path)
            image = transformed(transform, picture, one.path)
            return Ready(one, picture, image, None if placing is None else placing(picture, image))
        except BadImageError as error:
            return error

    batch: list[Ready] = []
    for ready in _ahead(prepare, inputs, 2 * batch_size):
        if isinstance(ready, BadImageError):
            outcome.fail(ready)
            continue
        if batch and (len(batch) == batch_size or ready.image.shape != batch[0].image.shape):
            yield batch, torch.stack([of.image for of in batch])
            batch = []
        batch.append(ready)
    if batch:
        yield batch, torch.stack([of.image for of in batch])


def _ahead(
    prepare: Callable[[Input], Ready | BadImageError], inputs: Iterable[Input], count: int
) -> Iterator[Ready | BadImageError]:
    """Yield what a thread prepares, in order, up to ``count`` items ahead; one thread, as transforms have state."""
    waiting: deque[Future[Ready | BadImageError]] = deque()
    with ThreadPoolExecutor(1) as thread:
        try:
            for one in inputs:
                waiting.append(thread.submit(prepare, one))
                if len(waiting) > count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            thread.shutdown(cancel_futures=True)
