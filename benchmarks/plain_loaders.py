"""Plain loops over the files of the experiments, as one writes them for one data set and one training.

They do the same reading, cropping and augmentation with the same libraries. They check nothing, name nothing, and what
they draw follows from no seed.
"""

import csv
import json
import random
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import jpeglib
import numpy as np
import rasterio
import torch
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window
from scipy.fft import idctn
from torch.utils.data import DataLoader, Dataset, default_collate

warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)


class PlainCrops(Dataset[Any]):
    """Random crops of the tiles of ``inria`` that are for training: image [3, S, S] and mask [S, S]."""

    def __init__(self, root: Path, size: int, transform: A.Compose):
        self.root, self.size, self.transform = root, size, transform
        paths = [path for path in sorted((root / "train" / "images").iterdir()) if int(path.stem.lstrip(_LETTERS)) > 5]
        with rasterio.open(paths[0]) as tile:
            crops = -(-tile.height // size) * -(-tile.width // size)
        self.paths = [path for path in paths for _ in range(crops)]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        path = self.paths[index]
        with rasterio.open(path) as image, rasterio.open(self.root / "train" / "gt" / path.name) as mask:
            top, left = random.randint(0, image.height - self.size), random.randint(0, image.width - self.size)
            window = Window(left, top, self.size, self.size)
            pixels = np.ascontiguousarray(image.read(window=window).transpose(1, 2, 0))
            truth = mask.read(1, window=window) // 255
        parts = self.transform(image=pixels, mask=truth)
        return parts["image"], parts["mask"]


class PlainJpegs(Dataset[Any]):
    """Files of ``alaska2`` without rounding: image [3, H, W] from 0 to 1, and the number of its class."""

    def __init__(self, root: Path, names: list[str], kinds: list[str], transform: A.Compose):
        self.paths = [(root / kind / name, number) for name in names for number, kind in enumerate(kinds)]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        path, number = self.paths[index]
        return self.transform(image=read_unrounded(path))["image"], number


def read_unrounded(path: Path) -> np.ndarray:
    """Return the pixels of a JPEG file with all its components in full size, [H, W, 3] RGB from 0 to 1."""
    jpeg = jpeglib.read_dct(str(path))
    planes = []
    for number, blocks in enumerate((jpeg.Y, jpeg.Cb, jpeg.Cr)):
        pixels = idctn(blocks * np.float32(jpeg.get_component_qt(number)), axes=(2, 3), norm="ortho")
        planes.append(pixels.swapaxes(1, 2).reshape(jpeg.height, jpeg.width))
    luminance, blue, red = planes
    ycc = cv2.merge([luminance + 128, red, blue]) / 255 + np.float32([0, 0.5, 0.5])
    return np.clip(cv2.cvtColor(ycc, cv2.COLOR_YCrCb2RGB), 0, 1)


class PlainBoxes(Dataset[Any]):
    """Images of ``wheat`` with their boxes: image [3, S, S] from 0 to 1, boxes [M, 4], labels [M]."""

    def __init__(self, root: Path, names: list[str], transform: A.Compose):
        self.root, self.names, self.transform = root, names, transform
        self.boxes = defaultdict(list)
        with open(root / "train.csv", newline="") as file:
            for row in csv.DictReader(file):
                if row["bbox"]:
                    left, top, width, height = json.loads(row["bbox"])
                    self.boxes[row["image_id"]].append([left, top, left + width, top + height])

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        name = self.names[index]
        image = cv2.cvtColor(cv2.imread(str(self.root / "train" / f"{name}.jpg")), cv2.COLOR_BGR2RGB)
        boxes = np.array(self.boxes[name], dtype=np.float32).reshape(-1, 4)
        parts = self.transform(image=image, bboxes=boxes, labels=np.ones(len(boxes)))
        boxes = torch.as_tensor(np.array(parts["bboxes"], dtype=np.float32).reshape(-1, 4))
        labels = torch.as_tensor(np.array(parts["labels"], dtype=np.int64))
        return parts["image"], {"boxes": boxes, "labels": labels}


def join_boxes(items: list[Any]) -> tuple[Any, list[Any]]:
    images, targets = zip(*items, strict=True)
    return torch.stack(images), list(targets)


class PlainLoop:
    """Batches of a data set in random order, in this process and with nothing between."""

    def __init__(self, items: Dataset[Any], batch_size: int, collate: Any):
        self.items, self.batch_size, self.collate = items, batch_size, collate

    def __iter__(self) -> Iterator[Any]:
        order = torch.randperm(len(self.items)).tolist()  # type: ignore[arg-type]
        for start in range(0, len(order), self.batch_size):
            yield self.collate([self.items[index] for index in order[start : start + self.batch_size]])


def plain_loader(items: Dataset[Any], batch_size: int, workers: int, collate: Any = default_collate) -> Any:
    """Return a loop over a data set: of torch where there are workers, a simple one where there are none."""
    if workers == 0:
        return PlainLoop(items, batch_size, collate)
    options: dict[str, Any] = {"num_workers": workers, "persistent_workers": True, "collate_fn": collate}
    return DataLoader(items, batch_size=batch_size, shuffle=True, **options)


_LETTERS = "abcdefghijklmnopqrstuvwxyz-"
