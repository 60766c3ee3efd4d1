"""Record which images were predicted and which failed, with a progress bar."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from tqdm import tqdm

from assay.callbacks.errors import UsageError
from assay.callbacks.support.printable import printable

from ..data.files.image_errors import BadImageError

# Errors on writing that concern one file's name; others, such as a full disk, concern all.
_ERRORS_OF_ONE_FILE = (errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)
_NAMED_AT_THE_END = 20


def not_finite(path: Path) -> BadImageError:
    """Return the error for an image for which the model returns NaN or infinite values."""
    return BadImageError(f"image {os.fspath(path)!r} cannot be predicted: the model's output for it is NaN or infinite")


class Outcome:
    """Counts images, shows a progress bar where stderr is a terminal, and reports images that cannot be read.

    Args:
        total: number of images.
    """

    def __init__(self, total: int):
        self.total = total
        self.done = 0
        self.unreadable: list[str] = []
        self.scores: list[str] = []  # lines that tell how good the predictions are, where the truth is known
        self._bar = tqdm(desc="predict", total=total, unit="image", dynamic_ncols=True, disable=None)

    def note(self, line: str) -> None:
        """Print a line to stderr, unless it is empty."""
        if line:
            tqdm.write(f"assay: {line}", file=sys.stderr)

    def add(self, count: int = 1) -> None:
        """Count images that were predicted."""
        self.done += count
        self._bar.update(count)

    def fail(self, error: BadImageError) -> None:
        """Report an image that cannot be read or predicted."""
        self.unreadable.append(str(error))
        # At once, as a run over many images may take hours; by tqdm, which keeps the line apart from the bar.
        tqdm.write(f"assay: {error}", file=sys.stderr)
        self._bar.update()

    @contextlib.contextmanager
    def naming(self, paths: Iterable[Path]) -> Iterator[None]:
        """Report images whose prediction fails within the block, and go on with the others.

        Errors that are not an image's fault end the run: wrong use, too little memory for a batch, a full disk.
        """
        paths = list(paths)
        try:
            yield
        except UsageError:
            raise
        except BadImageError as error:
            self.fail(error)
        except torch.OutOfMemoryError as error:
            if len(paths) > 1:  # a smaller batch may fit: the user should choose it
                raise
            self._fail_all(paths, error)
        except OSError as error:
            if error.errno not in _ERRORS_OF_ONE_FILE:
                raise
            self._fail_all(paths, error)
        except RuntimeError as error:  # of the model: another image may fit it
            self._fail_all(paths, error)

    def _fail_all(self, paths: Iterable[Path], error: Exception) -> None:
        reason = " ".join(str(error).split())
        for path in paths:
            self.fail(BadImageError(f"image {os.fspath(path)!r} cannot be predicted: {reason}"))

    def summary(self, output: object) -> str:
        """Return how many images were predicted, the first of those that could not be read, and the scores."""
        line = f"predicted {self.done} of {self.total} images; see {printable(str(output))}"
        if not self.unreadable:
            return "\n".join([line, *self.scores])
        named = [f"  {error}" for error in self.unreadable[:_NAMED_AT_THE_END]]
        more = len(self.unreadable) - len(named)
        rest = [f"  ... and {more} more"] if more else []
        return "\n".join([f"{line}; {len(self.unreadable)} could not be read", *named, *rest, *self.scores])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.close()
