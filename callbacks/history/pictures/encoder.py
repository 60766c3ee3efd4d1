"""A thread that makes JPEG files of the pictures of a loader, beside the loop."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Condition
from typing import Any, NamedTuple

from torch import Tensor

from ...support.checkpoint_values import stored_as
from ...support.host_copy import HostCopy
from .jpeg import encode_planes

_MOST_WAITING = 8 * 2**20  # bytes of pictures in memory that are not encoded yet


class Encoded(NamedTuple):
    """A small picture of a sample.

    Attributes:
        name: id of the sample, as text.
        kind: see ``Thumbnail``.
        jpeg: a JPEG file.
    """

    name: str
    kind: str
    jpeg: bytes


@stored_as("ThumbnailEncoder")
class Encoder:
    """Encodes small pictures in a thread of its own; whoever is faster than it waits.

    Args:
        most: bytes of JPEG files; with more of them all are dropped.
    """

    def __init__(self, most: int):
        self.most = most
        self.size = 0
        self.is_over = False  # whether there were more bytes than that
        self._found: list[Encoded] = []
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="assay-thumbnails")
        self._room = Condition()
        self._waiting = 0
        self._last: Future[None] | None = None
        self._error: Exception | None = None

    def add(self, names: Sequence[Any] | HostCopy, pictures: Sequence[HostCopy], kind: str, size: int) -> None:
        """Encode the pictures of some samples.

        Args:
            names: their ids.
            pictures: of ``measures.small_pictures``: one copy for all, or one [1, c, h, w] for each.
            kind: see ``Thumbnail``.
            size: bytes of all of them.
        """
        self.call(lambda: self._encode(names, pictures, kind), size)

    def call(self, work: Callable[[], None], size: int) -> None:
        """Call a function in the thread, which keeps so many bytes in memory until then."""
        with self._room:
            self._room.wait_for(lambda: not self._waiting or self._waiting + size <= _MOST_WAITING)
            self._waiting += size
        self._last = self._thread.submit(self._run, work, size)

    def put(self, name: str, kind: str, jpeg: bytes) -> None:
        """Keep a JPEG file; called in the thread."""
        self.size += len(jpeg)
        if self.size > self.most:
            self.is_over = True
            self._found.clear()
        if not self.is_over:
            self._found.append(Encoded(name, kind, jpeg))

    def finish(self) -> list[Encoded]:
        """Wait for the thread, and return what it has made: nothing if it ``is_over``."""
        self._thread.shutdown()
        if self._error is not None:
            raise self._error
        return [Encoded(*one) for one in self._found]

    def __getstate__(self) -> dict[str, Any]:
        # A checkpoint within the loader holds what has been taken of it so far.
        if self._last is not None:
            self._last.result()
        return {"size": self.size, "is_over": self.is_over, "_found": [tuple(one) for one in self._found]}

    def close(self) -> None:
        """Drop what was not encoded yet."""
        self.is_over = True
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _run(self, work: Callable[[], None], size: int) -> None:
        try:
            if not self.is_over and self._error is None:
                work()
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for the thread
            self._error = error
        finally:
            with self._room:
                self._waiting -= size
                self._room.notify_all()

    def _encode(self, names: Sequence[Any] | HostCopy, pictures: Sequence[HostCopy], kind: str) -> None:
        ids = names.read().reshape(-1).tolist() if isinstance(names, HostCopy) else list(names)
        planes = [picture for part in pictures for picture in part.read().numpy()]
        for name, picture in zip(ids, planes, strict=True):
            if self.is_over:
                return
            self.put(str(name), kind, encode_planes(picture))


def host_names(ids: Any) -> Sequence[Any] | HostCopy:
    """Return the ids of a batch as they are, or of a tensor a copy that is read later."""
    return HostCopy(ids) if isinstance(ids, Tensor) else list(ids)
