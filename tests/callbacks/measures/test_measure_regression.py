import io
import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from assay.callbacks import Metrics, UsageError
from assay.callbacks.measures.regression import REGRESSION_METRICS, RegressionTotals, regression_metric
from assay.callbacks.support.checkpoint_values import from_plain, to_plain

REFERENCES = {"mae": sk.mean_absolute_error, "mse": sk.mean_squared_error, "r2": sk.r2_score}


def reference(output, target):
    """Return scikit-learn's values, in float64, with outputs in columns and pixels as samples."""
    columns = [np.asarray(part, dtype=np.float64) for part in (output, target)]
    if columns[0].ndim == 3:
        columns = [part.reshape(-1, 1) for part in columns]
    elif columns[0].ndim > 3:
        columns = [np.moveaxis(part, 1, -1).reshape(-1, part.shape[1]) for part in columns]
    return {name: function(columns[1], columns[0]) for name, function in REFERENCES.items()}


def over_batches(output, target, ignored=None, sizes=(5, 1, 20)):
    totals, start = RegressionTotals(ignored), 0
    for size in (*sizes, len(output)):
        if start < len(output):
            totals.update(torch.as_tensor(output[start : start + size]), torch.as_tensor(target[start : start + size]))
        start += size
    return {name: regression_metric(name, totals.state).item() for name in REGRESSION_METRICS}


@pytest.mark.parametrize("shape", [(50,), (50, 1), (50, 3), (50, 4, 5), (50, 1, 4, 5), (50, 2, 4, 5)])
@pytest.mark.parametrize("mean", [0.0, 1e7])
def test_values_over_batches_equal_scikit_learn_also_far_from_zero(shape, mean):
    """In float32 the variance around 1e7 would be lost, in a sum of squares also that in float64 to six digits."""
    target = mean + np.random.randn(*shape)
    output = target + 0.5 * np.random.randn(*shape)
    assert over_batches(output, target) == pytest.approx(reference(output, target), rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_values_of_lower_precision_are_summed_in_full(dtype):
    target, output = (torch.randn(3000) * 100).to(dtype), (torch.randn(3000) * 100).to(dtype)
    expected = reference(output.double().numpy(), target.double().numpy())
    totals = RegressionTotals()
    for part in range(0, 3000, 7):
        totals.update(output[part : part + 7], target[part : part + 7])
    assert {n: regression_metric(n, totals.state).item() for n in expected} == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("error", "r2"), [(0.0, 1.0), (1.0, 0.0)])
def test_constant_targets_have_the_r2_of_scikit_learn(error, r2):
    target = np.full(8, 3.0)
    assert over_batches(target + error, target)["r2"] == r2 == sk.r2_score(target, target + error)


def test_of_one_sample_there_is_no_r2():
    found = over_batches(np.array([1.0]), np.array([3.0]))
    assert (found["mae"], found["mse"]) == (2.0, 4.0)
    assert math.isnan(found["r2"])


@pytest.mark.parametrize("ignored", [0.0, -1.0, math.nan])
def test_what_is_ignored_does_not_count(ignored):
    target, output = np.random.randn(30, 1, 4, 4) + 5, np.random.randn(30, 1, 4, 4) + 5
    void = np.random.rand(30, 1, 4, 4) < 0.3
    expected = reference(output[~void], target[~void])
    target[void] = ignored
    assert over_batches(output, target, ignored) == pytest.approx(expected, rel=1e-9)


def test_an_output_that_is_nan_makes_its_values_nan():
    output, target = np.random.randn(9), np.random.randn(9)
    output[3] = np.nan
    assert all(math.isnan(value) for value in over_batches(output, target).values())


def test_nothing_is_read_from_the_device():
    totals = RegressionTotals(-1.0, "meta")
    batch = totals.update(torch.zeros(4, 2, device="meta"), torch.zeros(4, 2, device="meta"))
    totals.update(torch.zeros(4, 2, device="meta"), torch.zeros(4, 2, device="meta"))
    assert {regression_metric(name, batch).device.type for name in REGRESSION_METRICS} == {"meta"}


@pytest.mark.parametrize("batches", [0, 2])
def test_totals_go_on_from_a_checkpoint_on_their_device(batches):
    output, target = torch.randn(2, 4, 6, 2)
    straight, first, second = RegressionTotals(), RegressionTotals(), RegressionTotals()
    for totals, rows in ((straight, range(4)), (first, range(batches))):
        for row in rows:
            totals.update(output[row], target[row])
    file = io.BytesIO()
    torch.save(to_plain(first), file)
    file.seek(0)
    plain = torch.load(file, weights_only=True)
    second = from_plain(plain, second)
    for row in range(batches, 4):
        second.update(output[row], target[row])
    for name, value in straight.state.items():
        assert torch.equal(second.state[name], value)
    there = from_plain(plain, RegressionTotals(device="meta"))
    assert {part.device.type for part in there.state.values()} == {"meta"}


def loader(callback, output, target, size):
    from types import SimpleNamespace

    runner = SimpleNamespace(
        engine=SimpleNamespace(device=torch.device("cpu")), is_infer_loader=False, loader_key="valid",
        batch_metrics={}, loader_metrics={},
    )  # fmt: skip
    callback.on_loader_start(runner)
    for start in range(0, len(output), size):
        runner.batch = {"logits": output[start : start + size], "target": target[start : start + size]}
        callback.on_batch_end(runner)
    callback.on_loader_end(runner)
    return runner.loader_metrics


def loader_on_rank(rank, output, target, cuts):
    share = slice(cuts[rank], cuts[rank + 1])
    return loader(Metrics(task="regression"), output[share], target[share], 4)


@pytest.mark.parametrize("share", [0.6, 1.0], ids=["both ranks", "one rank without a batch"])
def test_values_over_ranks_are_those_of_all_samples_together(ranks, share):
    target = 1e6 + torch.arange(40.0).reshape(20, 2).double()  # the ranks' means are far apart
    output = target + torch.randn(20, 2)
    size = ranks.size
    cuts = [0, 20] if size == 1 else [0, int(20 * share), 20]
    expected = reference(output.numpy(), target.numpy())
    assert ranks.run(loader_on_rank, output, target, cuts) == [pytest.approx(expected, rel=1e-9)] * size


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_targets_that_are_no_number_are_an_error_at_the_end_of_the_loader(broken):
    target = torch.tensor([1.0, broken, 2.0])
    with pytest.raises(UsageError, match=r"needs finite targets, or ignore_index=None, got 1 NaN or infinite ones in"):
        loader(Metrics(task="regression"), torch.zeros(3), target, 2)


def test_shapes_that_torch_would_broadcast_are_refused_and_axes_of_length_one_are_not():
    assert loader(Metrics("mae", task="regression"), torch.zeros(3, 1), torch.ones(3), 2) == {"mae": 1.0}
    with pytest.raises(UsageError, match=r"a number for each target, got logits \(2, 2\) and target \(2,\)"):
        loader(Metrics("mae", task="regression"), torch.zeros(3, 2), torch.ones(3), 2)


def test_metrics_of_classes_are_none_of_a_regression():
    with pytest.raises(UsageError, match=r"unknown metric 'accuracy'.*There is: 'mae', 'mse', 'r2'"):
        Metrics("accuracy", task="regression")
    with pytest.raises(UsageError, match="unknown metric 'mae'"):
        Metrics("mae", num_classes=3)
