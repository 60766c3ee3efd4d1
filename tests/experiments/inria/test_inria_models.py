"""Nets of every decoder on encoders of several kinds, and what is said about wrong names."""

import socket

import pytest
import torch

from assay.callbacks import UsageError
from assay.experiments.inria.models import DECODERS, SegmentationNet, encoder_makers, make_encoder


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
    net = SegmentationNet(make_encoder("resnet18", pretrained=False), decoder, 8, strides)
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
        SegmentationNet(encoder, "unet", 8, [64])


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
