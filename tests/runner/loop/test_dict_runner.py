"""DictRunner against plain PyTorch loops in float64, and its words where it is used wrongly."""

import copy
import math
import weakref
from multiprocessing import active_children

import numpy as np
import pytest
import torch
from catalyst import dl
from catalyst.core.logger import ILogger
from kit import Break
from torch import nn
from torch.optim import SGD, AdamW
from torch.utils.data import DataLoader, TensorDataset

from assay.callbacks import Metrics, Results
from assay.runner import Checkpoints, DictRunner, Engine, LossTerm, Monitor, Progress, UsageError, load_checkpoint
from assay.runner.recipe.schedulers import make_scheduler
from assay.runner.saving.loggers import read_metrics

F = nn.functional
EXACT = 1e-12  # float64, sums in another order

TWO_TERMS = (
    LossTerm("logits", "target", criterion="class"),
    LossTerm("size", "true_size", criterion="size", weight=0.3, name="loss_of_size"),
)
TWO_CRITERIA = {"class": nn.CrossEntropyLoss(), "size": nn.MSELoss()}


def two_losses(outputs, batch):
    return F.cross_entropy(outputs["logits"], batch["target"]) + 0.3 * F.mse_loss(outputs["size"], batch["true_size"])


class Watch(dl.Callback):
    """Calls functions of the runner at events: ``Watch(on_batch_end=lambda runner: ...)``."""

    def __init__(self, order=dl.CallbackOrder.External, **hooks):
        super().__init__(order=order)
        for name, hook in hooks.items():
            setattr(self, name, hook)


class Closing(ILogger):
    """A logger that counts how often it is closed."""

    def __init__(self):
        super().__init__(log_batch_metrics=False, log_epoch_metrics=False)
        self.closed = 0

    def close_log(self):
        self.closed += 1


# -- the step ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make_optimizer",
    [lambda p: SGD(p, lr=0.1, momentum=0.9), lambda p: AdamW(p, lr=0.01, weight_decay=0.1)],
    ids=["sgd", "adamw"],
)
def test_weights_equal_those_of_a_plain_loop_with_several_weighted_loss_terms(
    make_net, make_loader, train, plain_loop, assert_same_weights, make_optimizer
):
    model, reference = make_net(), make_net()
    plain_loop(reference, make_loader(), make_optimizer(reference.parameters()), loss=two_losses, epochs=2)
    train(
        model,
        {"train": make_loader()},
        epochs=2,
        runner=DictRunner(losses=TWO_TERMS),
        criterion=TWO_CRITERIA,
        optimizer=make_optimizer(model.parameters()),
    )
    assert_same_weights(model.state_dict(), reference.state_dict(), atol=EXACT)


@pytest.mark.parametrize("count", [21, 32, 3, 18], ids=["partial group", "whole groups", "less than one", "even rest"])
def test_accumulating_four_batches_of_4_equals_batches_of_16(
    make_net, make_loader, train, plain_loop, assert_same_weights, count
):
    model, reference = make_net(), make_net()
    plain_loop(reference, make_loader(count, 16), SGD(reference.parameters(), lr=0.1, momentum=0.9), epochs=2)
    train(
        model,
        {"train": make_loader(count, 4)},
        epochs=2,
        runner=DictRunner(accumulate_steps=4),
        optimizer=SGD(model.parameters(), lr=0.1, momentum=0.9),
    )
    assert_same_weights(model.state_dict(), reference.state_dict(), atol=EXACT)


@pytest.mark.parametrize(
    ("option", "clip"),
    [
        ({"clip_grad_norm": 0.05}, lambda model: nn.utils.clip_grad_norm_(model.parameters(), 0.05)),
        ({"clip_grad_value": 0.01}, lambda model: nn.utils.clip_grad_value_(model.parameters(), 0.01)),
    ],
    ids=["norm", "value"],
)
@pytest.mark.parametrize("accumulate_steps", [1, 2])
def test_clipping_equals_that_of_torch(
    make_net, make_loader, train, plain_loop, assert_same_weights, option, clip, accumulate_steps
):
    model, reference, unclipped = make_net(), make_net(), make_net()
    batches = make_loader(batch_size=4 * accumulate_steps)
    plain_loop(reference, batches, SGD(reference.parameters(), lr=0.1), before_step=clip)
    plain_loop(unclipped, batches, SGD(unclipped.parameters(), lr=0.1))
    runner = DictRunner(accumulate_steps=accumulate_steps, **option)
    train(model, {"train": make_loader(batch_size=4)}, runner=runner)
    assert_same_weights(model.state_dict(), reference.state_dict(), atol=EXACT)
    assert not torch.allclose(model.body.weight, unclipped.body.weight, atol=1e-4)


