"""IoU, Dice and boundary IoU of each image, against a loop over images and classes, with SciPy's erosion."""

import math

import numpy as np
import pytest
import torch
import torch.distributed as dist
from catalyst import dl
from kit import Given
from scipy import ndimage
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import ImageOverlap, UsageError
from assay.callbacks.measures.image_overlap import BOUNDARY_IOU, image_means, pooled_overlaps
from assay.callbacks.measures.image_overlap import ImageOverlap as Measure
from assay.callbacks.support.distributed import reduce_state
from assay.runner import DictRunner, Engine

IGNORED, SIDE, CLASSES = 255, 6, 4
KINDS = ("iou", "dice", BOUNDARY_IOU)


def make(task, count=13, seed=0):
    """Return logits and targets; some images lack classes, some pixels are ignored."""
    rng = np.random.default_rng(seed)
    channels = 1 if task == "binary" else CLASSES
    logits = rng.normal(size=(count, channels, SIDE, SIDE))
    if task == "multiclass":
        target = rng.integers(0, CLASSES, (count, SIDE, SIDE)) % rng.integers(1, CLASSES + 1, (count, 1, 1))
    else:
        target = (rng.random((count, channels, SIDE, SIDE)) < rng.choice([0, 0.5], (count, channels, 1, 1))).astype(int)
        logits[rng.random((count, channels)) < 0.4] = -1
    target[rng.random(target.shape) < 0.1] = IGNORED
    return torch.from_numpy(logits).float(), torch.from_numpy(target)


def score(kind, predicted, true, without_truth):
    if not true.any():
        return (0.0 if predicted.any() else 1.0) if without_truth == "match" else math.nan
    hits, either = (predicted & true).sum(), predicted.sum() + true.sum()
    return 2 * hits / either if kind == "dice" else hits / (either - hits)


def boundary(mask, known):
    """Return a mask without what is deeper inside than 2% of the diagonal; outside of the image is no mask."""
    reach = max(1, round(0.02 * math.sqrt(mask.shape[0] ** 2 + mask.shape[1] ** 2)))
    square = np.ones((2 * reach + 1, 2 * reach + 1))
    return mask & known & ~ndimage.binary_erosion(mask | ~known, square, border_value=0)


def slow_masks(task, logits, target, classes, kind):
    """Yield the predicted and the true masks of each image, by class."""
    for scores, truth in zip(logits.numpy(), target.numpy(), strict=True):
        row = []
        for number in classes:
            if task == "multiclass":
                pair, known = (scores.argmax(axis=0) == number, truth == number), truth != IGNORED
            else:
                place = 0 if task == "binary" else number
                pair, known = (scores[place] > 0, truth[place] == 1), truth[place] != IGNORED
            row.append([boundary(mask, known) if kind == BOUNDARY_IOU else mask & known for mask in pair])
        yield row


def slow(kind, task, logits, target, classes, without_truth):
    """Return the mean over images and those of each class, by a loop."""
    masks = slow_masks(task, logits, target, classes, kind)
    rows = [[score(kind, predicted, true, without_truth) for predicted, true in row] for row in masks]
    own = [np.nanmean(row) for row in rows if not np.isnan(row).all()]
    by_class = [np.nanmean([row[i] for row in rows]) for i in range(len(classes))]
    return np.mean(own), by_class


def slow_pooled(kind, task, logits, target, classes):
    """Return the IoU of each class over the pixels of all images."""
    pairs = np.array([*slow_masks(task, logits, target, classes, kind)])  # [N, C, 2, H, W]
    both, either = pairs.all(axis=2).sum(axis=(0, 2, 3)), pairs.any(axis=2).sum(axis=(0, 2, 3))
    return both / either


def run(kit, task, logits, target, **options):
    stock = kit == "stock"
    names = ("features", "targets") if stock else ("image", "target")
    items = [dict(zip(names, pair, strict=True)) for pair in zip(logits, target, strict=True)]
    runner = dl.SupervisedRunner(output_key="logits") if stock else DictRunner()
    model = Given(None if stock else "logits")
    runner.train(
        engine=Engine("cpu"), model=model, num_epochs=1,
        loaders={"valid": DataLoader(items, batch_size=5)},
        callbacks=[ImageOverlap(task=task, target_key=names[1], **options)],
        **({} if stock else {"criterion": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD(model.parameters())}),
    )  # fmt: skip
    return runner.epoch_metrics["valid"]


@pytest.mark.parametrize("without_truth", ["skip", "match"])
@pytest.mark.parametrize(
    ("task", "classes"),
    [
        ("binary", None), ("multilabel", None), ("multiclass", None), ("multiclass", [3, 1]),
        ("multiclass", [2, 0, 3, 1]), ("multilabel", [3, 2, 1, 0]),
    ],
)  # fmt: skip
def test_it_is_what_a_loop_over_images_finds(task, classes, without_truth):
    logits, target = make(task)
    numbers = [1] if task == "binary" else classes or [*range(CLASSES)]
    count = {} if task == "binary" else {"num_classes": CLASSES}
    metrics = run("stock", task, logits, target, metrics=KINDS, without_truth=without_truth, ignore_index=IGNORED,
                  **count, **({} if classes is None else {"classes": classes}))  # fmt: skip
    for kind in KINDS:
        own, by_class = slow(kind, task, logits, target, numbers, without_truth)
        assert metrics[f"{kind}_per_image"] == pytest.approx(own, rel=1e-12)
        found = {name: value for name, value in metrics.items() if name.startswith(f"{kind}_per_image/")}
        expected = {} if task == "binary" else dict(zip(numbers, by_class, strict=True))
        assert found == pytest.approx({f"{kind}_per_image/{n}": value for n, value in expected.items()}, rel=1e-12)
    for kind in ("iou", BOUNDARY_IOU):
        expected = slow_pooled(kind, task, logits, target, numbers)
        by_class = {} if task == "binary" else dict(zip(numbers, expected, strict=True))
        found = {name: value for name, value in metrics.items() if name.startswith(f"{kind}/")}
        assert found == pytest.approx({f"{kind}/{n}": value for n, value in by_class.items()}, rel=1e-12)
    assert metrics[BOUNDARY_IOU] == pytest.approx(expected.mean(), rel=1e-12)
    assert "iou" not in metrics  # that name is one of Metrics


