"""Layers are in the order of the model, and learning rates decay by them as timm computes it."""

import pytest
import timm
import torch
import torchvision
from timm.optim import param_groups_layer_decay
from torch import nn

from assay.runner.recipe.fine_tuning.groups import parameter_groups
from assay.runner.recipe.fine_tuning.layers import head_of, layers_of
from assay.runner.recipe.fine_tuning.loaded import mark_loaded


class Wrapped(nn.Module):
    """A net as an experiment holds it."""

    def __init__(self, net):
        super().__init__()
        self.net = net


def rates(groups, model):
    """Return the learning rate of each parameter by name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(part)]: group["lr"] for group in groups for part in group["params"]}


SMALL = {
    "resnet18": {},
    "vit_tiny_patch16_224": {"img_size": 32, "depth": 3, "embed_dim": 24, "num_heads": 2},
    "convnext_atto": {"depths": (1, 1, 2, 1), "dims": (8, 8, 16, 16)},
    "efficientnet_b0": {},
}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("wrapped", [False, True])
def test_rates_decay_as_timm_computes_them(name, wrapped):
    net = timm.create_model(name, num_classes=3, **SMALL[name])
    expected = {
        id(part): 0.02 * group["lr_scale"]
        for group in param_groups_layer_decay(net, layer_decay=0.7)
        for part in group["params"]
    }
    model = Wrapped(net) if wrapped else net
    groups = parameter_groups({"": model}, lr=0.02, lr_decay=0.7)
    found = {id(part): group["lr"] for group in groups for part in group["params"]}
    assert found == pytest.approx(expected, rel=1e-12)
    assert len({group["name"] for group in groups}) == len(groups) > 4


def test_the_parts_of_any_other_model_are_its_layers():
    net = torchvision.models.resnet18(num_classes=3)
    found = rates(parameter_groups({"": Wrapped(net)}, lr=1.0, lr_decay=0.5), Wrapped(net))
    by_part = {name.split(".")[1]: rate for name, rate in found.items()}
    parts = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"]
    assert by_part == {part: 0.5 ** (len(parts) - 1 - place) for place, part in enumerate(parts)}


def test_a_backbone_is_looked_into_and_its_decoder_is_not():
    class Backbone(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(torch.zeros(4))
            self.stem = nn.Linear(4, 16)
            self.blocks = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = Backbone()
            self.decoder = nn.ModuleDict({"up": nn.Linear(16, 4), "out": nn.Linear(4, 4)})
            self.head = nn.Linear(4, 1)

    layers = layers_of({"": Net()})
    assert [sorted({name.rsplit(".", 1)[0] for name in layer}) for layer in layers] == [
        ["backbone", "backbone.stem"],
        ["backbone.blocks.0", "backbone.blocks.1"],
        ["decoder.out", "decoder.up"],
        ["head"],
    ]


def test_several_models_follow_each_other_and_what_they_share_is_of_the_first():
    first, second = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    second[0].weight = first[1].weight
    assert layers_of({"a": first, "b": second}) == [
        ["a.0.weight", "a.0.bias"], ["a.1.weight", "a.1.bias"], ["b.0.bias"], ["b.1.weight", "b.1.bias"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "head"),
    [
        (lambda: timm.create_model("resnet18", num_classes=3), {"fc.weight", "fc.bias"}),
        (lambda: Wrapped(timm.create_model("convnext_atto")), {"net.head.fc.weight", "net.head.fc.bias"}),
        (lambda: torchvision.models.mobilenet_v3_small(num_classes=2),
         {f"classifier.{place}.{part}" for place in (0, 3) for part in ("weight", "bias")}),
        (lambda: nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1), nn.ReLU()), {"1.weight", "1.bias"}),
        (lambda: nn.ModuleDict({"heads": nn.ModuleDict({"a": nn.Linear(2, 1)}), "centres": nn.Linear(2, 2)}),
         {"heads.a.weight", "heads.a.bias"}),
    ],
    ids=["timm", "wrapped", "torchvision", "sequential", "heads"],
)  # fmt: skip
def test_the_head_is_the_classifier_where_nothing_was_loaded(make, head):
    assert set(head_of({"": make()})) == head


def test_the_head_is_what_was_not_loaded_where_something_was():
    net = nn.ModuleDict({"encoder": nn.Linear(2, 2), "decoder": nn.Linear(2, 2), "head": nn.Linear(2, 1)})
    mark_loaded(net["encoder"].parameters())
    groups = parameter_groups({"": net}, lr=0.1, lr_decay=0.5, lr_head=0.7)
    found = rates(groups, net)
    # Of three layers the first has 0.1 / 4; the head is no layer's, and has its own rate.
    assert {name.split(".")[0]: rate for name, rate in found.items()} == {"encoder": 0.025, "decoder": 0.7, "head": 0.7}
    assert [group["name"] for group in groups] == ["0_encoder", "head"]
    mark_loaded(net.parameters())
    assert head_of({"": net}) == ["head.weight", "head.bias"]


def test_numbers_that_cannot_be_trained_are_in_no_group():
    net = nn.Linear(2, 2)
    net.codes = nn.Parameter(torch.zeros(3, dtype=torch.int8), requires_grad=False)
    groups = parameter_groups({"": net}, lr=0.1, lr_head=1.0)
    assert [(group["name"], len(group["params"])) for group in groups] == [("head", 2)]
