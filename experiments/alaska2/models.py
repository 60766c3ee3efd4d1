"""Nets that tell covers from stegos: a small one that compares coefficients on two grids, and any encoder by name."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from assay.callbacks.errors import UsageError, unknown_name
from assay.runner import load_pretrained

from .jpeg import BLOCK, dct_basis

_GROUPS = 4
_TO_YCBCR = [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]


class Steganalyzer(nn.Module):
    """Images [N, 3, H, W] to {"logits": [N, 4], "stego": [N]}.

    ``stego`` is the logit of 1 - P(cover), the score that the competition ranks images by.

    Args:
        net: images to logits [N, 4], of which the first is the cover's.
    """

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        logits = self.net(image)
        return {"logits": logits, "stego": logits[:, 1:].logsumexp(dim=1) - logits[:, 0]}


class CoefficientNet(nn.Module):
    """A residual net over coefficients of 8 x 8 pixels: images [N, 3, H, W] to logits [N, classes].

    It sees the blocks as they were quantized, and those of the grid moved by half a block. The latter were never
    quantized and hardly show what was embedded, so that they tell what the former should look like: the calibration of
    J. Fridrich et al., "Steganalysis of JPEG Images: Breaking the F5 Algorithm", 2002.

    Within the net groups of channels are normalized, not batches: where these hold all versions of a cover, each would
    show in what the others become.

    Args:
        classes: number of logits.
        width: channels of the layers, a multiple of 4.
        blocks: number of residual blocks.

    Raises:
        UsageError: the width is no multiple of 4.
    """

    to_ycbcr: Tensor
    basis: Tensor

    def __init__(self, classes: int, width: int = 32, blocks: int = 1):
        super().__init__()
        if width < 1 or width % _GROUPS:
            raise UsageError(f"width must be a multiple of {_GROUPS}, got {width}.")
        self.register_buffer("to_ycbcr", torch.tensor(_TO_YCBCR) * 255, persistent=False)
        self.register_buffer("basis", torch.from_numpy(dct_basis()), persistent=False)
        channels = 2 * 3 * BLOCK**2
        self.stem = nn.Sequential(
            nn.BatchNorm2d(channels, affine=False),
            nn.Conv2d(channels, width, 1, bias=False),
            nn.GroupNorm(_GROUPS, width),
            nn.ReLU(),
        )
        self.blocks = nn.Sequential(*(_Residual(width) for _ in range(blocks)))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))

    def forward(self, image: Tensor) -> Tensor:
        ycbcr = torch.einsum("oc,nchw->nohw", self.to_ycbcr, image)
        half = BLOCK // 2
        grids = [self._coefficients(part) for part in (ycbcr, ycbcr.roll((-half, -half), (2, 3)))]
        logits: Tensor = self.head(self.blocks(self.stem(torch.cat(grids, dim=1))))
        return logits

    def _coefficients(self, planes: Tensor) -> Tensor:
        """Return the logarithm of 1 plus the size of each coefficient, [N, 3 * 64, H / 8, W / 8]."""
        count, channels, high, wide = planes.shape
        blocks = planes.reshape(count, channels, high // BLOCK, BLOCK, wide // BLOCK, BLOCK)
        found = torch.einsum("ki,nchiwj,lj->ncklhw", self.basis, blocks, self.basis)
        return found.reshape(count, channels * BLOCK**2, high // BLOCK, wide // BLOCK).abs().log1p()


class _Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(_GROUPS, width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(_GROUPS, width),
        )

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(features + self.layers(features))


class EncoderNet(nn.Module):
    """An encoder of pytorch-toolbelt, the mean of its last features, and a linear layer.

    Args:
        encoder: images [N, 3, H, W] to a list of features; its ``channels`` are one number each.
        classes: number of logits.
    """

    def __init__(self, encoder: Any, classes: int):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.channels[-1], classes)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(image)[-1].mean(dim=(2, 3)))
        return logits


def make_net(name: str, classes: int, *, width: int, pretrained: bool) -> nn.Module:
    """Return the net of a name: ``coefficients``, an encoder of pytorch-toolbelt, or a model of timm.

    Raises:
        UsageError: there is none of that name, or its weights cannot be loaded.
    """
    if name == "coefficients":
        return CoefficientNet(classes, width)
    import timm  # slow to import
    from pytorch_toolbelt.modules import encoders

    if name.endswith("Encoder") and hasattr(encoders, name):
        return EncoderNet(load_pretrained(getattr(encoders, name), name, pretrained=pretrained), classes)
    if name in timm.list_models():
        make = partial(timm.create_model, name, num_classes=classes)
        net: nn.Module = load_pretrained(make, name, pretrained=pretrained)
        return net
    known = ["coefficients", *(found for found in dir(encoders) if found.endswith("Encoder")), *timm.list_models()]
    raise _unknown(name, known)


def _unknown(name: str, known: list[str]) -> Exception:
    """Return the error without the hundreds of names that there are."""
    text = str(unknown_name("encoder", name, known)).partition(" There is: ")[0]
    return UsageError(f"{text} There is 'coefficients', every encoder of pytorch-toolbelt and every model of timm.")
