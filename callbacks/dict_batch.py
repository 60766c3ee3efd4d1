"""The batch of a runner as a dict, as callbacks need it, and what to do where it is none."""

from collections.abc import Mapping
from typing import Any

from catalyst import dl
from torch import Tensor

from .described import described
from .errors import UsageError
from .keys import pick


def dict_batch(runner: dl.IRunner, asked_by: str) -> Mapping[str, Any]:
    """Return ``runner.batch``; raise where it is no dict, as where a runner of the user's own leaves it a tuple.

    Raises:
        UsageError: the message says what it is, and how to make it one.
    """
    batch: Any = runner.batch
    if isinstance(batch, Mapping):
        return batch
    raise UsageError(
        f"{asked_by} needs the batch as a dict, got a {described(batch)}: in handle_batch set self.batch to one, as in "
        "self.batch = {'image': x, 'target': y, 'logits': logits}."
    )


def pick_part(runner: dl.IRunner, key: str, asked_by: str) -> Any:
    """Return ``runner.batch[key]``; raise where it is missing."""
    return pick(runner.batch, key, asked_by)


def pick_tensor(runner: dl.IRunner, key: str, asked_by: str) -> Tensor:
    """Return ``runner.batch[key]``; raise where it is missing or no tensor, as of a model that returns several.

    Raises:
        UsageError: the message says what there is.
    """
    value = pick(runner.batch, key, asked_by)
    if isinstance(value, Tensor):
        return value
    got = f"a {described(value)}: give each tensor a key of its own"
    raise UsageError(f"{asked_by} needs a tensor in {key!r} of the batch, got {got}.")
