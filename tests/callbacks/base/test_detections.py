"""Detectors of torchvision under the diagnostics: losses while they train, boxes in evaluation."""

import pytest
import torch
from kit import fit
from torch import nn
from torch.utils.data import DataLoader
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.ops import MultiScaleRoIAlign

from assay.callbacks import BestWorstSamples, BoxCurves, UsageError, detection_diagnostics
from assay.callbacks.base.detections import TRUE, pick_boxes, without_masks
from assay.runner import DictRunner, LossTerm
from assay.runner.saving.loggers import TensorBoardLogger

SIDE = 32
SHOWN = {"6_samples/best/box_f1", "1_overview/worst/box_f1"}


class Backbone(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 32, 3, 4, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, 2, 1))
        self.out_channels = 32


def make(name):
    options = {"num_classes": 3, "min_size": SIDE, "max_size": SIDE}
    anchors = AnchorGenerator(((8, 16),), ((1.0,),))
    if name == "SSD":
        backbone = Backbone()
        backbone.out_channels = [32]
        return detection.ssd.SSD(backbone, DefaultBoxGenerator([[2]]), (SIDE, SIDE), 3, score_thresh=0.0)
    if name in ("FasterRCNN", "MaskRCNN"):
        pooling = MultiScaleRoIAlign(["0"], output_size=4, sampling_ratio=2)
        options |= {"rpn_anchor_generator": anchors, "box_roi_pool": pooling, "box_score_thresh": 0.0}
        options |= {"box_detections_per_img": 10}
        if name == "MaskRCNN":
            options["mask_roi_pool"] = MultiScaleRoIAlign(["0"], output_size=4, sampling_ratio=2)
        return getattr(detection, name)(Backbone(), **options)
    if name == "FCOS":
        anchors = AnchorGenerator(((8,),), ((1.0,),))
    return getattr(detection, name)(Backbone(), anchor_generator=anchors, score_thresh=0.0, **options)


