"""Layouts: how the output of a layer is read as a map, which of its axes are places and in which order."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from torch import Tensor

from ..errors import UsageError

KINDS = ("nchw", "nhwc", "tokens")
FORMS = {
    "nchw": "[N, C, h, w]",
    "nhwc": "[N, h, w, C]",
    "tokens": "[N, tokens, C]",
    "windows": "[N * windows, places, C]",
    "function": "a tensor that reshape makes [N, C, h, w]",
}

_LEAST_UNUSUAL = 9  # places: fewer are in order by chance at times
_MOST_PREFIX = 16  # tokens before those of the image: CLS and registers


@dataclass(frozen=True)
class Images:
    """The images of a forward pass.

    Attributes:
        count: N.
        height: H, in pixels.
        width: W, in pixels.
    """

    count: int
    height: int
    width: int


class Layout(Protocol):
    """A way to read the output of a layer."""

    @property
    def kind(self) -> str:
        """One of ``KINDS``, ``windows`` or ``function``."""
        ...

    @property
    def usual(self) -> bool:
        """Whether models commonly have it; one that is not usual needs stronger evidence."""
        ...

    def read(self, output: Tensor, images: Images) -> Tensor | None:
        """Return the output as [N, C, h, w]; None where it cannot be read in this way."""
        ...


@dataclass(frozen=True)
class Planes:
    """A map: [N, C, h, w] or [N, h, w, C]."""

    channels_last: bool = False
    usual = True

    @property
    def kind(self) -> str:
        return "nhwc" if self.channels_last else "nchw"

    def read(self, output: Tensor, images: Images) -> Tensor | None:
        if output.ndim != 4 or len(output) != images.count:
            return None
        return output.permute(0, 3, 1, 2) if self.channels_last else output


@dataclass(frozen=True)
class Tokens:
    """Tokens of the places, row by row, after some others.

    Attributes:
        prefix: number of other tokens before them, such as CLS and registers.
        axes: which axes are N, L and C.
        square: whether the model scales its images to squares.
    """

    prefix: int = 0
    axes: tuple[int, int, int] = (0, 1, 2)
    square: bool = False

    @property
    def kind(self) -> str:
        return "tokens"

    @property
    def usual(self) -> bool:
        return self.axes == (0, 1, 2) and not self.square

    def read(self, output: Tensor, images: Images) -> Tensor | None:
        if output.ndim != 3:
            return None
        tokens = output.permute(self.axes)
        grid = fit_grid(tokens.shape[1] - self.prefix, *_sides(images, self.square))
        if len(tokens) != images.count or grid is None:
            return None
        found: Tensor = tokens[:, self.prefix :].transpose(1, 2).unflatten(2, grid)  # type: ignore[no-untyped-call]
        return found


@dataclass(frozen=True)
class Windows:
    """Square windows of places, [N * windows, side * side, C] or [N * windows, side, side, C].

    Attributes:
        shifted: whether the map was rolled by half a side before it was cut.
    """

    shifted: bool = False
    usual = False

    @property
    def kind(self) -> str:
        return "windows"

    def read(self, output: Tensor, images: Images) -> Tensor | None:
        if output.ndim == 4 and output.shape[1] == output.shape[2]:
            output = output.flatten(1, 2)
        if output.ndim != 3 or len(output) % images.count or len(output) == images.count:
            return None
        side, grid = math.isqrt(output.shape[1]), fit_grid(len(output) // images.count, images.height, images.width)
        if grid is None or side**2 != output.shape[1]:
            return None
        cut = output.reshape(images.count, *grid, side, side, output.shape[2])
        # The windows go back to where they were cut from.
        whole = cut.permute(0, 5, 1, 3, 2, 4).reshape(images.count, -1, grid[0] * side, grid[1] * side)
        return whole.roll((side // 2, side // 2), dims=(2, 3)) if self.shifted else whole


@dataclass(frozen=True)
class Function:
    """A function of the user, which returns an output as [N, C, h, w]."""

    function: Callable[[Tensor], Tensor]
    usual = True

    @property
    def kind(self) -> str:
        return "function"

    def read(self, output: Tensor, images: Images) -> Tensor | None:
        found = self.function(output)
        if not isinstance(found, Tensor) or found.ndim != 4 or len(found) != images.count:
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise UsageError(
                f"reshape must return [N, C, h, w], N = {images.count}, got {got} of an output {tuple(output.shape)}."
            )
        return found


def layouts_of(output: Tensor, images: Images, kind: str | None = None) -> list[Layout]:
    """Return the ways in which an output may be read as a map of more than one place, the likeliest first.

    Args:
        output: of a layer.
        images: those that the model received.
        kind: one of ``KINDS``; None: any.
    """
    found: list[Layout] = []
    even: list[Layout] = []  # those whose places are whole numbers of pixels
    for layout in _possible_layouts(output.ndim):
        if kind in (None, layout.kind):
            read = layout.read(output, images)
            if read is not None and _may_be_map(layout, read, images):
                found.append(layout)
                even += [layout] * (images.height % read.shape[2] == images.width % read.shape[3] == 0)
    return found if not even or output.ndim == 4 else even


def _may_be_map(layout: Layout, read: Tensor, images: Images) -> bool:
    rows, columns = read.shape[2:]
    if rows * columns < (2 if layout.usual else _LEAST_UNUSUAL):
        return False
    # Else the channels of a map with few places would be read as its rows.
    return layout != Planes(channels_last=True) or any(
        _fits(rows, columns, *_sides(images, square)) for square in (False, True)
    )


def _possible_layouts(axes: int) -> Iterator[Layout]:
    if axes == 4:
        yield Planes()
        yield Planes(channels_last=True)
    elif axes == 3:
        for square in (False, True):
            for order in ((0, 1, 2), (1, 0, 2)):
                for prefix in range(_MOST_PREFIX + 1):
                    yield Tokens(prefix, order, square)
        yield Tokens(axes=(0, 2, 1))
    if axes in (3, 4):
        yield Windows()
        yield Windows(shifted=True)


@lru_cache(maxsize=1024)
def fit_grid(count: int, height: int, width: int) -> tuple[int, int] | None:
    """Return rows and columns of ``count`` places of one size and shape, as nearly square as any, that tile an image.

    Returns:
        None where the places would have to be longer one way than rounding and padding explain.
    """
    if count < 1:
        return None
    sides = [side for side in range(1, math.isqrt(count) + 1) if count % side == 0]
    # Every pair of factors, both ways round; the one with the squarest places wins.
    grids = [grid for side in sides for grid in ((side, count // side), (count // side, side))]
    rows, columns = min(grids, key=lambda grid: abs(math.log(height * grid[1] / (grid[0] * width))))
    return (rows, columns) if _fits(rows, columns, height, width) else None


def _fits(rows: int, columns: int, height: int, width: int) -> bool:
    """Whether rows and columns of square places may tile an image, up to rounding and padding."""
    # One place more or less in each direction: strides round, and padding adds a row.
    least = max(height / (rows + 1), width / (columns + 1))
    return least < min(height / max(rows - 1, 0.5), width / max(columns - 1, 0.5))


def _sides(images: Images, square: bool) -> tuple[int, int]:
    return (1, 1) if square else (images.height, images.width)
