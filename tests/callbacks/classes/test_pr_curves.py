import logging
import math
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from kit import StandIn, observe
from sklearn import metrics as sk
from tensorboard.util import tensor_util

from assay.callbacks import UsageError
from assay.callbacks.classes.pr_curves import PRCurves
from assay.callbacks.classes.prediction_distribution import PredictionDistribution
from assay.callbacks.measures import kept_scores

BOTH = [PRCurves, PredictionDistribution]


def classification(count=60, classes=4, extra=()):
    output = np.random.randn(count, classes, *extra).astype(np.float32) * 2
    return output, np.random.randint(0, classes, (count, *extra))


def binary(count=300, share=0.3):
    target = (np.random.rand(count) < share).astype(np.float32)
    return (np.random.randn(count) * 2 + 2 * target - 1).astype(np.float32), target


def softmax(output):
    return torch.as_tensor(output).double().softmax(dim=1).numpy()


def curve_of(events, tag, index=0):
    event = events.Tensors(tag)[index]
    return tensor_util.make_ndarray(event.tensor_proto)


def table_of(events, index=0):
    text = events.Tensors("4_metrics_per_class/curves/text_summary")[index].tensor_proto.string_val[0].decode()
    return {line[0]: line[1:] for line in ([c.strip() for c in row.strip("|").split("|")] for row in text.split("\n"))}


@pytest.mark.parametrize("stock", [True, False])
@pytest.mark.parametrize("extra", [(), (3, 2)])
def test_curves_table_and_picture_of_every_epoch_and_loader_are_in_the_event_files(stock, extra, tmp_path, read_events):
    keys = {"output_key": "scores", "target_key": "targets"} if stock else {}
    data = {"train": classification(extra=extra), "valid": classification(25, extra=extra)}
    callback = PRCurves(class_names=list("abcd"), **keys)
    folder, epochs = observe(tmp_path, [callback], data, stock=stock, epochs=2)
    for key, (output, target) in data.items():
        events = read_events(folder / key)
        rows, truth = np.moveaxis(softmax(output), 1, -1).reshape(-1, 4), target.reshape(-1)
        assert [event.step for event in events.Images("5_predictions/roc")] == [1, 2]
        assert events.SummaryMetadata("5_predictions/precision_recall/a").plugin_data.plugin_name == "pr_curves"
        areas = []
        for index, name in enumerate("abcd"):
            assert [event.step for event in events.Tensors(f"5_predictions/precision_recall/{name}")] == [1, 2]
            check_curve(
                curve_of(events, f"5_predictions/precision_recall/{name}", 1),
                rows[:, index],
                truth == index,
                callback.edges,
            )
            areas.append(sk.average_precision_score(truth == index, rows[:, index]))
            row = table_of(events, 1)[name]
            assert float(row[0]) == pytest.approx(areas[-1], abs=5.1e-5)
            assert float(row[1]) == pytest.approx(sk.roc_auc_score(truth == index, rows[:, index]), abs=5.1e-5)
            assert row[-2:] == [str((truth == index).sum()), str((truth != index).sum())]
        found = epochs[1][key]
        assert found["average_precision"] == pytest.approx(np.mean(areas), abs=1e-9)
        assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(truth, rows, multi_class="ovr"), abs=1e-9)
        assert found["average_precision_bound"] == found["roc_auc_bound"] == 0
        assert "best_f1_threshold" not in found
        tag = "average_precision/epoch" if stock else "3_metrics/average_precision"
        written = [event.value for event in events.Scalars(tag)]
        assert written == pytest.approx([of[key]["average_precision"] for of in epochs], abs=1e-6)


def check_curve(curve, probability, positive, edges):
    """Each threshold is taken at the first edge of a bin that is not below it."""
    assert curve.shape == (6, 127)
    edges = edges[1:-1].sigmoid().numpy()
    for index, threshold in enumerate(np.linspace(0, 1, 127)):
        edge = edges[edges >= threshold].min() if 0 < threshold < 1 else threshold
        assert abs(edge - threshold) < 0.0016
        predicted = probability >= edge
        expected = [(predicted & positive).sum(), (predicted & ~positive).sum()]
        expected += [(~predicted & ~positive).sum(), (~predicted & positive).sum()]
        assert curve[:4, index].tolist() == expected
        true, false, _, missed = curve[:4, index]
        assert curve[4, index] == pytest.approx(true / max(true + false, 1), abs=1e-6)
        assert curve[5, index] == pytest.approx(true / (true + missed), abs=1e-6)


