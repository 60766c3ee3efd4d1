"""Count, on a CPU, what would make the host wait for a device.

A wait does not show on a CPU, so what would wait on a GPU is counted instead: each read of a value by the host, each
search for indices, each copy that is declared neither non-blocking nor local, and each piece of host data that is sent
along.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from assay.callbacks.support import host_targets
from assay.callbacks.support.host_copy import HostCopy

aten = torch.ops.aten
READS = (
    aten._local_scalar_dense, aten.item, aten.equal, aten.nonzero, aten.masked_select, aten.bincount,
    aten._unique2, aten.unique_dim, aten.unique_consecutive,
)  # fmt: skip
COPIES = (aten.copy_, aten._to_copy)
# On a CPU these return or read at once, without a dispatch.
TO_HOST = (Tensor.cpu, Tensor.numpy, Tensor.tolist, Tensor.__array__)
FROM_HOST = (torch.tensor, torch.as_tensor, torch.asarray)


class OnHost(Tensor):
    """A tensor that a ``HostCopy`` or a loader has put on the host: reading it waits for nothing."""


class HostReads(TorchDispatchMode):
    """Counts by name what would make the host wait for the device, had the tensors been on one.

    Attributes:
        seen: what was counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()
        self.calls = _Calls(self.seen)

    def __enter__(self) -> "HostReads":
        self.read, HostCopy.read = HostCopy.read, _read  # type: ignore[assignment,method-assign]
        self.to_numpy, host_targets.to_numpy = host_targets.to_numpy, _to_numpy
        self.calls.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.calls.__exit__(*error)
        HostCopy.read = self.read  # type: ignore[method-assign]
        host_targets.to_numpy = self.to_numpy

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        packet = func.overloadpacket
        if packet in READS or (packet in COPIES and _blocks(packet, args, kwargs)) or _repeats(func, kwargs):
            self.seen[packet._qualified_op_name] += 1
        return func(*args, **kwargs)


class _Calls(TorchFunctionMode):
    """Counts what is not dispatched on a CPU, or looks harmless there; not in hooks that the backward pass calls."""

    def __init__(self, seen: Counter[str]):
        super().__init__()
        self.seen = seen

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        read = func in TO_HOST and not isinstance(args[0], OnHost)
        sent = func in FROM_HOST and kwargs.get("device") is not None and not isinstance(args[0], Tensor)
        indexed = func is Tensor.__getitem__ or (func is Tensor.__setitem__ and isinstance(args[2], Tensor))
        if read or sent or (indexed and not isinstance(args[0], OnHost) and _asks(args[1])):
            self.seen[func.__name__] += 1
        return func(*args, **kwargs)


_plain_read = HostCopy.read
_plain_to_numpy = host_targets.to_numpy


def _read(copy: HostCopy) -> Tensor:
    return _plain_read(copy).as_subclass(OnHost)  # type: ignore[type-var,return-value]


def _to_numpy(target: Tensor) -> Any:
    return _plain_to_numpy(target.as_subclass(OnHost))  # type: ignore[arg-type]


def _asks(index: Any) -> bool:
    """Whether an index has to be searched for, or sent to the device."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(
        part.dtype in (torch.bool, torch.uint8) if isinstance(part, Tensor) else hasattr(part, "__len__")
        for part in parts
    )


def _blocks(packet: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether a copy may cross devices and waits for it: one that only changes the type never does."""
    if packet is aten._to_copy:
        return kwargs.get("device") is not None and not kwargs.get("non_blocking", False)
    return not (args[2] if len(args) > 2 else kwargs.get("non_blocking", False))


def _repeats(func: Any, kwargs: Mapping[str, Any]) -> bool:
    return func is aten.repeat_interleave.Tensor and kwargs.get("output_size") is None