@pytest.mark.parametrize(
    "clip", [{}, {"clip_grad_norm": 0.05}, {"clip_grad_value": 0.01}], ids=["none", "norm", "value"]
)
def test_gradient_hooks_see_the_whole_gradient_before_clipping(make_net, make_loader, train, clip):
    seen, model, reference = [], make_net(), make_net()
    runner = DictRunner(accumulate_steps=2, **clip)
    handle = runner.register_gradient_hook(lambda: seen.append(model.body.weight.grad.clone()))
    train(model, {"train": make_loader(8, batch_size=4)}, runner=runner)
    batch = next(iter(make_loader(8, batch_size=8)))
    F.cross_entropy(reference(batch["image"])["logits"], batch["target"]).backward()
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], reference.body.weight.grad, rtol=0, atol=EXACT)
    handle.remove()
    train(model, {"train": make_loader(8, batch_size=4)}, runner=runner)
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("name", "scheduler_step", "rate"),
    [
        ("cosine", "batch", lambda step, epoch: 0.05 * (1 + math.cos(math.pi * step / 24))),
        ("multi-step", "epoch", lambda step, epoch: 0.1 * 0.1 ** (epoch >= 1) * 0.1 ** (epoch >= 3)),
    ],
)
def test_learning_rates_follow_the_formula_step_by_step(make_net, make_loader, train, name, scheduler_step, rate):
    model, seen = make_net(), []
    optimizer = SGD(model.parameters(), lr=0.1)
    optimizer.register_step_pre_hook(lambda optimizer, *_: seen.append(optimizer.param_groups[0]["lr"]))
    scheduler = make_scheduler(name, optimizer, epochs=4, steps_per_epoch=6, milestones=[1, 3])
    runner = DictRunner(scheduler_step=scheduler_step)
    train(model, {"train": make_loader()}, epochs=4, runner=runner, optimizer=optimizer, scheduler=scheduler)
    assert seen == pytest.approx([rate(step, step // 6) for step in range(24)], rel=1e-12)


def test_a_schedule_by_batch_steps_once_an_optimizer_step_when_batches_accumulate(make_net, make_loader, train):
    model, seen = make_net(), []
    optimizer = SGD(model.parameters(), lr=0.1)
    optimizer.register_step_pre_hook(lambda optimizer, *_: seen.append(optimizer.param_groups[0]["lr"]))
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    runner = DictRunner(scheduler_step="batch", accumulate_steps=4)
    train(model, {"train": make_loader()}, epochs=2, runner=runner, optimizer=optimizer, scheduler=scheduler)
    assert seen == pytest.approx([0.1, 0.05, 0.025, 0.0125])  # 6 batches are 2 groups, an epoch


def test_a_warm_up_counts_optimizer_steps_though_its_schedule_steps_by_epoch(make_net, make_loader, train):
    model, seen = make_net(), []
    optimizer = SGD(model.parameters(), lr=0.1)
    optimizer.register_step_pre_hook(lambda optimizer, *_: seen.append(optimizer.param_groups[0]["lr"]))
    scheduler = make_scheduler(
        "multi-step", optimizer, epochs=3, steps_per_epoch=6, warmup_epochs=0.5, milestones=[1], gamma=0.5
    )
    train(model, {"train": make_loader()}, epochs=2, optimizer=optimizer, scheduler=scheduler)
    assert seen == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1] + 6 * [0.05])


@pytest.mark.parametrize("scheduler_step", ["batch", "epoch"])
def test_plateau_steps_by_epoch_on_the_named_metric_whatever_scheduler_step_says(
    make_net, make_loader, train, scheduler_step
):
    model, scores, rates = make_net(), {1: 1.0, 2: 2.0, 3: 0.5, 4: 0.6}, []
    optimizer = SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    script = Watch(on_loader_end=lambda runner: runner.loader_metrics.update(score=scores[runner.epoch_step]))
    record = Watch(on_epoch_end=lambda runner: rates.append(optimizer.param_groups[0]["lr"]))
    runner = DictRunner(scheduler_step=scheduler_step, scheduler_metric="train/score")
    train(
        model,
        {"train": make_loader()},
        epochs=4,
        runner=runner,
        optimizer=optimizer,
        scheduler=scheduler,
        callbacks=[script, record],
    )
    assert rates == [0.1, 0.05, 0.05, 0.025]


# -- models and what they are given -----------------------------------------------------------------------------------


def test_a_model_of_several_inputs_is_given_them_by_name(make_net, make_loader, train, assert_same_weights):
    class TwoInputs(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = make_net()

        def forward(self, true_size, image):
            return self.net(image + true_size)

    model, reference = TwoInputs(), make_net()
    train(model, {"train": make_loader()}, runner=DictRunner(input_key=["image", "true_size"]))
    optimizer = SGD(reference.parameters(), lr=0.1)
    for batch in make_loader():
        optimizer.zero_grad()
        F.cross_entropy(reference(batch["image"] + batch["true_size"])["logits"], batch["target"]).backward()
        optimizer.step()
    assert_same_weights(model.net.state_dict(), reference.state_dict(), atol=EXACT)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 5).double()

    def forward(self, image):
        return {"hidden": torch.tanh(self.linear(image))}


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(5, 3).double()

    def forward(self, hidden):
        return {"logits": self.linear(hidden)}


@pytest.mark.parametrize("kind", ["one optimizer", "one optimizer each"])
def test_several_models_use_the_outputs_of_those_before_them(make_loader, train, assert_same_weights, kind):
    torch.manual_seed(0)
    models = {"encoder": Encoder(), "head": Head()}
    encoder, head = copy.deepcopy(models["encoder"]), copy.deepcopy(models["head"])
    both = [*models["encoder"].parameters(), *models["head"].parameters()]
    optimizer = (
        SGD(both, lr=0.1)
        if kind == "one optimizer"
        else {name: SGD(model.parameters(), lr=0.1) for name, model in models.items()}
    )
    runner = DictRunner(input_key={"encoder": "image", "head": ["hidden"]}, clip_grad_norm=0.1)
    train(models, {"train": make_loader()}, runner=runner, optimizer=optimizer)

    reference = nn.ModuleDict({"encoder": encoder, "head": head})
    steps = SGD(reference.parameters(), lr=0.1)
    for batch in make_loader():
        steps.zero_grad()
        F.cross_entropy(head(encoder(batch["image"])["hidden"])["logits"], batch["target"]).backward()
        nn.utils.clip_grad_norm_(reference.parameters(), 0.1)
        steps.step()
    assert_same_weights(models["encoder"].state_dict(), encoder.state_dict(), atol=EXACT)
    assert_same_weights(models["head"].state_dict(), head.state_dict(), atol=EXACT)


# -- metrics ----------------------------------------------------------------------------------------------------------


def numpy_losses(model, items):
    """Cross-entropy and squared error of each item, by NumPy in float64."""
    weights = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    images = np.stack([item["image"].numpy() for item in items])
    hidden = np.tanh(images @ weights["body.weight"].T + weights["body.bias"])
    logits = hidden @ weights["logits.weight"].T + weights["logits.bias"]
    sizes = hidden @ weights["size.weight"].T + weights["size.bias"]
    targets = [item["target"] for item in items]
    cross_entropy = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(items)), targets]
    squared = ((sizes - np.stack([item["true_size"].numpy() for item in items])) ** 2)[:, 0]
    return cross_entropy, squared


