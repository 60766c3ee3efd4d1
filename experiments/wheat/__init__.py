"""Global Wheat Detection: detect wheat heads in photographs of fields.

Source: E. David et al., "Global Wheat Head Detection (GWHD) Dataset", Plant Phenomics 2020, article 3521852; 3,422
images of 1024 x 1024 pixels, of which 49 show no head. They are at https://www.kaggle.com/c/global-wheat-detection
under the rules of that competition, which have to be accepted there; the authors publish the larger edition of 2021
under CC BY 4.0. ``kaggle competitions download -c global-wheat-detection`` downloads an archive; ``--data-dir`` is the
folder that it unpacks to, with ``train.csv`` (``image_id,width,height,bbox,source``, one row per box) and
``train/*.jpg``.

One image of five, chosen by a checksum of its id, is held out for validation. ``--valid-sources`` holds out whole
sources instead, which shows better how the detector does on new fields. Without ``--data-dir`` a small data set in the
same layout is generated; see ``generator``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from inspect import get_annotations
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import albumentations as A
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import BestWorstBatches, BestWorstSamples, BoxMetrics, detection_diagnostics
from assay.callbacks.toolkit import BoxPrecision
from assay.runner import AtLeast, Augmented, Experiment, ItemList, LossTerm, MultipleOf, collate_boxes
from assay.runner.prediction import BoxPrediction, Prediction

from ..detectors import DETECTIONS, LIGHT, loss_terms, make_detector
from . import generator
from .data import CLASS_NAMES, read_items, scale_to_tensor, split, to_tensor


@dataclass(kw_only=True)
class Wheat(Experiment):
    """A detector of torchvision that learns to find the heads."""

    epochs: int = 15
    batch_size: int = 4
    lr: float = 3e-3
    scheduler: str = "one-cycle"
    monitor: list[str] = field(default_factory=lambda: ["valid/ap50:max", "valid/map:max"])
    detector: Literal["fcos", "retinanet", "faster_rcnn"] = "fcos"
    """The detector of torchvision."""
    backbone: str = LIGHT
    """The backbone: a name of timm, such as resnet18, or light, a narrow residual net."""
    pretrained: bool = False  # of a backbone of timm
    channels: Annotated[int, MultipleOf(32)] = 64
    """Channels of the feature maps that boxes are predicted from, a multiple of 32."""
    image_size: Annotated[int, AtLeast(32)] = generator.SIZE
    """Side in pixels that images are scaled to; use 512 or more for the real ones."""
    min_score: Annotated[float, AtLeast(0)] = 0.5
    """Predictions with a lower score do not count for the competition's figure, and are not drawn."""
    valid_sources: list[str] = field(default_factory=list)
    """Sources to validate on; by default one image of five, from all sources."""

    map_is: Literal["coco", "competition"] = "coco"
    """Whose figure is called map: coco, or competition as in older runs, where COCO's is coco_map."""

    input_key: ClassVar[Any] = ("image", "target")

    def ignored_fields(self) -> dict[str, str]:
        own = {"pretrained": "has no use with --backbone light, which has no such weights: leave one of them out"}
        return super().ignored_fields() | (own if self.backbone == LIGHT else {})

    @classmethod
    def missing_fields(cls, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Let map be the competition's figure in a config without ``map_is``: one of a run, or one that watches map."""
        monitors = fields.get("monitor")
        watched = [monitors] if isinstance(monitors, str) else monitors or []
        is_of_run = (get_annotations(cls).keys() - {"map_is", "input_key", "pretrained"}) <= fields.keys()
        of_before = "map_is" not in fields and (is_of_run or any("/map:" in str(one) for one in watched))
        return {"map_is": "competition"} if of_before else {}

    def get_losses(self) -> Sequence[LossTerm]:
        """The losses that the detector computes by itself."""
        return loss_terms(self.detector)

    def make_data(self, folder: Path) -> None:
        generator.make_data(folder)

    @cached_property
    def items(self) -> ItemList:
        """All images with their boxes."""
        return read_items(self.data_folder())

    def describe_data(self) -> list[str]:
        """Return what is wrong with the data."""
        return self.items.describe_problems()

    def files_of_run(self) -> dict[str, str]:
        """Return the file with all of it."""
        return self.items.file_of_problems()

    def get_loaders(self) -> dict[str, DataLoader[Any]]:
        train, valid = split(self.items, self.valid_sources)
        parts = self.marked({"train": train, "valid": valid})
        light = [A.D4(), A.RandomBrightnessContrast(0.2, 0.2), A.HueSaturationValue(8, 20, 0)]
        return {
            "train": self._make_loader(parts["train"], light, shuffle=True),
            "valid": self._make_loader(parts["valid"], []),
        }

    def get_truth_loader(self, items: ItemList) -> DataLoader[Any]:
        return self._make_loader(items, [])

    def _make_loader(self, items: ItemList, transforms: list[Any], **order: Any) -> DataLoader[Any]:
        return self.make_loader(self._augmented(items, transforms), collate_fn=collate_boxes, **order)

    def _augmented(self, items: ItemList, transforms: list[Any]) -> Augmented:
        keys = {name: name for name in ("image", "bboxes", "labels")}
        return Augmented(items, to_tensor(transforms, self.image_size), seed=self.seed, keys=keys)

    def get_model(self) -> nn.Module:
        return make_detector(
            self.detector,
            self.backbone,
            image_size=self.image_size,
            channels=self.channels,
            num_classes=len(CLASS_NAMES),
            pretrained=self.pretrained,
        )

    def get_criterion(self) -> None:
        """Return None: the detector computes its losses by itself."""

    def get_prediction(self) -> Prediction:
        return BoxPrediction(
            output_key=DETECTIONS,
            class_names=CLASS_NAMES,
            transform=A.Compose(scale_to_tensor(self.image_size)),
            min_score=self.min_score,
        )

    def get_callbacks(self) -> list[Any]:
        scored: dict[str, Any] = {"output_key": DETECTIONS, "min_score": self.min_score}
        shown: dict[str, Any] = {"class_names": CLASS_NAMES, **scored}
        callbacks: list[Any] = [BoxMetrics(map_is=self.map_is, **shown)]
        if self.diagnostics != "off":
            figure = "map" if self.map_is == "competition" else "competition_map"
            callbacks += [
                BestWorstBatches(figure, minimize=False, task="detection", **shown),
                BestWorstSamples(BoxPrecision(**scored, name=figure), minimize=False, task="detection", **shown),
            ]
        others = detection_diagnostics(self.diagnostics, **shown)
        return callbacks + [one for one in others if not isinstance(one, BoxMetrics | BestWorstSamples)]
