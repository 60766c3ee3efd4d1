import threading

import pytest
import torch

from assay.callbacks.support.host_copy import HostCopy
from benchmarks.work import Work


def count(function):
    with Work() as work:
        function()
    return {name: value for name, value in work.counts.items() if value}


X = torch.arange(12.0).reshape(3, 4)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda: X + 1, {"operations": 1, "allocations": 1, "allocated_bytes": 48}),
        (lambda: X.clone().mul_(2), {"operations": 2, "allocations": 1, "allocated_bytes": 48}),
        (lambda: (X.t(), X[1], X.reshape(-1), X.detach(), X.unbind()), {}),
        (lambda: torch.empty(5, dtype=torch.int64), {"allocations": 1, "allocated_bytes": 40}),
        (lambda: torch._foreach_add([X, X, X], 1), {"operations": 1, "allocations": 3, "allocated_bytes": 144}),
        (lambda: torch.topk(X, 2), {"operations": 1, "allocations": 2, "allocated_bytes": 24 + 48}),
        (lambda: X[0, 0].item(), {"operations": 1, "host_reads": 1}),
        (lambda: HostCopy(X), {"operations": 1, "allocations": 1, "allocated_bytes": 48, "host_copies": 1}),
    ],
    ids=["new", "in place", "views", "made empty", "foreach", "two results", "a read", "a copy to the host"],
)
def test_what_a_call_asks_for_is_counted(function, expected):
    assert count(function) == expected


def test_the_backward_pass_and_its_hooks_are_counted():
    def work(hook):
        weight = torch.ones(3, requires_grad=True)
        weight.register_hook(hook)
        return count(lambda: (weight * 2).sum().backward())

    bare = work(lambda gradient: None)
    assert bare["operations"] > 2  # the forward pass has two
    assert work(lambda gradient: gradient + 1)["operations"] == bare["operations"] + 1
    assert work(lambda gradient: gradient.sum().item() and None)["host_reads"] == 1


def test_the_hooks_of_an_optimizer_are_counted():
    weight = torch.ones(3, requires_grad=True)
    weight.grad = torch.ones(3)
    optimizer = torch.optim.SGD([weight], fused=True)
    bare = count(optimizer.step)
    optimizer.register_step_pre_hook(lambda *_: weight.grad.sum() and None)
    assert count(optimizer.step)["host_reads"] == bare.get("host_reads", 0) + 1


def test_what_another_thread_does_is_not_counted():
    def work():
        thread = threading.Thread(target=lambda: HostCopy(X + 1))
        thread.start()
        thread.join()

    assert count(work) == {}


def test_counting_goes_on_where_it_is_entered_again_and_ends_where_it_is_left():
    work = Work()
    for _ in range(2):
        with work:
            HostCopy(X)
        HostCopy(X + 1)
    assert work.counts["host_copies"] == 2
    assert work.counts["operations"] == 2
