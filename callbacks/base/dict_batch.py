"""The batch of a runner as a dict, with errors that name what is missing and how to provide it."""

from collections.abc import Mapping
from typing import Any

from catalyst import dl
from torch import Tensor

from ..errors import UsageError, described
from ..keys import pick


def dict_batch(runner: dl.IRunner, asked_by: str) -> Mapping[str, Any]:
    """Return ``runner.batch``.

    Raises:
        UsageError: it is no dict, as in a runner that leaves it a tuple.
    """
    # A runner of the user's own may leave the loader's tuple there, where every diagnostic needs names.
    batch: Any = runner.batch
    if isinstance(batch, Mapping):
        return batch
    raise UsageError(
        f"{asked_by} needs the batch as a dict, got a {described(batch)}: in handle_batch set self.batch to one, as in "
        "self.batch = {'image': x, 'target': y, 'logits': logits}."
    )


def pick_part(runner: dl.IRunner, key: str, asked_by: str) -> Any:
    """Return ``runner.batch[key]``; raise a ``UsageError`` if it is missing."""
    return pick(runner.batch, key, asked_by)


def pick_tensor(runner: dl.IRunner, key: str, asked_by: str) -> Tensor:
    """Return the tensor ``runner.batch[key]``.

    Raises:
        UsageError: it is missing, or no tensor, as if a model returns several under one key.
    """
    value = pick(runner.batch, key, asked_by)
    if isinstance(value, Tensor):
        return value
    got = f"a {described(value)}: give each tensor a key of its own"
    raise UsageError(f"{asked_by} needs a tensor in {key!r} of the batch, got {got}.")