@pytest.mark.parametrize("shape", [(300,), (300, 1), (12, 1, 5, 5)])
def test_a_binary_task_has_the_curve_of_class_one_and_a_threshold(shape, tmp_path, read_events):
    output, target = (part.reshape(shape) for part in binary())
    callback = PRCurves(task="binary", class_names=["no", "yes"])
    folder, [epoch] = observe(tmp_path, [callback], {"valid": (output, target)})
    events, flat = read_events(folder / "valid"), output.reshape(-1).astype(np.float64)
    probability, positive = 1 / (1 + np.exp(-flat)), target.reshape(-1) > 0
    assert [tag for tag in events.Tags()["tensors"] if tag.startswith("5_predictions/precision_recall/")] == [
        "5_predictions/precision_recall/yes"
    ]
    check_curve(curve_of(events, "5_predictions/precision_recall/yes"), probability, positive, callback.edges)
    precision, recall, _ = sk.precision_recall_curve(positive, probability)
    best = (2 * precision * recall / (precision + recall)).max()
    threshold = epoch["valid"]["best_f1_threshold"]
    assert sk.f1_score(positive, probability >= threshold) == pytest.approx(best, abs=5e-3)


def test_a_multilabel_task_has_a_curve_a_label(tmp_path, read_events):
    output, target = np.random.randn(50, 3).astype(np.float32), np.random.randint(0, 2, (50, 3))
    callback = PRCurves(task="multilabel", num_classes=3)
    folder, [epoch] = observe(tmp_path, [callback], {"valid": (output, target)})
    for index in range(3):
        probability = 1 / (1 + np.exp(-output[:, index].astype(np.float64)))
        check_curve(
            curve_of(read_events(folder / "valid"), f"5_predictions/precision_recall/{index}"),
            probability,
            target[:, index] > 0,
            callback.edges,
        )
    expected = sk.roc_auc_score(target, output)
    assert epoch["valid"]["roc_auc"] == pytest.approx(expected, abs=1e-9)


def test_a_checkpoint_holds_the_thresholds_and_they_come_back(tmp_path):
    callback = PRCurves(task="binary", class_names=["no", "yes"])
    _, epochs = observe(tmp_path, [callback], {"train": binary(), "valid": binary()}, epochs=2)
    file = sorted((tmp_path / "checkpoints").glob("last*"))[0]
    [state] = torch.load(file, weights_only=True)["callbacks"]["PRCurves"]
    assert state == callback.state_dict()
    assert state.keys() == {"train", "valid"}
    assert state["valid"]["yes"]["threshold"] == epochs[-1]["valid"]["best_f1_threshold"]
    assert state["valid"]["yes"]["positives"] + state["valid"]["yes"]["negatives"] == 300
    assert 0 < state["valid"]["yes"]["f1"] <= 1
    assert 1 / (1 + math.exp(-state["valid"]["yes"]["logit"])) == pytest.approx(state["valid"]["yes"]["threshold"])
    other = PRCurves(task="binary", class_names=["no", "yes"])
    other.load_state_dict(state)
    assert other.thresholds_ == callback.thresholds_


def test_ignored_pixels_and_absent_classes_are_left_out(tmp_path, read_events):
    output, target = classification(12, 4, (5, 5))
    target[target == 3] = 255
    folder, [epoch] = observe(tmp_path, [PRCurves(num_classes=4, ignore_index=255)], {"valid": (output, target)})
    kept = target != 255
    rows, truth = np.moveaxis(softmax(output), 1, -1)[kept], target[kept]
    expected = np.mean([sk.roc_auc_score(truth == index, rows[:, index]) for index in range(3)])
    assert epoch["valid"]["roc_auc"] == pytest.approx(expected, abs=1e-9)
    table = table_of(read_events(folder / "valid"))
    assert table["3"] == ["-"] * 5 + ["0", str(kept.sum())]
    assert table[""][-2:] == ["positive pixels", "negative pixels"]


def test_without_positives_there_is_no_metric(tmp_path):
    _, [epoch] = observe(tmp_path, [PRCurves(task="binary")], {"valid": (binary()[0], np.zeros(300))})
    for name in ("average_precision", "roc_auc", "average_precision_bound", "roc_auc_bound", "best_f1_threshold"):
        assert math.isnan(epoch["valid"][name])


