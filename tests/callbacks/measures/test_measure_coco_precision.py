import contextlib
import io
import math

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from assay.callbacks.measures.coco_precision import coco_precision, pack, unpack

LABELS = (1, 2, 3)


def boxes(rng, count):
    corner = rng.uniform(0, 60, (count, 2)).astype(np.float32)
    return np.concatenate([corner, corner + rng.integers(5, 30, (count, 2)).astype(np.float32)], axis=1)


def image(rng, found_most=4):
    """Truth, of which some are crowds, and predictions with many equal scores; label 3 is never true."""
    true = boxes(rng, rng.integers(0, 8))
    near = true[rng.random(len(true)) < 0.8]
    near = near + rng.normal(0, 2, near.shape).astype(np.float32)
    found = np.concatenate([near, boxes(rng, rng.integers(0, found_most))])
    scores = rng.integers(1, 8, len(found)).astype(np.float32) / 8
    return (
        {
            "boxes": torch.from_numpy(found),
            "scores": torch.from_numpy(scores),
            "labels": torch.from_numpy(rng.integers(1, 4, len(found))),
        },
        {
            "boxes": torch.from_numpy(true),
            "labels": torch.from_numpy(rng.integers(1, 3, len(true))),
            "iscrowd": torch.from_numpy((rng.random(len(true)) < 0.2).astype(np.int64)),
        },
    )


def by_pycocotools(images):
    """COCO's own evaluation: map, ap50, and the precision of each label that it has one for."""
    entries = []
    for number, (_, true) in enumerate(images):
        for box, label, crowd in zip(true["boxes"], true["labels"], true["iscrowd"], strict=True):
            left, top, right, bottom = box.tolist()
            size = (right - left, bottom - top)
            entries.append(
                {"id": len(entries) + 1, "image_id": number, "category_id": int(label), "bbox": [left, top, *size],
                 "area": size[0] * size[1], "iscrowd": int(crowd)}
            )  # fmt: skip
    found = []
    for number, (prediction, _) in enumerate(images):
        parts = (prediction["boxes"].tolist(), prediction["labels"].tolist(), prediction["scores"].tolist())
        for (left, top, right, bottom), label, score in zip(*parts, strict=True):
            box = [left, top, right - left, bottom - top]
            found.append({"image_id": number, "category_id": label, "bbox": box, "score": score})
    truth = COCO()
    truth.dataset = {
        "images": [{"id": number} for number in range(len(images))],
        "categories": [{"id": label} for label in LABELS],
        "annotations": entries,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][..., 0, -1]  # [IoU, recall, label], any area, 100 of an image
    by_label = {label: precision[:, :, index] for index, label in enumerate(LABELS)}
    return evaluation.stats[:6], {n: of[of > -1].mean() for n, of in by_label.items() if of.max() > -1}


def check(images, batch_size=3):
    parts = [images[first : first + batch_size] for first in range(0, len(images), batch_size)]
    batches = [(pack([found for found, _ in part]), pack([true for _, true in part])) for part in parts]
    value = coco_precision(batches)
    expected, by_label = by_pycocotools(images)
    found = [value.overall.map, value.overall.ap50, value.overall.ap75, *value.overall.by_size.values()]
    assert found == pytest.approx(np.where(expected < 0, np.nan, expected).tolist(), abs=1e-6, nan_ok=True)
    assert {label: of.map for label, of in value.by_label.items()} == pytest.approx(by_label, abs=1e-6)
    assert value.left_out == 0
    return value


@pytest.mark.parametrize("seed", range(3))
def test_figures_are_those_of_cocos_own_evaluation_with_crowds_and_equal_scores(seed):
    rng = np.random.default_rng(seed)
    assert set(check([image(rng) for _ in range(14)]).by_label) == {1, 2}


@pytest.mark.parametrize("seed", range(3))
def test_each_label_and_size_has_the_figures_that_it_would_have_alone(seed):
    rng = np.random.default_rng(seed)
    images = [scaled(image(rng), factor) for factor in (1, 3, 6) for _ in range(8)]
    value = check(images)
    assert not np.isnan([*value.overall.by_size.values()]).any()
    for label, figures in value.by_label.items():
        alone = [tuple(only(boxes, label) for boxes in pair) for pair in images]
        expected, _ = by_pycocotools(alone)
        found = [figures.map, figures.ap50, figures.ap75, *figures.by_size.values()]
        assert found == pytest.approx(np.where(expected < 0, np.nan, expected).tolist(), abs=1e-6, nan_ok=True)


def scaled(pair, factor):
    return tuple({**boxes, "boxes": boxes["boxes"] * factor} for boxes in pair)


def only(boxes, label):
    return {name: part[boxes["labels"] == label] for name, part in boxes.items()}


def test_at_most_100_predictions_of_an_image_and_label_count():
    rng = np.random.default_rng(7)
    check([image(rng, found_most=600) for _ in range(4)])


def test_without_a_true_box_there_is_no_precision():
    found, _ = image(np.random.default_rng(0))
    none = {"boxes": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.int64)}
    value = coco_precision([(pack([found]), pack([none]))])
    figures = value.overall
    assert all(math.isnan(one) for one in (figures.map, figures.ap50, figures.ap75, *figures.by_size.values()))
    assert value.by_label == {}


def test_boxes_are_the_same_when_they_are_packed_and_unpacked():
    rng = np.random.default_rng(1)
    for images in zip(*[image(rng) for _ in range(6)], strict=True):
        for before, after in zip(images, unpack(pack(images)), strict=True):
            for name, part in before.items():
                assert torch.equal(part, after[name])


def test_boxes_of_whole_numbers_are_packed():
    true = {"boxes": torch.tensor([[1, 2, 3, 4]]), "labels": torch.tensor([5])}
    row = pack([true])[1]
    assert row[:6].tolist() == [0, 1, 2, 3, 4, 5]
    assert row[6].isnan()


def test_packing_reads_nothing_from_the_device():
    empty, some = ({"boxes": torch.zeros(n, 4), "labels": torch.zeros(n, dtype=torch.int64)} for n in (0, 3))
    on_meta = [{name: part.to("meta") for name, part in image.items()} for image in (empty, some)]
    assert pack(on_meta).shape == (5, 7)
