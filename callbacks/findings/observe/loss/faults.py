"""``GradientFaults``: the operation that first makes a gradient NaN or infinite."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_FRAME = re.compile(r'File "(.+)", line (\d+), in (\S+)')
_OWN = Path(__file__).parents[4]
_NOT_OF_USER = ("/torch/", "/catalyst/", "<", f"{_OWN / 'callbacks'}/", f"{_OWN / 'runner'}/")


class GradientFaults(TorchFunctionMode):
    """Watches backward passes while it is open.

    Attributes:
        first: see ``ModelProbe.broken_by``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = ""
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        # It keeps where each operation stands in the code.
        self._stack.enter_context(torch.autograd.set_detect_anomaly(True, check_nan=False))
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._stack.close()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.backward and args:
            for node in _nodes(args[0].grad_fn):
                node.register_hook(partial(self._look, node))
        return func(*args, **(kwargs or {}))

    def _look(self, node: Any, found: tuple[Any, ...], given: tuple[Any, ...]) -> None:
        if not self.first and _all_finite(given) and not _all_finite(found):
            name = re.sub(r"backward\d*$", "", node.name().lower())
            self.first = f"{name}{_place(node)}"


def _nodes(last: Any) -> Iterator[Any]:
    """Yield the operations behind a loss."""
    waiting, seen = [last], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            waiting += [before for before, _ in node.next_functions]


def _all_finite(gradients: tuple[Any, ...]) -> bool:
    return all(bool(one.isfinite().all()) for one in gradients if isinstance(one, Tensor))


def _place(node: Any) -> str:
    """Return where an operation was computed, in the code of the user."""
    found = [_FRAME.search(line) for line in node.metadata.get("traceback_", [])]
    frames = [it for it in found if it is not None and not any(part in it[1] for part in _NOT_OF_USER)]
    return f" in {frames[-1][3]} ({Path(frames[-1][1]).name}, line {frames[-1][2]})" if frames else ""