def test_epoch_losses_are_means_over_samples_though_the_last_batch_is_smaller(make_net, make_loader, make_items, train):
    model, batches = make_net(), []
    watch = Watch(on_batch_end=lambda runner: batches.append((runner.loader_key, dict(runner.batch_metrics))))
    runner = train(
        model,
        {"train": make_loader(), "valid": make_loader(10, seed=1)},
        lr=0.0,
        runner=DictRunner(losses=TWO_TERMS),
        criterion=TWO_CRITERIA,
        callbacks=[watch],
    )
    for key, items in (("train", make_items(21)), ("valid", make_items(10, seed=1))):
        cross_entropy, squared = numpy_losses(model, items)
        expected = {
            "loss": cross_entropy.mean() + 0.3 * squared.mean(),
            "loss_class": cross_entropy.mean(),
            "loss_of_size": squared.mean(),
        }
        assert runner.history[1][key] == pytest.approx(expected, rel=1e-12)
        seen = [metrics for of, metrics in batches if of == key]
        assert len(seen) == math.ceil(len(items) / 4)
        for i, metrics in enumerate(seen):
            part = slice(4 * i, 4 * i + 4)
            assert float(metrics["loss"]) == pytest.approx(cross_entropy[part].mean() + 0.3 * squared[part].mean())
            assert float(metrics["loss_of_size"]) == pytest.approx(squared[part].mean())


def test_a_single_term_is_logged_as_loss_alone(make_net, make_loader, train):
    runner = train(make_net(), {"train": make_loader()})
    assert list(runner.history[1]["train"]) == ["loss"]


def test_sample_losses_are_the_weighted_sum_of_all_terms(make_net, make_loader, make_items, train):
    model, found = make_net(), []
    train(
        model,
        {"valid": make_loader(4)},
        runner=DictRunner(losses=TWO_TERMS),
        criterion=TWO_CRITERIA,
        callbacks=[Watch(on_batch_end=lambda runner: found.append(runner.sample_losses(runner.batch)))],
    )
    cross_entropy, squared = numpy_losses(model, make_items(4))
    np.testing.assert_allclose(found[0].numpy(), cross_entropy + 0.3 * squared, rtol=1e-12)


def test_steps_count_batches_and_samples(make_net, make_loader, train):
    runner = train(make_net(), {"train": make_loader()}, epochs=2)
    assert (runner.epoch_step, runner.batch_step, runner.sample_step) == (2, 12, 42)


