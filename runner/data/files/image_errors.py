"""The error for image files that cannot be read, and the warning where the depth of one is assumed."""

import contextlib
import mmap
import os
import sys
from collections.abc import Iterator

import cv2
import numpy as np
from tqdm import tqdm

from assay.callbacks.errors import UsageError

from ...processes.one_line_error import OneLineError
from .pixels import Pixels

# A byte shared with forked loader workers, so that all of them together warn once.
_depth_warned = mmap.mmap(-1, 1)


class BadImageError(OneLineError):
    """An image file that cannot be read: names the file, the reason and, where it is known, the sample."""


def check_max_value(max_value: float | None) -> None:
    """Raise a UsageError where ``max_value`` is not greater than 0."""
    if max_value is not None and not max_value > 0:
        raise UsageError(f"max_value must be greater than 0, got {max_value}.")


def warn_assumed_depth(path: str | os.PathLike[str], pixels: Pixels, max_value: float | None) -> None:
    """Warn once per run that 65535 is taken as white, where a 16-bit file does not declare how many bits it uses."""
    is_assumed = pixels.values.dtype == np.uint16 and pixels.lacks_white and max_value is None
    if is_assumed and not _depth_warned[0] and os.environ.get("RANK", "0") == "0":
        _depth_warned[0] = 1
        tqdm.write(
            f"assay: image {os.fspath(path)!r} has 16 bits per sample and does not declare how many it uses: 65535 is "
            "taken as white. If white is less, such as 4095 of 12 bits, give max_value=.",
            file=sys.stderr,
        )


@contextlib.contextmanager
def bad_image_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn whatever a decoder raises into a BadImageError that names the file."""
    try:
        yield
    except (BadImageError, UsageError):
        raise
    except cv2.error as error:
        raise bad_image(path, error.err) from error
    except OSError as error:
        raise bad_image(path, error.strerror or str(error)) from error
    except ValueError as error:
        raise bad_image(path, str(error)) from error
    except Exception as error:  # on broken bytes a decoder raises anything
        raise bad_image(path, f"{type(error).__name__}: {error}") from error


def bad_image(path: str | os.PathLike[str], reason: str) -> BadImageError:
    """Return the error for a file, as one line."""
    line = f"image {os.fspath(path)!r} cannot be read: {reason}"
    return BadImageError(" ".join(line.split()))
