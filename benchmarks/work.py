"""Counting what a piece of a run asks of the device, the same on every machine."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from assay.callbacks.support.host_copy import HostCopy

from .host_reads import HostReads

COUNTERS = ("operations", "allocations", "allocated_bytes", "host_copies", "host_reads")
aten = torch.ops.aten
MAKE_ONLY = (aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided)


class Work(HostReads):
    """Counts while it is entered, as often as that may be, what its thread asks of the device.

    - ``operations``: calls that reach the device: all that are dispatched but views and tensors made empty. A fused
      or ``foreach`` call is one.
    - ``allocations``, ``allocated_bytes``: storages that such calls return and were not given; what a kernel uses
      within itself is not seen.
    - ``host_copies``: copies to the host that were started and not waited for (``HostCopy``).
    - ``host_reads``: what would have made the host wait, see ``HostReads``; ``seen`` holds them by name.

    The backward pass and the hooks of optimizers are counted: on a CPU they run in the thread that called them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._counts = dict.fromkeys(COUNTERS, 0)

    @property
    def counts(self) -> dict[str, int]:
        """What was counted so far, by counter."""
        return {**self._counts, "host_reads": self.seen.total()}

    def __enter__(self) -> "Work":
        begin, counts, thread = HostCopy.__init__, self._counts, threading.get_ident()

        def begin_counted(copy: HostCopy, tensor: Tensor, **options: Any) -> None:
            counts["host_copies"] += threading.get_ident() == thread
            begin(copy, tensor, **options)

        self._begin, HostCopy.__init__ = begin, begin_counted  # type: ignore[assignment,method-assign]
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        HostCopy.__init__ = self._begin  # type: ignore[method-assign]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = storages((args, kwargs))  # asked for before: an operation may give one another size
        result = super().__torch_dispatch__(func, types, args, kwargs)
        made = {key: size for key, size in storages(result).items() if size and key not in given}
        computes = made and func.overloadpacket not in MAKE_ONLY
        if computes or func._schema.is_mutable or isinstance(result, bool | int | float | complex):
            self._counts["operations"] += 1
        self._counts["allocations"] += len(made)
        self._counts["allocated_bytes"] += sum(made.values())
        return result


def storages(part: Any) -> dict[int, int]:
    """Return the sizes in bytes of the storages of all tensors in a nested structure."""
    found = [tensor.untyped_storage() for tensor in tensors(part)]
    return {storage._cdata: storage.nbytes() for storage in found}


def tensors(part: Any) -> Iterator[Tensor]:
    """Yield all tensors of a nested structure."""
    if isinstance(part, Tensor):
        yield part
    elif isinstance(part, list | tuple):
        for inner in part:
            yield from tensors(inner)
    elif isinstance(part, dict):
        yield from tensors(list(part.values()))
