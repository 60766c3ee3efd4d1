"""Thumbnails of samples as they are stored, which a thread reads beside the loop."""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from ...drawings.canvas.images import scale, to_rgb
from ...measures.small_pictures import small_shape
from .jpeg import SIDE, encode
from .stored_samples import StoredSamples
from .thumbnail_files import IMAGE, Thumbnail, ThumbnailFiles

_TRIED = 64  # samples from which it is guessed whether all fit
_FIRST_WRITTEN = 256  # thumbnails after which a file is written for the first time
_PATIENCE = 60  # seconds that the end of a run waits for samples that are not read yet


class StoredThumbnails:
    """Reads samples of a loader in a thread, once each, and writes their thumbnails.

    Args:
        samples: of the loader's data set.
        files: where thumbnails go.
        budget: bytes that they may take.
        of_all: bytes that those of all samples may take; where they seem to take more, only named samples have one.
    """

    def __init__(self, samples: StoredSamples, files: ThumbnailFiles, budget: int, of_all: int):
        self.samples, self.files, self.budget, self.of_all = samples, files, budget, of_all
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="assay-stored")
        self._asked: set[int] = set()
        self._all_fit: bool | None = None
        self._last: Future[None] | None = None
        self._until = float("inf")
        self._left = 0
        self._error: Exception | None = None

    def ask(self, epoch: int, ids: Sequence[str], named: Sequence[int]) -> None:
        """Have the thread take what is missing.

        Args:
            epoch: that has ended.
            ids: of all samples, by their numbers.
            named: numbers of those that lists name, the most important first.
        """
        if self._error is not None:
            raise self._error
        self._last = self._thread.submit(self._run, epoch, list(ids), list(dict.fromkeys(named)))

    def knows(self, ids: Sequence[str]) -> bool:
        """Return whether the data set has samples of these ids, as far as it is known without reading one."""
        return self.samples.ids() is None or all(self.samples.place(name) is not None for name in ids[:_TRIED])

    def picture(self, name: str) -> np.ndarray | None:
        """Return the small picture of a sample, [h, w, 3], uint8; None where it cannot be told."""
        try:
            image = self.samples.image(name)
            return None if image is None else small_stored(image)
        except Exception:  # noqa: BLE001 - a data set may raise anything; what cannot be read, the loader says
            return None

    def finish(self) -> int:
        """Wait for the thread, for a minute at most; return how many samples it has left out for that."""
        self._until = time.monotonic() + _PATIENCE
        self._thread.shutdown()
        if self._error is not None:
            raise self._error
        return self._left

    def close(self) -> None:
        """Have the thread stop."""
        self._until = 0.0
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _run(self, epoch: int, ids: list[str], named: list[int]) -> None:
        try:
            self._take(epoch, ids, named)
        except Exception as error:  # noqa: BLE001 - it belongs to the loop, which raises it
            self._error = error

    def _take(self, epoch: int, ids: list[str], named: list[int]) -> None:
        if not self._asked:
            self._asked = set(self.files.known().tolist())
        if len(self._asked) >= len(ids):
            return
        # By name, so that it is the same however ranks have numbered the samples.
        order = sorted(range(len(ids)), key=ids.__getitem__)
        if self._all_fit is None:
            self._all_fit = self._seem_to_fit([ids[index] for index in order])
        wanted = [*named, *order] if self._all_fit else named
        todo = [index for index in dict.fromkeys(wanted) if index not in self._asked]
        self._asked.update(todo)
        size, taken, goal = self.files.size, list[Thumbnail](), _FIRST_WRITTEN
        for place, index in enumerate(todo):
            if size > self.budget:
                break
            if time.monotonic() > self._until:
                self._left += len(todo) - place
                break
            picture = self.picture(ids[index])
            if picture is None:
                continue
            taken.append(Thumbnail(index, IMAGE, _encoded(picture)))
            size += len(taken[-1].jpeg)
            if len(taken) >= goal:
                # Ever more at once, as a file is written anew each time.
                self.files.add(epoch, taken, all_fit=self._all_fit)
                taken, goal = [], 2 * goal
        self.files.add(epoch, taken, all_fit=self._all_fit)

    def _seem_to_fit(self, names: Sequence[str]) -> bool:
        places = np.unique(np.linspace(0, len(names) - 1, min(len(names), _TRIED)).astype(int))
        pictures = [self.picture(names[place]) for place in places.tolist()]
        sizes = [len(_encoded(picture)) for picture in pictures if picture is not None]
        return not sizes or sum(sizes) / len(sizes) * len(names) <= self.of_all


def small_stored(image: np.ndarray) -> np.ndarray:
    """Return the small picture of a stored image, [H, W] or [H, W, C]: [h, w, 3], uint8."""
    planes = image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)
    return scale(to_rgb(np.ascontiguousarray(planes[:3])), small_shape(image.shape[:2], SIDE))


def _encoded(picture: np.ndarray) -> bytes:
    is_grey = np.ptp(picture, axis=2).max() == 0
    return encode(picture[..., 0] if is_grey else picture)
