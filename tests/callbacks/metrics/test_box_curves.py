"""The diagnostics of counted boxes in a run: metrics, tags, tables, ranks and checkpoints."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from kit import fit
from torch import nn

from assay.callbacks import BoxConfusion, BoxCurves, BoxMetrics, UsageError
from assay.callbacks.measures.box_counts import BACKGROUND, pair_matrix
from assay.callbacks.measures.coco_precision import coco_precision, pack
from assay.callbacks.support.runner_view import BatchPlace
from assay.callbacks.tensorboard.writer import Writer
from assay.runner import DictRunner, LossTerm

NAMES = ["ground", "cat", "dog", "owl"]
KEYS = {"output_key": "detections", "min_score": 0.4}


def random_boxes(rng, count):
    corner = rng.uniform(0, 60, (count, 2))
    return np.concatenate([corner, corner + rng.integers(5, 30, (count, 2))], axis=1)


def images(count, seed=0):
    """Truth and predictions of two classes; either may be empty."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        true = random_boxes(rng, rng.integers(0, 8))
        near = true[rng.random(len(true)) < 0.8] if len(true) else true
        found = np.concatenate([near + rng.normal(0, 1, near.shape), random_boxes(rng, rng.integers(0, 4))])
        labels = rng.integers(1, 3, len(true))
        kept = np.concatenate([labels[: len(near)], rng.integers(1, 3, len(found) - len(near))])
        scores = torch.from_numpy(rng.random(len(found)).astype(np.float32))
        yield (
            {"boxes": torch.tensor(found).float(), "scores": scores, "labels": torch.tensor(kept).long()},
            {"boxes": torch.tensor(true).float(), "labels": torch.tensor(labels).long()},
        )


