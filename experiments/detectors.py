"""torchvision's detectors by name, on backbones of timm, with named outputs."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOSHead
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

from assay.callbacks import UsageError
from assay.callbacks.errors import unknown_name
from assay.callbacks.keys import pick
from assay.runner import LossTerm, load_pretrained

DETECTIONS = "detections"
LIGHT = "light"
STRIDES = (8, 16)

# The losses that each detector gives, as torchvision calls them.
LOSSES = {
    "fcos": ("classification", "bbox_regression", "bbox_ctrness"),
    "retinanet": ("classification", "bbox_regression"),
    "faster_rcnn": ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg"),
}

_LIGHT_RESNET = {"model_name": "resnet10t", "channels": (32, 64, 128, 256), "stem_width": 16, "zero_init_last": False}
_SHAPES = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class ModelLoss(LossTerm):
    """A term that the model computes by itself: the output as it is. It needs no criterion and no target.

    Without a criterion a ``DictRunner`` computes no loss in validation, where torchvision's detectors give none.
    """

    def compute(self, criterion: Any, batch: Mapping[str, Any]) -> Tensor:
        loss: Tensor = pick(batch, self.output, str(self))
        return loss


def loss_terms(detector: str) -> list[LossTerm]:
    """Return the terms of a detector's loss, of ``LOSSES``."""
    names = [_loss_name(name) for name in LOSSES[detector]]
    return [ModelLoss(output=name, name=name) for name in names]


def _loss_name(name: str) -> str:
    return f"loss_{name.removeprefix('loss_')}"


class Detector(nn.Module):
    """A torchvision detector with named outputs.

    While training it maps images and targets to the losses, one output each. In evaluation it maps images alone to
    ``detections``, N dicts of ``boxes`` [P, 4], ``scores`` [P] and ``labels`` [P].

    Args:
        net: the detector.
    """

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, image: Tensor | Sequence[Tensor], target: Sequence[dict[str, Tensor]] | None = None) -> Any:
        if not self.training:
            return {DETECTIONS: self.net(list(image))}
        return {_loss_name(name): loss for name, loss in self.net(list(image), target).items()}


class Pyramid(nn.Module):
    """Features of an image at some strides, by a timm backbone and a feature pyramid: [N, channels, h, w] each.

    Args:
        backbone: a name of timm that gives features at these strides, or ``light``, a narrow residual net of 10 layers.
        channels: of the features.
        strides: of the features, in pixels of the image.
        pretrained: whether the backbone begins with the weights that timm has for it.

    Raises:
        UsageError: timm has no such backbone, it gives no features at these strides, or its weights are not there.
    """

    def __init__(self, backbone: str, channels: int, *, strides: Sequence[int] = STRIDES, pretrained: bool = False):
        super().__init__()
        self.body = _make_body(backbone, strides, pretrained)
        info: Any = self.body.feature_info
        self.strides = info.reduction()
        self.pyramid = FeaturePyramidNetwork(info.channels(), channels, norm_layer=nn.BatchNorm2d)
        self.out_channels = channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        levels = OrderedDict((str(number), level) for number, level in enumerate(self.body(images)))
        features: dict[str, Tensor] = self.pyramid(levels)
        return features


def _make_body(backbone: str, strides: Sequence[int], pretrained: bool) -> nn.Module:
    if backbone != LIGHT and not timm.is_model(backbone):
        raise unknown_name("backbone", backbone, [LIGHT, *timm.list_models()])
    options = _LIGHT_RESNET if backbone == LIGHT else {"model_name": backbone}
    make = partial(timm.create_model, **options, features_only=True)
    # Made once to see what it gives, without drawing from the generator that the weights are drawn from.
    with torch.random.fork_rng(devices=[]):
        try:
            found = make().feature_info.reduction()
        except (RuntimeError, AttributeError) as error:  # timm's own, of a model that has no features to give
            raise UsageError(f"backbone {backbone!r} gives no features: {error}") from error
    if set(strides) - set(found):
        raise UsageError(
            f"backbone must give features at strides {', '.join(map(str, strides))}, as resnet18 or convnext_tiny do; "
            f"{backbone!r} gives them at {', '.join(map(str, dict.fromkeys(found)))}."
        )
    levels = tuple(found.index(stride) for stride in strides)
    body: nn.Module = load_pretrained(partial(make, out_indices=levels), backbone, pretrained=pretrained)
    return body


def make_detector(
    name: str,
    backbone: str,
    *,
    image_size: int,
    channels: int,
    num_classes: int,
    strides: Sequence[int] = STRIDES,
    pretrained: bool = False,
    mean: Sequence[float] = (0.45,) * 3,
    std: Sequence[float] = (0.22,) * 3,
) -> Detector:
    """Return a detector for images from 0 to 1; they are scaled to ``image_size``, and normalized within it.

    Args:
        name: ``fcos``, ``retinanet`` or ``faster_rcnn``.
        backbone: see ``Pyramid``.
        image_size: of the longer side in pixels.
        channels: of the features that boxes are found in.
        num_classes: with the background, which is label 0.
        strides: of these features, in pixels of the image.
        pretrained: whether the backbone begins with the weights that timm has for it; all else is fresh.
        mean: of the normalization of images, by channel.
        std: of the normalization of images, by channel.
    """
    pyramid = Pyramid(backbone, channels, strides=strides, pretrained=pretrained)
    options: dict[str, Any] = {
        "min_size": image_size, "max_size": image_size, "image_mean": [*mean], "image_std": [*std],
        "num_classes": num_classes,
    }  # fmt: skip
    if name == "faster_rcnn":
        levels = [str(number) for number in range(len(pyramid.strides))]
        anchors = AnchorGenerator(tuple((4 * stride,) for stride in pyramid.strides), (_SHAPES,) * len(pyramid.strides))
        pooling = MultiScaleRoIAlign(levels, output_size=7, sampling_ratio=2)
        net = FasterRCNN(
            pyramid, rpn_anchor_generator=anchors, box_roi_pool=pooling, box_detections_per_img=200, **options
        )
        return Detector(net)
    options |= {"score_thresh": 0.05, "detections_per_img": 200}
    if name == "retinanet":
        sizes = tuple(tuple(stride * scale for scale in (2.5, 3.5, 5.0)) for stride in pyramid.strides)
        return Detector(RetinaNet(pyramid, anchor_generator=AnchorGenerator(sizes, (_SHAPES,) * len(sizes)), **options))
    anchors = AnchorGenerator(tuple((stride,) for stride in pyramid.strides), ((1.0,),) * len(pyramid.strides))
    head = FCOSHead(channels, num_anchors=1, num_classes=num_classes, num_convs=2)
    # Distances come out of a ReLU: they begin where it has a gradient.
    nn.init.constant_(head.regression_head.bbox_reg.bias, 1.0)
    return Detector(FCOS(pyramid, anchor_generator=anchors, head=head, **options))