def test_samples_are_counted_where_the_first_part_of_an_item_is_a_dict(make_net, make_items, train):
    items = [{"camera": {"iso": 100, "f": 2.8}, **item} for item in make_items()]
    model = make_net()
    runner = train(model, {"train": DataLoader(items, batch_size=4)}, lr=0.0)
    assert runner.sample_step == 21
    assert runner.history[1]["train"]["loss"] == pytest.approx(numpy_losses(model, items)[0].mean(), rel=1e-12)


# -- what a batch holds, and for how long -----------------------------------------------------------------------------


def test_the_batch_holds_inputs_and_outputs_without_a_graph(make_net, make_loader, train):
    seen = []

    def look(runner):
        tensors = [part for part in runner.batch.values() if isinstance(part, torch.Tensor)]
        metrics = list(runner.batch_metrics.values())
        seen.append((set(runner.batch), [part.requires_grad or part.grad_fn is not None for part in tensors + metrics]))

    train(make_net(), {"train": make_loader(4)}, callbacks=[Watch(on_batch_end=look)])
    ((keys, graphs),) = seen
    assert keys == {"image", "target", "true_size", "sample_id", "logits", "size"}
    assert graphs == [False] * 6  # five tensors and the loss


def test_the_batch_is_gone_when_the_loader_ends(make_net, make_loader, train):
    seen = []
    watch = Watch(on_loader_end=lambda runner: seen.append(runner.batch))
    train(make_net(), {"train": make_loader(), "valid": make_loader()}, callbacks=[watch])
    assert seen == [None, None]


def test_the_outputs_of_a_step_are_freed_before_the_next_one(make_net, make_loader, train):
    class Recording(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = make_net()
            self.made, self.alive = [], []

        def forward(self, image):
            self.alive.append(sum(reference() is not None for reference in self.made))
            outputs = self.net(image)
            self.made += [weakref.ref(output) for output in outputs.values()]
            return outputs

    model, after = Recording(), []
    watch = Watch(on_loader_end=lambda runner: after.append(sum(made() is not None for made in model.made)))
    train(model, {"train": make_loader(), "valid": make_loader()}, callbacks=[watch])
    assert len(model.made) == 24
    assert model.alive == [0] * 12
    assert after == [0, 0]


# -- kinds of loaders -------------------------------------------------------------------------------------------------


class Normalized(nn.Module):
    """With BatchNorm; records mode and grad at each call."""

    def __init__(self):
        super().__init__()
        self.norm, self.linear = nn.BatchNorm1d(4).double(), nn.Linear(4, 3).double()
        self.calls = []

    def forward(self, image):
        self.calls.append((self.training, torch.is_grad_enabled()))
        return {"logits": self.linear(self.norm(image))}


def test_validation_runs_in_eval_mode_without_grad_and_leaves_model_and_buffers_alone(
    make_loader, train, weights_of, assert_same_weights
):
    model, states = Normalized(), []
    watch = Watch(
        on_loader_start=lambda runner: states.append(weights_of(model)),
        on_loader_end=lambda runner: states.append(weights_of(model)),
    )
    train(model, {"train": make_loader(8), "valid": make_loader(8, seed=1)}, callbacks=[watch])
    assert model.calls == [(True, True)] * 2 + [(False, False)] * 2
    before_training, after_training, before_validation, after_validation = states
    assert not torch.equal(before_training["norm.running_mean"], after_training["norm.running_mean"])
    assert_same_weights(before_validation, after_validation)


def test_an_infer_loader_needs_no_target_criterion_or_optimizer(make_net, make_items):
    items = [{"image": item["image"]} for item in make_items(6)]
    model, outputs, metrics = make_net(), [], []
    watch = Watch(
        on_batch_end=lambda runner: outputs.append(runner.batch["logits"]),
        on_loader_end=lambda runner: metrics.append(dict(runner.loader_metrics)),
    )
    runner = DictRunner()
    loaders = {"infer": DataLoader(items, batch_size=4)}
    runner.train(engine=Engine("cpu"), model=model, loaders=loaders, callbacks=[watch])
    with torch.no_grad():
        expected = model(torch.stack([item["image"] for item in items]))["logits"]
    torch.testing.assert_close(torch.cat(outputs), expected, rtol=0, atol=EXACT)
    assert metrics == [{}]
    assert not model.training


# -- predicting -------------------------------------------------------------------------------------------------------


def test_predict_loader_yields_named_outputs_in_eval_mode_without_a_graph(make_loader, train):
    model = Normalized()
    runner = train(model, {"train": make_loader(8)})
    model.calls.clear()
    predicted = list(runner.predict_loader(loader=make_loader(5)))
    model.eval()
    with torch.no_grad():
        expected = model(torch.cat([batch["image"] for batch in make_loader(5)]))["logits"]
    assert model.calls[:2] == [(False, False)] * 2
    torch.testing.assert_close(torch.cat([batch["logits"] for batch in predicted]), expected, rtol=0, atol=EXACT)


def test_predict_loader_goes_on_with_the_engine_of_the_run(make_net, make_items):
    items = [{**item, "image": item["image"].float()} for item in make_items(8)]
    engine, model = Engine("cpu", "bf16"), make_net().float()
    runner = DictRunner()
    runner.train(
        engine=engine,
        model=model,
        criterion=nn.CrossEntropyLoss(),
        optimizer=SGD(model.parameters(), lr=0.1),
        loaders={"train": DataLoader(items, batch_size=4)},
    )
    assert len(list(runner.predict_loader(loader=DataLoader(items, batch_size=4)))) == 2
    assert runner.engine is engine


def test_predict_loader_takes_a_model_and_the_weights_of_a_run(make_net, make_loader, train, tmp_path):
    trained = make_net()
    train(trained, {"train": make_loader()}, logdir=str(tmp_path))
    fresh = make_net(seed=1)
    runner = DictRunner()
    (predicted,) = runner.predict_loader(loader=make_loader(4), model=fresh, resume=str(tmp_path), cpu=True)
    with torch.no_grad():
        expected = trained(next(iter(make_loader(4)))["image"])["logits"]
    torch.testing.assert_close(predicted["logits"], expected, rtol=0, atol=EXACT)


# -- a run in a notebook ----------------------------------------------------------------------------------------------


def test_logdir_and_verbose_give_metrics_events_checkpoints_and_a_line_an_epoch(
    make_net, make_loader, train, tmp_path, capsys
):
    runner = train(
        make_net(),
        {"train": make_loader(), "valid": make_loader(8, seed=1)},
        epochs=2,
        logdir=str(tmp_path),
        verbose=True,
        hparams={"lr": 0.1},
        valid_loader="valid",
        valid_metric="loss",
        minimize_valid_metric=True,
    )
    written = read_metrics(tmp_path / "metrics.csv")
    assert written == {
        (epoch, loader, name): value
        for epoch, loaders in runner.history.items()
        for loader, metrics in loaders.items()
        for name, value in metrics.items()
    }
    assert sorted(path.parent.name for path in tmp_path.rglob("events.*")) == ["train", "valid"]
    assert {"best.pt", "last.pt", "index.json", "epoch-0002.pt"} <= {
        path.name for path in (tmp_path / "checkpoints").iterdir()
    }
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines if line.startswith("epoch")] == [["epoch", "1/2"], ["epoch", "2/2"]]


