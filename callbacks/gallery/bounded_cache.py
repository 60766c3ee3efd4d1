"""What was read of files, kept within a bound of memory."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar


class Sized(Protocol):
    """What knows its size."""

    @property
    def nbytes(self) -> int:
        """In bytes."""


Value = TypeVar("Value", bound=Sized)


@dataclass
class _Place(Generic[Value]):
    lock: threading.Lock = field(default_factory=threading.Lock)
    version: Any = None
    value: Value | None = None
    size: int = 0


class BoundedCache:
    """Keeps values by key and version. Several threads may ask for them; each value is made once.

    Args:
        most_bytes: of all values together; beyond, those that were not asked for longest are dropped. The newest one is
            kept whatever its size.
    """

    def __init__(self, most_bytes: int):
        self.most_bytes = most_bytes
        self._places: OrderedDict[Hashable, _Place[Any]] = OrderedDict()
        self._total = 0
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """The size of all values, in bytes."""
        return self._total

    def get(self, key: Hashable, version: Any, make: Callable[[], Value]) -> Value:
        """Return the value of a key; ``make`` it where there is none of that version."""
        with self._lock:
            place = self._places.setdefault(key, _Place())
            self._places.move_to_end(key)
        with place.lock:
            if place.value is None or place.version != version:
                place.value = None  # first, so that the old one and the new one are never there together
                made = make()
                place.value, place.version = made, version
                self._account(key, place, made.nbytes)
            value: Value = place.value
        return value

    def _account(self, key: Hashable, place: _Place[Any], size: int) -> None:
        with self._lock:
            if self._places.get(key) is not place:
                return  # dropped while it was made again
            self._total += size - place.size
            place.size = size
            # One without a size is being made.
            if self._total > self.most_bytes:
                self._drop_oldest(key)

    def _drop_oldest(self, newest: Hashable) -> None:
        for key in [key for key, place in self._places.items() if place.size and key != newest]:
            if self._total <= self.most_bytes:
                break
            self._total -= self._places.pop(key).size
