"""Import with the garbage collector off."""

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import within the block without garbage collections, in four fifths of the time.

    The imported objects stay excluded from collections until the process ends. Nothing changes in a process that has
    already imported torch.
    """
    # Modules create half a million lasting objects, which every collection would scan in vain: also later, in training,
    # for a quarter of a second each time. What a process has created before may be garbage, hence the check for torch.
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        atexit.register(gc.unfreeze)  # some libraries warn at exit of objects that are never collected
