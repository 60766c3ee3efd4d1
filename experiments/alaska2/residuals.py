"""What an embedding did to an image, and the picture of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import jpeglib
import numpy as np

from assay.callbacks.toolkit import RIGHT, WRONG, Card, draw_grid

from .jpeg import coefficients, read_rgb

# The filter of A. Ker and R. Böhme, "Revisiting Weighted Stego-Image Steganalysis", 2008, up to its sign.
_HIGH_PASS = np.outer([1, -2, 1], [1, -2, 1]).astype(np.float32) / 4
_RESIDUAL_RANGE = 8.0  # levels of 0 to 255 that are shown as black and white
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32) * 255


@dataclass(frozen=True)
class Changes:
    """One image beside its cover.

    Attributes:
        image: [H, W, 3], float32, RGB from 0 to 1.
        residual: [H, W], float32: what a high-pass filter leaves of its luminance, in levels of 255.
        difference: [H, W], float32: how far its luminance is from that of its cover, in levels of 255.
        rate: coefficients that differ, for each one of the cover that is not zero and not a mean.
    """

    image: np.ndarray
    residual: np.ndarray
    difference: np.ndarray
    rate: float


def measure_changes(path: Path, cover: Path) -> Changes:
    """Compare an image with its cover, from their files."""
    image, plain = read_rgb(path), read_rgb(cover)
    luminance = image @ _LUMINANCE
    return Changes(
        image=image,
        residual=cv2.filter2D(luminance, cv2.CV_32F, _HIGH_PASS, borderType=cv2.BORDER_REFLECT),
        difference=np.abs(luminance - plain @ _LUMINANCE),
        rate=_rate(path, cover),
    )


def _rate(path: Path, cover: Path) -> float:
    changed = present = 0
    for (own, _), (plain, _) in zip(*(coefficients(jpeglib.read_dct(str(at))) for at in (path, cover)), strict=True):
        changed += int((own != plain).sum())
        present += int((plain != 0).sum() - (plain[..., 0, 0] != 0).sum())
    return changed / max(present, 1)


@dataclass(frozen=True)
class ShownChanges:
    """An image beside its cover, with the lines of text below them.

    Attributes:
        changes: what the embedding changed.
        name: of the image.
        lines: text below the pictures.
        right: whether the prediction is right, which decides the colour of the frame.
    """

    changes: Changes
    name: str
    lines: Sequence[str]
    right: bool


def draw_changes(shown: Sequence[ShownChanges], title: Sequence[str]) -> np.ndarray:
    """Draw images, each with its residual and its distance from its cover.

    Args:
        shown: at least one.
        title: lines above.

    Returns:
        [H, W, 3], uint8, RGB.
    """
    cards = [
        Card(
            _panels(one.changes),
            [*one.lines, _describe(one.changes)],
            RIGHT if one.right else WRONG,
            right=one.right,
            name=one.name,
        )
        for one in shown
    ]
    span = f"-{_RESIDUAL_RANGE:g} to {_RESIDUAL_RANGE:g} levels from black to white, square root scale"
    note = f"image; its residual, {span}; |image - cover|"
    return draw_grid(cards, title, note=note)


def _panels(changes: Changes) -> list[np.ndarray]:
    residual = 0.5 + np.sign(changes.residual) * np.sqrt(np.abs(changes.residual) / _RESIDUAL_RANGE) / 2
    return [_bytes(changes.image), _grey(residual), _grey(changes.difference / _largest(changes))]


def _describe(changes: Changes) -> str:
    if not changes.rate:
        return "nothing is embedded"
    return f"{changes.rate:.1%} of coefficients changed, white: {_largest(changes):.1f} levels"


def _largest(changes: Changes) -> float:
    return max(float(changes.difference.max()), 1e-6)


def _grey(values: np.ndarray) -> np.ndarray:
    return _bytes(values[..., None].repeat(3, axis=2))


def _bytes(values: np.ndarray) -> np.ndarray:
    return (values.clip(0, 1) * 255 + 0.5).astype(np.uint8)
