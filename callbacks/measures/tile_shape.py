"""The size in which a sample is shown, which decides how much of a large image is kept."""

from collections.abc import Sequence

Shape = tuple[int, int]  # height and width

# Sides in pixels of the square that a sample is fitted into.
TILE_SIZE = 208  # three in a row
LARGEST_TILE_SIZE = 320  # two in a row, as small boxes and the names of several labels need room


def fitted_shape(shape: Sequence[int], size: int) -> Shape:
    """Return height and width of something of ``shape`` scaled so that its longer side has ``size`` pixels.

    Example:
        >>> fitted_shape((100, 400), 200)
        (50, 200)
    """
    factor = size / max(shape)
    return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))


def halvings(shape: Sequence[int], goal: Shape) -> int:
    """Return how often something of ``shape`` is halved before it is brought to the size that is its goal."""
    height, width = shape[:2]
    count = 0
    while height > 3 * goal[0] and width > 3 * goal[1]:
        height, width, count = height // 2, width // 2, count + 1
    return count
