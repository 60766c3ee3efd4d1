"""Classify pictures of your own: one class each, several labels each, or yes and no.

``--data-dir`` names a folder with one folder per class, with or without ``train`` and ``valid`` above them, or a table
of labels (CSV); docs/own-pictures.md shows the layouts. For example::

    assay train classify --data-dir photos
    assay train classify --data-dir labels.csv --backbone convnext_tiny --pretrained --image-size 224

The default backbone, light, is a narrow residual net that learns from some hundred images, from random weights. A table
with several labels per image, or one column of 0 and 1 per label, makes the task multilabel; with a single such column
it is binary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import timm
from torch import Tensor, nn

from assay.callbacks import UsageError, classification_diagnostics
from assay.callbacks.errors import listing
from assay.runner import (
    AtLeast,
    ItemList,
    LessThan,
    LossTerm,
    Mixed,
    load_pretrained,
    loss_terms,
    make_losses,
    parse_loss,
    read_data,
)
from assay.runner.prediction import ClassPrediction, Prediction

from .own_pictures import OwnPictures, check_backbone, normalization_of

LIGHT = "light"
BY_TASK = {"multiclass": "cross_entropy", "multilabel": "bce", "binary": "bce"}


@dataclass(kw_only=True)
class Classify(OwnPictures):
    """A classifier of pictures in folders or a table, by a light net or any backbone of timm."""

    epochs: int = 60
    batch_size: int = 32
    lr: float = 2e-3
    weight_decay: float | None = 5e-2
    scheduler: str = "one-cycle"
    monitor: list[str] = field(default_factory=lambda: ["valid/f1:max", "valid/accuracy:max", "valid/loss:min"])
    backbone: str = LIGHT
    """light, a narrow residual net that learns from few images, or a model of timm, such as resnet18, convnext_tiny or
    vit_small_patch16_224."""
    loss: str | None = None
    """A weighted sum of losses, such as 'bce + 0.5*dice': cross_entropy, bce, soft_bce, focal, dice, jaccard, lovasz.
    By default cross_entropy, or bce for labels and for yes and no."""
    label_smoothing: Annotated[float, AtLeast(0), LessThan(1)] = 0.0
    """Share of a target that is spread over all classes."""
    mixup: Annotated[float, AtLeast(0)] = 0.0
    """Lay training images over each other, in shares drawn from Beta(mixup, mixup), such as 0.2; 0: do not."""
    cutmix: Annotated[float, AtLeast(0)] = 0.0
    """Cut rectangles from training images into each other, such as 1.0; with mixup, a batch has one of both."""
    width: Annotated[int, AtLeast(4)] = 32
    """Channels of the first layer of the light net."""
    dropout: Annotated[float, AtLeast(0), LessThan(1)] = 0.0
    """Share of the features that are left out before the last layer, by chance, in training."""
    image_column: str | None = None
    """Column of a table that names the images; by default it is found by its name."""
    label_columns: list[str] = field(default_factory=list)
    """Columns of a table that hold the labels: one, or several of 0 and 1; by default they are found."""
    label_separator: str | None = None
    """What separates several labels in a cell of a table; by default it is found."""

    kind: ClassVar[Literal["classify", "segment", "detect"]] = "classify"

    def __post_init__(self) -> None:
        super().__post_init__()
        if "lovasz" in parse_loss(self.loss or "bce") and (self.mixup or self.cutmix):
            raise UsageError("mixup and cutmix give shares of classes, which lovasz does not take: leave one out.")
        if self.backbone == LIGHT and self.pretrained:
            raise UsageError("pretrained needs a backbone of timm, such as resnet18: the light net has no weights.")
        if self.backbone != LIGHT:
            check_backbone(self.backbone, LIGHT)

    def ignored_fields(self) -> dict[str, str]:
        reason = "is of the light net, and there is another backbone: leave it out"
        return super().ignored_fields() | ({} if self.backbone == LIGHT else {"width": reason})

    def read_items(self, path: Path) -> ItemList:
        columns = {"image_column": self.image_column, "label_columns": self.label_columns}
        given = {name: value for name, value in (columns | {"separator": self.label_separator}).items() if value}
        return read_data(path, self.kind, **given)

    @property
    def task(self) -> str:
        """What the data set is for: "multiclass", "multilabel" or "binary"."""
        return self.summary.task

    def batching(self) -> dict[str, Any]:
        """Mix training images, where the fields ask for it."""
        if not self.mixup and not self.cutmix:
            return {}
        classes = len(self.class_names) if self.task == "multiclass" else None
        return {"collate_fn": Mixed(classes, mixup=self.mixup, cutmix=self.cutmix)}

    def get_model(self) -> nn.Module:
        if len(self.class_names) < 2 and self.task == "multiclass":
            raise UsageError(f"a classifier needs two classes, and the data set has {listing(self.class_names)} alone.")
        outputs = 1 if self.task == "binary" else len(self.class_names)
        if self.backbone == LIGHT:
            return Classifier(LightNet(self.width, outputs, self.dropout), self.task)
        options: dict[str, Any] = {"num_classes": outputs, "drop_rate": self.dropout}
        # Transformers are made for one size, to which they scale the positions that they were trained with.
        if timm.get_pretrained_cfg(self.backbone).fixed_input_size:
            options["img_size"] = self.image_size
        make = partial(timm.create_model, self.backbone, **options)
        return Classifier(load_pretrained(make, self.backbone, pretrained=self.pretrained), self.task)

    def get_losses(self) -> Sequence[LossTerm]:
        """Return one term per loss of the sum."""
        return loss_terms(self.loss or BY_TASK[self.task])

    def get_criterion(self) -> dict[str, nn.Module]:
        options: dict[str, Any] = {"label_smoothing": self.label_smoothing, "weights": self.weights_of_classes}
        return make_losses(self.loss or BY_TASK[self.task], self.task, **options)

    def get_callbacks(self) -> list[Any]:
        mean, std = normalization_of(self.backbone)
        named: dict[str, Any] = {"task": self.task, "class_names": self.class_names, "mean": mean, "std": std}
        return classification_diagnostics(self.diagnostics, k_samples=16, **named)

    def get_prediction(self) -> Prediction:
        names = self.class_names[1:] if self.task == "binary" else self.class_names
        return ClassPrediction(class_names=names, transform=self.get_transform(), multilabel=self.task == "multilabel")


class Classifier(nn.Module):
    """A net from images [N, 3, H, W] to {"logits": [N, C], or [N] of yes and no}."""

    def __init__(self, net: nn.Module, task: str):
        super().__init__()
        self.net = net
        self.is_binary = task == "binary"

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        logits: Tensor = self.net(image)
        return {"logits": logits.squeeze(1) if self.is_binary else logits}


class LightNet(nn.Module):
    """A narrow residual net: images [N, 3, H, W] to logits [N, outputs].

    The blocks are those of K. He et al., "Identity Mappings in Deep Residual Networks", 2016, one per stage; each stage
    halves the sides and doubles the channels.
    """

    def __init__(self, width: int, outputs: int, dropout: float):
        super().__init__()
        widths = [width * 2**stage for stage in range(4)]
        blocks = [Block(before, after) for before, after in zip([width, *widths[:-1]], widths, strict=True)]
        self.stem = nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False)
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(widths[-1])
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], outputs)

    def forward(self, image: Tensor) -> Tensor:
        features = self.norm(self.blocks(self.stem(image))).relu().mean(dim=(2, 3))
        logits: Tensor = self.head(self.dropout(features))
        return logits


class Block(nn.Module):
    """Two convolutions beside a shortcut; with more channels after than before, half the height and width."""

    def __init__(self, before: int, after: int):
        super().__init__()
        stride = 1 if before == after else 2
        self.norms = nn.ModuleList([nn.BatchNorm2d(before), nn.BatchNorm2d(after)])
        self.first = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.second = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(before, after, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = self.norms[0](x).relu()
        inner: Tensor = self.second(self.norms[1](self.first(active)).relu())
        shortcut: Tensor = self.shortcut(active if x.shape[1] != inner.shape[1] else x)
        return inner + shortcut