class Given(nn.Module):
    """Gives the detections of the batch as its own, and while it trains none, as torchvision's detectors do."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, image, found):
        outputs = {"logits": self.shift + image}
        return outputs if self.training else {**outputs, "detections": found}


def collate(items):
    found, true = zip(*items, strict=True)
    return {"image": torch.zeros(len(items)), "found": list(found), "target": list(true)}


def run(folder, callbacks, data, batch_size=4):
    runner = DictRunner(input_key=["image", "found"], losses=[LossTerm()])
    return fit(
        runner, Given(), data, callbacks, batch=batch_size, collate=collate, lr=0.0,
        criterion=lambda output, target: output.mean(), logdir=str(folder),
    )  # fmt: skip


def text_of(events, tag):
    return events.Tensors(f"{tag}/text_summary")[0].tensor_proto.string_val[0].decode()


def rows_of(table):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]


def test_a_run_shows_curves_matrix_and_table_from_one_count(tmp_path, read_events):
    data = [*images(14)]
    curves, confusion = (kind(class_names=NAMES, **KEYS) for kind in (BoxCurves, BoxConfusion))
    metrics = BoxMetrics(class_names=NAMES, **KEYS)
    runner = run(tmp_path, [metrics, curves, confusion], {"train": data[:4], "valid": data})
    assert confusion.source_ is curves and confusion.measure_ is None
    labels, matrix = pair_matrix(curves.counts_)
    assert labels == [1, 2]
    hits, true, predicted = matrix.trace(), matrix[:-1].sum(), matrix[:, :-1].sum()
    assert true == sum(len(of["labels"]) for _, of in data)
    assert predicted == sum((of["scores"] >= 0.4).sum() for of, _ in data)
    found = runner.epoch_metrics["valid"]
    assert found["box_precision"] == pytest.approx(hits / predicted)
    assert found["box_recall"] == pytest.approx(hits / true)
    assert found["box_f1"] == pytest.approx(2 * hits / (predicted + true))
    for index, name in enumerate(("cat", "dog")):
        either = matrix[index].sum() + matrix[:, index].sum()
        assert found[f"box_f1/{name}"] == pytest.approx(2 * matrix[index, index] / either)
    assert "box_f1" not in runner.epoch_metrics["train"]  # it gives no detections while it trains
    events = read_events(tmp_path / "valid")
    pictures = {"5_predictions/precision_recall", "5_predictions/by_confidence", "2_confusion_matrix"}
    assert pictures <= set(events.Tags()["images"])
    header, _, *rows = rows_of(text_of(events, "1_overview/report"))
    assert header[-5:] == ["AP", "AP50", "AP small", "AP medium", "AP large"]
    assert [float(row[5]) for row in rows[:-1]] == sorted(float(row[5]) for row in rows[:-1])
    assert {row[0] for row in rows[:-1]} == {"cat", "dog"}
    coco = coco_precision([(pack([one for one, _ in data]), pack([other for _, other in data]))])
    expected = [coco.overall.map, coco.overall.ap50, coco.overall.by_size["small"]]
    assert rows[-1][0] == "all boxes"
    assert [float(cell) for cell in rows[-1][8:11]] == pytest.approx(expected, abs=1e-4)
    assert rows[-1][11:] == ["-", "-"]
    confused = rows_of(text_of(events, "2_confusion_matrix/most_confused"))[2:]
    assert {row[1] for row in confused if row[0] == "background"} <= {"cat", "dog"}
    assert sum(int(row[2]) for row in confused) == matrix.sum() - hits


def test_the_threshold_is_where_the_f1_of_all_boxes_is_largest(tmp_path):
    data = [*images(20, seed=3)]
    threshold = run(tmp_path, [BoxCurves(**KEYS)], {"valid": data}).epoch_metrics["valid"]["box_f1_threshold"]
    at = {}
    for index, score in enumerate((threshold, threshold - 0.05, threshold + 0.05, 0.0, 0.9)):
        found = run(tmp_path / str(index), [BoxCurves(**{**KEYS, "min_score": max(score, 0)})], {"valid": data})
        at[score] = found.epoch_metrics["valid"]["box_f1"]
    assert max(at, key=at.get) == threshold


def test_a_detector_that_finds_nothing_has_scores_of_0_and_no_threshold(tmp_path, read_events):
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long()}
    data = [({**none, "scores": torch.zeros(0)}, true) for _, true in images(6)]
    metrics = [BoxMetrics(**KEYS), BoxCurves(**KEYS), BoxConfusion(**KEYS)]
    found = run(tmp_path, metrics, {"valid": data}).epoch_metrics["valid"]
    assert (found["box_precision"], found["box_recall"], found["box_f1"]) == (0.0, 0.0, 0.0)
    assert math.isnan(found["box_f1_threshold"])
    confused = rows_of(text_of(read_events(tmp_path / "valid"), "2_confusion_matrix/most_confused"))[2:]
    assert {row[1] for row in confused} == {"background"}


def test_without_a_true_box_nothing_has_a_value(tmp_path):
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long()}
    data = [({**none, "scores": torch.zeros(0)}, none)] * 4
    found = run(tmp_path, [BoxCurves(**KEYS), BoxConfusion(**KEYS)], {"valid": data}).epoch_metrics["valid"]
    assert all(math.isnan(found[name]) for name in BoxCurves.own_metrics)


def test_different_arguments_are_counted_apart(tmp_path):
    first, second = BoxCurves(**KEYS), BoxConfusion(output_key="detections", min_score=0.7)
    run(tmp_path, [first, second], {"valid": [*images(6)]})
    assert second.source_ is second
    assert sum(second.counts_.pairs[BACKGROUND].values()) < sum(first.counts_.pairs[BACKGROUND].values())


def test_scores_that_are_not_probabilities_or_not_finite_are_said(tmp_path, caplog):
    data = [*images(8)]
    for found, _ in data:
        if len(found["scores"]) > 1:
            found["scores"][:2] = torch.tensor([3.0, torch.nan])
    count = sum(len(found["scores"]) > 1 for found, _ in data)
    run(tmp_path, [BoxCurves(**KEYS), BoxConfusion(**KEYS)], {"valid": data})
    assert f"BoxCurves, valid epoch 1: {count} predictions are not finite and left out" in caplog.text
    assert (
        f"BoxCurves, valid epoch 1: {count} scores are not from 0 to 1, and count as the nearer of both" in caplog.text
    )
    assert "BoxConfusion" not in caplog.text


@pytest.mark.parametrize("kind", [BoxCurves, BoxConfusion])
@pytest.mark.parametrize(("name", "value"), [("min_score", 1.5), ("min_iou", -0.1), ("min_score", float("nan"))])
def test_an_argument_out_of_range_is_named(kind, name, value):
    with pytest.raises(UsageError, match=f"{name} must be from 0 to 1, got {value}"):
        kind(**{name: value})


def loader_over_ranks(rank, data, size):
    """Feed the batches to the ranks in turn, the last of which gets none; return what the loader's metrics are."""
    device = torch.device("cpu")
    engine = SimpleNamespace(device=device, num_processes=size, is_main_process=rank == 0)
    runner = SimpleNamespace(
        engine=engine, is_infer_loader=False, is_train_loader=False, loader_metrics={}, loader_key="valid",
        epoch_step=1, callbacks={},
    )  # fmt: skip
    callback = BoxCurves(**KEYS)
    callback.begin(runner)
    for number, first in enumerate(range(0, len(data), 4)):
        if rank == number % max(size - 1, 1):
            runner.batch = {**collate(data[first : first + 4])}
            runner.batch["detections"] = runner.batch["found"]
            runner.place = BatchPlace(number + 1, first)
            callback.observe(runner)
    callback.report(runner, Writer(None))
    return runner.loader_metrics


def loader_of_this_rank(data):
    return loader_over_ranks(dist.get_rank(), data, dist.get_world_size())


def test_three_ranks_of_which_one_is_idle_have_the_numbers_of_one(rank_processes):
    data = [*images(14, seed=5)]
    alone = loader_over_ranks(0, data, 1)
    assert alone.keys() >= {"box_f1", "box_f1/1", "box_f1/2"}
    assert rank_processes.run(3, loader_of_this_rank, data) == [alone] * 3


def test_what_was_seen_of_a_loader_goes_into_a_checkpoint_and_back(tmp_path):
    runner = SimpleNamespace(
        engine=SimpleNamespace(device=torch.device("cpu")), is_infer_loader=False, is_train_loader=False
    )
    data, whole, resumed = [*images(8)], BoxCurves(**KEYS), BoxCurves(**KEYS)
    whole.begin(runner)
    for part in (data[:4], data[4:]):
        runner.batch = {**collate(part), "detections": [found for found, _ in part]}
        whole.observe(runner)
        if part[0] is data[0]:
            torch.save(whole.loader_state(runner), tmp_path / "state.pt")
    resumed.begin(runner)
    resumed.load_loader_state(runner, torch.load(tmp_path / "state.pt", weights_only=True))
    resumed.observe(runner)
    assert resumed.measure_.pairs == whole.measure_.pairs
    assert resumed.measure_.images == 8
