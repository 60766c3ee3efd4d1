"""Images as maps of edges, and masks and boxes as the lines that should lie on them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...probe.loader_probe import LoaderProbe, SampleProbe

Floats = NDArray[np.float32]

FEWEST = 6  # scenes, of which a mean and its spread say something
_SIDE = 128  # largest side of a map: lines of masks are still there, and a map is transformed in half a millisecond
_MOST_VALUES = 50  # of a mask of classes; a mask of more is a map of numbers
_PROBE = 32  # scenes at most; more tell no more of what all have in common


@dataclass(frozen=True, eq=False)
class Scene:
    """One image with its mask or its boxes.

    Attributes:
        name: of the sample.
        edges: [h, w], strength of the edges of the image, of mean 0 and standard deviation 1.
        lines: [h, w], weights of the borders that should lie on edges, of sum 1.
        scale: pixels of the whole image per pixel of the maps.
    """

    name: str
    edges: Floats
    lines: Floats
    scale: float


def mask_scenes(loader: LoaderProbe) -> list[Scene]:
    """Return the scenes of a loader's images and masks; those whose mask has no border are left out."""
    return _scenes(loader, _mask_lines)


def box_scenes(loader: LoaderProbe, outline: Callable[[SampleProbe], NDArray[np.float32] | None]) -> list[Scene]:
    """Return the scenes of a loader's images and boxes, whose lines ``outline`` draws at the size of the image."""
    return _scenes(loader, outline)


def _scenes(loader: LoaderProbe, draw: Callable[[SampleProbe], NDArray[np.float32] | None]) -> list[Scene]:
    samples = [it for it in loader.samples.values() if it.image is not None and min(it.image.shape[-2:]) >= 16]
    found = [_scene(sample, draw) for sample in samples[:_PROBE]]
    return [scene for scene in found if scene is not None]


def _scene(sample: SampleProbe, draw: Callable[[SampleProbe], NDArray[np.float32] | None]) -> Scene | None:
    lines = draw(sample)
    if lines is None or sample.image is None or lines.shape != sample.image.shape[-2:]:
        return None
    image = np.nan_to_num(sample.image.astype(np.float32))
    step = -(-max(image.shape[-2:]) // _SIDE)
    edges, lines = edges_of(_pooled(image, step)), _pooled(lines[None], step)[0]
    if edges is None or lines.sum() == 0:
        return None
    whole = max(sample.shape[-2:]) if len(sample.shape) >= 2 else max(image.shape[-2:])
    return Scene(sample.name, edges, lines / lines.sum(), whole / max(image.shape[-2:]) * step)


def edges_of(image: Floats) -> Floats | None:
    """Return the strength of the edges of an image [C, h, w], of mean 0 and std 1; None where there are none."""
    change = np.zeros(image.shape[1:], dtype=np.float32)
    for channel in image:
        rows, columns = np.gradient(_mean_around(channel))
        change += np.hypot(rows, columns)
    if not change.any():
        return None
    # A few strong edges, such as those of a frame around the image, would outweigh all others.
    change = np.minimum(change, np.quantile(change, 0.98) or change.max())
    # A border may be drawn a pixel beside its edge.
    change = _largest_around(change)
    spread = float(change.std())
    return (change - change.mean()) / spread if spread > 0 else None


def _mean_around(values: Floats) -> Floats:
    # Noise, in images or by augmentation, has edges everywhere.
    padded = np.pad(values, 1, mode="edge")
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    around: Floats = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 16
    return around


def _largest_around(values: Floats) -> Floats:
    padded = np.pad(values, 1, mode="edge")
    rows = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
    around: Floats = np.maximum(np.maximum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
    return around


def _pooled(stack: Floats, step: int) -> Floats:
    if step == 1:
        return stack
    height, width = (side // step * step for side in stack.shape[1:])
    cut = stack[:, :height, :width].reshape(len(stack), height // step, step, width // step, step)
    pooled: Floats = cut.mean((2, 4))
    return pooled


def _mask_lines(sample: SampleProbe) -> Floats | None:
    if sample.mask is None or len(sample.mask_values) > _MOST_VALUES:
        return None
    return borders(sample.mask if sample.mask.ndim == 3 else sample.mask[None])


def borders(masks: NDArray[np.generic]) -> Floats:
    """Return where masks [L, h, w] change, [h, w]: 1 on both sides of each border."""
    lines = np.zeros(masks.shape[1:], dtype=np.float32)
    down = (masks[:, 1:] != masks[:, :-1]).any(0)
    right = (masks[:, :, 1:] != masks[:, :, :-1]).any(0)
    lines[1:][down] = lines[:-1][down] = 1
    lines[:, 1:][right] = lines[:, :-1][right] = 1
    return lines


def same_size(scenes: Sequence[Scene]) -> list[Scene]:
    """Return the scenes of the size that most have."""
    shapes = [scene.edges.shape for scene in scenes]
    most = max(set(shapes), key=shapes.count, default=None)
    return [scene for scene in scenes if scene.edges.shape == most]
