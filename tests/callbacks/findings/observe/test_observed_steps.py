"""The first steps are what a plain loop computes, and watching them changes nothing."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from catalyst import dl
from host_reads import CountsSteps
from kit import Named, fit, make_stock_runner
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from assay.callbacks.findings.observe.training.steps import StepsWatch
from assay.callbacks.findings.observe.training.watched import MOST_OF_ALL, MOST_OF_ONE, choose_watched, first_rows
from assay.runner import DictRunner, Engine

BATCH = 4


class Watch(dl.Callback):
    """Calls a watch as the callback of the findings does."""

    def __init__(self, most=30, order=100):
        super().__init__(order=order)
        self.watch = StepsWatch(most)

    def on_loader_start(self, runner):
        self.watch.on_loader_start(runner)

    def on_batch_start(self, runner):
        self.watch.on_batch_start(runner)

    def on_batch_end(self, runner):
        self.watch.on_batch_end(runner)

    def on_loader_end(self, runner):
        self.watch.on_loader_end(runner)

    def on_experiment_end(self, runner):
        self.watch.release()

    @property
    def steps(self):
        return self.watch.probe.steps


def data(batches, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(BATCH * batches, 6, generator=generator), torch.arange(BATCH * batches) % 3


def items(batches, image="image", target="target"):
    return [{image: one, target: label} for one, label in zip(*data(batches), strict=True)]


def net(*, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 3))


def plain_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def train_ours(batches, *, model=None, watch=None, epochs=1, runner=None, **options):
    model = model or Named(plain_net())
    watch = watch or Watch()
    options.setdefault("optimizer", torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01))
    loaders = {"train": DataLoader(items(batches), BATCH), "valid": DataLoader(items(2), BATCH)}
    fit(runner or DictRunner(), model, loaders, [watch], epochs=epochs, **options)
    return watch, model


def train_stock(batches, *, model=None, watch=None, callbacks=(), **options):
    model = model or plain_net()
    watch = watch or Watch()
    options.setdefault("optimizer", torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01))
    loaders = {"train": DataLoader(items(batches, "features", "targets"), BATCH)}
    fit(make_stock_runner(), model, loaders, [*callbacks, watch], **options)
    return watch, model


def plain_loop(batches, *, accumulate=1, clip=None):
    """Return loss, gradients, weights and updates of each step of a loop without any runner."""
    model = plain_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    images, labels = data(batches)
    steps = []
    for first in range(0, len(images), BATCH * accumulate):
        for begin in range(first, first + BATCH * accumulate, BATCH):
            part = slice(begin, begin + BATCH)
            loss = F.cross_entropy(model(images[part]), labels[part])
            (loss / accumulate).backward()
        grads = {name: it.grad.clone() for name, it in model.named_parameters()}
        before = {name: it.detach().clone() for name, it in model.named_parameters()}
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
        updates = {name: it.detach() - before[name] for name, it in model.named_parameters()}
        steps.append((float(loss.detach()), grads, before, updates))
    return steps


def assert_as_in_loop(steps, expected, prefix=""):
    assert len(steps) == len(expected)
    for step, (loss, grads, before, updates) in zip(steps, expected, strict=True):
        assert step.loss == pytest.approx(loss, rel=1e-4)
        assert step.lr == (0.1,)
        for kind, tensors in (("grads", grads), ("weight", before), ("update", updates)):
            norms = {prefix + name: float(tensor.norm()) for name, tensor in tensors.items()}
            assert getattr(step, kind) == pytest.approx(norms, rel=1e-4)
        assert (step.not_zeroed, step.finite, step.scale) == (False, True, None)


def total(grads):
    return math.sqrt(sum(float((grad**2).sum()) for grad in grads.values()))


@pytest.mark.parametrize("options", [{}, {"clip_grad_norm": 0.05}, {"accumulate_steps": 2}])
def test_steps_of_our_runner_are_those_of_a_plain_loop(options):
    watch, _ = train_ours(8, runner=DictRunner(**options))
    expected = plain_loop(
        8, accumulate=options.get("accumulate_steps", 1), clip=options.get("clip_grad_norm")
    )  # fmt: skip
    assert_as_in_loop(watch.steps, expected, prefix="layer.")
    found = [step.grad_norm for step in watch.steps]
    assert found == pytest.approx([total(grads) for _, grads, *_ in expected], rel=1e-4)


def test_steps_of_a_stock_runner_are_those_of_a_plain_loop():
    watch, _ = train_stock(8)
    expected = plain_loop(8)
    assert_as_in_loop(watch.steps, expected)
    found = [step.grad_norm for step in watch.steps]
    assert found == pytest.approx([total(grads) for _, grads, *_ in expected], rel=1e-4)


class Clips(dl.OptimizerCallback):
    """Clips as Catalyst's own would, which passes its model by."""

    def on_batch_end(self, runner):
        if runner.is_train_loader:
            self.grad_clip_fn(runner.model.parameters())
        super().on_batch_end(runner)


