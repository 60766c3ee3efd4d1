from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from kit import observe

from assay.callbacks import UsageError
from assay.callbacks.classes.prediction_distribution import PredictionDistribution
from assay.callbacks.drawings.prediction_distribution import draw_distribution
from assay.callbacks.measures.binned_scores import BinnedScores
from assay.callbacks.measures.score_curves import shares_by_probability, summarize_scores


def run(folder, callback, data, **options):
    folder, _ = observe(folder, [callback], data, **options)
    return folder


def check_histogram(found, probabilities):
    """Compare a histogram of TensorBoard with the probabilities themselves."""
    assert found.num == len(probabilities)
    assert found.min <= probabilities.min() + 1e-6
    assert found.max >= probabilities.max() - 1e-6
    assert found.sum == pytest.approx(probabilities.sum(), rel=1e-3)
    assert found.sum_squares == pytest.approx((probabilities**2).sum(), rel=2e-3)
    expected, _ = np.histogram(probabilities, bins=100, range=(0, 1))
    assert len(found.bucket) in (100, 102)  # readers of some versions add empty ends
    counts = np.array(found.bucket)[-100:] if len(found.bucket) == 100 else np.array(found.bucket)[1:-1]
    assert np.abs(counts.cumsum() - expected.cumsum()).max() <= 1


@pytest.mark.parametrize("stock", [True, False])
def test_a_picture_and_histograms_of_every_epoch_and_loader_are_in_the_event_files(stock, tmp_path, read_events):
    keys = {"output_key": "scores", "target_key": "targets"} if stock else {}
    data = {
        key: (np.random.randn(count, 3).astype(np.float32) * 2, np.random.randint(0, 3, count))
        for key, count in (("train", 40), ("valid", 20))
    }
    callback = PredictionDistribution(class_names=["cat", "dog", "owl"], **keys)
    folder = run(tmp_path, callback, data, stock=stock, epochs=2)
    for key, (output, target) in data.items():
        events = read_events(folder / key)
        assert [event.step for event in events.Images("5_predictions/distribution")] == [1, 2]
        encoded = np.frombuffer(events.Images("5_predictions/distribution")[1].encoded_image_string, dtype=np.uint8)
        picture = cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        assert np.array_equal(picture, expected_picture(callback, output, target, f"{key} predictions, epoch 2"))
        probability = torch.as_tensor(output).double().softmax(dim=1).numpy()
        for index, name in enumerate(callback.class_names):
            *_, histogram = events.Histograms(f"9_predicted_probability/{name}")
            assert histogram.step == 2
            check_histogram(histogram.histogram_value, probability[target == index, index])


def expected_picture(callback, output, target, title):
    measure = BinnedScores(callback.task, len(callback.score_names), callback.bins)
    measure.update(torch.as_tensor(output), torch.as_tensor(target))
    counts = measure.state["counts"]
    return draw_distribution(
        shares_by_probability(counts, callback.edges, np.linspace(0, 1, 41)),
        counts.sum(dim=2).numpy(),
        summarize_scores(counts, callback.edges).threshold.numpy(),
        shares_by_probability(counts, callback.edges, np.array([0, 0.25, 0.75, 1]))[:, :, 1],
        callback.class_names,
        title,
        bounds=(0.25, 0.75),
    )


def test_of_a_binary_task_both_histograms_are_of_the_probability_of_class_one(tmp_path, read_events):
    output, target = np.random.randn(200, 1).astype(np.float32), np.random.randint(0, 2, 200).astype(np.float32)
    folder = run(tmp_path, PredictionDistribution(task="binary"), {"valid": (output, target)})
    probability = 1 / (1 + np.exp(-output[:, 0].astype(np.float64)))
    for value in (0, 1):
        [event] = read_events(folder / "valid").Histograms(f"9_predicted_probability/{value}")
        check_histogram(event.histogram_value, probability[target == value])


def test_labels_and_ignored_targets(tmp_path, read_events):
    output, target = np.random.randn(60, 3).astype(np.float32), np.random.randint(0, 2, (60, 3))
    target[:, 2] = 0  # without positives: no histogram
    target[::4] = -1
    callback = PredictionDistribution(task="multilabel", num_classes=3, ignore_index=-1)
    events = read_events(run(tmp_path, callback, {"valid": (output, target)}) / "valid")
    assert set(events.Tags()["histograms"]) == {"9_predicted_probability/0", "9_predicted_probability/1"}
    probability = 1 / (1 + np.exp(-output.astype(np.float64)))
    for index in (0, 1):
        [event] = events.Histograms(f"9_predicted_probability/{index}")
        check_histogram(event.histogram_value, probability[target[:, index] == 1, index])


def test_a_loader_of_ignored_targets_alone_is_drawn(tmp_path, read_events):
    data = {"valid": (np.random.randn(8, 3).astype(np.float32), np.full(8, -1))}
    folder = run(tmp_path, PredictionDistribution(num_classes=3, ignore_index=-1), data)
    assert read_events(folder / "valid").Images("5_predictions/distribution")


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.5), (-0.1, 0.5), (0.5, 1.1), (0.8, 0.2), (float("nan"), 0.5)])
def test_bounds_that_are_no_probabilities_are_an_error(low, high):
    with pytest.raises(UsageError, match=f"low and high must be probabilities, low below high, got {low} and {high}"):
        PredictionDistribution(task="binary", low=low, high=high)


def test_the_undecided_share_is_that_between_the_bounds(monkeypatch):
    seen = {}
    name = "assay.callbacks.classes.prediction_distribution.draw_distribution"
    monkeypatch.setattr(name, lambda *values, **options: seen.update(undecided=values[3], **options))
    callback = PredictionDistribution(task="binary", low=0.1, high=0.9)
    runner = SimpleNamespace(engine=SimpleNamespace(device="cpu"), is_infer_loader=False)
    output, target = torch.randn(5000) * 3, torch.randint(0, 2, (5000,))
    callback.begin(runner)
    runner.batch = {"logits": output, "target": target}
    callback.observe(runner)
    callback._draw(callback.measure_.state["counts"], "title")
    probability = output.double().sigmoid().numpy()
    for value in (0, 1):
        part = probability[target.numpy() == value]
        assert seen["undecided"][0, value] == pytest.approx(((part > 0.1) & (part < 0.9)).mean(), abs=2e-3)
    assert (seen["bounds"], seen["unit"]) == ((0.1, 0.9), "samples")
