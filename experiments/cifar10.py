"""CIFAR-10: 60,000 real colour photographs of 32 x 32 pixels in ten classes, with a residual net.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009,
https://www.cs.toronto.edu/~kriz/cifar.html; there is no formal licence, research use is customary. ``--data-dir``
holds the published Python version: ``cifar-10-python.tar.gz``, or the folder ``cifar-10-batches-py`` that it unpacks
to. Without ``--data-dir`` it is downloaded to ``data/cifar10``.
"""

import io
import pickle
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader

from assay.callbacks import UsageError, classification_diagnostics
from assay.runner import Augmented, Experiment
from assay.runner.prediction import ClassPrediction, Prediction

ARCHIVE, FOLDER = "cifar-10-python.tar.gz", "cifar-10-batches-py"
TRAIN_FILES = [f"data_batch_{number}" for number in range(1, 6)]
VALID_FILES = ["test_batch"]
CLASS_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


@dataclass(kw_only=True)
class Cifar10(Experiment):
    """A residual net with a stem for 32-pixel images."""

    epochs: int = 30
    batch_size: int = 128
    optimizer: str = "SGD"
    lr: float = 0.1
    momentum: float | None = 0.9
    weight_decay: float | None = 5e-4
    scheduler: str = "one-cycle"
    workers: int = 2
    monitor: list[str] = field(default_factory=lambda: ["valid/accuracy:max", "valid/loss:min"])
    depth: int = 18
    """Layers of the residual net: 18, 34 or 50."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth not in (18, 34, 50):
            raise UsageError(f"depth must be 18, 34 or 50, got {self.depth}.")

    def get_loaders(self) -> dict[str, DataLoader[Any]]:
        root = Path(self.data_dir) if self.data_dir is not None else download()
        light = [A.HorizontalFlip(), A.Pad(4), A.RandomCrop(32, 32)]
        files = {"train": TRAIN_FILES, "valid": VALID_FILES}
        parts = self.marked({key: read_items(root, names) for key, names in files.items()}, CLASS_NAMES)
        return {
            "train": self.make_loader(Augmented(parts["train"], to_tensor(light), seed=self.seed), shuffle=True),
            "valid": self.make_loader(Augmented(parts["valid"], to_tensor([]), seed=self.seed)),
        }

    def get_model(self) -> nn.Module:
        return Cifar10Net(self.depth, num_classes=len(CLASS_NAMES))

    def get_callbacks(self) -> list[Any]:
        return classification_diagnostics(self.diagnostics, class_names=CLASS_NAMES, mean=MEAN, std=STD)

    def get_prediction(self) -> Prediction:
        transform = to_tensor([A.Resize(32, 32, interpolation=cv2.INTER_AREA)])
        return ClassPrediction(class_names=CLASS_NAMES, transform=transform)


class Cifar10Net(nn.Module):
    """torchvision's ResNet with a stem for small images: [N, 3, 32, 32] to {"logits": [N, num_classes]}.

    The stem is one 3 x 3 convolution without stride or pooling, as in K. He et al., "Deep Residual Learning for
    Image Recognition", 2015, section 4.2.
    """

    def __init__(self, depth: int, num_classes: int):
        super().__init__()
        self.net = torchvision.models.get_model(f"resnet{depth}", weights=None, num_classes=num_classes)
        self.net.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
        self.net.maxpool = nn.Identity()

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"logits": self.net(image)}


def to_tensor(transforms: list[Any]) -> A.Compose:
    """Return the transforms, followed by normalization and the change to a tensor [C, H, W]."""
    return A.Compose([*transforms, A.Normalize(MEAN, STD), A.ToTensorV2()])


def read_items(root: Path, names: list[str]) -> list[dict[str, Any]]:
    """Return the images of some of the archive's files, [32, 32, 3] uint8, with target and id."""
    items = []
    for name in names:
        content = read_file(root, name)
        images = np.asarray(content["data"], dtype=np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        for image, target, file in zip(images, content["labels"], content["filenames"], strict=True):
            items.append({"image": np.ascontiguousarray(image), "target": int(target), "sample_id": file})
    return items


def read_file(root: Path, name: str) -> dict[str, Any]:
    """Return one file of the data set, from the unpacked folder or from the archive.

    The files are pickles of Python 2; only arrays and plain values are loaded.

    Raises:
        UsageError: the file is not there, or is broken.
    """
    for folder in (root / FOLDER, root):
        if (folder / name).is_file():
            return _unpickle((folder / name).read_bytes(), folder / name)
    archive = root / ARCHIVE
    if not archive.is_file():
        raise missing(root, f"{root / FOLDER / name} is not there")
    try:
        with tarfile.open(archive) as tar:
            member = tar.extractfile(f"{FOLDER}/{name}")
            content = member.read() if member is not None else b""
    except (KeyError, tarfile.TarError, OSError, EOFError) as error:
        raise missing(root, f"{archive} cannot be read at {FOLDER}/{name}: {error}") from error
    return _unpickle(content, archive)


def missing(root: Path, why: str) -> UsageError:
    """Return the error that names the file to download and the folder to put it into."""
    return UsageError(
        f"CIFAR-10 is not in {str(root)!r} ({why}): put {ARCHIVE}, the Python version from "
        f"https://www.cs.toronto.edu/~kriz/cifar.html, or its folder {FOLDER} there, and pass --data-dir {root}."
    )


def download(root: Path = Path("data/cifar10")) -> Path:
    """Download the data set by torchvision, unless it is there already, and return its folder."""
    if not (root / FOLDER).is_dir() and not (root / ARCHIVE).is_file():
        try:
            torchvision.datasets.CIFAR10(str(root), download=True)
        except (OSError, RuntimeError) as error:
            raise missing(root, f"and the download failed: {error}") from error
    return root


# A pickle can call any function when it is loaded; this one finds no more than the data set needs.
class _PlainUnpickler(pickle.Unpickler):
    _ALLOWED = ("numpy.core.multiarray", "numpy._core.multiarray", "numpy", "_codecs")

    def find_class(self, module: str, name: str) -> Any:
        if module in self._ALLOWED and name in ("_reconstruct", "ndarray", "dtype", "encode"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not part of this data set")


def _unpickle(content: bytes, path: Path) -> dict[str, Any]:
    try:
        # Python 2 stored bytes as text; latin1 maps each byte to the character of its number.
        return dict(_PlainUnpickler(io.BytesIO(content), encoding="latin1").load())
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, IndexError) as error:
        raise UsageError(f"{path} is broken or not of CIFAR-10: {error}.") from error