def test_the_norm_before_a_stock_clipping_is_not_known():
    clip = partial(nn.utils.clip_grad_norm_, max_norm=0.05)
    watch, _ = train_stock(4, callbacks=[Clips("loss", grad_clip_fn=clip)])
    assert {step.grad_norm for step in watch.steps} == {None}
    norms = [math.sqrt(sum(norm**2 for norm in step.grads.values())) for step in watch.steps]
    assert norms == pytest.approx([0.05] * 4, rel=1e-3)


def test_it_watches_so_many_steps_and_then_lets_go():
    watch, model = train_ours(40)
    assert len(watch.steps) == 30
    assert_as_in_loop(watch.steps, plain_loop(40)[:30], prefix="layer.")
    assert not watch.watch.watches
    assert all(parameter._backward_hooks is None for parameter in model.parameters())


def test_the_probe_is_there_one_batch_after_the_last_step():
    seen = []

    class Look(dl.Callback):
        def on_batch_start(self, runner):
            seen.append(watch.watch.probe is not None)

    watch = Watch(most=3)
    model = Named(plain_net())
    loaders = {"train": DataLoader(items(6), BATCH)}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    fit(DictRunner(), model, loaders, [watch, Look(order=200)], optimizer=optimizer)
    assert seen == [False, False, False, True, True, True]


class Own(dl.Runner):
    """Steps by itself, over tuple batches."""

    zeroing = "after"
    gathers = 1

    def handle_batch(self, batch):
        image, target = batch
        loss = F.cross_entropy(self.model(image), target)
        self.batch_metrics["loss"] = float(loss.detach())
        if not self.is_train_loader:
            return
        if self.zeroing == "before":
            self.optimizer.zero_grad()
        self.engine.backward(loss / self.gathers)
        if self.loader_batch_step % self.gathers == 0:
            self.optimizer.step()
            if self.zeroing == "after":
                self.optimizer.zero_grad()
            if self.zeroing == "with zeros":
                self.optimizer.zero_grad(set_to_none=False)


def train_own(batches=8, *, runner=Own, model=None, weight_decay=0.01, **attributes):
    watch, model = Watch(), model or plain_net()
    one = type("Runner", (runner,), attributes)()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=weight_decay)
    loaders = {"train": DataLoader(TensorDataset(*data(batches)), BATCH)}
    fit(one, model, loaders, [watch], optimizer=optimizer, criterion=None)
    return watch


pytestmark = pytest.mark.filterwarnings("ignore:No ``I:UserWarning")


@pytest.mark.parametrize("zeroing", ["before", "after", "with zeros"])
def test_an_own_loop_that_zeroes_its_gradients_is_that_of_a_plain_loop(zeroing):
    assert_as_in_loop(train_own(zeroing=zeroing).steps, plain_loop(8))


def test_an_own_loop_that_gathers_batches_zeroes_its_gradients():
    watch = train_own(zeroing="after", gathers=4)
    assert [step.not_zeroed for step in watch.steps] == [False, False]


def test_gradients_that_are_not_zeroed_are_seen():
    watch = train_own(zeroing="never")
    assert [step.not_zeroed for step in watch.steps] == [False] + [True] * 7


class Rivals(dl.Runner):
    """A generator and a discriminator: each is gone through by the backward pass of the other."""

    def handle_batch(self, batch):
        image, _ = batch
        made = self.model["g"](image)
        for name, sign, inputs in (("d", 1, made.detach()), ("g", -1, made)):
            self.optimizer[name].zero_grad()
            loss = sign * self.model["d"](inputs).mean()
            self.batch_metrics[f"loss_{name}"] = loss.detach()
            self.engine.backward(loss)
            self.optimizer[name].step()


