"""Nets of every decoder on encoders of several kinds, and what is said about wrong names."""

import socket

import pytest
import torch

from assay.callbacks import UsageError
from assay.experiments.segmentation_nets import (
    DECODERS,
    SegmentationNet,
    encoder_makers,
    make_backbone,
    make_encoder,
)


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise OSError("no network in tests")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("encoder", ["resnet18", "squeezenet", "mitb0", "unet", "hrnetw18", "xresnet18"])
def test_a_net_of_any_encoder_and_decoder_gives_logits_of_the_images_size(encoder, decoder):
    net = SegmentationNet(make_encoder(encoder, pretrained=False), decoder, 8).eval()
    with torch.no_grad():
        outputs = net(torch.zeros(1, 3, 96, 70))
    assert {name: tuple(output.shape) for name, output in outputs.items()} == {"logits": (1, 1, 96, 70)}


@pytest.mark.parametrize(("decoder", "strides"), [("unet", (2, 8)), ("fpn", (4, 32)), ("deeplab", (4, 32))])
def test_outputs_of_deep_supervision_are_named_by_stride_and_are_trained(decoder, strides):
    net = SegmentationNet(make_encoder("resnet18", pretrained=False), decoder, 8, strides=strides)
    outputs = net(torch.randn(2, 3, 64, 64))
    assert list(outputs) == ["logits", *(f"logits_{stride}" for stride in strides)]
    assert {output.shape for output in outputs.values()} == {(2, 1, 64, 64)}
    outputs[f"logits_{strides[1]}"].mean().backward()
    assert any(parameter.grad.abs().sum() > 0 for parameter in net.encoder.parameters() if parameter.grad is not None)


def test_a_stride_that_there_is_not_is_named():
    encoder = make_encoder("resnet18", pretrained=False)
    with pytest.raises(
        UsageError, match=r"deep_supervision: 'unet' has no map of stride 64; it has '16', '2', '4', '8'"
    ):
        SegmentationNet(encoder, "unet", 8, strides=[64])


def test_an_unknown_decoder_is_named():
    with pytest.raises(UsageError, match=r"unknown decoder 'unett'; did you mean 'unet'"):
        SegmentationNet(make_encoder("resnet18", pretrained=False), "unett", 8)


@pytest.mark.parametrize("name", ["resnet18", "Resnet18Encoder", "RESNET18", "res-net_18"])
def test_an_encoder_is_found_however_it_is_written(name):
    assert type(make_encoder(name, pretrained=False)).__name__ == "Resnet18Encoder"


def test_an_unknown_encoder_is_told_the_closest():
    with pytest.raises(UsageError, match=r"unknown encoder 'resnet19'; did you mean 'resnet18'"):
        make_encoder("resnet19", pretrained=False)


def test_there_are_all_encoders_of_toolbelt():
    names = encoder_makers()
    assert len(names) >= 90
    assert {"resnet34", "timmb4", "hrnetw18", "densenet121", "mitb0", "swint", "mobilenetv2"} <= names.keys()


def test_weights_that_cannot_be_loaded_are_one_line():
    with pytest.raises(UsageError, match=r"pretrained: the weights of 'resnet18' are not .* fetch https://\S+\.pth "):
        make_encoder("resnet18", pretrained=True)


def test_weights_that_there_are_not_are_said():
    with pytest.raises(UsageError, match=r"pretrained must be false: .* no weights for the encoder 'unet'"):
        make_encoder("unet", pretrained=True)


@pytest.mark.parametrize(
    ("backbone", "decoder"),
    [
        ("resnet10t", "unet"), ("convnext_atto", "fpn"), ("test_vit", "unet"), ("test_vit", "deeplab"),
        ("test_efficientnet", "deeplab"), ("swin_tiny_patch4_window7_224", "unet"), ("squeezenet", "fpn"),
    ],
)  # fmt: skip
def test_a_net_of_any_family_of_timm_gives_logits_of_all_classes(backbone, decoder):
    net = SegmentationNet(make_backbone(backbone), decoder, 8, classes=5).eval()
    with torch.no_grad():
        outputs = net(torch.zeros(1, 3, 96, 70))
    assert {name: tuple(output.shape) for name, output in outputs.items()} == {"logits": (1, 5, 96, 70)}


def test_all_parts_of_a_backbone_without_strides_are_trained():
    net = SegmentationNet(make_backbone("test_vit"), "unet", 8, classes=2)
    net(torch.randn(2, 3, 64, 64))["logits"].square().mean().backward()
    assert all(parameter.grad is not None for parameter in net.encoder.pyramid.parameters())


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("resnet19d", "unknown backbone 'resnet19d' of timm or toolbelt; did you mean 'resnet18d'"),
        ("no such thing", "unknown backbone 'no such thing' of timm or toolbelt"),
        ("crossvit_9_240", "backbone 'crossvit_9_240' has maps of strides 12, 17, which no decoder joins"),
    ],
)
def test_a_backbone_that_cannot_be_used_is_one_line(name, line):
    with pytest.raises(UsageError, match=line):
        make_backbone(name)