def test_without_logdir_nothing_is_written(make_net, make_loader, train, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(make_net(), {"train": make_loader()})
    assert list(tmp_path.iterdir()) == []


def test_callbacks_of_yours_take_the_place_of_those_that_logdir_and_verbose_add(make_net, make_loader, train, tmp_path):
    mine = {
        "progress of mine": Progress(show_bar=False),
        "mine": Checkpoints(tmp_path / "elsewhere"),
        "results of mine": Results(None, folder=tmp_path / "pictures"),
    }
    runner = train(make_net(), {"train": make_loader(4)}, logdir=str(tmp_path), verbose=True, callbacks=mine)
    assert set(runner.callbacks) == set(mine)
    assert (tmp_path / "elsewhere" / "last.pt").is_file()
    assert (tmp_path / "pictures" / "curves.png").is_file()
    assert not any((tmp_path / name).exists() for name in ("checkpoints", "results"))


def test_load_best_on_end_leaves_the_weights_of_the_best_epoch_in_the_model(
    make_net, make_loader, train, tmp_path, weights_of, assert_same_weights
):
    scores, states, model = {1: 0.1, 2: 0.9, 3: 0.2}, {}, make_net()
    script = Watch(on_loader_end=lambda runner: runner.loader_metrics.update(score=scores[runner.epoch_step]))
    record = Watch(on_epoch_end=lambda runner: states.update({runner.epoch_step: weights_of(model)}))
    train(
        model,
        {"train": make_loader()},
        epochs=3,
        logdir=str(tmp_path),
        valid_loader="train",
        valid_metric="score",
        minimize_valid_metric=False,
        load_best_on_end=True,
        callbacks=[script, record],
    )
    assert_same_weights(model.state_dict(), states[2])
    assert not torch.equal(states[2]["body.weight"], states[3]["body.weight"])


def test_the_engine_of_the_constructor_serves_where_train_is_given_none(make_net, make_loader):
    model, engine = make_net(), Engine("cpu", "bf16")
    runner = DictRunner(model, engine)
    runner.train(
        criterion=nn.CrossEntropyLoss(), optimizer=SGD(model.parameters(), lr=0.1), loaders={"train": make_loader(4)}
    )
    assert runner.engine is engine


def test_cpu_and_fp16_choose_the_engine(make_net, make_loader):
    model = make_net()
    options = {
        "criterion": nn.CrossEntropyLoss(),
        "optimizer": SGD(model.parameters(), lr=0.1),
        "loaders": {"train": make_loader(4)},
    }
    runner = DictRunner(model)
    runner.train(cpu=True, **options)
    assert runner.engine.device == torch.device("cpu")
    with pytest.raises(UsageError, match="precision 'fp16' needs a GPU"):
        DictRunner(model).train(cpu=True, fp16=True, **options)


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accumulate_steps": 0}, "accumulate_steps must be at least 1, got 0"),
        ({"scheduler_step": "step"}, "scheduler_step must be 'batch' or 'epoch', got 'step'"),
        ({"scheduler_metric": "loss"}, "monitor must read LOADER/METRIC"),
        ({"losses": []}, "losses must hold at least one LossTerm"),
    ],
)
def test_the_constructor_refuses_what_is_out_of_range(options, message):
    with pytest.raises(UsageError, match=message):
        DictRunner(**options)


