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


class BoundedCache:
    """Keeps values by key and version. Several threads may ask for them; each value is made once.

    Args:
        most_bytes: of all values together; beyond, those that were not asked for longest are dropped. The newest one is
            kept whatever its size.
    """

    def __init__(self, most_bytes: int):
        self.most_bytes = most_bytes
        self._places: OrderedDict[Hashable, _Place[Any]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """The size of all values, in bytes."""
        with self._lock:
            return sum(place.value.nbytes for place in self._places.values() if place.value is not None)

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
                self._shrink(key)
            value: Value = place.value
        return value

    def _shrink(self, newest: Hashable) -> None:
        with self._lock:
            # One without a value is being made.
            sizes = {key: place.value.nbytes for key, place in self._places.items() if place.value is not None}
            total = sum(sizes.values())
            for key, size in sizes.items():
                if key != newest and total > self.most_bytes:
                    del self._places[key]
                    total -= size