def test_of_more_samples_than_are_kept_the_table_has_bounds_that_hold(tmp_path, read_events, monkeypatch):
    monkeypatch.setattr(kept_scores, "MOST_ROWS", 39)
    output, target = classification()
    folder, [epoch] = observe(tmp_path, [PRCurves(num_classes=4, bins=64)], {"valid": (output, target)})
    rows = softmax(output)
    for index in range(4):
        row = table_of(read_events(folder / "valid"))[str(index)]
        expected = sk.average_precision_score(target == index, rows[:, index])
        assert float(row[0]) == pytest.approx(expected, abs=float(row[1]) + 1e-4)
        expected = sk.roc_auc_score(target == index, rows[:, index])
        assert float(row[2]) == pytest.approx(expected, abs=float(row[3]) + 1e-4)
    assert epoch["valid"]["average_precision_bound"] > 0


def test_a_large_bound_is_said_once_a_loader(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(kept_scores, "MOST_ROWS", 299)
    data = {"train": binary(), "valid": binary()}
    with caplog.at_level(logging.WARNING, "assay"):
        observe(tmp_path, [PRCurves(task="binary", bins=16)], data, epochs=2)
    said = [record.getMessage() for record in caplog.records if record.name == "assay"]
    assert len(said) == 2
    for key in data:
        assert any(
            f"PRCurves, {key} epoch 1: the average precision of class 1 may be off by 0." in line for line in said
        )
        assert any("raise PRCurves(bins=...), now 16" in line for line in said)


def test_a_small_bound_is_not_said(tmp_path, caplog):
    output, target = binary()
    observe(tmp_path, [PRCurves(task="binary")], {"valid": (output + 20 * target, target)})
    assert not [record for record in caplog.records if record.name == "assay"]


@pytest.mark.parametrize("build", BOTH)
def test_scores_that_are_nan_are_said_and_left_out(build, tmp_path, caplog):
    output, target = binary()
    output[:5] = np.nan
    observe(tmp_path, [build(task="binary")], {"valid": (output, target)}, epochs=2)
    said = [record.getMessage() for record in caplog.records if "NaN" in record.getMessage()]
    assert said == [f"{build.__name__}, valid epoch 1: 5 scores are NaN and left out, of 1."]


@pytest.mark.parametrize("build", BOTH)
def test_an_inference_loader_is_left_out(build, tmp_path, read_events):
    folder, [epoch] = observe(
        tmp_path, [build(num_classes=4)], {"valid": classification(8), "infer": classification(8)}
    )
    assert "roc_auc" not in epoch["infer"]
    if (folder / "infer").is_dir():
        assert not read_events(folder / "infer").Tags()["images"]


class Collect:
    """Takes what a callback writes."""

    def __init__(self):
        self.written = {}

    def text(self, tag, markdown, step):
        self.written[tag] = markdown() if callable(markdown) else markdown

    def image(self, tag, draw, step):
        self.written[tag] = draw()

    def warn(self, message):
        """Keep nothing: only the main process logs it."""

    def pr_curves(self, make, step):
        self.written.update(make())

    def histograms(self, make, step):
        for tag, histogram in make().items():
            values = vars(histogram).copy()
            self.written[tag] = np.array([*values.pop("counts"), *values.pop("limits"), *values.values()])


def loader_over_ranks(rank, build, output, target, size):
    """Feed this rank's share: of several ranks the last one has none."""
    engine = SimpleNamespace(device="cpu", is_main_process=rank == 0, num_processes=size)
    runner = StandIn(engine=engine, is_infer_loader=False, loader_key="valid", epoch_step=1, loader_metrics={})
    callback, writer = build(num_classes=4, bins=512), Collect()
    callback.begin(runner)
    for batch in (slice(0, 9), slice(9, 11), slice(11, None)):
        if size == 1 or rank < size - 1:
            runner.batch = {"logits": output[batch], "target": target[batch]}
            callback.observe(runner)
    callback.report(runner, writer)
    state = callback.state_dict() if build is PRCurves else None
    return writer.written, runner.loader_metrics, state


@pytest.mark.parametrize("build", BOTH)
def test_what_is_written_is_that_of_all_ranks(build, ranks):
    output, target = (torch.as_tensor(part) for part in classification())
    alone = loader_over_ranks(0, build, output, target, 1)
    for written, *rest in ranks.run(loader_over_ranks, build, output, target, ranks.size):
        assert rest == list(alone[1:])
        assert written.keys() == alone[0].keys()
        assert all(np.array_equal(written[tag], alone[0][tag]) for tag in written)


@pytest.mark.parametrize("build", BOTH)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "multi-class", "num_classes": 3}, "unknown task 'multi-class'; did you mean 'multiclass'"),
        ({}, "num_classes or class_names is needed for the task 'multiclass', got None"),
        ({"num_classes": 3, "ignore_index": "x"}, "ignore_index must be an integer or None, got 'x'"),
        ({"num_classes": 3, "bins": 17}, "bins must be an even integer from 16 to 65536 or None, got 17"),
        ({"num_classes": 3, "bins": 0}, "bins must be an even integer from 16 to 65536 or None, got 0"),
        ({"num_classes": 3, "bins": 2.0}, "bins must be an even integer .* got 2.0"),
        ({"num_classes": 3, "bins": 10**6}, "bins must be an even integer .* got 1000000"),
    ],
)
def test_a_wrong_argument_is_an_error(build, arguments, message):
    with pytest.raises(UsageError, match=message):
        build(**arguments)


