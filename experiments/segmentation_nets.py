"""Segmentation nets: any encoder of toolbelt or backbone of timm, and toolbelt's U-Net, FPN or DeepLab on top of it."""

import inspect
import itertools
import warnings
from collections.abc import Callable, Collection
from difflib import get_close_matches
from functools import partial
from typing import Any

import timm
import torch.nn.functional as F
from torch import Tensor, nn

from assay.callbacks import UsageError
from assay.callbacks.errors import listing, unknown_name
from assay.runner import load_pretrained

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # toolbelt imports what torch and timm retire
    from pytorch_toolbelt.modules import decoders, encoders, interfaces

DECODERS = ("unet", "fpn", "deeplab")

# Bases of others, and those that give other things than maps of features or do not fit the timm of today.
_NO_ENCODERS = (
    "AbstractEncoder", "EncoderModule", "GenericTimmEncoder", "DenseNetEncoder", "ResnetEncoder", "SEResnetEncoder",
    "WiderResnetEncoder", "WiderResnetA2Encoder", "StackedHGEncoder", "StackedSupervisedHGEncoder", "SwinTransformer",
    "TResNetMEncoder",
)  # fmt: skip
# Of DeepLab's 6, 12 and 18 at stride 16: an encoder's last map is of stride 32.
_ATROUS_RATES = (3, 6, 9)


def encoder_makers() -> dict[str, Callable[..., Any]]:
    """Return toolbelt's encoders by their names without ``Encoder``, in small letters: ``resnet18``, ``timmb0``."""
    names = [name for name, value in vars(encoders).items() if _is_encoder(name, value)]
    return {_plain(name): getattr(encoders, name) for name in sorted(names)}


def _is_encoder(name: str, value: Any) -> bool:
    if isinstance(value, type):
        return issubclass(value, interfaces.AbstractEncoder) and name not in _NO_ENCODERS
    return inspect.isfunction(value) and name.endswith("Encoder")


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").removesuffix("encoder")


def make_encoder(name: str, *, pretrained: bool) -> Any:
    """Return an encoder of toolbelt.

    Args:
        name: of the class, with or without ``Encoder``, in large or small letters.
        pretrained: whether its weights of ImageNet are loaded, see ``load_pretrained``.

    Raises:
        UsageError: there is no such encoder, it has no such weights, or they cannot be loaded.
    """
    known = encoder_makers()
    if _plain(name) not in known:
        raise unknown_name("encoder", name, known)
    make = known[_plain(name)]
    options = inspect.signature(make).parameters
    if "pretrained" not in options:
        if pretrained:
            raise UsageError(f"pretrained must be false: toolbelt has no weights for the encoder {name!r}.")
        return make()
    weights = options["pretrained"].default or True  # of some the default is the name of their weights
    return load_pretrained(partial(_make, make, weights), name, pretrained=pretrained)


def _make(make: Callable[..., Any], weights: Any, *, pretrained: bool) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the ways in which toolbelt calls torchvision and timm
        return make(pretrained=weights if pretrained else False)


def make_backbone(name: str, *, pretrained: bool = False) -> Any:
    """Return a backbone of timm that gives maps of features, or else an encoder of toolbelt.

    Args:
        name: of a model of timm, such as ``convnext_tiny``, or of an encoder, see ``make_encoder``.
        pretrained: whether pretrained weights are loaded, see ``load_pretrained``.

    Raises:
        UsageError: there is none of the name, it gives no maps, it has no weights, or they cannot be loaded.
    """
    if not timm.is_model(name):
        if _plain(name) in encoder_makers():
            return make_encoder(name, pretrained=pretrained)
        raise unknown_name("backbone", name, _close_models(name), " of timm or toolbelt")
    return TimmEncoder(name, pretrained=pretrained)


def _close_models(name: str) -> list[str]:
    """Return the models of timm whose names are close to one: there are too many to list them all."""
    return get_close_matches(name.lower(), timm.list_models(), n=5) or ["resnet18", "convnext_tiny", "efficientnet_b0"]


class TimmEncoder(nn.Module):
    """A backbone of timm: images [N, 3, H, W] to maps of features, one per stride, the finest first.

    Of one whose maps all have one stride, as a plain vision transformer's, the last is brought to four strides, as by
    Y. Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection", 2022.

    Args:
        name: of the model.
        pretrained: whether its pretrained weights are loaded.

    Raises:
        UsageError: it gives no maps of features.
    """

    def __init__(self, name: str, *, pretrained: bool = False):
        super().__init__()
        self.body: Any = load_pretrained(partial(_make_body, name), name, pretrained=pretrained)
        found = [(info["reduction"], info["num_chs"]) for info in self.body.feature_info.get_dicts()]
        # Of several maps of a stride the last one: it has seen most.
        self.places = sorted({stride: place for place, (stride, _) in enumerate(found)}.values())
        strides, channels = zip(*(found[place] for place in self.places), strict=True)
        if any(coarse % fine for fine, coarse in itertools.pairwise(strides)):
            shown = ", ".join(map(str, strides))
            raise UsageError(
                f"backbone {name!r} has maps of strides {shown}, which no decoder joins: take another one."
            )
        self.channels_last = str(getattr(self.body, "output_fmt", "NCHW")).endswith("NHWC")
        self.pyramid = None
        if len(self.places) == 1:
            self.pyramid = Pyramid(channels[0])
            strides, channels = tuple(int(strides[0] * factor) for factor in Pyramid.factors), channels * 4
        self.spec = interfaces.FeatureMapsSpecification(channels, strides)

    def get_output_spec(self) -> Any:
        """Return channels and strides of the maps."""
        return self.spec

    def forward(self, image: Tensor) -> list[Tensor]:
        maps = self.body(image)
        maps = [maps[place] for place in self.places]
        if self.channels_last:
            maps = [one.permute(0, 3, 1, 2).contiguous() for one in maps]
        return maps if self.pyramid is None else self.pyramid(maps[0])