def test_an_item_that_is_no_dict_is_refused(make_net, train):
    loader = DataLoader(TensorDataset(torch.zeros(4, 4), torch.zeros(4)), batch_size=2)
    with pytest.raises(UsageError, match=r"loader 'train' must give dicts, got a list: .*'image'"):
        train(make_net(), {"train": loader})


def test_an_output_that_is_no_dict_is_refused_with_the_name_of_the_model(make_loader, train):
    with pytest.raises(UsageError, match="the model must return a dict of named outputs, got a Tensor from Linear"):
        train(nn.Linear(4, 3).double(), {"train": make_loader()})


def test_a_name_that_both_batch_and_model_use_is_refused(make_loader, train):
    class Shadow(nn.Linear):
        def forward(self, image):
            return {"logits": super().forward(image), "target": image}

    with pytest.raises(UsageError, match="the model returns 'target', which the batch holds too"):
        train(Shadow(4, 3).double(), {"train": make_loader()})


def test_a_name_that_two_models_return_is_refused(make_loader, train):
    models = {"first": Encoder(), "second": Encoder()}
    optimizer = SGD(models["first"].parameters(), lr=0.1)
    with pytest.raises(UsageError, match="the model returns 'hidden', which the batch holds too"):
        train(models, {"train": make_loader()}, optimizer=optimizer)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"input_key": "picture"},
            "input_key='picture' asks for key 'picture', which the batch lacks; "
            "it has 'image', 'sample_id', 'target', 'true_size'",
        ),
        ({"input_key": ["image", "mask"]}, r"input_key=\['image', 'mask'\] asks for key 'mask', which the batch lacks"),
        ({"input_key": {"net": "image"}}, "asks for key '', which the mapping input_key lacks; it has 'net'"),
        (
            {"losses": [LossTerm("probabilities")]},
            r"LossTerm\('probabilities', 'target'\) asks for key 'probabilities', which the batch lacks; "
            "it has 'image', 'logits', 'sample_id', 'size', 'target', 'true_size'",
        ),
        ({"losses": [LossTerm(target="label")]}, r"LossTerm\('logits', 'label'\) asks for key 'label'"),
    ],
)
def test_a_missing_key_is_named_with_those_that_there_are(make_net, make_loader, train, options, message):
    with pytest.raises(UsageError, match=message):
        train(make_net(), {"train": make_loader()}, runner=DictRunner(**options))


def test_a_missing_criterion_is_named(make_net, make_loader):
    model = make_net()
    optimizer = SGD(model.parameters(), lr=0.1)
    with pytest.raises(UsageError, match=r"needs a criterion, got None: pass criterion=\.\.\. to train\(\)"):
        DictRunner().train(engine=Engine("cpu"), model=model, optimizer=optimizer, loaders={"train": make_loader()})


@pytest.mark.parametrize(
    ("count", "drop_last", "message"),
    [
        (0, False, "loader 'valid' is empty: its data set has 0 items, batch_size is 4 and drop_last is False"),
        (3, True, "loader 'valid' is empty: its data set has 3 items, batch_size is 4 and drop_last is True"),
    ],
)
def test_an_empty_loader_is_refused_with_the_reason(
    make_net, make_items, make_loader, train, count, drop_last, message
):
    empty = DataLoader(make_items(4)[:count], batch_size=4, drop_last=drop_last)
    with pytest.raises(UsageError, match=message):
        train(make_net(), {"train": DataLoader(make_items(4)), "valid": empty})


def test_a_loader_of_an_unknown_kind_is_refused(make_net, make_loader, train):
    with pytest.raises(UsageError, match="must begin with one of 'infer', 'train', 'valid', got 'test'"):
        train(make_net(), {"train": make_loader(), "test": make_loader()})


def test_a_loader_that_is_no_dataloader_is_refused(make_net, make_items, train):
    with pytest.raises(UsageError, match="loader 'train' must be a torch DataLoader, got a list"):
        train(make_net(), {"train": make_items()})


