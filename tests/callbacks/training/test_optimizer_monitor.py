import math

import pytest
import torch
from catalyst import dl
from kit import Keep, fit
from torch import nn
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader

from assay.callbacks.errors import UsageError
from assay.callbacks.measures.optimizer_steps import OptimizerSteps, total_norm
from assay.callbacks.support.distributed import reduce_state
from assay.callbacks.support.unwrap import raw_optimizers
from assay.callbacks.training.optimizer_monitor import OptimizerMonitor
from assay.runner import DictRunner, Engine

SAMPLES, BATCH = 22, 4


class Net(nn.Module):
    def __init__(self, key=None, fail_at=None):
        super().__init__()
        self.key, self.fail_at, self.passes = key, fail_at, 0
        self.body, self.head = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, image):
        self.passes += 1
        if self.passes == self.fail_at:
            raise ZeroDivisionError("the run's own error")
        logits = self.head(torch.tanh(self.body(image)))
        return logits if self.key is None else {self.key: logits}


class StepTwice(DictRunner):
    """Steps its optimizer twice a batch, the second time with three times the gradient."""

    def _take_step(self):
        next(iter(raw_optimizers(self.optimizer).values())).step()
        for parameter in self.optimizer_step.parameters():
            parameter.grad *= 3
        super()._take_step()


@pytest.fixture
def items():
    return [{"image": torch.randn(5), "target": i % 3} for i in range(SAMPLES)]


def ours(folder, items, model, optimizer, callbacks, *, epochs=1, runner=None, engine=None, scheduler=None, valid=True):
    runner = runner or DictRunner()
    train = DataLoader(items, batch_size=BATCH)
    return fit(
        runner, model, {"train": train, "valid": train} if valid else {"train": train}, callbacks,
        engine=engine or Engine("cpu"), optimizer=optimizer, epochs=epochs, scheduler=scheduler, logdir=str(folder),
    )  # fmt: skip


def stock(folder, items, model, optimizer, callbacks):
    runner = dl.SupervisedRunner(input_key="image", output_key="logits", target_key="target", loss_key="loss")
    return fit(runner, model, items, callbacks, batch=BATCH, optimizer=optimizer, tensorboard=folder)


def plain_norms(model, items, lr, *, group=1, max_norm=None):
    """Return the norm before clipping of every step of one epoch of SGD, by a loop over samples in float64."""
    model, norms = model.double(), []
    for start in range(0, len(items), BATCH * group):
        loss = torch.tensor(0.0, dtype=torch.float64)
        part = items[start : start + BATCH * group]
        for item in part:
            out = model(item["image"].double())
            logits = out if model.key is None else out[model.key]
            loss = loss - logits.log_softmax(0)[item["target"]] / len(part)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        norms.append(math.sqrt(sum(g.pow(2).sum().item() for g in gradients)))
        factor = 1.0 if max_norm is None else min(1.0, max_norm / norms[-1])
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= lr * factor * gradient
    return norms


def copy_of(model):
    twin = type(model)(model.key)
    twin.load_state_dict(model.state_dict())
    return twin


def values(read_events, folder, loader="train"):
    """Return {tag: {step: value}} of all tags of the monitor."""
    events = read_events(folder / loader)
    tags = [tag for tag in events.Tags()["scalars"] if tag.startswith("9_optimizer/")]
    return {
        tag.removeprefix("9_optimizer/"): {event.step: event.value for event in events.Scalars(tag)} for tag in tags
    }


@pytest.mark.parametrize("run", [ours, stock])
def test_norm_and_settings_follow_a_plain_loop(tmp_path, read_events, items, run):
    model = Net("logits" if run is ours else None)
    norms = plain_norms(copy_of(model), items, lr=0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, weight_decay=0.0)
    run(tmp_path, items, model, optimizer, [OptimizerMonitor()])
    folder = tmp_path
    seen = values(read_events, folder)
    assert seen.keys() == {"lr/0", "momentum/0", "weight_decay/0", "grad_norm"}
    assert seen["grad_norm"][1] == pytest.approx(sum(norms) / len(norms), rel=1e-5)
    assert (seen["lr/0"], seen["momentum/0"], seen["weight_decay/0"]) == ({1: 0.5}, {1: 0.0}, {1: 0.0})
    if run is ours:
        assert values(read_events, folder, "valid") == {}
    assert not optimizer._optimizer_step_pre_hooks


@pytest.mark.parametrize("run", [ours, stock])
@pytest.mark.parametrize("every", [2, 4])
def test_norm_is_taken_at_the_first_of_every_n_steps(tmp_path, read_events, items, run, every):
    model = Net("logits" if run is ours else None)
    norms = plain_norms(copy_of(model), items, lr=0.5)[::every]
    run(tmp_path, items, model, torch.optim.SGD(model.parameters(), lr=0.5), [OptimizerMonitor(every)])
    seen = values(read_events, tmp_path)
    assert seen["grad_norm"][1] == pytest.approx(sum(norms) / len(norms), rel=1e-5)


