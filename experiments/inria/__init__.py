"""Inria Aerial Image Labeling: segment buildings in aerial images with a U-Net, an FPN or DeepLab.

Source: E. Maggiori, Y. Tarabalka, G. Charpiat and P. Alliez, "Can Semantic Labeling Methods Generalize to Any City?
The Inria Aerial Image Labeling Benchmark", IGARSS 2017, https://project.inria.fr/aerialimagelabeling/: 360 tiles of
5000 x 5000 pixels, 0.3 m each, of ten cities. Licence: pictures and masks are made of open data of these places; that
page names the sources and the terms of use. Download: register on its download page, join and unpack the parts (7z),
and let ``--data-dir`` name the folder that holds ``train/images``, ``train/gt`` and ``test/images``. Tiles 1 to 5 of
each city are held out for validation, as the authors propose. Flags that suit the real tiles::

    --encoder resnet34 --pretrained --width 32 --crop 512 --window 1000 --margin 12
    --batch-size 16 --augmentation medium --epochs 40 --workers 8

Without ``--data-dir`` a small data set is generated, see ``generator``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import ImageOverlap, UsageError, segmentation_diagnostics
from assay.runner import AtLeast, Experiment, ItemList, LossTerm, check_range, parse_loss
from assay.runner.prediction import MaskPrediction, Prediction

from ..segmentation_nets import SegmentationNet, make_encoder
from .augmentation import MEAN, STD, make_transform
from .data import Crops, Windows
from .generator import make_tiles
from .losses import LOSSES, loss_terms, make_criterion
from .metrics import BestThreshold, TileIoU
from .tiles import IGNORED, Tile, find_tiles, find_unlabelled
from .truth import TruthWindows

CLASS_NAMES = ["ground", "house"]


@dataclass(kw_only=True)
class Inria(Experiment):
    """Binary segmentation of large tiles: trained on random crops, validated on all of their windows."""

    epochs: int = 10
    batch_size: int = 8
    lr: float = 4e-3
    weight_decay: float | None = 1e-2
    scheduler: str = "one-cycle"
    channels_last: bool = True
    monitor: list[str] = field(default_factory=lambda: ["valid/iou:max", "valid/loss:min"])
    encoder: str = "resnet18"
    """An encoder of pytorch-toolbelt, such as resnet34, timmb4 or hrnetw18."""
    pretrained: bool = False  # of the encoder, by ImageNet
    decoder: Literal["unet", "fpn", "deeplab"] = "unet"
    """The decoder on top of the encoder."""
    width: Annotated[int, AtLeast(1)] = 16
    """Channels of the decoder's finest map; coarser ones have more."""
    loss: str = "bce + 0.5*dice"
    """A weighted sum of bce, soft_bce, edge_bce, focal, dice, jaccard and lovasz."""
    deep_supervision: dict[int, float] = field(default_factory=dict)
    """Weights of additional outputs by the stride of their feature map, such as '{4: 0.4, 8: 0.2}'."""
    augmentation: Literal["none", "light", "medium", "hard"] = "none"
    """Strength of the random augmentation of crops."""
    crop: Annotated[int, AtLeast(32)] = 96
    """Side of a random crop for training, in pixels."""
    crops_repeat: Annotated[int, AtLeast(1)] = 1
    """Crops per epoch, as a multiple of the number that covers the tiles."""
    window: Annotated[int, AtLeast(32)] = 192
    """Side of a window for validation, in pixels."""
    margin: Annotated[int, AtLeast(0)] = 0
    """Pixels around a window that the model sees but that do not count."""
    boundary: Annotated[int, AtLeast(1)] = 3
    """Width of the border that boundary IoU compares, in pixels."""
    pseudo_labels: Annotated[int | None, AtLeast(1)] = None
    """First epoch that also trains on crops of test/images, with the model's own confident pixels as truth."""
    pseudo_confidence: float = 0.95
    """Lowest probability at which a pixel without truth is trained on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.5 < self.pseudo_confidence < 1:
            raise UsageError(f"pseudo_confidence must be between 0.5 and 1, got {self.pseudo_confidence}.")
        for stride, weight in self.deep_supervision.items():
            check_range(f"deep_supervision at stride {stride}", weight, 0, included=False)
        parse_loss(self.loss, LOSSES)
        self._scored: list[Tile] | None = None  # the images of a truth, in place of those that validation has

    def ignored_fields(self) -> dict[str, str]:
        own = {"pseudo_confidence": "has no use without --pseudo-labels: leave it out, or give that too"}
        return super().ignored_fields() | (own if self.pseudo_labels is None else {})

    def make_data(self, folder: Path) -> None:
        make_tiles(folder)

    def get_loaders(self) -> dict[str, DataLoader[Any]]:
        train, valid = find_tiles(self.data_folder())
        unlabelled = [] if self.pseudo_labels is None else find_unlabelled(self.data_folder())
        crops = Crops(
            train,
            self.crop,
            make_transform(self.augmentation),
            seed=self.seed,
            repeat=self.crops_repeat,
            unlabelled=unlabelled,
            start_epoch=self.pseudo_labels or 1,
        )
        windows = Windows(valid, self.window, self.margin, make_transform())
        return {"train": self.make_loader(crops, shuffle=True), "valid": self.make_loader(windows)}

    def get_truth_loader(self, items: ItemList) -> DataLoader[Any]:
        windows = TruthWindows(items, self.window, self.margin, make_transform())
        self._scored = windows.tiles
        return self.make_loader(windows)

    def get_model(self) -> nn.Module:
        encoder = make_encoder(self.encoder, pretrained=self.pretrained)
        return SegmentationNet(encoder, self.decoder, self.width, strides=self.deep_supervision)

    def get_prediction(self) -> Prediction:
        return MaskPrediction(class_names=CLASS_NAMES, mean=MEAN, std=STD)

    def get_losses(self) -> Sequence[LossTerm]:
        """Return one term per loss and output."""
        return loss_terms(parse_loss(self.loss, LOSSES), self.deep_supervision)

    def get_criterion(self) -> dict[str, nn.Module]:
        confidence = None if self.pseudo_labels is None else self.pseudo_confidence
        return {name: make_criterion(name, confidence) for name in parse_loss(self.loss, LOSSES)}

    def get_callbacks(self) -> list[Any]:
        diagnostics = segmentation_diagnostics(
            self.diagnostics, task="binary", class_names=CLASS_NAMES, ignore_index=IGNORED, mean=MEAN, std=STD
        )
        if self.overfit_batches is not None:  # validation runs on training crops then, and never sees a whole tile
            return [*diagnostics, BestThreshold(IGNORED)]
        # The images of this data set are whole tiles, which validation sees in windows.
        diagnostics = [one for one in diagnostics if not isinstance(one, ImageOverlap)]
        valid = self._scored if self._scored is not None else find_tiles(self.data_folder())[1]
        by_tile = TileIoU([tile.name for tile in valid], [tile.city for tile in valid], self.boundary)
        return [*diagnostics, by_tile, BestThreshold(IGNORED)]
