"""What torchmetrics returns becomes numbers by name, equal to those of torchmetrics over all samples at once."""

import math
from types import SimpleNamespace

import pytest
import torch
import torchmetrics
from torchmetrics import MetricCollection, classification, wrappers

from assay.callbacks import Metrics, UsageError
from assay.callbacks.metrics.metric_values import leaves

NAMES = ["cat", "dog", "owl"]


def accuracy(average="macro"):
    return classification.MulticlassAccuracy(3, average=average)


def recall():
    return classification.MulticlassRecall(3, average=None)


def parts(count=22):
    return torch.randn(count, 3), torch.randint(0, 3, (count,))


def runner_of(output=None, target=None, loader="valid"):
    return SimpleNamespace(
        engine=SimpleNamespace(device=torch.device("cpu")), is_infer_loader=False, loader_key=loader,
        batch={"logits": output, "target": target}, batch_metrics={}, loader_metrics={},
    )  # fmt: skip


def epoch(callback, output, target, size=5, loader="valid", between=lambda step, runner: None):
    """Run a loader through the callback; return the numbers of the epoch and those of each batch."""
    runner, batches = runner_of(loader=loader), []
    callback.on_loader_start(runner)
    for step, start in enumerate(range(0, len(output), size)):
        between(step, runner)
        runner.batch = {"logits": output[start : start + size], "target": target[start : start + size]}
        runner.batch_metrics = {}
        callback.on_batch_end(runner)
        batches.append(runner.batch_metrics)
    callback.on_loader_end(runner)
    return runner.loader_metrics, batches


def whole(metric, output, target):
    metric.update(output, target)
    return metric.compute()


