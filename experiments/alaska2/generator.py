"""A small data set in the layout of ALASKA2, with real changes in the coefficients of real photographs.

The photographs are the two that scikit-learn ships. What is embedded is noise: some coefficients, drawn at random, go
up or down by one, as they do where a message is embedded. The three rules of where are simple ones of this file. They
stand in the folders of the algorithms whose idea they share, and are not these algorithms:

============ =========================================================================================
folder       likelihood of a change of a coefficient that is not zero and not the mean of its block
============ =========================================================================================
``JMiPOD``   the same for all
``JUNIWARD`` grows with the texture around its block: the square of the mean absolute Laplacian
``UERD``     grows with the energy of its block, and falls with its step of quantization
============ =========================================================================================
"""

from collections.abc import Callable
from pathlib import Path

import cv2
import jpeglib
import numpy as np
from PIL import Image

from .data import CLASS_NAMES, is_valid
from .jpeg import BLOCK, QUALITIES, coefficients, decode

RATES = (0.1, 0.2, 0.4)
"""Changes for each coefficient that is not zero and not a mean; each cover has one of these rates."""

_COVERS, _SIDE = 500, 128
_SCALES = (0.5, 0.9)
_TRAIN_SHARE = 0.65  # of a photograph's width, from the left; what is right of it is for validation

Cost = Callable[[np.ndarray, np.ndarray], np.ndarray]


def make_data(folder: Path, covers: int = _COVERS, side: int = _SIDE, seed: int = 0) -> None:
    """Fill a folder with covers and their three stego versions.

    Args:
        folder: where the four folders are made.
        covers: how many; qualities and rates take turns.
        side: of the square images, a multiple of 8.
        seed: all chance follows from it.
    """
    from sklearn.datasets import load_sample_images  # slow to import

    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    for name in CLASS_NAMES:
        (folder / name).mkdir()
    for index in range(covers):
        rng = np.random.default_rng((seed, index))
        quality = QUALITIES[index % len(QUALITIES)]
        rate = RATES[index // len(QUALITIES) % len(RATES)]
        name = f"{index + 1:05d}.jpg"
        crop = _crop(photos[rng.integers(len(photos))], side, rng, valid=is_valid(name))
        crop.save(folder / "Cover" / name, quality=quality, subsampling=0)
        _write_versions(folder, name, rate, rng)


def _crop(photo: Image.Image, side: int, rng: np.random.Generator, *, valid: bool) -> Image.Image:
    """Return a square from the part of a photograph that is for training or for validation, scaled down, mirrored."""
    border = int(photo.width * _TRAIN_SHARE)
    left, right = (border, photo.width) if valid else (0, border)
    source = min(int(side / rng.uniform(*_SCALES)), right - left, photo.height)
    x, y = int(rng.integers(left, right - source + 1)), int(rng.integers(0, photo.height - source + 1))
    # First the part and then its size: the other way round, the filter looks across the border.
    square = photo.crop((x, y, x + source, y + source)).resize((side, side), Image.Resampling.LANCZOS)
    return square.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else square


def _write_versions(folder: Path, name: str, rate: float, rng: np.random.Generator) -> None:
    cover = folder / "Cover" / name
    for kind, likelihood in LIKELIHOODS.items():
        jpeg = jpeglib.read_dct(str(cover))
        for quantized, table in coefficients(jpeg):
            embed(quantized, likelihood(quantized, table), rate, rng)
        _write(jpeg, folder / kind / name)
    _write(jpeglib.read_dct(str(cover)), cover)  # by the same program as the others


def _write(jpeg: jpeglib.DCTJPEG, path: Path) -> None:
    jpeg.markers = []  # it would write the JFIF marker twice
    jpeg.write_dct(str(path))


def embed(quantized: np.ndarray, likelihood: np.ndarray, rate: float, rng: np.random.Generator) -> None:
    """Change a share of the coefficients by one, in place, each at most once.

    Args:
        quantized: [h, w, 8, 8], int16.
        likelihood: of a change, in any unit, the same shape.
        rate: changes for each coefficient that is not zero and not a mean.
        rng: what is drawn from.
    """
    places = np.flatnonzero(likelihood)
    count = min(round(rate * np.count_nonzero(changeable(quantized))), len(places))
    # The largest of log likelihood plus Gumbel noise are a draw without replacement: T. Vieira, "Gumbel-max trick and
    # weighted reservoir sampling", 2014.
    keys = np.log(likelihood.reshape(-1)[places]) + rng.gumbel(size=len(places))
    chosen = places[np.argsort(-keys, kind="stable")[:count]]
    quantized.flat[chosen] += rng.choice(np.array([-1, 1], dtype=quantized.dtype), size=count)


def changeable(quantized: np.ndarray) -> np.ndarray:
    """Return which coefficients are not zero and not the mean of their block, the same shape."""
    found: np.ndarray = quantized != 0
    found[..., 0, 0] = False
    return found


def uniform(quantized: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return a likelihood that is the same for all."""
    return changeable(quantized).astype(np.float64)


def by_texture(quantized: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return a likelihood that grows with the texture around the block."""
    rough = np.abs(cv2.Laplacian(decode(quantized, table), cv2.CV_32F))
    wide = cv2.blur(rough, (2 * BLOCK, 2 * BLOCK))
    texture = cv2.resize(wide, quantized.shape[1::-1], interpolation=cv2.INTER_AREA)
    likelihood: np.ndarray = changeable(quantized) * (texture[..., None, None].astype(np.float64) ** 2 + 1e-3)
    return likelihood


def by_energy(quantized: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return a likelihood that grows with the energy of the block, and falls with the step of quantization."""
    energy = (np.abs(quantized) * table * changeable(quantized)).sum(axis=(2, 3), keepdims=True)
    likelihood: np.ndarray = changeable(quantized) * (energy / table)
    return likelihood


LIKELIHOODS: dict[str, Cost] = {"JMiPOD": uniform, "JUNIWARD": by_texture, "UERD": by_energy}