def test_a_plateau_metric_that_does_not_exist_is_refused_with_the_loaders(make_net, make_loader, train):
    model = make_net()
    optimizer = SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    with pytest.raises(UsageError, match="monitor 'valid/loss' names a loader that there is not; there is 'train'"):
        train(model, {"train": make_loader()}, optimizer=optimizer, scheduler=scheduler)


# -- a run that fails -------------------------------------------------------------------------------------------------


class Failing(nn.Module):
    """Raises ``error`` at the third batch."""

    def __init__(self, net, error):
        super().__init__()
        self.net, self.error, self.calls = net, error, 0

    def forward(self, image):
        self.calls += 1
        if self.calls == 3:
            raise self.error
        return self.net(image)


@pytest.mark.parametrize("error", [RuntimeError("the model broke"), KeyboardInterrupt()], ids=["error", "ctrl-c"])
def test_an_exception_leaves_as_itself_after_callbacks_and_loggers_are_closed(make_net, make_loader, train, error):
    seen, logger = [], Closing()
    watch = Watch(on_exception=lambda runner: seen.append(runner.exception))
    with pytest.raises(type(error)) as caught:
        train(Failing(make_net(), error), {"train": make_loader()}, loggers={"mine": logger}, callbacks=[watch])
    assert caught.value is error
    assert seen == [error]
    assert logger.closed == 1
    assert not hasattr(error, "__notes__")


def test_what_fails_in_on_exception_is_only_a_note_and_stops_nothing(make_net, make_loader, train):
    def fail(runner):
        raise ValueError("no space left")

    error, seen, logger = RuntimeError("the model broke"), [], Closing()
    callbacks = [Watch(on_exception=fail), Watch(on_exception=lambda runner: seen.append(runner.exception))]
    with pytest.raises(RuntimeError) as caught:
        train(Failing(make_net(), error), {"train": make_loader()}, loggers={"mine": logger}, callbacks=callbacks)
    assert caught.value is error
    assert error.__notes__ == ["While closing, ValueError('no space left') was raised too."]
    assert seen == [error]
    assert logger.closed == 1


def test_a_callback_that_raises_the_runs_own_error_again_adds_no_note(make_net, make_loader, train):
    def raise_again(runner):
        raise runner.exception

    error = RuntimeError("the model broke")
    with pytest.raises(RuntimeError) as caught:
        train(
            Failing(make_net(), error),
            {"train": make_loader()},
            callbacks=[Watch(on_exception=raise_again)],
        )
    assert caught.value is error
    assert not hasattr(error, "__notes__")


def test_a_failed_run_keeps_the_events_and_metrics_of_the_epochs_before(make_net, make_loader, train, tmp_path):
    def fail_in_epoch_3(runner):
        if runner.epoch_step == 3:
            raise RuntimeError("stop here")

    with pytest.raises(RuntimeError, match="stop here"):
        train(
            make_net(),
            {"train": make_loader()},
            epochs=4,
            logdir=str(tmp_path),
            callbacks=[Watch(on_batch_end=fail_in_epoch_3)],
        )
    assert sorted(epoch for epoch, _, _ in read_metrics(tmp_path / "metrics.csv")) == [1, 2]
    assert (tmp_path / "checkpoints" / "last.pt").is_file()


# -- state ------------------------------------------------------------------------------------------------------------


def test_a_checkpoint_of_another_model_is_refused(make_net, make_loader, train, tmp_path):
    train(make_net(), {"train": make_loader(4)}, logdir=str(tmp_path))
    with pytest.raises(UsageError, match=r"the checkpoint does not fit this model: .*Missing key.*linear\.weight"):
        train(Encoder(), {"train": make_loader(4)}, resume=str(tmp_path))


def test_a_checkpoint_of_models_of_other_names_is_refused(make_net, make_loader, train, tmp_path):
    train(make_net(), {"train": make_loader(4)}, logdir=str(tmp_path))
    models = {"net": make_net()}
    optimizer = SGD(models["net"].parameters(), lr=0.1)
    with pytest.raises(UsageError, match="the checkpoint does not fit: as model it holds one, the run has 'net'"):
        train(models, {"train": make_loader(4)}, optimizer=optimizer, resume=str(tmp_path))


def test_a_run_with_a_scheduler_does_not_take_the_checkpoint_of_one_without(make_net, make_loader, train, tmp_path):
    train(make_net(), {"train": make_loader(4)}, logdir=str(tmp_path))
    model = make_net()
    optimizer = SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    with pytest.raises(UsageError, match="the checkpoint does not fit: as scheduler it holds nothing, the run has one"):
        train(model, {"train": make_loader(4)}, optimizer=optimizer, scheduler=scheduler, resume=str(tmp_path))


