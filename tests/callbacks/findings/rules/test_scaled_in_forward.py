"""Models that scale images once more, or by their mode, are named; those that scale them once are not."""

import pytest
import torch
from made_runs import dict_runner, look, observe_model
from torch import nn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from assay.callbacks.findings.observe.forward.entries import Entries
from assay.callbacks.findings.observe.settings.settings import observe_settings
from assay.callbacks.findings.probe.model_probe import EntryProbe, ModelProbe
from assay.callbacks.findings.probe.probe import Probe
from assay.callbacks.findings.probe.rule import examine
from assay.callbacks.findings.rules import all_rules

RULES = [rule for rule in all_rules() if rule.name == "scaled-in-forward"]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def columns(values):
    return torch.tensor(values)[:, None, None]


class Net(nn.Module):
    """A convolution, or what ``first`` is, behind a function of the image and of the mode."""

    def __init__(self, scale, first=None):
        super().__init__()
        self.scale = scale
        self.body = nn.Sequential(first or nn.Identity(), nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.head = nn.Linear(8, 4)

    def forward(self, image):
        return {"logits": self.head(self.body(self.scale(image, self.training)).flatten(1))}


def normalized(image, _=None):
    return (image - columns(MEAN)) / columns(STD)


def unit(count=8, side=12):
    generator = torch.Generator().manual_seed(0)
    return [
        {"image": torch.rand(3, side, side, generator=generator), "target": torch.tensor(index % 4)}
        for index in range(count)
    ]


def prepared(change):
    return [{**item, "image": change(item["image"])} for item in unit()]


def sentences(model, items):
    def see(runner):
        settings = observe_settings(runner)
        batch = {key: torch.stack([item[key] for item in items]) for key in items[0]}
        batches = {"train": [batch], "valid": [batch]}
        return Probe(settings=settings, model=observe_model(runner, batches, settings))

    probe = look(dict_runner(), model, items, see)
    assert probe.model is not None
    return [it.sentence for it in examine(RULES, probe).findings]


FAULTS = {
    "normalized again": (Net(normalized), prepared(normalized), "forward normalizes images"),
    "by a mean of a half": (
        Net(lambda image, _: (image - 0.5) / 0.5), prepared(lambda image: (image - 0.5) / 0.5), "normalizes images",
    ),
    "divided by 255 again": (Net(lambda image, _: image / 255), unit(), "forward divides images by 255"),
    "divided by 255 and normalized": (Net(lambda image, _: normalized(image / 255)), unit(), "divides images by 255"),
    "in evaluation alone": (
        Net(lambda image, training: image if training else image / 255), prepared(normalized), "in evaluation mode",
    ),
    "in training alone": (
        Net(lambda image, training: normalized(image) if training else image), unit(), "in evaluation mode",
    ),
}  # fmt: skip
HEALTHY = {
    "scaled before": (Net(lambda image, _: image), prepared(normalized)),
    "scaled in the model": (Net(normalized), unit()),
    "bytes scaled in the model": (Net(lambda image, _: normalized(image / 255)), prepared(lambda image: image * 255)),
    "to -1 to 1 and back": (
        Net(lambda image, _: normalized(image * 0.5 + 0.5)), prepared(lambda image: (image - 0.5) / 0.5),
    ),
    "batch normalization first": (Net(normalized, nn.BatchNorm2d(3)), prepared(normalized)),
    "noise in training": (
        Net(lambda image, training: image + 0.1 * torch.randn_like(image) if training else image), prepared(normalized),
    ),
    "brightness in training": (
        Net(lambda image, training: image * 1.1 if training else image), prepared(normalized),
    ),
    "one value": (Net(lambda image, _: image), prepared(torch.zeros_like)),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_model_that_scales_images_wrongly_is_named(name):
    model, items, expected = FAULTS[name]
    (sentence,) = sentences(model, items)
    assert expected in sentence


@pytest.mark.parametrize("name", HEALTHY)
def test_a_model_that_scales_images_once_is_not(name):
    assert sentences(*HEALTHY[name]) == []


def test_what_is_measured_is_what_the_model_does():
    model, items = Net(normalized), unit()

    def see(runner):
        settings = observe_settings(runner)
        batch = {key: torch.stack([item[key] for item in items]) for key in items[0]}
        return observe_model(runner, {"train": [batch], "valid": [batch]}, settings)

    entry = look(dict_runner(), model, items, see).entry
    assert entry.scale == pytest.approx([1 / std for std in STD], rel=1e-3)
    assert entry.offset == pytest.approx([-mean / std for mean, std in zip(MEAN, STD, strict=True)], rel=1e-3)
    assert (entry.low, entry.high) == pytest.approx((0, 1), abs=0.01)


@pytest.mark.parametrize("is_normalized", [False, True])
def test_a_detector_of_torchvision_says_itself_how_it_normalizes(is_normalized):
    model = ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=3, image_mean=[*MEAN], image_std=[*STD]
    ).eval()
    images = [item["image"] for item in (prepared(normalized) if is_normalized else unit())[:2]]
    with torch.no_grad(), Entries({"": model}) as entries:
        model(images)
    entry = entries.found()
    assert entry.scale == pytest.approx([1 / std for std in STD])
    assert entry.kind == "GeneralizedRCNNTransform"
    assert len(examine(RULES, Probe(model=ModelProbe(entry=entry))).findings) == is_normalized


@pytest.mark.parametrize(("low", "count"), [(-2.1, 1), (0.0, 0)])
def test_the_range_decides_whether_a_normalization_is_the_second_one(low, count):
    entry = EntryProbe((4.4, 4.5, 4.4), (-2.1, -2.0, -1.8), low, 1.0 if low == 0 else 2.6, "Conv2d")
    assert len(examine(RULES, Probe(model=ModelProbe(entry=entry))).findings) == count
