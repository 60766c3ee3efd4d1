"""What a GPU is asked for in a step is as committed, and within its limits."""

import copy

import pytest
import torch

from benchmarks import counters, launches

COMMITTED = counters.read()


@pytest.mark.long  # counting two validation loaders on fake tensors takes a minute
@pytest.mark.skipif(COMMITTED["torch"] != counters.torch_minor(), reason="operations were counted with another torch")
def test_a_gpu_is_asked_for_no_more_than_is_committed():
    found = launches.measure()
    assert found == COMMITTED["launches"], "accept it by: python -m benchmarks.counters --write"


def test_what_is_committed_is_within_the_limits():
    assert set(COMMITTED["launches"]) == {"gradients", "validation, 1000 classes", "validation, 10 classes"}
    assert all(set(ways) == {"dispatched", "profiled"} for ways in COMMITTED["launches"].values())
    assert launches.beyond_limits(COMMITTED["launches"]) == []


def test_observing_the_gradients_of_a_resnet_50_takes_no_more_than_its_limit():
    counts = launches.count_gradients()
    assert max(counts.values()) <= launches.LIMITS["gradients"]


def test_a_figure_above_its_limit_is_named():
    measured = copy.deepcopy(COMMITTED["launches"])
    measured["gradients"]["dispatched"]["step"] = 21
    measured["validation, 10 classes"]["profiled"]["mean"] = 25.5
    assert launches.beyond_limits(measured) == [
        "gradients, dispatched: 21 a step, at most 20",
        "validation, 10 classes, profiled: 25.5 a step, at most 25",
    ]


def test_what_asks_a_gpu_for_work_counts_and_views_do_not():
    with launches.fake_cuda() as mode, mode:
        batch = torch.ones(4, 3, device="cuda")
        with launches.Launches() as counting:
            batch.reshape(2, 6)[0].expand(5, 6)
            torch.empty(2, device="cuda")
            torch.ones(2)
        assert counting.count == 0
        with launches.Launches() as counting:
            batch.add_(1).sum().to("cpu", non_blocking=True)
            torch._foreach_neg([batch, batch])
        assert counting.count == 4