class Pyramid(nn.Module):
    """Brings a map of features [N, C, h, w] to 4, 2, 1 and 0.5 times its sides."""

    factors = (0.25, 0.5, 1, 2)
    """Of the map's stride."""

    def __init__(self, channels: int):
        super().__init__()
        self.twice = nn.ConvTranspose2d(channels, channels, kernel_size=2, stride=2)
        self.fourfold = nn.Sequential(
            nn.ConvTranspose2d(channels, channels, kernel_size=2, stride=2),
            nn.BatchNorm2d(channels),
            nn.GELU(),
            nn.ConvTranspose2d(channels, channels, kernel_size=2, stride=2),
        )

    def forward(self, features: Tensor) -> list[Tensor]:
        return [self.fourfold(features), self.twice(features), features, F.max_pool2d(features, 2)]


def _make_body(name: str, *, pretrained: bool) -> Any:
    # Transformers take images of one size alone unless they are told otherwise, each family in its own words.
    for options in ({"dynamic_img_size": True}, {"strict_img_size": False}, {}):
        try:
            return timm.create_model(name, pretrained=pretrained, features_only=True, **options)
        except TypeError:  # of a model that has no such argument
            continue
        except (RuntimeError, AttributeError, AssertionError) as error:
            if pretrained and isinstance(error, RuntimeError):
                raise
            reason = " ".join(str(error).split())[:200]
            raise UsageError(f"backbone {name!r} gives no maps of features, which masks need: {reason}.") from error
    raise UsageError(f"backbone {name!r} gives no maps of features, which masks need: take another one.")


class SegmentationNet(nn.Module):
    """Images [N, 3, H, W] to {"logits": [N, C, H, W]}, and ``logits_8`` and so on for deep supervision.

    Of an encoder whose finest map is coarser than stride 2, one convolution of the image takes the place of that map
    in a U-Net: borders of small things need it.

    Args:
        encoder: of ``make_encoder`` or ``make_backbone``.
        decoder: one of ``DECODERS``.
        width: channels of the decoder's finest map.
        classes: C; 1 for yes or no.
        strides: of the decoder's maps that get an output of their own, brought to H x W.

    Raises:
        UsageError: the decoder has no map of such a stride.
    """

    def __init__(self, encoder: Any, decoder: str, width: int, classes: int = 1, *, strides: Collection[int] = ()):
        super().__init__()
        self.encoder = encoder
        spec = encoder.get_output_spec()
        self.step = max(spec.strides)
        self.stem = None
        if decoder == "unet" and min(spec.strides) > 2:
            self.stem = _block(3, width, stride=2)
            spec = interfaces.FeatureMapsSpecification((width, *spec.channels), (2, *spec.strides))
        self.decoder = _make_decoder(decoder, spec, width)
        out = self.decoder.get_output_spec()
        self.places = {stride: place for place, stride in reversed(list(enumerate(out.strides)))}
        self.head = nn.Conv2d(out.channels[0], classes, kernel_size=3, padding=1)
        for stride in strides:
            if stride not in self.places:
                raise UsageError(
                    f"deep_supervision: {decoder!r} has no map of stride {stride}; it has {listing(self.places)}."
                )
        self.deep_heads = nn.ModuleDict(
            {str(stride): nn.Conv2d(out.channels[self.places[stride]], classes, kernel_size=1) for stride in strides}
        )

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        height, width = image.shape[-2:]
        # Some encoders take sides alone that their strides divide.
        image = F.pad(image, (0, -width % self.step, 0, -height % self.step), mode="replicate")
        features = list(self.encoder(image))
        if self.stem is not None:
            features.insert(0, self.stem(image))
        maps = self.decoder(features)
        logits = {"logits": self.head(maps[0])}
        for stride, head in self.deep_heads.items():
            logits[deep_output(int(stride))] = head(maps[self.places[int(stride)]])
        return {name: self._enlarged(values, image)[..., :height, :width] for name, values in logits.items()}

    @staticmethod
    def _enlarged(values: Tensor, image: Tensor) -> Tensor:
        return F.interpolate(values, image.shape[-2:], mode="bilinear", align_corners=False)


def deep_output(stride: int) -> str:
    """Return the name of the output that is made of the decoder's map of a stride."""
    return f"logits_{stride}"


def _make_decoder(name: str, spec: Any, width: int) -> Any:
    if name == "unet":
        return decoders.UNetDecoder(spec, out_channels=[width * 2 ** min(i, 4) for i in range(len(spec) - 1)])
    if name == "fpn":
        return decoders.FPNDecoder(spec, out_channels=4 * width, prediction_block=_block)
    if name == "deeplab":
        return decoders.DeeplabV3PlusDecoder(spec, 4 * width, 4 * width, atrous_rates=_ATROUS_RATES)
    raise unknown_name("decoder", name, DECODERS)


def _block(channels_in: int, channels_out: int, *, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels_out, kernel_size=3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True))
