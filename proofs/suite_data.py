"""Handwritten digits in the files and the sizes of MNIST, made of the small ones that scikit-learn brings."""

import gzip
import hashlib
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional

# How many images of each digit MNIST has; its tests ask for the largest and the smallest number of the second.
TRAINING = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)
TEST = (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)

_SIDE, _INNER = 28, 20  # pixels of an image, and of the square in it that the digit fills, as in MNIST
_PARTS = (("training.pt", "train", TRAINING), ("test.pt", "t10k", TEST))


def write_mnist(root: Path, downloads: Path) -> list[tuple[str, str]]:
    """Write what Catalyst's MNIST finds below ``root``, and in ``downloads`` what it would download.

    Returns:
        URL and MD5 of each file to download, in the form of ``MNIST.resources``.
    """
    folder = root / "MNIST" / "processed"
    for made in (folder, downloads):
        made.mkdir(parents=True)
    resources = []
    for seed, (name, part, counts) in enumerate(_PARTS):
        images, labels = make_digits(counts, torch.Generator().manual_seed(seed))
        torch.save((images, labels), folder / name)
        for kind, values in (("images-idx3", images), ("labels-idx1", labels.to(torch.uint8))):
            resources.append(_write_idx(downloads / f"{part}-{kind}-ubyte.gz", values))
    return resources


def make_digits(counts: tuple[int, ...], chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return so many images of each digit in a random order, [N, 28, 28] uint8, and their digits, [N]."""
    small = load_digits()
    source = functional.interpolate(torch.from_numpy(small.images)[:, None] * (255 / 16), (_INNER, _INNER))[:, 0]
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=chance)]
    images = torch.zeros(len(labels), _SIDE, _SIDE, dtype=torch.uint8)
    for digit in range(len(counts)):
        mine, like = (labels == digit).nonzero()[:, 0], torch.from_numpy(small.target == digit).nonzero()[:, 0]
        drawn = like[torch.randint(len(like), (len(mine),), generator=chance)]
        images[mine] = _place(source[drawn].to(torch.uint8), chance)
    return images, labels


def _place(digits: Tensor, chance: torch.Generator) -> Tensor:
    """Put each digit, [N, 20, 20], in the middle of an image of its own, [N, 28, 28], or one pixel beside it."""
    middle = (_SIDE - _INNER) // 2
    images = torch.zeros(len(digits), _SIDE, _SIDE, dtype=torch.uint8)
    shifts = torch.randint(middle - 1, middle + 2, (len(digits), 2), generator=chance)
    for image, digit, (top, left) in zip(images, digits, shifts.tolist(), strict=True):
        image[top : top + _INNER, left : left + _INNER] = digit
    return images


def _write_idx(path: Path, values: Tensor) -> tuple[str, str]:
    """Write bytes as MNIST's authors do: type and number of dimensions, their sizes, values; return URL and MD5."""
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    content = gzip.compress(bytes([0, 0, 8, values.ndim]) + sizes + values.numpy().tobytes(), compresslevel=1)
    path.write_bytes(content)
    return path.resolve().as_uri(), hashlib.md5(content, usedforsecurity=False).hexdigest()
