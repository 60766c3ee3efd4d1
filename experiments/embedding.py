"""Digits on photographs: metric learning with several outputs and targets.

Each picture, 32 x 32 pixels in colour, shows one handwritten digit, scaled, rotated, coloured, and placed somewhere on
a piece of a photograph. The model returns ``embedding`` [N, 64], ``logits``, which are the cosines to the ten classes,
and the outputs that ``Embedding.heads`` lists: how far the digit is rotated, and which photograph it is on. One line
adds a head, and one a target.

recall@1 on validation is the share of 360 pictures whose nearest other picture by cosine shows the same digit. None of
them is in the training set, nor is any pixel of their photographs: training sees the left two thirds.

``--data-dir`` holds ``labels.csv`` with columns ``image``, ``part`` (train or valid), ``digit``, ``tilt`` (-1 to 1, of
30 degrees), ``photograph`` and others, and the images that it names. Without it such a folder is generated from the
1,797 digits of scikit-learn (the test set of the UCI "Optical Recognition of Handwritten Digits" data, CC BY 4.0) and
its two photographs (CC BY 2.0, see its ``datasets/images/README.txt``).
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import albumentations as A
import cv2
import numpy as np
import torchmetrics
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from assay.callbacks import Embeddings, Metrics, RecallAtK, UsageError, classification_diagnostics
from assay.runner import Augmented, ClassPrediction, Experiment, LossTerm

CLASS_NAMES = [str(digit) for digit in range(10)]
PHOTOGRAPHS = ("china.jpg", "flower.jpg")
SIDE, MOST_TILT, COPIES = 32, 30.0, 3
SCALE = 16.0
MEAN, STD = (0.42, 0.46, 0.42), (0.31, 0.28, 0.31)


@dataclass(frozen=True)
class Head:
    """An additional output of the model, with its loss and its metric.

    Attributes:
        output: name of the model's output: [N, classes], or [N] of a number.
        target: column of the labels; ``TARGET_accuracy`` or, of a number, ``TARGET_error`` is its metric.
        classes: number of classes; None: the target is a number.
        weight: of the loss, which is logged as ``loss_TARGET``.
    """

    output: str
    target: str
    classes: int | None = None
    weight: float = 0.3

    def loss(self) -> LossTerm:
        """Return the term: cross-entropy, or the smooth absolute error."""
        criterion = "distance" if self.classes is None else "cross_entropy"
        return LossTerm(self.output, self.target, criterion, self.weight, f"loss_{self.target}")

    def metrics(self) -> Metrics:
        """Return the callback that measures it."""
        keys: dict[str, Any] = {"output_key": self.output, "target_key": self.target}
        if self.classes is None:
            return Metrics({f"{self.target}_error": torchmetrics.MeanAbsoluteError()}, **keys)
        return Metrics({f"{self.target}_accuracy": "accuracy"}, num_classes=self.classes, **keys)


@dataclass(kw_only=True)
class Embedding(Experiment):
    """A small convolutional net, with CosFace on its embedding and a linear layer for each other head."""

    epochs: int = 14
    batch_size: int = 64
    lr: float = 3e-3
    scheduler: str = "one-cycle"
    scheduler_options: dict[str, Any] = field(default_factory=lambda: {"cycle_momentum": True})
    monitor: list[str] = field(default_factory=lambda: ["valid/recall@1:max", "valid/loss:min"])
    width: int = 16
    """Channels of the first layer."""
    dimensions: int = 64
    """Length of an embedding."""
    margin: float = 0.2
    """By how much the cosine to the true class must exceed all others."""

    targets: ClassVar[dict[str, Callable[[str], Any]]] = {"digit": int, "tilt": np.float32, "photograph": int}
    """Columns of the labels, and how their text is read."""
    heads: ClassVar[Sequence[Head]] = (
        Head("tilt_found", "tilt"),
        Head("photograph_logits", "photograph", classes=len(PHOTOGRAPHS)),
    )
    """What the model returns beside ``embedding`` and ``logits``."""

    def get_losses(self) -> Sequence[LossTerm]:
        """CosFace, and the loss of each head."""
        return (LossTerm("logits", "digit", "cosface"), *(head.loss() for head in self.heads))

    def get_criterion(self) -> dict[str, nn.Module]:
        return {"cosface": CosFace(self.margin), "cross_entropy": nn.CrossEntropyLoss(), "distance": nn.SmoothL1Loss()}

    def get_model(self) -> nn.Module:
        return DigitOnPhotograph(self.width, self.dimensions, self.heads)

    def get_prediction(self) -> ClassPrediction:
        return ClassPrediction(class_names=CLASS_NAMES, transform=to_tensor([]))

    def get_callbacks(self) -> list[Any]:
        keys: dict[str, Any] = {"target_key": "digit", "class_names": CLASS_NAMES, "mean": MEAN, "std": STD}
        callbacks = classification_diagnostics(self.diagnostics, metrics=["accuracy"], **keys)
        callbacks += [RecallAtK(embedding_key="embedding", target_key="digit"), *(it.metrics() for it in self.heads)]
        return callbacks if self.diagnostics == "off" else [*callbacks, Embeddings(embedding_key="embedding", **keys)]

    def get_loaders(self) -> dict[str, DataLoader[Any]]:
        folder = self.data_folder()
        light = [A.Affine(translate_px=(-2, 2), rotate=0, scale=1.0, border_mode=cv2.BORDER_REFLECT_101)]
        parts = {part: list(read_items(folder, part, self.targets)) for part in ("train", "valid")}
        return {
            "train": self.make_loader(Augmented(parts["train"], to_tensor(light), seed=self.seed), shuffle=True),
            "valid": self.make_loader(Augmented(parts["valid"], to_tensor([]), seed=self.seed)),
        }

    def make_data(self, folder: Path) -> None:
        (folder / "images").mkdir()
        with open(folder / "labels.csv", "w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["image", "part", "digit", "tilt", "photograph", "ink"])
            for name, scene, row in make_scenes():
                cv2.imwrite(str(folder / name), cv2.cvtColor(scene, cv2.COLOR_RGB2BGR))
                table.writerow([name, *row])


class DigitOnPhotograph(nn.Module):
    """Images [N, 3, 32, 32] to {"embedding": [N, D], of length 1, "logits": [N, 10], and the output of each head}."""

    def __init__(self, width: int, dimensions: int, heads: Sequence[Head]):
        super().__init__()
        self.body = nn.Sequential(
            *_block(3, width),
            *_block(width, 2 * width, stride=2),
            *_block(2 * width, 2 * width),
            *_block(2 * width, 4 * width, stride=2),
            *_block(4 * width, 4 * width),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        )
        features = 16 * width
        self.embedding = nn.Linear(features, dimensions)
        self.centres = nn.Linear(dimensions, len(CLASS_NAMES), bias=False)
        self.heads = nn.ModuleDict({head.output: nn.Linear(features, head.classes or 1) for head in heads})

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        features = self.body(image)
        embedding = F.normalize(self.embedding(features))
        logits = SCALE * F.linear(embedding, F.normalize(self.centres.weight))
        others = {name: head(features).squeeze(1) for name, head in self.heads.items()}
        return {"embedding": embedding, "logits": logits, **others}


class CosFace(nn.CrossEntropyLoss):
    """Cross-entropy of ``SCALE`` times cosines, with that to the true class reduced by a margin.

    H. Wang et al., "CosFace: Large Margin Cosine Loss for Deep Face Recognition", 2018, equation 4.
    """

    def __init__(self, margin: float):
        super().__init__()
        self.margin = margin

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        own = F.one_hot(target, logits.shape[1])
        return super().forward(logits - SCALE * self.margin * own, target)


def _block(channels_in: int, channels_out: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)]


def to_tensor(transforms: list[Any]) -> A.Compose:
    """Return the transforms, followed by normalization and the change to a tensor [C, H, W]."""
    return A.Compose([*transforms, A.Normalize(MEAN, STD), A.ToTensorV2()])


def read_items(folder: Path, part: str, targets: dict[str, Callable[[str], Any]]) -> Iterator[dict[str, Any]]:
    """Yield the items of a part: the path of the image, the targets and the id.

    Raises:
        UsageError: there is no ``labels.csv``, a column is missing, or a value cannot be read.
    """
    path = folder / "labels.csv"
    if not path.is_file():
        raise UsageError(f"{path} is missing: data_dir must hold it; the experiment's docstring lists its columns.")
    with open(path, newline="") as file:
        rows = csv.DictReader(file)
        if missing := {"image", "part", *targets} - set(rows.fieldnames or ()):
            raise UsageError(f"{path} lacks the columns {sorted(missing)}; it has {rows.fieldnames}.")
        for row in rows:
            if row["part"] == part:
                yield {"image": str(folder / row["image"]), "sample_id": row["image"], **_values(row, targets, path)}


def _values(row: dict[str, str], targets: dict[str, Callable[[str], Any]], path: Path) -> dict[str, Any]:
    try:
        return {name: read(row[name]) for name, read in targets.items()}
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}, row of {row['image']!r}: {error}.") from error


def make_scenes() -> Iterator[tuple[str, np.ndarray, list[Any]]]:
    """Yield name, picture [32, 32, 3] and the values of the columns after ``image``; every fifth digit is held out."""
    from sklearn.datasets import load_digits, load_sample_image  # slow to import

    photographs = [load_sample_image(name) for name in PHOTOGRAPHS]
    digits = load_digits()
    for index, (image, digit) in enumerate(zip((digits.images / 16).astype(np.float32), digits.target, strict=True)):
        part = "valid" if index % 5 == 0 else "train"
        for copy in range(1 if part == "valid" else COPIES):
            # A generator per picture: more copies, or another order, leave the others as they are.
            rng = np.random.default_rng([index, copy])
            photograph, tilt = int(rng.integers(len(photographs))), rng.uniform(-MOST_TILT, MOST_TILT)
            patch = cut_patch(photographs[photograph], part, rng)
            scene, ink = put_on(patch, image, tilt, rng)
            yield f"images/{index:04d}-{copy}.png", scene, [part, digit, f"{tilt / MOST_TILT:.4f}", photograph, ink]


def cut_patch(photograph: np.ndarray, part: str, rng: np.random.Generator) -> np.ndarray:
    """Return a patch [32, 32, 3], float: from the left two thirds for training, from the rest for validation."""
    # Apart, so that a model that knows a photograph by heart gains nothing on validation.
    border = photograph.shape[1] * 2 // 3
    half = photograph[:, :border] if part == "train" else photograph[:, border:]
    top, left = (int(rng.integers(side - SIDE + 1)) for side in half.shape[:2])
    return half[top : top + SIDE, left : left + SIDE].astype(np.float64)


def put_on(patch: np.ndarray, digit: np.ndarray, tilt: float, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """Return the patch with a digit of 18 to 28 pixels on it, uint8, and whether its ink is bright (1) or dark (0).

    The ink has any colour that is brighter than a dark ground, or darker than a bright one.
    """
    side = rng.uniform(18, 28)
    centre = rng.uniform(side / 2, SIDE - side / 2, 2)
    turn = cv2.getRotationMatrix2D((3.5, 3.5), tilt, side / 8)
    turn[:, 2] += centre - 0.5 - 3.5
    # In float32: of float64, OpenCV 5 makes something else.
    cover = cv2.warpAffine(digit, turn, (SIDE, SIDE), flags=cv2.INTER_CUBIC).clip(0, 1)[..., None]
    bright = int((patch * cover).sum() / cover.sum() / 3 < 128)
    ink = rng.uniform(0, 100, 3) + 155 * bright
    return np.round(patch * (1 - cover) + ink * cover).astype(np.uint8), bright