def test_a_monitor_that_does_not_exist_ends_the_run_before_anything_is_saved(make_net, make_loader, train, tmp_path):
    checkpoints = Checkpoints(tmp_path, [Monitor("train", "accuracy", False)])
    with pytest.raises(UsageError, match="monitor 'train/accuracy': loader 'train' has no such metric; it has 'loss'"):
        train(make_net(), {"train": make_loader(4)}, epochs=3, callbacks=[checkpoints])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["check", "overfit", "timeit", "profile"])
def test_an_option_of_catalyst_that_is_not_supported_is_refused(make_net, make_loader, train, option):
    with pytest.raises(UsageError, match=f"{option}=True is not supported by DictRunner"):
        train(make_net(), {"train": make_loader(4)}, **{option: True})


def test_a_logdir_that_holds_a_run_is_refused_and_left_as_it_is(make_net, make_loader, train, tmp_path):
    train(make_net(), {"train": make_loader(4)}, logdir=str(tmp_path))
    before = (tmp_path / "metrics.csv").read_bytes()
    with pytest.raises(UsageError, match="holds a run already: choose another, or pass resume="):
        train(make_net(), {"train": make_loader(4)}, logdir=str(tmp_path))
    assert (tmp_path / "metrics.csv").read_bytes() == before


def test_a_logdir_that_holds_another_run_than_the_one_resumed_is_refused(make_net, make_loader, train, tmp_path):
    loaders = {"train": make_loader(4)}
    for name in ("a", "b"):
        train(make_net(), loaders, logdir=str(tmp_path / name))
    before = (tmp_path / "a" / "metrics.csv").read_bytes()
    with pytest.raises(UsageError, match="a' holds a run already: choose another, or pass resume="):
        train(make_net(), loaders, logdir=str(tmp_path / "a"), resume=str(tmp_path / "b"), epochs=3)
    assert (tmp_path / "a" / "metrics.csv").read_bytes() == before
    for logdir, resume in (("a", "a/checkpoints/last.pt"), ("c", "b"), ("b", "b")):
        train(make_net(), loaders, logdir=str(tmp_path / logdir), resume=str(tmp_path / resume), epochs=3)
        assert load_checkpoint(tmp_path / logdir)["epoch"] == 3


@pytest.mark.parametrize("persistent", [False, True])
def test_no_worker_outlives_a_run_that_ends_or_fails(make_net, make_loader, train, persistent):
    loaders = {
        key: make_loader(8, num_workers=1, persistent_workers=persistent, multiprocessing_context="fork")
        for key in ("train", "valid")
    }
    others = set(active_children())
    runner = train(make_net(), loaders, epochs=2)
    assert set(active_children()) <= others
    assert runner.epoch_step == 2
    with pytest.raises(RuntimeError, match="in the middle") as error:
        fails = Break(epoch=2, error=RuntimeError("in the middle"))
        train(make_net(), loaders, epochs=2, runner=runner, callbacks=[fails])
    assert set(active_children()) <= others  # though the error holds the loop that was left
    assert error.tb is not None
    train(make_net(), loaders, epochs=2, runner=runner)
    assert set(active_children()) <= others


def test_load_best_on_end_without_a_logdir_or_a_metric_is_refused(make_net, make_loader, train, tmp_path):
    with pytest.raises(UsageError, match="load_best_on_end=True needs a logdir"):
        train(make_net(), {"train": make_loader(4)}, load_best_on_end=True)
    with pytest.raises(UsageError, match="load_best_on_end=True needs valid_loader and valid_metric"):
        train(make_net(), {"train": make_loader(4)}, load_best_on_end=True, logdir=str(tmp_path))


def test_evaluate_loader_needs_no_criterion_and_gives_the_metrics_of_callbacks(make_net, make_loader, train):
    runner = train(make_net(), {"train": make_loader(8)})
    metrics = runner.evaluate_loader(loader=make_loader(8), callbacks=[Metrics("accuracy", num_classes=3)])
    assert set(metrics) == {"accuracy"}
    assert 0.0 <= metrics["accuracy"] <= 1.0


# -- leaving a loader -------------------------------------------------------------------------------------------------


class LeaveLoader(dl.Callback):
    def __init__(self, behind):
        super().__init__(order=0)
        self.behind = behind

    def on_batch_end(self, runner):
        runner.need_early_stop = runner.loader_batch_step == self.behind


def test_a_loader_that_is_left_in_the_middle_of_a_group_leaves_no_gradient(make_net, make_loader, train):
    net = make_net()
    train(net, {"train": make_loader(12)}, epochs=1, runner=DictRunner(accumulate_steps=2), callbacks=[LeaveLoader(1)])
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_compiled_model_may_be_given_to_train(make_net, make_loader):
    net = make_net()
    before = net.logits.weight.clone()
    DictRunner().train(
        engine=Engine("cpu"),
        model=torch.compile(net, backend="eager"),
        criterion=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD(net.parameters(), lr=0.1),
        loaders={"train": make_loader(4)},
        num_epochs=1,
    )
    assert not torch.equal(net.logits.weight, before)