def test_the_runners_norm_is_that_of_every_step(tmp_path, read_events, items):
    model = Net("logits")
    norms = plain_norms(copy_of(model), items, lr=0.5, max_norm=0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    ours(tmp_path, items, model, optimizer, [OptimizerMonitor(3)], runner=DictRunner(clip_grad_norm=0.1))
    seen = values(read_events, tmp_path)
    assert seen["grad_norm"][1] == pytest.approx(sum(norms) / len(norms), rel=1e-4)


def test_every_n_steps_is_at_least_1():
    with pytest.raises(UsageError, match="every_n_steps must be an integer of at least 1, got 0"):
        OptimizerMonitor(0)


def test_norm_is_that_of_the_whole_accumulation(tmp_path, read_events, items):
    model = Net("logits")
    norms = plain_norms(copy_of(model), items, lr=0.5, group=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    runner = DictRunner(accumulate_steps=2)
    ours(tmp_path, items, model, optimizer, [OptimizerMonitor()], runner=runner)
    seen = values(read_events, tmp_path)
    assert len(norms) == 3
    assert seen["grad_norm"][1] == pytest.approx(sum(norms) / 3, rel=1e-5)


def test_clipping_is_counted_and_the_norm_is_that_before(tmp_path, read_events, items):
    model = Net("logits")
    free = plain_norms(copy_of(model), items, lr=0.5)
    max_norm = sorted(free)[len(free) // 2]
    norms = plain_norms(copy_of(model), items, lr=0.5, max_norm=max_norm)
    clipped = sum(norm > max_norm for norm in norms) / len(norms)
    assert 0 < clipped < 1
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    runner = DictRunner(clip_grad_norm=max_norm)
    ours(tmp_path, items, model, optimizer, [OptimizerMonitor()], runner=runner)
    seen = values(read_events, tmp_path)
    assert seen["grad_norm"][1] == pytest.approx(sum(norms) / len(norms), rel=1e-4)
    assert seen["clipped_fraction"][1] == pytest.approx(clipped)
    assert runner.grad_norm_.item() == pytest.approx(norms[-1], rel=1e-4)


def test_runner_keeps_no_norm_without_clipping(tmp_path, items):
    model = Net("logits")
    assert ours(tmp_path, items, model, torch.optim.SGD(model.parameters()), []).grad_norm_ is None


def test_every_group_of_every_optimizer_has_its_tags(tmp_path, read_events, items):
    model = Net("logits")
    twin = copy_of(model)
    optimizers = {
        "one": torch.optim.AdamW([{"params": model.body.parameters(), "name": "body", "lr": 0.0}], betas=(0.7, 0.9)),
        "two": torch.optim.SGD(
            [{"params": [model.head.weight], "weight_decay": 0.1}, {"params": [model.head.bias], "momentum": 0.9}],
            lr=0.0,
        ),
    }
    ours(tmp_path, items, model, optimizers, [OptimizerMonitor()])
    seen = {tag: by_step[1] for tag, by_step in values(read_events, tmp_path).items()}
    expected = {
        "lr/one-body": 0.0, "momentum/one-body": 0.7, "weight_decay/one-body": 0.01,
        "lr/two-0": 0.0, "momentum/two-0": 0.0, "weight_decay/two-0": 0.1,
        "lr/two-1": 0.0, "momentum/two-1": 0.9, "weight_decay/two-1": 0.0,
    }  # fmt: skip
    norms = plain_norms(twin, items, lr=0.0)
    # AdamW's decay is multiplied by the learning rate, and so nothing moves.
    assert seen.pop("grad_norm") == pytest.approx(sum(norms) / len(norms), rel=1e-5)
    assert seen == pytest.approx(expected)


def test_a_setting_that_an_optimizer_lacks_has_no_tag(tmp_path, read_events, items):
    model = Net("logits")
    optimizer = torch.optim.Adagrad(model.parameters(), lr=torch.tensor(0.25))
    ours(tmp_path, items, model, optimizer, [OptimizerMonitor()])
    seen = values(read_events, tmp_path)
    assert seen.keys() == {"lr/0", "weight_decay/0", "grad_norm"}
    assert seen["lr/0"] == {1: 0.25}


def test_learning_rate_is_that_of_the_last_step(tmp_path, read_events, items):
    model = Net("logits")
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = StepLR(optimizer, 1, gamma=0.5)
    runner = DictRunner(scheduler_step="batch")
    ours(tmp_path, items, model, optimizer, [OptimizerMonitor()], runner=runner, scheduler=scheduler, epochs=2)
    assert values(read_events, tmp_path)["lr/0"] == {1: 0.5**5, 2: 0.5**11}


def test_an_optimizer_that_steps_again_in_a_batch_begins_another_step(tmp_path, read_events, items):
    model = Net("logits")
    norms = plain_norms(copy_of(model), items, lr=0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    ours(tmp_path, items, model, optimizer, [OptimizerMonitor()], runner=StepTwice())
    seen = values(read_events, tmp_path)
    assert seen["grad_norm"][1] == pytest.approx(2 * sum(norms) / len(norms), rel=1e-5)


@pytest.mark.parametrize("fused", [False, True])
def test_skipped_steps_are_counted_and_in_no_mean(tmp_path, read_events, items, fused):
    for index in (9, 13):  # a sample of the third batch and one of the fourth
        items[index]["image"] = torch.full((5,), math.nan)
    model = Net("logits")
    whole = [item for start in (0, 4, 16, 20) for item in items[start : start + 4]]
    norms = plain_norms(copy_of(model), whole, lr=0.5)
    engine = Engine("cpu")
    engine.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, fused=fused)
    ours(tmp_path, items, model, optimizer, [OptimizerMonitor()], engine=engine, valid=False)
    seen = values(read_events, tmp_path)
    assert (seen["skipped_steps"], seen["loss_scale"]) == ({1: 2.0}, {1: 256.0})
    assert seen["grad_norm"][1] == pytest.approx(sum(norms) / len(norms), rel=1e-5)


def test_hooks_are_removed_and_the_error_stays_when_a_run_fails(tmp_path, read_events, items):
    model = Net("logits", fail_at=15)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    with pytest.raises(ZeroDivisionError, match="own error"):
        ours(tmp_path, items, model, optimizer, [OptimizerMonitor()], epochs=2)
    assert not optimizer._optimizer_step_pre_hooks
    assert values(read_events, tmp_path)["lr/0"] == {1: 0.5}


def test_the_hook_is_there_during_the_run(tmp_path, items):
    model = Net("logits")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    hooks = Keep(lambda runner: len(optimizer._optimizer_step_pre_hooks), hook="on_loader_end")
    ours(tmp_path, items, model, optimizer, [OptimizerMonitor(), hooks])
    assert hooks.kept == [1, 1]


def test_two_groups_of_one_name_are_refused(tmp_path, items):
    model = Net("logits")
    groups = [{"params": part.parameters(), "name": "same"} for part in (model.body, model.head)]
    with pytest.raises(UsageError, match=r"different names, got \['same', 'same'\]"):
        ours(tmp_path, items, model, torch.optim.SGD(groups, lr=0.1), [OptimizerMonitor()])


def test_a_run_without_an_optimizer_is_refused(tmp_path, items):
    with pytest.raises(UsageError, match="optimizer=None"):
        ours(tmp_path, items, Net("logits"), None, [OptimizerMonitor()])


@pytest.mark.parametrize("order", [0, 40])
def test_an_order_before_the_optimizer_is_refused(order):
    with pytest.raises(UsageError, match=f"order must be above that of the optimizer, 40, got {order}"):
        OptimizerMonitor(order=order)


def steps_of_rank(rank):
    """Every rank has the same gradients behind the all-reduce."""
    measure = OptimizerSteps(max_norm=2.0, scale=torch.tensor(8.0))
    for norm, scale in ((1.0, 8.0), (3.0, 4.0)):
        measure.update(torch.tensor(norm))
        measure.update_scale(torch.tensor(scale))
    return {
        name: value.item() for name, value in measure.compute(reduce_state(measure.state, measure.reductions)).items()
    }


def test_ranks_agree_and_count_no_step_twice(ranks):
    expected = {"grad_norm": 2.0, "clipped_fraction": 0.5, "loss_scale": 4.0, "skipped_steps": 1.0}
    assert ranks.run(steps_of_rank) == [expected] * ranks.size


def test_the_measure_reads_nothing():
    measure = OptimizerSteps("meta", max_norm=1.0, scale=torch.ones((), device="meta"))
    one = torch.ones((), device="meta")
    measure.update(total_norm([torch.ones(3, device="meta"), torch.ones(2, dtype=torch.float16, device="meta")]))
    measure.update(one, skipped=one)
    measure.update_scale(one)
    assert all(value.device.type == "meta" for value in measure.compute().values())


def test_the_measure_is_valid_without_a_step():
    measure = OptimizerSteps(max_norm=1.0)
    assert all(value.isnan() for value in measure.compute().values())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_total_norm_neither_overflows_nor_loses(dtype):
    parts = [torch.full((1000,), 1000.0, dtype=dtype), torch.full((3, 5), 2.0, dtype=torch.float32)]
    expected = math.sqrt(sum(part.double().pow(2).sum().item() for part in parts))
    norm = total_norm(parts)
    assert norm.item() == pytest.approx(expected, rel=1e-6)
    assert norm.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_total_norm_of_a_sparse_gradient_adds_up_repeated_rows():
    weight = nn.Embedding(4, 3, sparse=True)
    weight(torch.tensor([1, 1, 2])).sum().backward()
    assert total_norm([weight.weight.grad]).item() == pytest.approx(math.sqrt(3 * 4 + 3))
