"""Small models of timm and torchvision that learn the planted evidence in about a minute."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import convnext, swin_transformer
from torchvision.models.feature_extraction import create_feature_extractor

from .planted import LOOKS, SIDE

_CLASSES = len(LOOKS)
_timm = partial(timm.create_model, pretrained=False, num_classes=_CLASSES)
_SWIN = {"img_size": SIDE, "window_size": 4, "embed_dim": 24, "depths": (2, 2, 2, 2)}
_RESNET = {"channels": (16, 32, 64, 128), "stem_width": 16}
_VIT = {"img_size": SIDE, "patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 3}


class UNet(nn.Module):
    """A U-Net, which gives a mask of the patch: [N, looks, H, W].

    Args:
        encoder: gives a list of maps, from fine to coarse.
    """

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder
        *skips, width = (found.shape[1] for found in encoder(torch.zeros(2, 3, SIDE, SIDE)))
        self.decoder = nn.ModuleList()
        for skip in reversed(skips):
            self.decoder.append(_block(width + skip, 32))
            width = 32
        self.head = nn.Conv2d(width, _CLASSES, 1)

    def forward(self, images: Tensor) -> Tensor:
        *skips, found = self.encoder(images)
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            found = block(torch.cat([functional.interpolate(found, skip.shape[2:]), skip], dim=1))
        return functional.interpolate(self.head(found), images.shape[2:], mode="bilinear")


def _block(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def _convnext() -> nn.Module:
    widths = (16, 32, 64, 128, None)
    return convnext.ConvNeXt(
        [convnext.CNBlockConfig(width, widths[i + 1], 1) for i, width in enumerate(widths[:4])], num_classes=_CLASSES
    )


def _swin(**kinds: Any) -> nn.Module:
    return torchvision.models.SwinTransformer(
        [4, 4], 24, [2, 2, 2, 2], [1, 2, 4, 8], [4, 4], stochastic_depth_prob=0.0, num_classes=_CLASSES, **kinds
    )


def _swin_v2() -> nn.Module:
    block = swin_transformer.SwinTransformerBlockV2
    model = _swin(block=block, downsample_layer=swin_transformer.PatchMergingV2)
    for module in model.modules():
        if isinstance(module, block):  # starts as the identity, as timm's does; torchvision's own start stalls
            nn.init.zeros_(module.norm1.weight)
            nn.init.zeros_(module.norm2.weight)
    return model


def _resnet() -> nn.Module:
    return torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=_CLASSES)


def _resnet_maps() -> nn.Module:
    nodes = {node: str(i) for i, node in enumerate(("relu", "layer1", "layer2", "layer3", "layer4"))}
    return _Values(create_feature_extractor(_resnet(), nodes))


class _Values(nn.Module):
    """Gives the values of a dict that another module gives."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> list[Tensor]:
        return list(self.inner(images).values())


# How each is made, and the rate that it learns with.
ZOO: Mapping[str, tuple[Callable[[], nn.Module], float]] = {
    "CNN (timm resnet10t)": (partial(_timm, "resnet10t", **_RESNET), 2e-3),
    "CNN (torchvision ResNet)": (_resnet, 2e-3),
    "ConvNeXt (timm)": (partial(_timm, "convnext_atto", dims=(16, 32, 64, 128), depths=(1, 1, 2, 1)), 2e-3),
    "ConvNeXt (torchvision)": (_convnext, 2e-3),
    "ViT (timm, CLS)": (partial(_timm, "vit_tiny_patch16_224", **_VIT), 1e-3),
    "ViT (timm, mean)": (partial(_timm, "vit_tiny_patch16_224", **_VIT, global_pool="avg", class_token=False), 1e-3),
    "ViT (torchvision)": (
        lambda: torchvision.models.VisionTransformer(SIDE, 8, 4, 3, 96, 192, num_classes=_CLASSES),
        1e-3,
    ),
    "Swin (timm)": (partial(_timm, "swin_tiny_patch4_window7_224", **_SWIN, num_heads=(1, 2, 4, 8)), 1e-3),
    "Swin (torchvision)": (_swin, 1e-3),
    "SwinV2 (timm)": (partial(_timm, "swinv2_tiny_window8_256", **_SWIN, num_heads=(1, 2, 4, 8)), 1e-3),
    "SwinV2 (torchvision)": (_swin_v2, 1e-3),
    "U-Net (timm resnet10t)": (lambda: UNet(_timm("resnet10t", features_only=True, **_RESNET)), 2e-3),
    "U-Net (torchvision ResNet)": (lambda: UNet(_resnet_maps()), 2e-3),
}
