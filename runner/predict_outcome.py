"""What has become of each image, while they are predicted."""

import sys
from types import TracebackType
from typing import Self

from tqdm import tqdm

from .images import BadImageError


class Outcome:
    """Counts the images, shows a bar where stderr is a terminal, and names those that cannot be read.

    Args:
        total: number of images.
    """

    def __init__(self, total: int):
        self.total = total
        self.done = 0
        self.unreadable: list[str] = []
        self._bar = tqdm(desc="predict", total=total, unit="image", dynamic_ncols=True, disable=None)

    def add(self, count: int = 1) -> None:
        """Count images that were predicted."""
        self.done += count
        self._bar.update(count)

    def fail(self, error: BadImageError) -> None:
        """Report an image that cannot be read."""
        self.unreadable.append(str(error))
        tqdm.write(f"assay: {error}", file=sys.stderr)
        self._bar.update()

    def summary(self, output: object) -> str:
        """Return the last line: how many images were predicted, and how many could not be read."""
        line = f"predicted {self.done} of {self.total} images; see {output}"
        return line if not self.unreadable else f"{line}; {len(self.unreadable)} could not be read"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.close()
