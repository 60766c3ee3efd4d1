"""How well the places of a map follow the parts of the image: seen from a change of one quarter at a time."""

import numpy as np


def locality(changes: np.ndarray) -> float:
    """Return by what share of its places a map follows the image, 0 to 1; of unrelated places it is about 0.5.

    Args:
        changes: [4, h, w], by how much each place changes with a quarter of the image: upper left, upper right, lower
            left, lower right. A place counts the more, the nearer it is to the edge.
    """
    # Where the change of a quarter lies counts, not how large it is.
    total = changes.sum(axis=(1, 2), keepdims=True)
    if not (total > 0).all() or not np.isfinite(total).all():
        return 0.0
    upper_left, upper_right, lower_left, lower_right = changes / total
    left, right = upper_left + lower_left, upper_right + lower_right
    upper, lower = upper_left + upper_right, lower_left + lower_right
    pairs = ((left, right), (upper.T, lower.T))
    # The worse of both directions: tokens in the wrong order may still follow one of them.
    return min((_share_of_own_half(*pair) for pair in pairs if pair[0].shape[1] > 1), default=0.0)


def stray(changes: np.ndarray) -> float:
    """Return how much places change with the other quarters of the image, relative to the change with their own.

    Args:
        changes: see ``locality``. Places beside the middle, which may have a part in two quarters, do not count.
    """
    height, width = changes.shape[1:]
    rows, columns = np.arange(height)[:, None], np.arange(width)
    sides = [(rows < height / 2 - 1, columns < width / 2 - 1), (rows > height / 2, columns > width / 2)]
    quarters = [sides[i][0] & sides[j][1] for i in (0, 1) for j in (0, 1)]
    own = sum(float(changes[i][quarters[i]].sum()) for i in range(4))
    others = sum(float(changes[i][quarters[j]].sum()) for i in range(4) for j in range(4) if i != j)
    return others / own if own > 0 else float("inf")


def _share_of_own_half(before: np.ndarray, after: np.ndarray) -> float:
    """Return by what share of its places a map changes more with its own half, of the left and of the right one."""
    place = np.broadcast_to((np.arange(before.shape[1]) + 0.5) / before.shape[1] - 0.5, before.shape)
    own = np.sign(after - before) == np.sign(place)
    return float(np.abs(place)[own].sum() / np.abs(place).sum())