def epoch_over_ranks(rank, decided, target, size):
    measure = Measure("multiclass", CLASSES, range(CLASSES), IGNORED, boundary=True)
    for first in range(rank * 3, len(decided), size * 3):
        measure.update(decided[first : first + 3], target[first : first + 3])
    state = reduce_state(measure.state, measure.reductions)
    return image_means(state).tolist(), pooled_overlaps(state).tolist()


def epoch_over_three(decided, target):
    return epoch_over_ranks(dist.get_rank(), decided, target, 3)


def check_epoch(answers, logits, target):
    for means, pooled in answers:
        for kind, row in zip(KINDS, means, strict=True):
            own, by_class = slow(kind, "multiclass", logits, target, range(CLASSES), "skip")
            assert row == pytest.approx([*by_class, own], rel=1e-12)
        for kind, row in zip(("iou", BOUNDARY_IOU), pooled, strict=True):
            assert row == pytest.approx(slow_pooled(kind, "multiclass", logits, target, range(CLASSES)), rel=1e-12)


def test_over_ranks_it_is_that_of_all_images(ranks):
    logits, target = make("multiclass")
    check_epoch(ranks.run(epoch_over_ranks, logits.argmax(dim=1), target, ranks.size), logits, target)


def test_over_three_ranks_too(rank_processes):
    logits, target = make("multiclass")
    check_epoch(rank_processes.run(3, epoch_over_three, logits.argmax(dim=1), target), logits, target)


def test_a_batch_has_the_value_of_its_own_images_and_no_value_is_nan():
    logits, target = make("multiclass", count=6)
    measure = Measure("multiclass", CLASSES, range(CLASSES), IGNORED)
    measure.update(logits[:3].argmax(dim=1), target[:3])
    means = measure.update(logits[3:].argmax(dim=1), target[3:])
    assert means[0, -1].item() == pytest.approx(slow("iou", "multiclass", logits[3:], target[3:], range(4), "skip")[0])
    nothing = torch.full_like(target, IGNORED)
    assert measure.update(logits.argmax(dim=1), nothing).isnan().all()


def test_names_choose_classes_and_a_prefix_names_the_values():
    logits, target = make("multiclass")
    names = ["none", "road", "tree", "roof"]
    metrics = run("ours", "multiclass", logits, target.float().where(target != IGNORED, torch.tensor(0.0)).long(),
                  class_names=names, classes=["road"], metrics="dice", prefix="second")  # fmt: skip
    assert {name for name in metrics if "image" in name} == {
        "second/dice_per_image", "second/dice_per_image/road",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": "f1", "num_classes": 3}, "unknown metric 'f1'"),
        ({"task": "pixels", "num_classes": 3}, "unknown task 'pixels'"),
        ({"without_truth": "zero", "num_classes": 3}, "unknown without_truth 'zero'"),
        ({}, "num_classes or class_names is needed for the task 'multiclass'"),
        ({"num_classes": 3, "classes": [3]}, "unknown class 3 in classes, of 3"),
        ({"class_names": ["cat", "dog"], "classes": ["dgo"]}, "unknown class 'dgo'.*did you mean 'dog'"),
        ({"num_classes": 3, "classes": [1, 1]}, "classes must hold one or several different classes"),
        ({"task": "binary", "classes": [1]}, "classes is not for the task 'binary'"),
    ],
)
def test_a_wrong_argument_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        ImageOverlap(**options)


def test_a_target_that_is_no_class_is_refused():
    logits, target = make("multiclass")
    with pytest.raises(UsageError, match="ImageOverlap takes class numbers from 0 to 3"):
        run("stock", "multiclass", logits, target, num_classes=CLASSES)


def test_one_that_is_only_known_at_the_end_is_refused_there():
    measure = Measure("multilabel", 2, [0, 1])
    measure.update(torch.ones(1, 2, 2, 2, dtype=torch.long), torch.full((1, 2, 2, 2), 7))
    assert measure.state["outside"] == 8


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_an_update_reads_nothing_from_the_device(task):
    classes = {"binary": [1], "multiclass": [2, 0], "multilabel": [0, 1, 2, 3]}[task]
    measure = Measure(task, 2 if task == "binary" else CLASSES, classes, IGNORED, device="meta", boundary=True)
    shape = (5, SIDE, SIDE) if task == "multiclass" else (5, CLASSES if task == "multilabel" else 1, SIDE, SIDE)
    decided = torch.empty(shape, dtype=torch.int64, device="meta")
    assert measure.update(decided, decided).shape == (3, len(classes) + 1)
