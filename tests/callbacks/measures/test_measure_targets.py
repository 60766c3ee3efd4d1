"""Targets are decided as a plain loop decides them."""

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from assay.callbacks.measures.binned_scores import BinnedScores
from assay.callbacks.measures.class_metric import ClassTotals, count_outside
from assay.callbacks.measures.region_counts import RegionCounts, iou
from assay.callbacks.measures.targets import NO_CLASS, class_of_distribution, decide_targets
from assay.callbacks.measures.weighted_auc import WeightedAUC

NAN = math.nan


@pytest.mark.parametrize("task", ["binary", "multilabel"])
@pytest.mark.parametrize(
    ("target", "ignore_index", "decided"),
    [
        ([[0.05, 0.95], [0.5, 0.51]], None, [[0, 1], [0, 1]]),
        ([[0.0, 1.0], [-0.1, 1.1]], None, [[0, 1], [NO_CLASS, NO_CLASS]]),
        ([[NAN, 255.0], [-1.0, 0.3]], None, [[NO_CLASS, NO_CLASS], [NO_CLASS, 0]]),
        ([[0.9, 255.0], [-1.0, 0.3]], 255, [[1, 255], [NO_CLASS, 0]]),
        ([[0.9, 255.0], [-1.0, 0.3]], -1, [[1, NO_CLASS], [-1, 0]]),
        ([[0, 1], [255, -1]], 255, [[0, 1], [255, -1]]),
        ([[True, False], [False, False]], None, [[1, 0], [0, 0]]),
    ],
)
def test_yes_and_no_are_decided_at_a_half_and_whole_numbers_stay(task, target, ignore_index, decided):
    found = decide_targets(torch.tensor(target), (2, 2), task, ignore_index)
    assert found.dtype == torch.int64
    assert found.tolist() == decided


@pytest.mark.parametrize(
    ("target", "ignore_index", "decided"),
    [
        ([0, 2, 7], None, [0, 2, 7]),
        ([0.0, 2.0, 255.0], 255, [0, 2, 255]),
        ([0.3, NAN, math.inf], None, [NO_CLASS] * 3),
        ([[0.1, 0.6, 0.3], [0.4, 0.2, 0.4], [0.0, 0.0, 0.0]], None, [1, 0, NO_CLASS]),
        ([[0.1, 0.6, 0.3], [0.4, 0.2, 0.4], [0.0, 0.0, 0.0]], -100, [1, 0, -100]),
        ([[0.1, 0.6, 0.3], [255.0] * 3, [NAN, 0.0, 1.0]], 255, [1, 255, NO_CLASS]),
        ([[0, 0, 1], [1, 0, 0], [0, 1, 0]], None, [2, 0, 1]),
        ([[0, 1, 1], [0, 0, 0], [0, 2, 0]], None, [NO_CLASS] * 3),
        ([[255] * 3, [0, 0, 0], [0, 1, 0]], 255, [255, 255, 1]),
        ([[True, False, False], [False, False, True], [True, True, False]], None, [0, 2, NO_CLASS]),
    ],
)
def test_one_class_is_its_number_or_the_largest_share(target, ignore_index, decided):
    assert decide_targets(torch.tensor(target), (3, 3), "multiclass", ignore_index).tolist() == decided


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int64, torch.uint8])
def test_maps_are_decided_pixel_by_pixel(dtype):
    numbers = torch.randint(0, 4, (2, 3, 5))
    shares = torch.nn.functional.one_hot(numbers, 4).permute(0, 3, 1, 2).to(dtype)
    shares = shares * 0.8 + 0.05 if dtype.is_floating_point else shares
    assert torch.equal(decide_targets(shares, shares.shape, "multiclass"), numbers)
    assert torch.equal(decide_targets(numbers, shares.shape, "multiclass"), numbers)


def test_axes_of_length_one_do_not_count_for_yes_and_no():
    assert decide_targets(torch.tensor([0.2, 0.8]), (2, 1), "binary").tolist() == [[0], [1]]
    assert decide_targets(torch.tensor(0.8), (), "binary").tolist() == 1


def test_without_a_task_only_shares_that_add_up_to_one_are_a_class():
    shares = torch.tensor([[0.2, 0.8], [1.0, 1.0], [0.0, 0.0], [0.501, 0.5]])
    assert class_of_distribution(shares).tolist() == [1, NO_CLASS, NO_CLASS, 0]
    assert class_of_distribution(torch.tensor([[0, 1], [1, 1]])).tolist() == [1, NO_CLASS]


@pytest.mark.parametrize(
    ("task", "target"),
    [
        ("binary", torch.zeros(4)),
        ("multiclass", torch.zeros(4)),
        ("multiclass", torch.zeros(4, 3)),
        ("multiclass", torch.zeros(4, 3, dtype=torch.int64)),
    ],
)
def test_nothing_is_read_from_the_device(task, target):
    output = (4,) if task == "binary" else (4, 3)
    assert decide_targets(target.to("meta"), output, task, 255).shape == (4,)


def test_soft_targets_are_those_that_they_were_smoothed_from_in_every_measure():
    truth, logits = np.random.randint(0, 2, 200), np.random.randn(200).astype(np.float32)
    soft, scores = torch.as_tensor(truth * 0.9 + 0.05), torch.as_tensor(logits)
    hard = torch.as_tensor(truth)
    counts = [BinnedScores("binary", 1, 512), BinnedScores("binary", 1, 512)]
    for measure, target in zip(counts, (soft, hard), strict=True):
        measure.update(scores, target)
    assert torch.equal(counts[0].state["counts"], counts[1].state["counts"])
    weighted = WeightedAUC((0.0, 1.0), (1.0,))
    assert weighted(scores, soft).item() == pytest.approx(sk.roc_auc_score(truth, logits), abs=1e-3)
    region = RegionCounts(1, 1)
    region.update(scores.reshape(1, 1, 10, 20), soft.reshape(1, 10, 20), torch.zeros(1, dtype=torch.int64))
    assert iou(region.state["area"]).item() == pytest.approx(sk.jaccard_score(truth, logits > 0))


@pytest.mark.parametrize("ignored", [None, 255])
@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_targets_that_are_no_class_are_counted_and_disturb_nothing(task, ignored):
    classes = 2 if task == "binary" else 4
    shape = (50, classes) if task == "multilabel" else (50,)
    target = torch.randint(0, 2 if task != "multiclass" else classes, shape)
    decided = torch.randint(0, 2 if task != "multiclass" else classes, shape)
    target.view(-1)[:5] = torch.tensor([255, -1, classes + 3, NO_CLASS, 255])
    totals = ClassTotals(task, classes, ignored)
    totals.update(decided, target)
    assert count_outside(totals.state).item() == (5 if ignored is None else 3)
    columns = [target[:, c] == 1 if task == "multilabel" else target == c for c in range(classes)]
    true = [column.sum().item() for column in columns]
    assert totals.state["totals"][2].tolist() == true