CASES = {
    "a collection": (
        lambda: MetricCollection([accuracy(), classification.MulticlassF1Score(3)], prefix="p_", postfix="_q"),
        lambda o, t: {
            "p_MulticlassAccuracy_q": whole(accuracy(), o, t),
            "p_MulticlassF1Score_q": whole(classification.MulticlassF1Score(3), o, t),
        },
    ),
    "a collection by name": (
        lambda: {"all": MetricCollection({"acc": accuracy(), "each": recall()})},
        lambda o, t: {
            "all/acc": whole(accuracy(), o, t),
            **{f"all/each/{name}": value for name, value in zip(NAMES, whole(recall(), o, t), strict=True)},
        },
    ),
    "by class": (
        lambda: {"c": wrappers.ClasswiseWrapper(recall(), labels=["a", "b", "c"])},
        lambda o, t: {f"c/multiclassrecall_{n}": v for n, v in zip("abc", whole(recall(), o, t), strict=True)},
    ),
    "extremes": (
        lambda: {"m": wrappers.MinMaxMetric(accuracy())},
        lambda o, t: {f"m/{name}": whole(accuracy(), o, t) for name in ("raw", "min", "max")},
    ),
    "a window": (
        lambda: {"r": wrappers.Running(accuracy("micro"), 2)},
        lambda o, t: {"r": whole(accuracy("micro"), o[15:], t[15:])},
    ),
    "several without names": (
        lambda: [accuracy("micro"), classification.MulticlassF1Score(3)],
        lambda o, t: {
            "MulticlassAccuracy": whole(accuracy("micro"), o, t),
            "MulticlassF1Score": whole(classification.MulticlassF1Score(3), o, t),
        },
    ),
    "five counts, which are no classes": (
        lambda: {"s": classification.MulticlassStatScores(3, average="micro")},
        lambda o, t: {
            f"s/{n}": v for n, v in enumerate(whole(classification.MulticlassStatScores(3, average="micro"), o, t))
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_numbers_are_those_of_torchmetrics_over_all_samples(name):
    build, expect = CASES[name]
    output, target = parts()
    callback = Metrics(build(), class_names=NAMES)
    for _ in range(2):  # the second loader starts anew
        found, _ = epoch(callback, output, target)
        expected = {key: float(value) for key, value in expect(output, target).items()}
        assert found == pytest.approx(expected, rel=1e-6)


def test_a_bootstrap_sees_all_samples():
    output, target = parts(400)
    found, batches = epoch(Metrics({"b": wrappers.BootStrapper(accuracy("micro"), 20)}), output, target, size=40)
    assert found["b/mean"] == pytest.approx(float(whole(accuracy("micro"), output, target)), abs=0.03)
    assert found["b/std"] > 0
    assert batches[0] == {}


def test_batches_get_single_numbers_and_no_values_by_class():
    output, target = parts()
    _, batches = epoch(Metrics({"all": MetricCollection({"acc": accuracy(), "each": recall()})}), output, target)
    assert [set(batch) for batch in batches] == [{"all/acc"}] * 5
    assert batches[1]["all/acc"].item() == pytest.approx(float(whole(accuracy(), output[5:10], target[5:10])))


def test_extremes_go_on_over_the_epochs_of_a_loader_and_into_a_resumed_run():
    callback = Metrics({"m": wrappers.MinMaxMetric(accuracy("micro"))})
    data = [parts() for _ in range(4)]
    raw = [float(whole(accuracy("micro"), *part)) for part in data]
    epoch(callback, *data[0], loader="train")
    epoch(callback, *data[1])
    found, _ = epoch(callback, *data[2])
    assert found == pytest.approx({"m/raw": raw[2], "m/min": min(raw[1:3]), "m/max": max(raw[1:3])})
    resumed = Metrics({"m": wrappers.MinMaxMetric(accuracy("micro"))})
    resumed.load_state_dict(callback.state_dict())
    found, _ = epoch(resumed, *data[3])
    assert found == pytest.approx({"m/raw": raw[3], "m/min": min(raw[1:]), "m/max": max(raw[1:])})


@pytest.mark.parametrize("name", CASES)
def test_a_loader_goes_on_from_its_middle(name):
    build, _ = CASES[name]
    output, target = parts()
    kept = {}

    def keep(step, runner):
        if step == 3:
            kept.update(callback.loader_state(runner))

    def skip(step, runner):
        if step == 3:
            resumed.load_loader_state(runner, kept)

    callback, resumed = (Metrics(build(), class_names=NAMES) for _ in range(2))
    expected, _ = epoch(callback, output, target, between=keep)
    blank = torch.zeros_like(output[:15])  # what the loader gave before the interruption does not come again
    found, _ = epoch(resumed, torch.cat([blank, output[15:]]), target, between=skip)
    assert found == pytest.approx(expected, rel=1e-6)


def test_the_state_of_a_plain_metric_as_it_was_kept_before_is_taken():
    output, target = parts()
    metric = accuracy()
    metric.update(output[:15], target[:15])
    old = {"totals": None, "objects": {"acc": {"updates": 1, "values": dict(metric.metric_state)}}}
    callback, runner = Metrics({"acc": accuracy()}), runner_of(output[15:], target[15:])
    callback.on_loader_start(runner)
    callback.load_loader_state(runner, old)
    callback.on_batch_end(runner)
    callback.on_loader_end(runner)
    assert runner.loader_metrics["acc"] == pytest.approx(float(whole(accuracy(), output, target)))


def epoch_on_rank(rank, output, target, size, name):
    """Give the first rank nine samples more than the second."""
    share = slice(0, len(output)) if size == 1 else (slice(0, 15), slice(15, len(output)))[rank]
    return epoch(Metrics(CASES[name][0](), class_names=NAMES), output[share], target[share])[0]


@pytest.mark.parametrize("name", ["a collection by name", "by class", "extremes"])
def test_the_numbers_over_ranks_are_those_of_all_samples_together(ranks, name):
    output, target = parts()
    expected = {key: float(value) for key, value in CASES[name][1](output, target).items()}
    size = ranks.size
    assert ranks.run(epoch_on_rank, output, target, size, name) == [pytest.approx(expected, rel=1e-6)] * size


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (lambda: {"roc": classification.MulticlassROC(3, thresholds=5)}, r"metric 'roc' must give numbers.*a tuple of"),
        (lambda: MetricCollection({"acc": accuracy(), "c": classification.MulticlassROC(3)}), r"metric 'c' must give"),
        (lambda: {"cm": classification.MulticlassConfusionMatrix(3)}, r"'cm' must give numbers.* gives int64 \(3, 3\)"),
        (lambda: {"b": classification.BinaryAccuracy()}, r"metric 'b' refuses output float32 .5, 3. and target"),
    ],
)  # fmt: skip
def test_what_is_no_number_is_refused_by_name_at_the_first_batch(metrics, message):
    callback = Metrics(metrics())
    runner = runner_of(*parts(5))
    callback.on_loader_start(runner)
    with pytest.raises(UsageError, match=message):
        callback.on_batch_end(runner)


def test_two_values_of_one_name_are_refused():
    callback = Metrics({"a/x": accuracy(), "a": MetricCollection({"x": accuracy()})})
    runner = runner_of(*parts(5))
    callback.on_loader_start(runner)
    with pytest.raises(UsageError, match="values of different names, got 'a/x' twice"):
        callback.on_batch_end(runner)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"m": torchmetrics.MeanMetric()}, "metric 'm' must compare output and target: a MeanMetric aggregates"),
        ({"m": print}, "metrics must be names, torchmetrics.Metric or MetricCollection, got print for 'm'"),
        ({"t": wrappers.MetricTracker(accuracy())}, "got MetricTracker for 't'"),
        ([accuracy(), accuracy("micro")], "different names, got 'MulticlassAccuracy' twice: pass a mapping"),
    ],
)  # fmt: skip
def test_what_is_no_metric_of_output_and_target_is_refused_when_it_is_given(metrics, message):
    with pytest.raises(UsageError, match=message):
        Metrics(metrics)