def test_rival_optimizers_make_one_step_together_and_zero_their_gradients():
    models = {"g": nn.Linear(6, 6), "d": nn.Linear(6, 1)}
    optimizers = {name: torch.optim.SGD(models[name].parameters(), lr) for name, lr in (("d", 0.1), ("g", 0.2))}
    watch = Watch()
    loaders = {"train": DataLoader(TensorDataset(*data(5)), BATCH)}
    fit(Rivals(), models, loaders, [watch], optimizer=optimizers, criterion=None)
    assert len(watch.steps) == 5
    assert {step.lr for step in watch.steps} == {(0.1, 0.2)}
    assert {step.not_zeroed for step in watch.steps} == {False}
    assert set(watch.steps[0].update) == {"g.weight", "g.bias", "d.weight", "d.bias"}
    assert all(math.isfinite(step.loss) for step in watch.steps)


def test_a_broken_step_is_not_finite():
    class Broken(Own):
        def handle_batch(self, batch):
            image, target = batch
            super().handle_batch((image * (math.inf if self.loader_batch_step == 3 else 1), target))

    watch = train_own(runner=Broken)
    assert [step.finite for step in watch.steps[:3]] == [True, True, False]


@pytest.mark.parametrize("stock", [False, True])
def test_modes_and_statistics_of_layers_are_seen(stock):
    layers = net()
    watch, _ = train_stock(4, model=layers) if stock else train_ours(4, model=Named(layers))
    assert (watch.watch.probe.modes, watch.watch.probe.buffers_moved) == ((), True)
    watch = train_own(4, runner=Evaluates, model=net())
    assert (watch.watch.probe.modes, watch.watch.probe.buffers_moved) == (("1", "3"), False)
    assert train_own(4).watch.probe.buffers_moved is None


class Evaluates(Own):
    def handle_batch(self, batch):
        self.model.eval()
        super().handle_batch(batch)


def test_layers_of_a_frozen_part_may_evaluate():
    model = net()
    for parameter in (*model[0].parameters(), *model[1].parameters()):
        parameter.requires_grad_(requires_grad=False)
    watch = train_own(4, runner=Evaluates, model=model)
    assert (watch.watch.probe.modes, watch.watch.probe.buffers_moved) == (("3",), None)


def test_later_epochs_and_resumed_runs_are_not_watched(tmp_path):
    watch, _ = train_ours(4, epochs=2, logdir=str(tmp_path / "run"))
    assert len(watch.steps) == 4
    resumed, _ = train_ours(4, epochs=3, logdir=str(tmp_path / "run"), resume=str(tmp_path / "run"))
    assert resumed.watch.probe is None


def state(watch, model, optimizer):
    weights = [part.clone() for part in model.state_dict().values()]
    momenta = [part["momentum_buffer"] for part in optimizer.state.values()]
    return [*weights, *momenta, torch.get_rng_state()]


@pytest.mark.parametrize("stock", [False, True])
def test_watching_changes_no_bit(stock):
    def train(watched):
        model = net() if stock else Named(net())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        watch = Watch() if watched else Watch(most=0)
        if not watched:
            watch.watch._began = True
        (train_stock if stock else train_ours)(35, model=model, watch=watch, optimizer=optimizer)
        assert (watch.watch.probe is not None) == watched
        return state(watch, model, optimizer)

    assert all(map(torch.equal, train(True), train(False)))


class Counting(CountsSteps, DictRunner):
    pass


class CountingStock(CountsSteps, dl.SupervisedRunner):
    pass


@pytest.mark.parametrize("stock", [False, True])
def test_watching_reads_nothing_from_the_device_in_any_step(stock):
    def count(watched):
        keys = {"input_key": "features", "output_key": "scores", "target_key": "targets", "loss_key": "loss"}
        runner = CountingStock(**keys) if stock else Counting(clip_grad_norm=1.0, accumulate_steps=2)
        model = net() if stock else Named(net())
        batches = items(66, "features", "targets") if stock else items(66)
        watch = Watch()
        watch.watch._began = not watched
        fit(
            runner, model, {"train": DataLoader(batches, BATCH)}, [watch],
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1, fused=True),
        )  # fmt: skip
        assert (watch.watch.probe is not None) == watched
        return runner.steps

    assert count(True) == count(False)


