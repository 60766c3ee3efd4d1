"""Targets looked at on the host, where the loader gave them: a wrong value is named, and no device is read."""

from collections.abc import Mapping
from typing import Any, Protocol, TypeGuard

import numpy as np
import torch
from torch import Tensor

from ..keys import SAMPLE_ID_KEY

MARKS = (255, -1, -100)  # what data sets write where nothing is known


class Taken(Protocol):
    """Which values of a target are taken: from ``low`` to ``high`` (None: any), ``ignored``, or only the ``ends``."""

    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...
    @property
    def ignored(self) -> float | None: ...
    @property
    def ends(self) -> tuple[float, ...]: ...


class HostTargets:
    """The targets of a batch where they lie on the host, each looked at once for the same values.

    Args:
        given: the batch as the loader gave it.
        sent: what it is on the device, where a ``DictRunner`` has sent it; None: it is ``given`` itself.
    """

    def __init__(self, given: Mapping[str, Any], sent: Mapping[str, Any] | None = None):
        self.given = given
        self._sent = given if sent is None else sent
        # torch counts in-place changes of a tensor: a target that was written to no longer is the loader's.
        self._versions = {key: _version(part) for key, part in self._sent.items()}
        self._inside: set[tuple[Any, ...]] = set()  # what all values of a target were found to be among

    def arrays(self, key: str) -> Any:
        """Return a part of the batch as the loader gave it, with arrays for its tensors; None for those on a device."""
        return _arrays(self.given.get(key))

    def find(self, key: str, target: Any, taken: Taken) -> tuple[str, float] | None:
        """Return how the first sample with a value that is not taken is named, and the value.

        None where all are taken, and where a callback has put another target in the place of the loader's.

        Args:
            key: of the target in the batch.
            target: as it is now, on any device.
            taken: see ``Taken``; NaN is left to the guard against it.
        """
        host = self._as_given(key, target)
        if host is None or _choice(key, taken) in self._inside:
            return None
        if _takes_all(host, taken):
            self._inside.add(_choice(key, taken))
            return None
        found = _first_outside(host, taken)
        return None if found is None else (sample_of(self.given, found[0]), found[1])

    def all_count(self, key: str, target: Any, taken: Taken) -> bool:
        """Return whether ``find`` has seen that all values of a target are taken and none of them is ignored."""
        seen = _choice(key, taken) in self._inside and not _ignores_within(taken)
        version = _version(target) if target is self._sent.get(key) else None
        return seen and target.numel() > 0 and version is not None and version == self._versions.get(key)

    def _as_given(self, key: str, target: Any) -> np.ndarray | None:
        given = self.given.get(key)
        if not _is_on_host(given) or target is not self._sent.get(key):
            return None
        # A copy on a device may have been written to.
        return to_numpy(given) if target is given or _version(target) == self._versions[key] else None


def sample_of(batch: Mapping[str, Any], index: int) -> str:
    """Return how a sample of a batch is named: by its id, or else by its place."""
    ids = batch.get(SAMPLE_ID_KEY)
    if ids is None or (isinstance(ids, Tensor) and ids.device.type != "cpu") or len(ids) <= index:
        return f"sample {index} of the batch"
    name = ids[index]
    return f"{SAMPLE_ID_KEY} {name.tolist() if isinstance(name, Tensor) else name!r}"


def _arrays(part: Any) -> Any:
    if isinstance(part, Tensor):
        return to_numpy(part) if _is_on_host(part) else None
    if isinstance(part, Mapping):
        return {key: _arrays(value) for key, value in part.items()}
    return [_arrays(value) for value in part] if isinstance(part, list | tuple) else part


def to_numpy(target: Tensor) -> np.ndarray:
    """Return a target that lies on the host as an array."""
    # NumPy has no bfloat16.
    array: np.ndarray = (target.float() if target.dtype == torch.bfloat16 else target).numpy()
    return array


def shown(value: float) -> str:
    """Return a value of a target as it is written: a whole one without a fraction."""
    return str(int(value)) if float(value).is_integer() else f"{value:g}"


def find_outside(target: np.ndarray, taken: Taken) -> tuple[int, float] | None:
    """Return the first sample of a target [N, ...] with a value that is not taken, and the value; None if all are.

    NaN is left to the guard against it.
    """
    return None if _takes_all(target, taken) else _first_outside(target, taken)


def _takes_all(target: np.ndarray, taken: Taken) -> bool:
    return not target.size or (taken.low is None and taken.high is None and not taken.ends) or _is_inside(target, taken)


def _ignores_within(taken: Taken) -> bool:
    """Whether one of the values between those that are taken is ignored."""
    if taken.ignored is None or taken.low is None or taken.high is None:
        return False
    return taken.low <= taken.ignored <= taken.high


def _first_outside(target: np.ndarray, taken: Taken) -> tuple[int, float] | None:
    for index, part in enumerate(target):
        if not _is_inside(part, taken) and not _has_only_the_ignored(part, taken):
            # Of several wrong values the one farthest from 0 is named: marks such as 255 rather than a stray 3.
            values = _outside(part.reshape(-1), taken)
            if len(values):
                return index, values[np.abs(values).argmax()].item()
    return None


def _choice(key: str, taken: Taken) -> tuple[Any, ...]:
    return key, taken.low, taken.high, taken.ignored, taken.ends


def _version(part: Any) -> int | None:
    """Return how often a tensor was changed in place; None where that is not counted."""
    return part._version if isinstance(part, Tensor) and not part.is_inference() else None


def _is_on_host(target: Any) -> TypeGuard[Tensor]:
    return type(target) is Tensor and target.device.type == "cpu" and not target.requires_grad


def _is_inside(target: np.ndarray, taken: Taken) -> bool:
    """Return whether all values lie between those that are taken; one that does not may still be the ignored one."""
    if target.dtype == np.int64 and taken.low == 0 and taken.high is not None and target.flags.c_contiguous:
        # One look instead of two: negative ones are the largest.
        return bool(target.view(np.uint64).max() <= taken.high)
    low, high = target.min(), target.max()
    if taken.ends:
        return low in taken.ends and high in taken.ends
    return bool((taken.low is None or low >= taken.low) and (taken.high is None or high <= taken.high))


def _outside(values: np.ndarray, taken: Taken) -> np.ndarray:
    """Return those of the values [P] that are not taken."""
    if taken.ends:
        return values[~np.isin(values, taken.ends)]
    wrong = np.zeros(len(values), dtype=bool)
    if taken.low is not None:
        wrong |= values < taken.low
    if taken.high is not None:
        wrong |= values > taken.high
    return values[wrong & (values != taken.ignored)] if taken.ignored is not None else values[wrong]


def _has_only_the_ignored(target: np.ndarray, taken: Taken) -> bool:
    """Return whether nothing but the largest value, which is ignored, is outside: for masks, where that is the rule.

    As bytes less that value, class numbers are the largest ones but for what lies between them and it. This takes a
    fifth of the time of comparing every pixel.
    """
    ignored, last = taken.ignored, taken.high
    if ignored is None or last is None or target.dtype.kind not in "iu" or not last < ignored <= 255:
        return False
    if target.min() < 0 or target.max() != ignored:
        return False
    shifted = np.asarray(target).astype(np.uint8)
    shifted -= np.uint8(ignored)
    return bool(shifted.max() <= (last - ignored) % 256)