class Named(nn.Module):
    """A detector with named outputs."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, image, target):
        if self.training:
            return {"loss_of_all": sum(self.net(image, target).values())}
        return {"found": self.net(image)}


class OwnLoss(LossTerm):
    def compute(self, criterion, batch):
        return batch[self.output]


def item(index):
    chance = torch.Generator().manual_seed(index)
    corner = torch.rand(index % 3, 2, generator=chance) * 16
    target = {
        "boxes": torch.cat([corner, corner + 12], dim=1),
        "labels": torch.randint(1, 3, (len(corner),), generator=chance),
        "masks": torch.ones(len(corner), SIDE, SIDE, dtype=torch.uint8),
    }
    return {"image": torch.rand(3, SIDE, SIDE, generator=chance), "target": target}


def collate(items):
    return {key: [item[key] for item in items] for key in items[0]}


def train(folder, net, callbacks, loaders=("train", "valid")):
    torch.manual_seed(0)
    model, data = net if isinstance(net, Named) else Named(net), [item(index) for index in range(6)]
    runner = DictRunner(input_key=["image", "target"], losses=[OwnLoss("loss_of_all")])
    fit(
        runner, model, dict.fromkeys(loaders, data), callbacks, batch=3, collate=collate, lr=0.0001, criterion=None,
        loggers={"tensorboard": TensorBoardLogger(folder, log_every_steps=0)},
    )  # fmt: skip
    return runner.history[1]


@pytest.mark.parametrize("name", ["FasterRCNN", "MaskRCNN", "RetinaNet", "FCOS", "SSD"])
def test_any_detector_of_torchvision_has_its_diagnostics(tmp_path, read_events, name):
    callbacks = detection_diagnostics("full", output_key="found", class_names=["ground", "cat", "dog"], min_score=0.0)
    history = train(tmp_path, make(name), callbacks)
    by_class = {f"{name}/{of}" for name in ("map", "ap50", "box_f1") for of in ("cat", "dog")}
    of_all = {"map", "ap50", "ap75", "map_small", "competition_map", *BoxCurves.own_metrics}
    assert history["valid"].keys() == of_all | by_class
    assert history["train"].keys() == {"loss"}
    assert set(read_events(tmp_path / "valid").Tags()["images"]) >= SHOWN
    shown = set(read_events(tmp_path / "train").Tags()["images"])
    assert not SHOWN & shown
    assert {"8_data/augmentations", "9_gradients/map"} <= shown


@pytest.mark.parametrize("nothing", [None, []])
def test_what_stands_for_no_boxes_in_training_is_no_detection(tmp_path, nothing):
    class Filled(Named):
        def forward(self, image, target):
            return {"found": nothing, **super().forward(image, target)}

    net = Filled(make("SSD"))
    history = train(tmp_path, net, detection_diagnostics("full", output_key="found"))
    assert "map" in history["valid"]
    assert history["train"].keys() == {"loss"}


def test_the_loss_of_a_detector_is_asked_for_in_training_alone(tmp_path):
    net = Named(make("SSD"))
    runner = DictRunner(input_key=["image", "target"], losses=[LossTerm("loss_of_all")])
    with pytest.raises(
        UsageError, match=r"'loss_of_all', 'target'.* does not give in evaluation, where it gives 'found'"
    ):
        fit(
            runner, net, {key: DataLoader([item(1)], collate_fn=collate) for key in ("train", "valid")}, lr=0.0001,
            criterion=lambda loss, target: loss,
        )  # fmt: skip


def test_a_wrong_key_is_named_by_the_loader_for_validation(tmp_path):
    with pytest.raises(UsageError, match="BestWorstSamples asks for key 'logits'"):
        train(tmp_path, make("SSD"), [BestWorstSamples("box_f1", task="detection")])


def test_that_nothing_is_shown_is_said_where_no_loader_gives_detections(tmp_path, caplog):
    train(tmp_path, make("SSD"), detection_diagnostics("light", output_key="found"), loaders=["train"])
    said = [record.message for record in caplog.records if "shows nothing" in record.message]
    assert len(said) == 1
    assert "BestWorstSamples shows nothing: the batches of loader 'train' hold no 'found'" in said[0]


def test_of_a_detection_only_what_is_drawn_is_kept():
    found = [{"boxes": 1, "labels": 2, "scores": 3, "masks": 4, "keypoints": 5}]
    assert without_masks(found) == [{"boxes": 1, "labels": 2, "scores": 3}]
    assert without_masks([{"masks": 4}]) == [{"masks": 4}]
    assert without_masks("logits") == "logits"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.zeros(2, 3), "box_f1 needs a list in 'target', of one dict per image, got a Tensor"),
        ([{"boxes": torch.zeros(0, 4)}], "needs 'boxes', 'labels' of each image in 'target', got 'boxes' of image 0"),
        ([torch.zeros(3, 4)], "needs 'boxes', 'labels' of each image in 'target', got a Tensor of image 0"),
        (
            [{"boxes": torch.zeros(count, 4), "labels": torch.zeros(3 - count)} for count in (1, 2)],
            "box_f1 needs one of 'labels' per box in 'target', got 2 for 1 boxes of image 0",
        ),
    ],
    ids=["tensor", "without labels", "boxes alone", "labels of another image"],
)
def test_what_holds_no_boxes_is_named(target, message):
    with pytest.raises(UsageError, match=message):
        pick_boxes({"target": target}, "target", "box_f1", TRUE)


def test_scores_of_0_that_nothing_is_worse_than_are_never_the_best(tmp_path, read_events):
    def none(batch):
        return torch.zeros(len(batch["image"]))

    given = BestWorstSamples(none, minimize=False, task="detection", output_key="found")
    train(tmp_path, make("SSD"), [given])
    events = read_events(tmp_path / "valid")
    assert {"6_samples/best/none", "1_overview/worst/none"} <= set(events.Tags()["images"])
    (sentence,) = events.Images("6_samples/best/none")
    assert sentence.height < 150  # two lines in place of samples
    (text,) = events.Tensors("1_overview/sample_ids/none/text_summary")
    table = text.tensor_proto.string_val[0].decode()
    assert "worst" in table and "best" not in table
