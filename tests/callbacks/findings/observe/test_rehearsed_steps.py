"""Steps on a copy before a run: they tell what its first steps would, and leave the run as it is."""

import copy
from functools import partial

import pytest
import torch
from catalyst import dl
from kit import Named, assert_equal, fit, make_stock_runner
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks.findings.observe.passes.rehearsal import rehearse
from assay.callbacks.findings.observe.settings.settings import observe_settings
from assay.callbacks.support.unwrap import raw_optimizers
from assay.runner import DictRunner

KINDS = ["ours", "stock", "own", "own by callbacks"]
pytestmark = pytest.mark.filterwarnings("ignore:No ``I:UserWarning")  # of an own handle_batch that takes the step


class Own(dl.Runner):
    """A runner as users write them; it may leave the step to callbacks."""

    steps = True

    def handle_batch(self, batch):
        loss = nn.functional.cross_entropy(self.model(batch["image"]), batch["target"])
        self.batch_metrics = {"loss": loss}
        if self.is_train_loader and self.steps:
            self.engine.backward(loss)
            self.optimizer.step()
            self.optimizer.zero_grad()


class OwnByCallbacks(Own):
    steps = False


class Rehearses(dl.Callback):
    """Takes the steps on a copy at the start of a run, and keeps what the run is like before and after."""

    def __init__(self):
        super().__init__(order=1)

    def on_experiment_start(self, runner):
        batches = {key: [next(iter(DataLoader(loader.dataset, 16)))] for key, loader in runner.loaders.items()}
        before = everything(runner)
        self.probe = rehearse(runner, batches, observe_settings(runner))
        self.before, self.after = before, everything(runner)


def everything(runner):
    """Return copies of all that training depends on, without drawing from it."""
    grads = [None if it.grad is None else it.grad.clone() for it in runner.model.parameters()]
    modes = [module.training for module in runner.model.modules()]
    hooks = [len(module._forward_hooks) + len(module._backward_hooks) for module in runner.model.modules()]
    optimizer = raw_optimizers(runner.optimizer)[""]
    steps = [len(optimizer._optimizer_step_pre_hooks), len(optimizer._optimizer_step_post_hooks)]
    tensor_hooks = [len(it._backward_hooks or ()) for it in runner.model.parameters()]
    state = copy.deepcopy([dict(runner.model.state_dict()), runner.optimizer.state_dict()])
    return [*state, torch.get_rng_state(), grads, modes, hooks, steps, tensor_hooks]


def items(kind, count=32):
    image, target = ("features", "targets") if kind == "stock" else ("image", "target")
    pixels = torch.randn(count, 6, generator=torch.Generator().manual_seed(0))
    return [{image: one, target: place % 3} for place, one in enumerate(pixels)]


def rehearsed(kind, *, lr=0.01, optimizer=torch.optim.AdamW, schedule=None, others=False, clip=None, **options):
    """Return the callback after a run of an epoch."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 3))
    model = Named(net) if kind == "ours" else net
    ours = partial(DictRunner, clip_grad_norm=clip, scheduler_step="batch")
    makers = {"ours": ours, "stock": make_stock_runner, "own": Own, "own by callbacks": OwnByCallbacks}
    trained = nn.Linear(6, 3) if others else model
    made = optimizer(trained.parameters(), lr)
    callback = Rehearses()
    callbacks = [callback]
    if kind == "own by callbacks":
        callbacks += [dl.BackwardCallback("loss"), dl.OptimizerCallback("loss")]
    if kind.startswith("own"):
        options["criterion"] = None
    if schedule is not None:
        options["scheduler"] = torch.optim.lr_scheduler.LambdaLR(made, schedule)
    loaders = {"train": DataLoader(items(kind), 16)}
    fit(makers[kind](), model, loaders, callbacks, optimizer=made, **options)
    return callback


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_learns_a_batch_by_heart_and_the_run_stays_as_it_is(kind):
    done = rehearsed(kind)
    assert done.probe.on_copy and len(done.probe.steps) == 30
    before, after = done.probe.memorized
    assert after < 0.6 * before
    assert done.probe.buffers_moved and done.probe.modes == ()
    first = done.probe.steps[0]
    assert first.lr == (0.01,) and not first.not_zeroed and first.finite and first.grad_norm > 0
    assert all(size > 0 for size in first.update.values())
    assert_equal(done.before, done.after)


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_whose_rate_is_too_low_stays_where_it_is(kind):
    before, after = rehearsed(kind, lr=1e-9).probe.memorized
    assert after > 0.95 * before


@pytest.mark.parametrize("kind", KINDS)
def test_an_optimizer_of_another_model_changes_no_weight(kind):
    steps = rehearsed(kind, others=True).probe.steps if kind != "own by callbacks" else ()
    assert not any(size for step in steps for size in step.update.values())


def test_steps_have_the_rates_that_are_planned_for_them():
    done = rehearsed("ours", schedule=lambda step: min(1.0, step / 2), epochs=20)
    assert [step.lr[0] for step in done.probe.steps[:4]] == pytest.approx([0.0, 0.005, 0.01, 0.01])
    assert_equal(done.before, done.after)


def test_gradients_are_seen_before_they_are_clipped():
    clipped = rehearsed("ours", clip=1e-6, optimizer=torch.optim.SGD).probe
    free = rehearsed("ours", optimizer=torch.optim.SGD).probe
    assert clipped.steps[0].grad_norm == pytest.approx(free.steps[0].grad_norm)
    assert sum(clipped.steps[0].update.values()) < 1e-4 * sum(free.steps[0].update.values())


def test_what_cannot_be_copied_is_not_rehearsed():
    class Sealed(torch.optim.SGD):
        def __deepcopy__(self, memo):
            raise TypeError("sealed")

    done = rehearsed("ours", optimizer=Sealed)
    assert done.probe is None
