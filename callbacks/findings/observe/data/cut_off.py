"""Cut a forked child off what it would share with its parent: places in open files, sockets, and shared memory."""

import ctypes
import fcntl
import mmap
import os
import stat
from collections.abc import Iterator
from pathlib import Path

# Shared memory of more than this is made read-only instead: who writes to it ends the child, and nothing else.
_MOST_COPIED = 1 << 29
# Of drivers, which refuse to be mapped otherwise; a child does not use them.
_DEVICES = ("/dev/nvidia", "/dev/dri", "/dev/kfd", "/dev/infiniband", "anon_inode:")


def cut_off() -> None:
    """Give this process files, sockets and memory of its own, with the content that they have now."""
    for descriptor in _open_descriptors():
        _reopen(descriptor)
    _own_memory()


def _open_descriptors() -> list[int]:
    return [int(name) for name in os.listdir("/proc/self/fd") if int(name) > 2]


def _reopen(descriptor: int) -> None:
    """Open a file anew: a forked one has its place in common with the parent's, as a socket has its talk."""
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISSOCK(mode):
            _replace(descriptor, "/dev/null", os.O_RDWR)
        elif stat.S_ISREG(mode):
            place = os.lseek(descriptor, 0, os.SEEK_CUR)
            _replace(descriptor, f"/proc/self/fd/{descriptor}", fcntl.fcntl(descriptor, fcntl.F_GETFL))
            os.lseek(descriptor, place, os.SEEK_SET)
    except OSError:  # closed meanwhile, or a file that this user may not open again
        return


def _replace(descriptor: int, path: str, flags: int) -> None:
    opened = os.open(path, flags & ~(os.O_CREAT | os.O_TRUNC | os.O_EXCL))
    os.dup2(opened, descriptor, inheritable=False)
    os.close(opened)


def _own_memory() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    left = _MOST_COPIED
    for start, size in list(_shared_mappings()):
        if size <= left:
            left -= size
            _copy_mapping(libc, start, size)
        else:
            libc.mprotect(start, size, mmap.PROT_READ)


def _shared_mappings() -> Iterator[tuple[int, int]]:
    """Yield place and size of each piece of memory that is shared with other processes and can be written to."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, rights, _, _, _, *path = line.split(maxsplit=5)
        if rights.startswith("rw") and rights.endswith("s") and not (path and path[0].startswith(_DEVICES)):
            start, end = (int(number, 16) for number in span.split("-"))
            yield start, end - start


def _copy_mapping(libc: ctypes.CDLL, start: int, size: int) -> None:
    content = ctypes.string_at(start, size)
    # MAP_FIXED puts the new memory in the place of the old.
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x10
    if libc.mmap(start, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0) == start:
        ctypes.memmove(start, content, size)
