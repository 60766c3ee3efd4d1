"""Detect objects in pictures of your own, by torchvision's detectors.

``--data-dir`` names a data set with boxes: COCO JSON, YOLO, Pascal VOC, or a CSV with a row per box;
docs/own-pictures.md shows the layouts. For example::

    assay train detect --data-dir blood
    assay train detect --data-dir data.yaml --backbone resnet50 --pretrained --image-size 640 --augmentation medium

The default backbone is a narrow residual net that learns from some hundred images, from random weights. ``ap50`` and
``map`` are COCO's figures, by pycocotools, on boxes in pixels of the image size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from torch import nn
from torch.utils.data import DataLoader, Dataset

from assay.callbacks import UsageError, detection_diagnostics
from assay.runner import AtLeast, Augmented, ItemList, LossTerm, MultipleOf, collate_boxes, make_transform
from assay.runner.prediction import BoxPrediction, Prediction

from .detectors import DETECTIONS, LIGHT, loss_terms, make_detector
from .own_pictures import OwnPictures, check_backbone, normalization_of


@dataclass(kw_only=True)
class Detect(OwnPictures):
    """A detector of torchvision for pictures with boxes, on a small net or any backbone of timm that suits."""

    epochs: int = 30
    batch_size: int = 4
    lr: float = 3e-3
    scheduler: str = "one-cycle"
    monitor: list[str] = field(default_factory=lambda: ["valid/ap50:max", "valid/map:max"])
    detector: Literal["fcos", "retinanet", "faster_rcnn"] = "fcos"
    """The detector of torchvision."""
    backbone: str = LIGHT
    """light, a narrow residual net that learns from few images, or a model of timm with features at strides 8, 16 and
    32, such as resnet50 or convnext_tiny."""
    channels: Annotated[int, MultipleOf(32)] = 64
    """Channels of the feature maps that boxes are predicted from, a multiple of 32; use 256 for a large backbone."""
    image_size: Annotated[int, AtLeast(32)] = 256
    """Side in pixels of the square that images are brought to."""
    resize: Literal["letterbox", "stretch"] = "letterbox"
    """How: with borders, or by changing the ratio of the sides."""
    min_score: Annotated[float, AtLeast(0)] = 0.3
    """Predictions with a lower score are not drawn, and not written by assay predict."""

    kind: ClassVar[Literal["classify", "segment", "detect"]] = "detect"
    input_key: ClassVar[Any] = ("image", "target")
    # torchvision's detectors weigh all classes alike, and an image has boxes of any number of classes.
    unused_fields: ClassVar[Sequence[str]] = ("class_weights", "sampler")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_backbone(self.backbone, LIGHT)
        if self.backbone == LIGHT and self.pretrained:
            raise UsageError(
                "pretrained needs a backbone of timm, such as resnet50: the light net has no such weights."
            )

    def transformed(self, items: ItemList, level: str) -> Augmented:
        """Return items with their images read, augmented at a level, and brought to tensors, with their boxes."""
        labels = [name for name in ("labels", "iscrowd") if name in items.names]
        keys = {name: name for name in ("image", "bboxes", *labels)}
        return Augmented(items, self.get_transform(level, labels), seed=self.seed, keys=keys)

    def get_transform(self, level: str = "none", labels: Sequence[str] = ()) -> Any:
        """Return the transform of images, and of their boxes where there are labels of these, by their names."""
        mean, std = normalization_of(self.backbone)
        by: dict[str, Any] = {"resize": self.resize, "symmetry": self.symmetry, "mean": mean, "std": std}
        return make_transform(level, self.image_size, boxes=labels, **by)

    def make_loader(self, dataset: Dataset[Any], **options: Any) -> DataLoader[Any]:
        is_train = options.get("shuffle", False) or options.get("sampler") is not None
        # What is found in a crowd counts neither way in metrics; a detector would learn it as one object.
        return super().make_loader(dataset, collate_fn=partial(collate_boxes, keep_crowds=not is_train), **options)

    def get_model(self) -> nn.Module:
        return make_detector(
            self.detector,
            self.backbone,
            image_size=self.image_size,
            channels=self.channels,
            num_classes=len(self.class_names),
            strides=(8, 16) if self.backbone == LIGHT else (8, 16, 32),
            pretrained=self.pretrained,
            # The images are normalized already.
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
        )

    def get_losses(self) -> Sequence[LossTerm]:
        """Return the losses that the detector computes by itself."""
        return loss_terms(self.detector)

    def get_criterion(self) -> None:
        """Return None: the detector computes its losses by itself."""

    def get_callbacks(self) -> list[Any]:
        mean, std = normalization_of(self.backbone)
        shown: dict[str, Any] = {"class_names": self.class_names, "mean": mean, "std": std}
        return detection_diagnostics(self.diagnostics, output_key=DETECTIONS, min_score=self.min_score, **shown)

    def get_prediction(self) -> Prediction:
        return BoxPrediction(
            output_key=DETECTIONS,
            class_names=self.class_names,
            transform=self.get_transform(),
            min_score=self.min_score,
        )
