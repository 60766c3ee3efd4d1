"""What is kept of samples with several labels, masks and boxes, against plain loops, on one rank and several."""

import json
import math

import numpy as np
import polars as pl
import pytest
import torch
from kit import fit
from sklearn.metrics import average_precision_score
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import SampleHistory, UsageError
from assay.callbacks.measures.box_evidence import EVIDENCE, LABELS, box_evidence
from assay.callbacks.measures.mask_regions import UNPACKED
from assay.callbacks.measures.sample_history import box_numbers
from assay.runner import DictRunner

COUNT, CLASSES, SIDE, IGNORED = 13, 3, 4, 9


class Given(nn.Module):
    """Returns what the batch holds as the output, so that a test knows it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, given):
        return {"logits": given if isinstance(given, list) else given + self.weight}


def chance():
    return torch.Generator().manual_seed(3)


def shape_of(task):
    return {"labels": (CLASSES,), "maps": (CLASSES, SIDE, SIDE), "labels of maps": (CLASSES, SIDE, SIDE)}.get(
        task, (1, SIDE, SIDE)
    )


def items(task):
    draw = chance()
    found = []
    for number in range(COUNT):
        logits = torch.randn(shape_of(task), generator=draw)
        high = CLASSES if task == "maps" else 2
        shape = (SIDE, SIDE) if task == "maps" else shape_of(task)
        target = torch.randint(0, high, shape, generator=draw)
        target[torch.rand(shape, generator=draw) < 0.2] = IGNORED
        found.append({"given": logits, "target": target, "sample_id": f"s{number:02}"})
    found[1]["target"].fill_(IGNORED)
    found[2]["given"].flatten()[0] = math.nan
    if task != "maps":
        found[3]["target"].zero_()
        found[3]["given"].fill_(-1.0)
    return found


def masked(criterion):
    def loss(output, target):
        counted = target != IGNORED
        return (criterion(output, target.clamp(0, 1).float(), reduction="none") * counted).sum() / counted.sum()

    return loss


def criterion_of(task):
    if task == "maps":
        return nn.CrossEntropyLoss(ignore_index=IGNORED)
    return masked(nn.functional.binary_cross_entropy_with_logits)


def iou_of(logits, target, task):
    """Return the mean IoU of one sample by a loop over classes and pixels."""
    if task == "maps":
        pairs = [(logits.argmax(0) == c, target == c, target != IGNORED) for c in range(CLASSES)]
    else:
        pairs = [(of > 0, true == 1, true != IGNORED) for of, true in zip(logits, target, strict=True)]
    values = []
    for found, true, counted in pairs:
        places = [
            (bool(f), bool(t)) for f, t, c in zip(*(p.flatten() for p in (found, true, counted)), strict=True) if c
        ]
        union = sum(f or t for f, t in places)
        if union:
            values.append(sum(f and t for f, t in places) / union)
    return sum(values) / len(values) if values else None


def expected(item, task):
    logits, target = item["given"], item["target"]
    loss = float(criterion_of(task)(logits[None], target[None]))
    # A map that no target of counts has no loss, and its mean is 0 / 0.
    found = {"loss": loss if math.isfinite(loss) else None}
    broken = not logits.isfinite().all()
    if task != "labels":
        return {**found, "score": None if broken else iou_of(logits, target, task)}
    margins = [z if t == 1 else -z for z, t in zip(logits.tolist(), target.tolist(), strict=True) if t != IGNORED]
    if broken or not margins:
        return {**found, "wrong_labels": None, "margin": None}
    return {**found, "wrong_labels": sum(margin < 0 for margin in margins), "margin": min(margins)}


def rows_of(folder, epoch=1):
    ids = dict(pl.read_parquet(folder / "ids.parquet").select("index", "id").iter_rows())
    rows = pl.read_parquet(folder / f"epoch-{epoch:06}.parquet").iter_rows(named=True)
    return {ids[row["index"]]: {name: value for name, value in row.items() if name != "index"} for row in rows}


TASKS = {"labels": "multilabel", "maps": "multiclass", "one map": "binary", "labels of maps": "multilabel"}


def train(folder, case, data=None, criterion=None, **options):
    options = options or {"task": TASKS[case], "ignore_index": IGNORED}
    data = items(case) if data is None else data
    loaders = {"valid": DataLoader(data, 2, collate_fn=None if case != "boxes" else collate)}
    fit(
        DictRunner(input_key="given"), Given(), loaders, [SampleHistory(**options)], optimizer=None,
        criterion=criterion or criterion_of(case), logdir=str(folder),
    )  # fmt: skip
    return rows_of(folder / "samples" / "valid")


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if value is None or isinstance(value, int):
            assert found[name] == value, name
        else:
            assert found[name] == pytest.approx(value, rel=3e-5, abs=1e-6), name


@pytest.mark.parametrize("task", TASKS)
def test_labels_and_maps_equal_a_loop(task, tmp_path):
    rows, data = train(tmp_path, task), items(task)
    assert len(rows) == COUNT
    for item in data:
        wanted = expected(item, task)
        if item["sample_id"] == "s01":
            wanted["loss"] = rows["s01"]["loss"]  # of the criterion, whose mean is over nothing
        found = rows[item["sample_id"]]
        regions = {name: found.pop(name) for name in ("contradicted", *UNPACKED) if name in found}
        assert (len(regions) == 7) == (task != "labels")
        assert_same(found, wanted)
    kind = "multilabel" if task == "labels" else "segmentation"
    assert json.loads((tmp_path / "samples/valid/about.json").read_text())["task"] == kind


def boxes(draw, count, scores=False):
    corner = torch.randint(0, 12, (count, 2), generator=draw).float()
    size = torch.randint(4, 9, (count, 2), generator=draw).float()
    found = {
        "boxes": torch.cat([corner, corner + size], dim=1),
        "labels": torch.randint(1, 3, (count,), generator=draw),
    }
    return {**found, "scores": torch.rand(count, generator=draw)} if scores else found


def box_items():
    draw, found = chance(), []
    for number in range(COUNT):
        true = boxes(draw, number % 5)
        moved = {"boxes": true["boxes"] + 1, "labels": true["labels"], "scores": torch.rand(number % 5, generator=draw)}
        others = boxes(draw, 6, scores=True)
        given = {name: torch.cat([moved[name], others[name]]) for name in others}
        found.append({"given": given, "target": true, "sample_id": f"s{number:02}"})
    found[3]["given"] = {name: part[:0] for name, part in found[3]["given"].items()}
    return found


def collate(rows):
    return {name: [row[name] for row in rows] for name in rows[0]}


def box_loss(output, target):
    return torch.zeros((), requires_grad=True)


def overlap(one, other):
    width, height = (min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1))
    shared = max(width, 0) * max(height, 0)
    area, other_area = ((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / (area + other_area - shared)


def expected_of_boxes(item, min_score, min_iou):
    """Match in the order of scores by a loop; average precision by scikit-learn, with the missed ranked last."""
    given = {name: part.tolist() for name, part in item["given"].items()}
    true = {name: part.tolist() for name, part in item["target"].items()}
    free, hits = set(range(len(true["labels"]))), {}
    for index in sorted(range(len(given["scores"])), key=lambda i: -given["scores"][i]):
        near = [
            (overlap(given["boxes"][index], true["boxes"][j]), -j)
            for j in free
            if true["labels"][j] == given["labels"][index]
        ]
        best = max(near, default=(0.0, 0))
        hits[index] = best[0] >= min_iou and best[0] > 0
        if hits[index]:
            free.discard(-best[1])
    kept = [index for index, score in enumerate(given["scores"]) if score >= min_score]
    count, found = len(true["labels"]), sum(hits[index] for index in kept)
    score = None
    if count:
        by_score = [hits[index] for index in range(len(given["scores"]))]
        reached = sum(by_score)
        score = reached / count * average_precision_score(by_score, given["scores"]) if reached else 0.0
    return {
        "score": score, "boxes": count, "found": found, "missed": count - found, "false": len(kept) - found,
        **evidence_of(item, min_score, min_iou), "loss": None,
    }  # fmt: skip


def evidence_of(item, min_score, min_iou):
    """Return what ``test_box_evidence`` compares with loops, as half precision holds it."""
    given, true = ({name: part.numpy() for name, part in item[key].items()} for key in ("given", "target"))
    values = dict(zip(EVIDENCE, box_evidence(given, true, min_score=min_score, min_iou=min_iou), strict=True))
    halves = {name: float(np.float16(value)) for name, value in values.items()}
    known = {name: int(value) if name in LABELS else value for name, value in halves.items() if not math.isnan(value)}
    return {name: known.get(name) for name in EVIDENCE}


@pytest.mark.parametrize(("min_score", "min_iou"), [(0.5, 0.5), (0.2, 0.3)])
def test_boxes_equal_a_loop(min_score, min_iou, tmp_path):
    options = {"task": "detection", "min_score": min_score, "min_iou": min_iou}
    rows = train(tmp_path, "boxes", data=box_items(), criterion=box_loss, **options)
    assert len(rows) == COUNT
    for item in box_items():
        assert_same(rows[item["sample_id"]], expected_of_boxes(item, min_score, min_iou))
    assert 0 < np.mean([row["score"] for row in rows.values() if row["score"] is not None]) < 1
    assert json.loads((tmp_path / "samples/valid/about.json").read_text())["task"] == "detection"


def on_rank(folder, task):
    if task == "boxes":
        return train(folder, task, data=box_items(), criterion=box_loss, task="detection")
    return train(folder, task)


@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_write_the_same(processes, rank_processes, tmp_path):
    for task in ("labels", "maps", "boxes"):
        alone = on_rank(tmp_path / f"{task} one", task)
        found = rank_processes.run(processes, on_rank, tmp_path / f"{task} many", task)[0]
        assert found == alone


@pytest.mark.parametrize(
    ("task", "logits", "target", "message"),
    [
        ("multilabel", (3,), (2,), r"needs a target for each label, got 'target' int64 \[2, 2\]"),
        ("multiclass", (3, 4, 4), (2, 2), r"needs a class for each pixel, got 'target' int64 \[2, 2, 2\]"),
        ("multiclass", (1, 4, 4), (4, 4), r"needs logits of shape .*, got 'logits' float32 \[2, 1, 4, 4\]"),
        ("detection", (3,), (), "needs a list in 'logits', of one dict per image"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(task, logits, target, message, tmp_path):
    data = [
        {"given": torch.zeros(logits), "target": torch.zeros(target, dtype=torch.int64), "sample_id": i} for i in "ab"
    ]
    with pytest.raises(UsageError, match=message):
        train(tmp_path, "refused", data=data, criterion=lambda output, target: output.sum(), task=task)


def test_boxes_of_an_image_without_any_have_no_precision():
    nothing = {"boxes": np.zeros((0, 4)), "labels": np.zeros(0), "scores": np.zeros(0)}
    score, *counts = box_numbers(nothing, nothing, min_score=0.5, min_iou=0.5)
    assert math.isnan(score) and counts == [0, 0, 0, 0]
