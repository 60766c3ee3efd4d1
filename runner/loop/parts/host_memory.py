"""Make ``malloc`` keep the memory of a training step for the next one."""

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # option numbers from glibc's malloc.h
# 32 MiB is the largest threshold that glibc accepts; larger blocks always go back to the system.
_LARGEST_KEPT, _NEVER = 32 * 2**20, 2**31 - 1
_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Make glibc's ``malloc`` keep freed memory, for a process that trains on the CPU.

    By default it returns the gradients and activations of a step to the system, and the next step waits for fresh pages
    to be cleared: 7% of a step of ResNet-18. The process stays as large as its largest step. Nothing is changed where
    the environment configures ``malloc``, or another allocator replaces it.

    Returns:
        Whether freed memory is kept now.
    """
    # The user's own settings come first. musl, macOS and other allocators have no mallopt.
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None or any(name in os.environ for name in _VARIABLES):
        return False
    return bool(set_option(_MMAP_THRESHOLD, _LARGEST_KEPT) and set_option(_TRIM_THRESHOLD, _NEVER))
