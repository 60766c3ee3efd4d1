"""Mends of names that torch no longer has."""

import collections.abc
import math
import sys
from types import ModuleType

import torch

from .fault import fault


@fault()
def torch_six() -> bool:
    """Catalyst's MNIST, CIFAR and MovieLens, and many projects, import torch._six, which no longer exists."""
    if hasattr(torch, "_six"):
        return False
    module = ModuleType("torch._six")
    module.__dict__.update(
        container_abcs=collections.abc,
        inf=math.inf,
        int_classes=int,
        nan=math.nan,
        string_classes=(str, bytes),
    )
    # For ``import torch._six``, and for ``torch._six`` after ``import torch``.
    sys.modules["torch._six"] = module
    vars(torch)["_six"] = module
    return True