def steps_of_rank(rank):
    weights = []
    for watched in (False, True):
        watch = Watch()
        watch.watch._began = not watched
        _, model = train_ours(4, engine=Engine("cpu"), model=Named(net()), watch=watch)
        weights.append(torch.cat([part.flatten().double() for part in model.state_dict().values()]))
    assert torch.equal(*weights)
    return [(step.grad_norm, step.not_zeroed) for step in watch.steps], weights[-1]


def test_ranks_see_the_gradients_of_all(rank_processes):
    from rank_processes import Ranks

    (first, weights), (second, others) = Ranks(rank_processes, 2).run(steps_of_rank)
    assert [norm for norm, _ in first] == pytest.approx([norm for norm, _ in second], rel=1e-5)
    assert len(first) == 2
    assert not any(stale for _, stale in first + second)
    assert torch.equal(weights, others)


def test_the_ends_and_the_largest_are_watched():
    sizes = [3, 4, *([5] * 60), 1000, *([6] * 60), 7, 8]
    parameters = {str(i): nn.Parameter(torch.zeros(size)) for i, size in enumerate(sizes)}
    chosen = choose_watched(parameters)
    assert len(chosen) == 40
    assert {"0", "1", "62", str(len(sizes) - 2), str(len(sizes) - 1)} <= chosen.keys()
    assert list(chosen) == sorted(chosen, key=int)


def test_of_large_parameters_the_first_rows_are_kept():
    sizes = [(10,), (), (3000, 1000), (2000, 1000), *[(2000, 500)] * 4]
    rows = first_rows([nn.Parameter(torch.empty(size, device="meta")) for size in sizes])
    assert [len(row) for row in rows[:1]] == [10]
    assert all(row.numel() <= MOST_OF_ONE for row in rows)
    assert MOST_OF_ALL * 0.9 < sum(row.numel() for row in rows) <= MOST_OF_ALL
    assert all(row.shape[1:] == torch.Size(size)[1:] for row, size in zip(rows, sizes, strict=True))


def test_norms_of_large_parameters_are_estimated(monkeypatch):
    from assay.callbacks.findings.observe.training import watched

    monkeypatch.setattr(watched, "MOST_OF_ONE", 24)
    watch, _ = train_ours(6)
    expected = plain_loop(6)
    for step, (_, grads, before, updates) in zip(watch.steps, expected, strict=True):
        assert step.grads["layer.0.weight"] == pytest.approx(float(grads["0.weight"].norm()), rel=1e-4)
        for found, known in ((step.weight, before), (step.update, updates)):
            part = known["0.weight"][:4]
            assert found["layer.0.weight"] == pytest.approx(float(part.norm()) * math.sqrt(2), rel=1e-4)


def test_parameters_that_are_made_in_the_first_pass_break_nothing():
    torch.manual_seed(0)
    model = nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.Linear(8, 3))
    watch = train_own(4, model=model)
    assert [step.finite for step in watch.steps] == [True] * 4
    assert {"2.weight", "2.bias"} <= watch.steps[0].update.keys()


def test_an_optimizer_with_a_closure_breaks_nothing():
    class Closure(Own):
        def handle_batch(self, batch):
            def loss():
                self.optimizer.zero_grad()
                value = F.cross_entropy(self.model(batch[0]), batch[1])
                value.backward()
                return value

            self.batch_metrics["loss"] = self.optimizer.optimizer.step(loss)

    watch, model = Watch(), plain_net()
    loaders = {"train": DataLoader(TensorDataset(*data(4)), BATCH)}
    fit(Closure(), model, loaders, [watch], optimizer=torch.optim.LBFGS(model.parameters(), lr=0.1), criterion=None)
    assert len(watch.steps) == 4
    assert {step.not_zeroed for step in watch.steps} == {False}
    assert all(step.update["0.weight"] > 0 for step in watch.steps)


def test_sparse_gradients_are_left_out():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.words, self.head = nn.Embedding(9, 4, sparse=True), nn.Linear(4, 3)

        def forward(self, image):
            return self.head(self.words(image.abs().long().clamp(max=8)).mean(dim=1))

    watch = train_own(4, model=Words(), weight_decay=0.0)
    assert {step.grad_norm for step in watch.steps} == {None}
    assert watch.steps[0].grads.keys() == {"head.weight", "head.bias"}
