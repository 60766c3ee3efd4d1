"""Device tensors on their way to the host, read later without making the step wait."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from catalyst import dl
from torch import Tensor

from .checkpoint_values import stored_as


@stored_as("HostCopy")
class HostCopy:
    """A copy of a tensor to host memory that is started now and read later.

    On a GPU the copy goes to pinned memory beside the running work, and only ``read`` waits for it; one step
    later it has arrived. On a CPU it is a plain copy, so a later in-place change does not show in it.

    Args:
        tensor: of any shape, on any device.
        own: whether nobody will change the tensor: on a CPU it then serves itself.
    """

    def __init__(self, tensor: Tensor, *, own: bool = False):
        tensor = tensor.detach()
        self._arrived: torch.cuda.Event | None = None
        if own and not tensor.is_cuda:
            self._host = tensor
            return
        # Pinned, as a copy to pageable memory blocks even where it is asked not to.
        self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
        self._host.copy_(tensor, non_blocking=True)
        if tensor.is_cuda:
            # On the stream of the copy, so that reading waits for the copy alone and not for the work queued after it.
            self._arrived = torch.cuda.Event()
            self._arrived.record(torch.cuda.current_stream(tensor.device))

    def __len__(self) -> int:
        return len(self._host)

    def ready(self) -> bool:
        """Whether ``read`` would return at once."""
        return self._arrived is None or self._arrived.query()

    def read(self) -> Tensor:
        """Return the copy, a CPU tensor; waits until it has arrived."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._host

    def rows(self) -> list["HostCopy"]:
        """Return a copy of each row; they arrive together."""
        made = [HostCopy.__new__(HostCopy) for _ in self._host]
        for one, row in zip(made, self._host, strict=True):
            one._host, one._arrived = row, self._arrived
        return made

    def __getstate__(self) -> dict[str, Any]:
        # On its way to another process it has to have arrived, and an event cannot travel.
        return {"_host": self.read(), "_arrived": None}


def copy_tree(part: Any, *, own: bool = False) -> Any:
    """Start copying every tensor and array of a nested structure of dicts and lists; ``read_tree`` finishes it."""
    return _map(partial(_start_copy, own=own), part)


def copy_rows(rows: Sequence[Any]) -> list[Any]:
    """Start copying the same part of several samples, tensors of one kind and shape in a single copy."""
    kinds = {(row.shape, row.dtype, row.device) if isinstance(row, Tensor) else None for row in rows}
    if len(rows) == 1 or len(kinds) != 1 or None in kinds:
        return [copy_tree(row) for row in rows]
    # Put together on the device first; an index would have to travel there, and the step would wait for it.
    return HostCopy(torch.stack(list(rows)), own=True).rows()


def read_tree(part: Any) -> Any:
    """Return a structure of ``copy_tree`` with NumPy arrays for its tensors; half precision becomes float32."""
    return _map(lambda leaf: _to_numpy(leaf.read()) if isinstance(leaf, HostCopy) else leaf, part)


def is_read_at_once(runner: dl.IRunner) -> bool:
    """Whether what a step computes is on the host as soon as it is there, so that nothing is gained by waiting.

    What a batch holds is best looked at before the next one is fetched: a loader may use its memory again.
    """
    return bool(runner.engine.device.type == "cpu")


def kept_from_loader(part: Any, given: Any = None) -> Any:
    """Return a nested structure with copies of what lies in memory that a loader may use again.

    That is what is on the host, and what the loader itself has put on a device. What has been sent there is a copy
    already, and is not copied once more.

    Args:
        part: of a batch.
        given: the batch as the loader gave it; None: nothing of it was on a device.
    """
    # A batch may hold very many names, which are looked through only for a part that is on a device.
    is_on_device = next(_memory_on_device(part), None) is not None
    return _keep(part, frozenset(_memory_on_device(given) if is_on_device else ()))


def _keep(part: Any, reused: frozenset[int]) -> Any:
    if isinstance(part, str):  # first, as asking for a mapping is slow
        return part
    if isinstance(part, Tensor):
        return part.clone() if part.device.type == "cpu" or _memory_of(part) in reused else part
    if isinstance(part, np.ndarray):
        return np.array(part)
    if isinstance(part, Mapping):
        return {key: _keep(value, reused) for key, value in part.items()}
    if type(part) in (list, tuple):
        return type(part)(_keep(value, reused) for value in part)
    return part


def _memory_on_device(part: Any) -> Iterator[int]:
    """Yield what tells apart the memory of the tensors that are on a device."""
    if isinstance(part, Tensor):
        if part.device.type != "cpu":
            yield _memory_of(part)
    elif isinstance(part, Mapping):
        for value in part.values():
            yield from _memory_on_device(value)
    elif isinstance(part, list | tuple):
        for value in part:
            if not isinstance(value, str):
                yield from _memory_on_device(value)


def _memory_of(tensor: Tensor) -> int:
    # Views share it; its address would be that of other memory too, where a tensor is only described.
    memory: int = tensor.untyped_storage()._cdata
    return memory


def _start_copy(leaf: Any, *, own: bool) -> Any:
    if isinstance(leaf, Tensor):
        return HostCopy(leaf, own=own)
    return np.array(leaf) if isinstance(leaf, np.ndarray) and not own else leaf


def _map(function: Callable[[Any], Any], part: Any) -> Any:
    if isinstance(part, str | int | Tensor | HostCopy):  # first, as asking for a mapping is slow
        return function(part)
    if isinstance(part, Mapping):
        return {key: _map(function, value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return [_map(function, value) for value in part]
    return function(part)


def _to_numpy(tensor: Tensor) -> np.ndarray:
    # NumPy has no bfloat16, and float16 overflows in sums.
    half = tensor.dtype in (torch.float16, torch.bfloat16)
    array: np.ndarray = (tensor.float() if half else tensor).numpy()
    return array
