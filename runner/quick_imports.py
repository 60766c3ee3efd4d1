"""Importing without looks for garbage, of which there is next to none."""

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import what an experiment needs, torch first, in four fifths of the time.

    The modules make half a million objects that stay, and each collection looks at all of them in vain. It would do so
    in training too, a quarter of a second each time: so they are left out from then on, until the process ends, where
    some libraries complain of what nobody collects. A process that has imported torch is let alone, as what it has
    left behind by now may be garbage.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        atexit.register(gc.unfreeze)
