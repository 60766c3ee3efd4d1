"""Pretrained weights come from the caches of the libraries, and what is not there is named with its true place."""

import re
import socket
from functools import partial
from pathlib import Path

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch
from torch import nn

from assay.runner import UsageError, load_pretrained
from assay.runner.recipe.fine_tuning.loaded import fresh_names
from assay.runner.recipe.fine_tuning.pretrained import weights_follow

NAME = "test_resnet"  # of timm, and small


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Have the hub's cache and that of torch in a folder, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


def make_timm(classes):
    return partial(timm.create_model, NAME, num_classes=classes)


def refusal(make, name):
    with pytest.raises(UsageError) as error:
        load_pretrained(make, name, pretrained=True)
    assert "\n" not in str(error.value)
    found = re.search(r"fetch (\S+) and put it at (\S+) \(", str(error.value))
    return found and (found[1], Path(found[2]))


def test_a_file_of_the_hub_is_found_where_the_message_says_it_belongs(hub):
    source = timm.get_pretrained_cfg(NAME)
    url, path = refusal(make_timm(5), NAME)
    assert url == f"https://huggingface.co/{source.hf_hub_id}/resolve/main/model.safetensors"
    folder = f"models--{source.hf_hub_id.replace('/', '--')}"
    assert path == hub / "hub" / folder / "snapshots" / "main" / "model.safetensors"

    torch.manual_seed(5)
    weights = timm.create_model(NAME, num_classes=source.num_classes).state_dict()
    path.parent.mkdir(parents=True)
    safetensors.torch.save_file(weights, path)
    model = load_pretrained(make_timm(5), NAME, pretrained=True)
    own = model.state_dict()
    fresh = [name for name, value in weights.items() if value.shape != own[name].shape]
    assert fresh_names({"": model}) == fresh == ["fc.weight", "fc.bias"]
    for name, value in model.state_dict().items():
        assert name in fresh or torch.equal(value, weights[name])
    whole = load_pretrained(make_timm(source.num_classes), NAME, pretrained=True)
    assert fresh_names({"": whole}) == []
    assert all(torch.equal(value, weights[name]) for name, value in whole.state_dict().items())


def test_a_file_of_torch_hub_is_named_with_its_place(hub):
    url = "http://127.0.0.1:9/models/net-0123abcd.pth"

    def make(pretrained):
        net = nn.Linear(2, 2)
        if pretrained:
            net.load_state_dict(torch.hub.load_state_dict_from_url(url, progress=False, weights_only=True))
        return net

    place = hub / "torch" / "hub" / "checkpoints" / "net-0123abcd.pth"
    assert refusal(make, "net") == (url, place)
    weights = nn.Linear(2, 2).state_dict()
    torch.save(weights, place)
    net = load_pretrained(make, "net", pretrained=True)
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("known", [True, False])
def test_the_hub_is_asked_where_its_host_is_known_alone(hub, monkeypatch, known):
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("assay.runner.recipe.fine_tuning.pretrained.getproxies", dict)

    def resolve(host, port):
        assert host == "huggingface.co"
        if not known:
            raise OSError("unknown")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    seen = []
    load_pretrained(lambda pretrained: seen.append(constants.HF_HUB_OFFLINE) or nn.Linear(2, 2), "net", pretrained=True)
    assert seen == [not known] and constants.HF_HUB_OFFLINE is False


def test_a_file_that_is_damaged_is_said(hub):
    _, path = refusal(make_timm(5), NAME)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no weights")
    with pytest.raises(UsageError, match=rf"^pretrained: the weights of '{NAME}' cannot be loaded \(.*--pretrained fa"):
        load_pretrained(make_timm(5), NAME, pretrained=True)


def test_a_model_without_weights_is_refused():
    make = partial(
        timm.create_model, "vit_tiny_patch16_224", img_size=32, depth=1, pretrained_cfg={"custom_load": True}
    )
    with pytest.raises(UsageError, match=r"^pretrained.*'vit_none'"):
        load_pretrained(make, "vit_none", pretrained=True)


def test_an_error_of_the_model_itself_is_raised_as_it_is():
    def make(pretrained):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        load_pretrained(make, "net", pretrained=True)


def test_nothing_is_loaded_where_a_checkpoint_follows(hub):
    with weights_follow():
        assert isinstance(load_pretrained(make_timm(5), NAME, pretrained=True), nn.Module)
    assert not (hub / "hub").exists()
    refusal(make_timm(5), NAME)
