import math

import pytest
import torch

from assay.callbacks.measures.weighted_mean import WeightedMean


def test_the_mean_over_uneven_batches_is_that_of_all_samples():
    batches = [torch.randn(size, 2, dtype=torch.float64) for size in (5, 1, 7, 3)]
    measure = WeightedMean(["loss", "accuracy"])
    for batch in batches:
        measure.update(batch.mean(dim=0), len(batch))
    total, count = [0.0, 0.0], 0
    for batch in batches:
        for row in batch.tolist():
            total = [total[0] + row[0], total[1] + row[1]]
            count += 1
    means = measure.compute()
    assert list(means) == ["loss", "accuracy"]
    assert list(means.values()) == pytest.approx([total[0] / count, total[1] / count], rel=1e-12)


def test_before_the_first_batch_every_mean_is_nan():
    assert all(math.isnan(value) for value in WeightedMean(["a", "b"]).compute().values())


def test_a_long_epoch_of_float32_values_loses_nothing():
    measure = WeightedMean(["loss"])
    value = torch.tensor([0.1])
    for _ in range(20_000):
        measure.update(value, 16)
    assert measure.compute()["loss"] == pytest.approx(value.item(), rel=1e-12)


def test_the_mean_of_a_given_state_is_computed_and_the_own_one_left():
    measure = WeightedMean(["loss"])
    measure.update(torch.tensor([1.0]), 1)
    given = {"total": torch.tensor([6.0]), "weight": torch.tensor(4.0)}
    assert measure.compute(given) == {"loss": 1.5}
    assert measure.compute() == {"loss": 1.0}


def test_every_part_of_the_state_has_a_reduction():
    assert WeightedMean(["loss"]).state.keys() == WeightedMean.reductions.keys()


def test_values_with_a_graph_are_detached():
    measure = WeightedMean(["loss"])
    measure.update(torch.ones(1, requires_grad=True), 2)
    assert not measure.state["total"].requires_grad


def test_an_update_reads_nothing_from_the_device():
    measure = WeightedMean(["loss", "accuracy"], device="meta")
    measure.update(torch.ones(2, device="meta"), 3)
    assert measure.state["total"].device.type == "meta"
