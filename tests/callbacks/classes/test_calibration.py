import inspect
import math

import cv2
import numpy as np
import pytest
import torch
from kit import Given, fit
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from assay.callbacks import Calibration, ConfusionMatrix, UsageError
from assay.callbacks.classes.class_counts import ClassCounts
from assay.callbacks.drawings.calibration import draw_calibration
from assay.callbacks.measures.calibration import reliability
from assay.callbacks.support.distributed import reduce_state
from assay.runner import DictRunner


def reference(confidence, right, bins):
    """Return share, accuracy and mean confidence of each bin, and the expected calibration error, by a slow loop."""
    found = [[] for _ in range(bins)]
    for one, hit in zip(confidence, right, strict=True):
        found[min(int(float(one) * bins), bins - 1)].append((float(one), bool(hit)))
    rows = [
        (len(bin_) / len(confidence), *(np.mean([pair[i] for pair in bin_]) if bin_ else np.nan for i in (1, 0)))
        for bin_ in found
    ]
    return np.array(rows).T, sum(share * abs(hit - sure) for share, hit, sure in rows if share)


def data(task, count=60):
    """Return outputs and targets whose confidences spread over all bins, and what of them counts, flat."""
    chance = np.random.default_rng(3)
    shape = {"multiclass": (count, 3), "pixels": (count // 4, 3, 4, 5), "binary": (count,), "multilabel": (count, 4)}[
        task
    ]
    output = (3 * chance.normal(size=shape)).astype(np.float32)
    if task in ("multiclass", "pixels"):
        target = chance.integers(0, 3, (shape[0], *shape[2:]))
        p = np.exp(output.astype(float))
        p /= p.sum(axis=1, keepdims=True)
        target.flat[::9] = 255
        counts = target != 255
        return output, target, p.max(axis=1)[counts], (p.argmax(axis=1) == target)[counts]
    target = chance.integers(0, 2, shape)
    target.flat[::9] = 255
    counts = target != 255
    return output, target, (1 / (1 + np.exp(-output.astype(float))))[counts], (target == 1)[counts]


def callback_of(task, **options):
    given = {
        "multiclass": {"num_classes": 3},
        "pixels": {"num_classes": 3},
        "binary": {},
        "multilabel": {"num_classes": 4},
    }
    name = "multiclass" if task == "pixels" else task
    return Calibration(task=name, ignore_index=255, **given[task], **options)


def count_share(rank, ranks, task, output, target):
    """Return the state over all ranks, of which each has counted every so manieth sample, in two batches."""
    callback = callback_of(task, bins=10)
    callback.measure_ = callback.make_measure(torch.device("cpu"))
    mine = torch.as_tensor(output[rank::ranks]), torch.as_tensor(target[rank::ranks])
    for part in range(2):
        callback.count(*(of[part::2] for of in mine))
    return reduce_state(callback.measure_.state, callback.measure_.reductions)["counts"]


@pytest.mark.parametrize("task", ["multiclass", "pixels", "binary", "multilabel"])
def test_bins_are_those_of_a_slow_loop_on_any_number_of_ranks(ranks, task):
    output, target, confidence, right = data(task)
    alone = count_share(0, 1, task, output, target)
    for counts in ranks.run(count_share, ranks.size, task, output, target):
        assert torch.equal(counts, alone)
    np.testing.assert_allclose(reliability(alone).numpy(), reference(confidence, right, 10)[0], atol=1e-6)


def test_a_batch_is_binned_a_part_at_a_time_with_the_same_counts(monkeypatch):
    output, target, *_ = data("pixels")
    whole = count_share(0, 1, "pixels", output, target)
    monkeypatch.setattr("assay.callbacks.measures.calibration._AT_ONCE", 7)
    assert torch.equal(count_share(0, 1, "pixels", output, target), whole)


def run(folder, task, callbacks, output, target):
    items = [{"image": torch.as_tensor(o), "target": torch.as_tensor(t)} for o, t in zip(output, target, strict=True)]
    runner = DictRunner()
    fit(
        runner, Given(), {"train": items, "valid": items}, callbacks, batch=7, lr=0.0,
        criterion=lambda output, target: output.mean(), logdir=str(folder),
    )  # fmt: skip
    return runner.epoch_metrics["valid"]


@pytest.mark.parametrize("task", ["multiclass", "pixels", "binary", "multilabel"])
def test_the_expected_calibration_error_is_that_of_torchmetrics(tmp_path, task):
    output, target, confidence, right = data(task)
    metrics = run(tmp_path, task, [callback_of(task)], output, target)
    assert metrics["ece"] == pytest.approx(reference(confidence, right, 15)[1], abs=1e-6)
    logits, truth = torch.as_tensor(output), torch.as_tensor(target)
    if task in ("multiclass", "pixels"):
        theirs = multiclass_calibration_error(logits, truth, 3, n_bins=15, ignore_index=255)
    else:
        theirs = binary_calibration_error(logits.flatten(), truth.flatten(), n_bins=15, ignore_index=255)
    assert metrics["ece"] == pytest.approx(float(theirs), abs=1e-5)


@pytest.mark.parametrize(
    ("task", "unit"),
    [("binary", "samples"), ("multiclass", "samples"), ("pixels", "pixels"), ("multilabel", "decisions")],
)
def test_the_picture_shows_the_bins(task, unit, tmp_path, read_events):
    output, target, confidence, right = data(task)
    metrics = run(tmp_path, task, [callback_of(task, bins=5)], output, target)
    (event,) = read_events(tmp_path / "valid").Images("5_predictions/calibration")
    picture = cv2.imdecode(np.frombuffer(event.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    title = ["valid calibration, epoch 1", f"ECE {metrics['ece']:.4f} of {len(right)} {unit}"]
    np.testing.assert_array_equal(picture, draw_calibration(*reference(confidence, right, 5)[0], title))
    assert event.step == 1


def test_a_confidence_of_one_is_in_the_last_bin_and_nan_is_left_out_with_a_warning(tmp_path, caplog):
    output = np.array([90.0, 90.0, -90.0, np.nan, np.nan], np.float32)
    callback = Calibration(task="binary", bins=4)
    metrics = run(tmp_path, "binary", [callback], output, np.array([1, 0, 0, 1, 0]))
    assert callback.counts_.tolist() == [[1, 0, 0, 2], [0, 0, 0, 1], [0, 0, 0, 2 * 2**24]]
    assert metrics["ece"] == pytest.approx(1 / 3)
    (line,) = [record.message for record in caplog.records if "valid" in record.message and "NaN" in record.message]
    assert line == "Calibration, valid epoch 1: 2 scores are NaN and left out."


def test_where_nothing_counts_there_is_no_error_to_name(tmp_path):
    metrics = run(
        tmp_path, "binary", [Calibration(task="binary", ignore_index=255)], np.zeros(4, np.float32), np.full(4, 255)
    )
    assert math.isnan(metrics["ece"])


def test_it_has_counts_of_its_own_beside_a_confusion_matrix(tmp_path):
    output, target, *_ = data("multiclass")
    kept = target != 255
    metrics = run(
        tmp_path, "multiclass", [ConfusionMatrix(num_classes=3), Calibration(num_classes=3)], output[kept], target[kept]
    )
    assert metrics["ece"] > 0


def test_a_target_that_is_no_class_ends_the_run(tmp_path):
    output, target, *_ = data("multiclass")
    with pytest.raises(UsageError, match="holds 255, and Calibration takes class numbers from 0 to 2"):
        run(tmp_path, "multiclass", [Calibration(num_classes=3)], output, target)


@pytest.mark.parametrize("bins", [0, -1, 2.5, "ten"])
def test_bins_must_be_a_positive_integer(bins):
    with pytest.raises(UsageError, match=r"bins must be an integer of at least 1, got "):
        Calibration(task="binary", bins=bins)


class Fixed(Calibration):
    def __init__(self, names):
        super().__init__(class_names=names)


def test_options_are_shown_as_arguments_and_a_subclass_shows_its_own():
    shown = inspect.signature(Calibration).parameters
    assert list(shown) == ["bins", *inspect.signature(ClassCounts).parameters]
    assert list(inspect.signature(Fixed).parameters) == ["names"]
    assert "normalize" in inspect.signature(ConfusionMatrix).parameters
