"""Steps that are held back, against a loop in which they were never made."""

import copy
import math

import pytest
import torch
from torch import nn

from assay.callbacks.non_finite.step_gate import StepGate, takes_found_inf
from assay.callbacks.support.buffer_snapshot import BufferSnapshot

FUSED = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("SGD", {"momentum": 0.9, "dampening": 0.5}),
    ("Adam", {"amsgrad": True}),
    ("AdamW", {}),
    ("Adagrad", {"lr_decay": 0.1}),
]
OTHERS = [("Adadelta", {}), ("Adamax", {}), ("ASGD", {}), ("NAdam", {}), ("RAdam", {}), ("RMSprop", {}), ("Rprop", {})]
KINDS = [(name, {**options, "fused": True}) for name, options in FUSED] + FUSED + OTHERS


def parameters():
    generator = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in [(3, 4), (4,), (2, 3, 3, 3)]]


def fill(given, step, poisoned):
    generator = torch.Generator().manual_seed(step)
    for index, parameter in enumerate(given):
        parameter.grad = torch.randn(parameter.shape, generator=generator)
        if poisoned and index == 1:
            parameter.grad[2] = math.nan


def flat_state(optimizer):
    values = [value for state in optimizer.state.values() for _, value in sorted(state.items())]
    return [value for value in values if isinstance(value, torch.Tensor)]


def run(name, options, steps, poisoned, *, gated):
    """Make the steps: all of them through a gate, or only the sound ones without one."""
    given = parameters()
    optimizer = getattr(torch.optim, name)(given, lr=0.01, **options)
    answer = {}
    gate = StepGate(optimizer, lambda _: answer["found"]) if gated else None
    for step in range(steps):
        if not gated and step in poisoned:
            continue
        fill(given, step, step in poisoned)
        answer["found"] = torch.tensor(float(step in poisoned))
        optimizer.step()
    assert not hasattr(optimizer, "found_inf")
    if gate is not None:
        gate.remove()
    return given, optimizer


@pytest.mark.parametrize("poisoned", [{0}, {0, 1}, {2}, {1, 3}])
@pytest.mark.parametrize(("name", "options"), KINDS)
def test_weights_and_state_are_bit_by_bit_those_of_a_run_without_the_step(name, options, poisoned):
    weights, optimizer = run(name, options, 5, poisoned, gated=True)
    expected, reference = run(name, options, 5, poisoned, gated=False)
    assert all(torch.equal(one, other) for one, other in zip(weights, expected, strict=True))
    states, wanted = flat_state(optimizer), flat_state(reference)
    assert len(states) == len(wanted)
    assert all(torch.equal(one, other) for one, other in zip(states, wanted, strict=True))


def test_without_the_gate_the_same_gradients_poison_the_weights():
    given = parameters()
    optimizer = torch.optim.SGD(given, lr=0.01, fused=True)
    fill(given, 0, True)
    optimizer.step()
    assert not torch.isfinite(given[1]).all()


@pytest.mark.parametrize("gated", [True, False])
def test_a_parameter_that_gets_its_first_gradient_later_is_taken(gated):
    given = parameters()
    optimizer = torch.optim.SGD(given[:2], lr=0.01, momentum=0.9, fused=gated)
    gate = StepGate(optimizer, lambda _: torch.zeros(()))
    for step in range(3):
        fill(given, step, False)
        given[0].grad = None if step == 0 else given[0].grad
        optimizer.step()
    gate.remove()
    expected = parameters()
    plain = torch.optim.SGD(expected[:2], lr=0.01, momentum=0.9, fused=False, foreach=False)
    for step in range(3):
        fill(expected, step, False)
        expected[0].grad = None if step == 0 else expected[0].grad
        plain.step()
    for one, other in zip(given, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


def test_a_removed_gate_lets_every_step_pass():
    given = parameters()
    before = copy.deepcopy(given)
    optimizer = torch.optim.SGD(given, lr=0.01, fused=True)
    StepGate(optimizer, lambda _: torch.ones(())).remove()
    fill(given, 0, False)
    optimizer.step()
    assert not any(torch.equal(one, other) for one, other in zip(given, before, strict=True))
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_a_gate_that_is_removed_after_a_failed_step_leaves_nothing_behind():
    given = parameters()
    optimizer = torch.optim.SGD(given, lr=0.01, fused=True)
    gate = StepGate(optimizer, lambda _: torch.ones(()))
    given[0].grad = torch.sparse_coo_tensor([[0], [0]], [1.0], (3, 4), check_invariants=True)
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()
    gate.remove()
    assert not hasattr(optimizer, "found_inf")


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(("overflows", "held"), [(False, False), (True, False), (False, True), (True, True)])
def test_a_grad_scaler_and_the_gate_each_hold_back(fused, overflows, held):
    given, expected = parameters(), parameters()
    optimizer = torch.optim.AdamW(given, lr=0.01, fused=fused)
    reference = torch.optim.AdamW(expected, lr=0.01, fused=fused)
    gate = StepGate(optimizer, lambda _: torch.tensor(float(held)))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for step in range(2):
        skipped = step == 0 and (overflows or held)
        scaler.scale(torch.ones(()))
        fill(given, step, step == 0 and overflows)
        if not (step == 0 and overflows):
            fill(expected, step, False)
        for parameter in given:
            parameter.grad *= scaler._scale
        gate._decide = lambda _, now=step: torch.tensor(float(held and now == 0))
        scaler.step(optimizer)
        scaler.update()
        if not skipped:
            reference.step()
    gate.remove()
    assert not hasattr(optimizer, "found_inf")
    assert scaler.get_scale() == (2.0 if overflows else 4.0)
    for one, other in zip(given, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


def test_groups_that_a_loaded_state_turned_unfused_are_seen():
    given = parameters()
    fused, plain = torch.optim.Adam(given, fused=True), torch.optim.Adam(given)
    assert takes_found_inf(fused)
    assert not takes_found_inf(plain)
    fused.load_state_dict(plain.state_dict())
    assert not takes_found_inf(fused)


def buffers():
    return [torch.arange(6.0).reshape(2, 3), torch.tensor(4), torch.tensor([1.5, 2.5]), torch.zeros(0)]


@pytest.mark.parametrize("found", [0.0, 1.0])
def test_buffers_are_put_back_bit_by_bit_where_found(found):
    given = buffers()
    snapshot = BufferSnapshot(given)
    snapshot.take()
    given[0].fill_(math.nan)
    given[1].add_(1)
    given[2][0] = math.inf
    changed = copy.deepcopy(given)
    snapshot.restore_where(torch.tensor(found))
    for one, other in zip(given, buffers() if found else changed, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def test_buffers_are_put_back_whatever_they_are():
    given = buffers()
    snapshot = BufferSnapshot(given)
    snapshot.take()
    given[0].fill_(math.nan)
    snapshot.restore()
    assert torch.equal(given[0], buffers()[0])


def test_a_graph_that_waits_for_its_backward_pass_stays_valid():
    norm = nn.BatchNorm1d(3).eval()
    snapshot = BufferSnapshot(norm.buffers())
    snapshot.take()
    output = norm(torch.randn(4, 3)).sum()
    snapshot.restore_where(torch.ones(()))
    output.backward()
    assert norm.weight.grad is not None


def test_a_model_without_buffers_has_an_empty_snapshot():
    snapshot = BufferSnapshot([])
    snapshot.take()
    snapshot.restore_where(torch.ones(()))
