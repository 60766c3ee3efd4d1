"""Find the class of each pixel in pictures of your own: a U-Net, an FPN or DeepLab on any backbone.

Images and masks are found by their names, in a CSV, or drawn from COCO's outlines; see docs/own-pictures.md::

    assay train segment --data-dir tiles
    assay train segment --data-dir tiles --backbone convnext_tiny --pretrained --image-size 512 --loss "bce + dice"
    assay predict runs/segment/... --input photos
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import albumentations as A
import numpy as np
from torch import nn

from assay.callbacks import segmentation_diagnostics
from assay.runner import AtLeast, LessThan, LossTerm, loss_terms, make_losses, make_transform, parse_loss
from assay.runner.prediction import MaskPrediction, Prediction

from .own_pictures import OwnPictures, normalization_of
from .segmentation_nets import SegmentationNet, make_backbone

IGNORED = 255
"""In a mask: a pixel that does not count."""


@dataclass(kw_only=True)
class Segment(OwnPictures):
    """Classes of pixels; of two classes the net gives the probability of the second one."""

    epochs: int = 30
    batch_size: int = 8
    image_size: Annotated[int, AtLeast(32)] = 256
    monitor: list[str] = field(default_factory=lambda: ["valid/iou:max", "valid/loss:min"])
    channels_last: bool = True
    backbone: str = "resnet18"
    """A backbone of timm, such as resnet50, convnext_tiny or mit_b0, or an encoder of pytorch-toolbelt."""
    decoder: Literal["unet", "fpn", "deeplab"] = "unet"
    """The decoder on top of the backbone."""
    width: Annotated[int, AtLeast(1)] = 32
    """Channels of the decoder's finest map; coarser ones have more."""
    loss: str = "cross_entropy + dice"
    """A weighted sum of cross_entropy, bce, soft_bce, focal, dice, jaccard and lovasz, such as 'focal + 0.5*dice'."""
    label_smoothing: Annotated[float, AtLeast(0), LessThan(1)] = 0.0
    """Share of a pixel's truth that cross_entropy and bce spread over all classes."""

    kind: ClassVar[Literal["classify", "segment", "detect"]] = "segment"
    part_keys: ClassVar[Mapping[str, str]] = {"image": "image", "mask": "target"}

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_loss(self.loss)

    @property
    def task(self) -> str:
        """``binary`` for two classes, of which one output tells, else ``multiclass``."""
        return "binary" if len(self.class_names) == 2 else "multiclass"

    def get_model(self) -> nn.Module:
        classes = 1 if self.task == "binary" else len(self.class_names)
        encoder = make_backbone(self.backbone, pretrained=self.pretrained)
        return SegmentationNet(encoder, self.decoder, self.width, classes)

    def get_losses(self) -> Sequence[LossTerm]:
        return loss_terms(self.loss)

    def get_criterion(self) -> dict[str, nn.Module]:
        return make_losses(
            self.loss,
            self.task,
            ignore_index=IGNORED,
            weights=self.weights_of_classes,
            label_smoothing=self.label_smoothing,
        )

    def get_callbacks(self) -> list[Any]:
        mean, std = normalization_of(self.backbone)
        return segmentation_diagnostics(
            self.diagnostics,
            task=self.task,
            class_names=self.class_names,
            ignore_index=IGNORED,
            mean=mean,
            std=std,
        )

    def get_prediction(self) -> Prediction:
        """Predict masks in the size of each image, at the scale of training."""
        transform = self.get_transform()
        if self.resize == "crop":  # the whole image at that scale, and not its middle alone
            mean, std = normalization_of(self.backbone)
            steps = make_transform(mean=mean, std=std).transforms
            transform = A.Compose([A.SmallestMaxSize(self.image_size, area_for_downscale="image"), *steps])
        colours = self.summary.palette
        palette = None if colours is None else np.array(colours, dtype=np.uint8)
        return MaskPrediction(
            class_names=self.class_names, transform=transform, palette=palette, masks=self.summary.masks
        )