@pytest.mark.parametrize("build", BOTH)
@pytest.mark.parametrize(
    ("task", "output", "target", "message"),
    [
        ("multiclass", (5, 4), (5,), r"num_classes=3\) needs an output \[N, 3, ...\], got logits \(5, 4\)"),
        ("multilabel", (5, 3), (5,), r"task='multilabel'\) needs a target of shape \(5, 3\), got .*target \(5,\)"),
        ("binary", (5, 2), (5,), r"task='binary'\) needs one logit per target, got logits \(5, 2\) and target \(5,\)"),
    ],
)
def test_shapes_that_do_not_fit_are_an_error(build, task, output, target, message):
    callback = build(task=task, num_classes=2 if task == "binary" else 3)
    runner = StandIn(engine=SimpleNamespace(device="cpu"), is_infer_loader=False)
    runner.batch = {"logits": torch.zeros(output), "target": torch.zeros(target)}
    callback.begin(runner)
    with pytest.raises(UsageError, match=message):
        callback.observe(runner)


@pytest.mark.parametrize("build", BOTH)
def test_a_missing_key_is_an_error_that_lists_the_keys_of_the_batch(build, tmp_path):
    message = rf"{build.__name__} asks for key 'absent'.*it has 'image', 'logits', 'target'"
    with pytest.raises(UsageError, match=message):
        observe(tmp_path, [build(num_classes=4, output_key="absent")], {"valid": classification(4)})


@pytest.mark.parametrize("build", BOTH)
def test_a_target_that_is_no_class_is_an_error_at_the_end_of_the_loader(build, tmp_path):
    output, target = classification()
    target = target.astype(np.float32)
    target[:2] = 0.5  # no one can be named: that a value is no whole number is seen on the device alone
    message = f"loader 'valid': {build.__name__} takes class numbers from 0 to 3, got 2 others in 'target'"
    with pytest.raises(UsageError, match=message):
        observe(tmp_path, [build(num_classes=4)], {"valid": (output, target)})


@pytest.mark.parametrize("build", BOTH)
@pytest.mark.parametrize("task", ["multiclass", "binary", "multilabel"])
def test_a_step_reads_nothing_from_the_device(build, task):
    callback = build(task=task, num_classes=2, ignore_index=255)
    runner = StandIn(engine=SimpleNamespace(device="meta"), is_infer_loader=False)
    output = torch.zeros((8,) if task == "binary" else (8, 2), device="meta")
    target = torch.zeros((8, 2) if task == "multilabel" else (8,), dtype=torch.int64, device="meta")
    runner.batch = {"logits": output, "target": target}
    callback.begin(runner)
    callback.observe(runner)
    assert callback.measure_.state["counts"].device.type == "meta"


def test_both_callbacks_go_together_and_keep_nothing_of_a_loader(tmp_path, read_events):
    callbacks = [PRCurves(num_classes=4), PredictionDistribution(num_classes=4)]
    folder, _ = observe(tmp_path, callbacks, {"valid": classification()})
    events = read_events(folder / "valid")
    assert set(events.Tags()["images"]) == {"5_predictions/roc", "5_predictions/distribution"}
    for tag in events.Tags()["images"]:
        encoded = np.frombuffer(events.Images(tag)[0].encoded_image_string, dtype=np.uint8)
        assert cv2.imdecode(encoded, cv2.IMREAD_COLOR).ndim == 3
    assert all(callback.measure_ is None for callback in callbacks)
