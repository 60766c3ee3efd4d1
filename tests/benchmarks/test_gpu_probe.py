"""A probe measures whole training steps, from one forward pass to the next, and nothing else."""

import time
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.autograd import DeviceType

from benchmarks.gpu.probe import Probe, _kind


def train(probe, more=lambda step: None):
    model = nn.Linear(2, 2)
    probe.attach(model)
    for step in range(probe.steps):
        model.train()
        model(torch.ones(1, 2)).sum().backward()
        more(step)
    model.eval()
    model(torch.ones(1, 2))
    return probe.found


def test_the_operators_of_a_step_are_counted_in_its_window_alone():
    bare = train(Probe("cpu", window=3, first=2))
    assert bare["operators"] == int(bare["operators"]) > 2
    assert bare["waits"] is None  # a CPU cannot tell
    more = train(Probe("cpu", window=3, first=2), lambda step: torch.ones(3).sin())
    assert more["operators"] > bare["operators"]
    assert train(Probe("cpu", window=3, first=2), lambda step: step < 5 and torch.ones(3).sin()) == {
        **bare, "host_ms": pytest.approx(bare["host_ms"], abs=1000)
    }  # fmt: skip


def test_the_time_of_the_host_is_that_of_the_steps_that_are_timed():
    found = train(
        Probe("cpu", window=2, first=1), lambda step: time.sleep(0.05 if step in (1, 2) else 0.5 * (step == 0))
    )
    assert 50 <= found["host_ms"] < 400


def event(name, on=DeviceType.CUDA, annotation=False):
    return SimpleNamespace(name=name, device_type=on, is_user_annotation=annotation)


def test_what_a_gpu_does_is_told_by_its_kind():
    events = [
        event("void at::native::vectorized_elementwise_kernel<4>"), event("sm90_xmma_fprop_implicit_gemm_bf16"),
        event("Memcpy HtoD (Pinned -> Device)"), event("Memset (Device)"),
        event("Optimizer.step#SGD.step", annotation=True), event("cudaLaunchKernel", DeviceType.CPU),
    ]  # fmt: skip
    assert Counter(map(_kind, events)) == {"kernels": 2, "copies": 1, "fills": 1, "others": 2}