def test_numbers_of_python_and_numpy_and_nested_dicts_are_numbers():
    import numpy as np

    found = leaves("n", {"a": {"b": 1.5, "c": np.float32(2)}, "d": [torch.tensor(1), 2], "e": np.ones(3), "f": []})
    assert {key: value.tolist() for key, value in found.items()} == {
        "n/a/b": 1.5, "n/a/c": 2.0, "n/d": [1, 2], "n/e": [1, 1, 1],
    }  # fmt: skip
    for odd in (None, "x", torch.zeros(2, 2), [torch.zeros(2)], torch.zeros((), dtype=torch.complex64)):
        with pytest.raises(UsageError, match="metric 'n' must give numbers"):
            leaves("n", odd)


LISTS = {
    "spearman": (torchmetrics.SpearmanCorrCoef, "numbers"),
    "exact curve": (lambda: classification.BinaryAUROC(thresholds=None), "labels"),
    "in a collection": (lambda: MetricCollection({"r": torchmetrics.SpearmanCorrCoef()}), "numbers"),
    "in a wrapper": (lambda: wrappers.MinMaxMetric(torchmetrics.SpearmanCorrCoef()), "numbers"),
}


@pytest.mark.filterwarnings("ignore:Metric `:UserWarning")  # torchmetrics says that it keeps batches
@pytest.mark.parametrize("kind", LISTS)
def test_a_metric_that_keeps_batches_keeps_them_where_a_loader_writes_over_them(kind):
    make, target_kind = LISTS[kind]
    output, target = torch.rand(20), torch.rand(20)
    if target_kind == "labels":
        target = (target > 0.5).long()
    fresh, _ = epoch(Metrics({"m": make()}), output, target)
    callback, runner = Metrics({"m": make()}), runner_of()
    runner.batch = {"logits": torch.zeros(5), "target": torch.zeros(5, dtype=target.dtype)}
    callback.on_loader_start(runner)
    for start in range(0, 20, 5):
        runner.batch["logits"].copy_(output[start : start + 5])
        runner.batch["target"].copy_(target[start : start + 5])
        callback.on_batch_end(runner)
    callback.on_loader_end(runner)
    assert runner.loader_metrics == fresh
    assert all(math.isfinite(value) for value in fresh.values())
