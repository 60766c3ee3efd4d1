"""Mends of Catalyst's own optimizers."""

from typing import Any

from catalyst.contrib.optimizers import Lookahead
from torch.optim import Optimizer

from .fault import after, fault


@fault()
def lookahead() -> bool:
    """Lookahead lacks attributes that torch's Optimizer has now, and fails at its first step."""
    after(Lookahead, "__init__", _add_missing_state)
    return True


def _add_missing_state(optimizer: Optimizer, *args: Any, **options: Any) -> None:
    optimizer.__setstate__({})  # torch's own way to add attributes that an older state lacks
