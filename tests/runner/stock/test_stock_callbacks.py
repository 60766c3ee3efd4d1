"""Catalyst's own callbacks in a DictRunner: each gives what a plain loop gives, or is refused before the first step."""

import json
import logging

import numpy as np
import pytest
import torch
from catalyst import dl
from catalyst.callbacks.profiler import ProfilerCallback
from catalyst.callbacks.soft_update import SoftUpdateCallaback
from kit import Keep, fit
from sklearn.metrics import roc_auc_score
from stock_toys import toy_items, toy_net
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader

from assay.callbacks import ConfusionMatrix, HParams
from assay.callbacks.support.unwrap import inside, listening
from assay.runner import DictRunner, LossTerm, UsageError
from assay.runner.recipe.early_stopping import EarlyStopping
from assay.runner.recipe.monitor import Monitor
from assay.runner.recipe.schedulers import WarmUp

KEYS = {"input_key": "logits", "target_key": "target"}


def clip_to(norm):
    return {"grad_clip_fn": nn.utils.clip_grad_norm_, "grad_clip_params": {"max_norm": norm}}


def step_lr(optimizer, size=2):
    return lr_scheduler.StepLR(optimizer, size, gamma=0.1)


def rates_of(train, make_net, make_loader, callbacks, scheduler=step_lr, *, epochs=4, **options):
    """Train; return the learning rate after each epoch."""
    model = make_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rates = Keep(lambda runner: optimizer.param_groups[0]["lr"], hook="on_epoch_end", order=1000)
    train(
        model,
        {"train": make_loader(), "valid": make_loader(seed=1)},
        epochs=epochs,
        optimizer=optimizer,
        scheduler=scheduler(optimizer),
        callbacks=[*callbacks, rates],
        **options,
    )
    return pytest.approx(rates.kept, rel=1e-9)


# -- schedulers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda it: it, lambda it: dl.ControlFlowCallbackWrapper(it, loaders="train")])
@pytest.mark.parametrize("runner", [None, {"scheduler_step": "epoch"}])
def test_a_scheduler_steps_once_an_epoch(wrap, runner, train, make_net, make_loader):
    runner = runner and DictRunner(**runner)
    rates = rates_of(train, make_net, make_loader, [wrap(dl.SchedulerCallback())], runner=runner)
    assert rates == [0.1, 0.01, 0.01, 0.001]


@pytest.mark.parametrize("scheduler_step", ["epoch", "batch"])
def test_a_scheduler_steps_once_a_batch(scheduler_step, train, make_net, make_loader):
    runner = DictRunner(scheduler_step=scheduler_step)  # 21 samples are 6 batches
    callback = dl.SchedulerCallback(mode="batch")
    scheduler = lambda optimizer: step_lr(optimizer, 4)  # noqa: E731
    rates = rates_of(train, make_net, make_loader, [callback], scheduler, epochs=3, runner=runner)
    assert rates == [1e-2, 1e-4, 1e-5]


def test_a_plateau_is_stepped_by_the_callbacks_metric(train, make_net, make_loader):
    callback = dl.SchedulerCallback(loader_key="train", metric_key="worse")
    scheduler = lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)  # noqa: E731

    class Worse(dl.Callback):
        def on_loader_end(self, runner):
            runner.loader_metrics["worse"] = runner.epoch_step

    rates = rates_of(train, make_net, make_loader, [Worse(order=0), callback], scheduler, epochs=3)
    assert rates == [0.1, 0.01, 0.001]


def test_the_runner_steps_no_scheduler_beside_a_rate_finder(train, make_net, make_loader):
    rates = Keep(lambda runner: runner.optimizer.param_groups[0]["lr"], hook="on_batch_start", order=0)
    model = make_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    with pytest.raises(KeyboardInterrupt, match="End of LRFinder"):
        train(
            model, {"train": make_loader()}, epochs=9, optimizer=optimizer, scheduler=step_lr(optimizer, 1),
            callbacks=[dl.LRFinder(1.0, num_steps=5), rates],
        )  # fmt: skip
    assert rates.kept == pytest.approx([0.001 * 1000 ** (step / 5) for step in range(5)])


@pytest.mark.parametrize(
    ("callbacks", "runner", "scheduler", "said"),
    [
        ([dl.SchedulerCallback("encoder")], {}, step_lr, "scheduler_key must name a scheduler of the run, got 'enco"),
        ([dl.SchedulerCallback(), dl.SchedulerCallback()], {}, step_lr, "two SchedulerCallbacks step the scheduler"),
        ([dl.SchedulerCallback()], {"scheduler_step": "batch"}, step_lr, "steps by epoch: leave one of them out"),
        ([dl.SchedulerCallback()], {}, lambda _: None, "no scheduler to step"),
        ([dl.SchedulerCallback()], {}, lr_scheduler.ReduceLROnPlateau, "needs loader_key and metric_key for ReduceLR"),
        ([dl.SchedulerCallback()], {}, lambda o: WarmUp(lr_scheduler.ReduceLROnPlateau(o), 2), "within WarmUp"),
        (
            [dl.SchedulerCallback(loader_key="vald", metric_key="loss")],
            {},
            lr_scheduler.ReduceLROnPlateau,
            "unknown loader 'vald' of SchedulerCallback; did you mean 'valid'?",
        ),
    ],
)
def test_a_scheduler_that_would_not_step_as_asked_is_refused(
    callbacks, runner, scheduler, said, train, make_net, make_loader
):
    with pytest.raises(UsageError, match=said.replace("(", r"\(").replace("?", r"\?")):
        rates_of(train, make_net, make_loader, callbacks, scheduler, runner=DictRunner(**runner))


# -- backward, clipping and the optimizer's step --------------------------------------------------------------------


def stock_steps(clips="backward", steps=1, log=False):
    on_backward = clip_to(0.05) if clips == "backward" else {}
    on_optimizer = clip_to(0.05) if clips == "optimizer" else {}
    return [
        dl.CriterionCallback(metric_key="loss", **KEYS),
        dl.BackwardCallback("loss", log_gradient=log, **on_backward),
        dl.OptimizerCallback("loss", accumulation_steps=steps, **on_optimizer),
        dl.SchedulerCallback(),
    ]


@pytest.mark.parametrize("clips", [None, "backward", "optimizer"])
def test_a_stock_set_of_callbacks_trains_as_a_plain_loop(
    clips, train, make_net, make_loader, plain_loop, assert_same_weights
):
    model, expected, loader = make_net(), make_net(), make_loader()
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9) for net in (model, expected)]
    runner = train(
        model, {"train": loader}, epochs=3, optimizer=optimizers[0], scheduler=step_lr(optimizers[0], 1),
        callbacks=stock_steps(clips),
    )  # fmt: skip
    scheduler = step_lr(optimizers[1], 1)
    for _ in range(3):
        clip = lambda net: nn.utils.clip_grad_norm_(net.parameters(), 0.05)  # noqa: E731
        plain_loop(expected, loader, optimizers[1], before_step=clip if clips else None)
        scheduler.step()
    assert_same_weights(model.state_dict(), expected.state_dict(), atol=1e-12)
    assert runner.epoch_metrics["train"]["lr"] == pytest.approx(0.001)  # logged before the third step, as Catalyst does
    assert runner.epoch_metrics["train"]["momentum"] == 0.9


def test_clipping_is_of_a_whole_accumulated_step_and_logs_its_norm_before(train, make_net, make_loader):
    norms, model, expected = [], make_net(), make_net()

    class Look(dl.Callback):
        def on_batch_end(self, runner):
            if "gradient/loss/norm" in runner.batch_metrics:
                norms.append(runner.batch_metrics["gradient/loss/norm"].item())

    loader = make_loader(20, 5)
    callbacks = [*stock_steps(steps=2, log=True)[:3], Look(order=1000)]
    train(model, {"train": loader}, runner=DictRunner(accumulate_steps=2), callbacks=callbacks)
    optimizer, before = torch.optim.SGD(expected.parameters(), lr=0.1), []
    for whole in make_loader(20, 10):
        nn.functional.cross_entropy(expected(whole["image"])["logits"], whole["target"]).backward()
        before.append(nn.utils.clip_grad_norm_(expected.parameters(), 0.05).item())
        optimizer.step()
        optimizer.zero_grad()
    assert norms == pytest.approx(before)
    torch.testing.assert_close(model.state_dict(), expected.state_dict())


def test_an_optimizer_without_momentum_logs_its_rate(train, make_net, make_loader):
    model = make_net()
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.01)
    runner = train(model, {"train": make_loader()}, optimizer=optimizer, callbacks=[dl.OptimizerCallback("loss")])
    assert runner.epoch_metrics["train"]["lr"] == 0.01


class OwnStep(dl.OptimizerCallback):
    def on_batch_end(self, runner):
        self.optimizer.step()


@pytest.mark.parametrize(
    ("callback", "said"),
    [
        (dl.OptimizerCallback("loss", accumulation_steps=2), "pass it accumulate_steps=2"),
        (dl.OptimizerCallback("loss_kl"), r"metric_key of OptimizerCallback must be 'loss' .*losses=\[LossTerm"),
        (dl.BackwardCallback("loss_kl"), "metric_key of BackwardCallback must be 'loss'"),
        (dl.OptimizerCallback("loss", optimizer_key="head"), "optimizer_key must name an optimizer of the run, got 'h"),
        (OwnStep("loss"), "OwnStep cannot take its own steps with DictRunner"),
        (dl.ControlFlowCallbackWrapper(dl.BackwardCallback("loss"), epochs=2), "BackwardCallback in a wrapper cannot"),
        (dl.CriterionCallback("size", "true_size", "loss"), "CriterionCallback computes 'loss', which DictRunner"),
        (dl.CriterionCallback(metric_key="loss", criterion_key="a", **KEYS), "CriterionCallback computes 'loss'"),
        (dl.MetricAggregationCallback("loss", ["loss"], mode="mean"), "MetricAggregationCallback computes 'loss'"),
        (dl.FunctionalMetricCallback(metric_fn=nn.CrossEntropyLoss(), metric_key="loss", **KEYS), "another metric_key"),
        (dl.BatchOverfitCallback(train=1), "BatchOverfitCallback is not supported with DictRunner"),
        (dl.PeriodicLoaderCallback("valid", "loss", True, vald=2), "unknown loader 'vald' of PeriodicLoaderCallback"),
        (dl.EarlyStoppingCallback(1, "vald", "loss", True), "unknown loader 'vald' of EarlyStoppingCallback"),
    ],
)
def test_what_the_runner_does_otherwise_is_refused_before_the_first_step(
    callback, said, train, make_net, make_loader, weights_of, assert_same_weights
):
    model = make_net()
    before = weights_of(model)
    with pytest.raises(UsageError, match=said):
        train(model, {"train": make_loader(), "valid": make_loader()}, callbacks=[callback])
    assert_same_weights(before, model.state_dict())


def test_optimizers_that_no_callback_steps_are_named(make_net, make_loader, train):
    nets = {"a": nn.ModuleDict({"net": make_net()}), "b": make_net()}
    nets["a"].forward = lambda image: {"hidden": image}
    optimizers = {name: torch.optim.SGD(net.parameters(), lr=0.1) for name, net in nets.items()}
    callback = dl.OptimizerCallback("loss", optimizer_key="b")
    with pytest.raises(UsageError, match="no OptimizerCallback steps 'a'"):
        train(
            nets, {"train": make_loader()}, callbacks=[callback], optimizer=optimizers,
            runner=DictRunner(input_key={"a": "image", "b": "image"}),
        )  # fmt: skip


# -- metrics --------------------------------------------------------------------------------------------------------


def mean_accuracy(batches, model):
    """Return the share of right classes, over samples."""
    right = [(model(b["image"])["logits"].argmax(1) == b["target"]).double() for b in batches]
    return torch.cat(right).mean().item()


def stock_metrics(count, batch_size):
    """Train a DictRunner for no step to speak of; return what Catalyst's metrics say of a loader."""
    model = toy_net()
    runner = DictRunner()
    callbacks = [
        dl.AccuracyCallback(num_classes=3, **KEYS),
        dl.CriterionCallback(metric_key="again", **KEYS),
        *([dl.AUCCallback(**KEYS)] if count > 2 else []),
    ]
    loaders = {key: DataLoader(toy_items(count), batch_size=batch_size) for key in ("train", "valid")}
    fit(runner, model, loaders, callbacks, lr=0.0)
    return runner.epoch_metrics["valid"]


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("count", [21, 2])
def test_stock_metrics_count_each_sample_once(ranks, count, processes):
    batches = list(DataLoader(toy_items(count), batch_size=4))
    model = toy_net()
    logits = torch.cat([model(batch["image"])["logits"] for batch in batches]).detach()
    targets = torch.cat([batch["target"] for batch in batches])
    for found in processes.run(ranks, stock_metrics, count, 4):
        assert found["accuracy01"] == pytest.approx(mean_accuracy(batches, model))
        assert found["again"] == pytest.approx(nn.functional.cross_entropy(logits, targets).item())
        assert found["loss"] == pytest.approx(found["again"])
        if count == 21:
            auc = np.mean([roc_auc_score(targets == one, logits[:, one]) for one in range(3)])
            assert found["auc/_macro"] == pytest.approx(auc)


def test_a_transform_of_one_key_takes_the_whole_batch(train, make_net, make_loader, plain_loop, assert_same_weights):
    model, expected, loader = make_net(), make_net(), make_loader()
    double = dl.BatchTransformCallback(lambda image: image * 2, "on_batch_start", "image")
    classes = dl.BatchTransformCallback(lambda logits: logits.argmax(1), "on_batch_end", "logits", "classes")
    seen = Keep(lambda runner: runner.batch["classes"].shape, order=1000)
    train(model, {"train": loader}, callbacks=[double, classes, seen])
    batches = [{**batch, "image": batch["image"] * 2} for batch in loader]
    plain_loop(expected, batches, torch.optim.SGD(expected.parameters(), lr=0.1))
    assert_same_weights(model.state_dict(), expected.state_dict(), atol=1e-12)
    assert seen.kept == [(4,)] * 5 + [(1,)]


# -- loaders, checkpoints and pictures ------------------------------------------------------------------------------


def test_a_periodic_loader_sits_epochs_out(train, make_net, make_loader, tmp_path):
    model = make_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    callbacks = {
        "periodic": dl.PeriodicLoaderCallback("valid", "loss", True, valid=2, valid_more=3),
        "stop": EarlyStopping(Monitor("valid", "loss", minimize=False), 2),  # the second look is worse, and the third
        "hparams": HParams(["valid/loss", "valid_more/loss"]),
        "matrix": ConfusionMatrix(num_classes=3),
    }
    loaders = {"train": make_loader(), "valid": make_loader(), "valid_more": make_loader()}
    runner = train(
        model, loaders, epochs=8, optimizer=optimizer, logdir=str(tmp_path), callbacks=callbacks, hparams={"lr": 1},
        scheduler=lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", patience=0),
        valid_loader="valid", valid_metric="loss", minimize_valid_metric=True, verbose=True,
    )  # fmt: skip
    looked = {epoch: [key for key in loaders if key in by_loader] for epoch, by_loader in runner.history.items()}
    both = ["train", "valid_more"]
    expected = {1: ["train"], 2: ["train", "valid"], 3: both, 4: ["train", "valid"], 5: ["train"], 6: [*loaders]}
    assert looked == expected
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.001)  # of three looks two were worse
    index = json.loads((tmp_path / "checkpoints" / "index.json").read_text())["checkpoints"]
    best = next(entry for entry in index if entry["file"] == "best.pt")
    assert best["epoch"] == min((2, 4, 6), key=lambda epoch: runner.history[epoch]["valid"]["loss"])


def test_a_monitor_of_no_loader_still_fails(train, make_net, make_loader):
    model = make_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(UsageError, match="names a loader that there is not; there is 'train'"):
        train(model, {"train": make_loader()}, optimizer=optimizer, scheduler=lr_scheduler.ReduceLROnPlateau(optimizer))


def test_a_loader_that_a_callback_puts_in_is_refused(train, make_net, make_loader):
    class Swap(dl.Callback):
        def on_epoch_start(self, runner):
            runner.loaders = {"train": make_loader()}

    with pytest.raises(UsageError, match="loader 'train' was replaced by a callback at the start of epoch 1"):
        train(make_net(), {"train": make_loader()}, callbacks=[Swap(order=0)])


@pytest.mark.parametrize("mode", ["model", "runner"])
def test_the_best_checkpoint_of_catalysts_callback_is_the_best(mode, train, make_net, make_loader, tmp_path):
    states = []

    class Look(dl.Callback):
        def on_loader_end(self, runner):
            runner.loader_metrics["score"] = [3, 1, 2][runner.epoch_step - 1]
            if runner.loader_key == "train":
                states.append({name: part.clone() for name, part in runner.model.state_dict().items()})

    model = make_net()
    saving = dl.CheckpointCallback(str(tmp_path), "valid", "score", True, mode=mode, load_best_on_end=True)
    train(model, {"train": make_loader(), "valid": make_loader()}, epochs=3, callbacks=[Look(order=0), saving])
    saved = torch.load(tmp_path / f"{mode}.best.pth", weights_only=False)
    torch.testing.assert_close(saved if mode == "model" else saved["model_state_dict"], states[1])
    torch.testing.assert_close(model.state_dict(), states[1])
    assert (tmp_path / f"{mode}.0002.pth").exists() and not (tmp_path / f"{mode}.0003.pth").exists()


@pytest.mark.parametrize(
    ("options", "runner", "said"),
    [
        ({"resume_model": "model.pth"}, {}, r"resume_runner and resume_model .* train\(resume=RUN\)"),
        ({"resume_runner": "runner.pth"}, {}, "resume_runner and resume_model of CheckpointCallback are not supported"),
        ({}, {"ema_decay": 0.9}, "CheckpointCallback would save the trained weights"),
    ],
)
def test_checkpoints_of_other_weights_are_refused(options, runner, said, train, make_net, make_loader, tmp_path):
    callback = dl.CheckpointCallback(str(tmp_path), "train", "loss", True, **options)
    with pytest.raises(UsageError, match=said):
        train(make_net(), {"train": make_loader()}, callbacks=[callback], runner=DictRunner(**runner))


def test_a_resumed_run_says_which_callbacks_begin_anew(train, make_net, make_loader, tmp_path, caplog):
    folder = str(tmp_path / "run")
    loaders = {"train": make_loader(), "valid": make_loader()}
    train(make_net(), loaders, logdir=folder)
    callbacks = [dl.EarlyStoppingCallback(3, "valid", "loss", True), dl.CheckpointCallback(str(tmp_path), "valid")]
    with caplog.at_level(logging.WARNING, "assay"):
        train(make_net(), loaders, epochs=2, logdir=folder, resume=folder, callbacks=callbacks)
    assert "CheckpointCallback and EarlyStoppingCallback have no state, and start anew in a resumed run" in caplog.text


def test_other_stock_callbacks_run_as_they_do_elsewhere(train, make_net, make_loader, tmp_path, capfd):
    class Once(dl.Callback):
        def on_epoch_end(self, runner):
            seen.append(runner.epoch_step)

    seen: list[int] = []
    callbacks = [
        dl.TqdmCallback(),
        dl.TimerCallback(),
        dl.EarlyStoppingCallback(2, "valid", "loss", minimize=False),
        dl.CheckRunCallback(num_batch_steps=100, num_epoch_steps=5),
        ProfilerCallback(loader_key="train", epoch=1),
        dl.MetricAggregationCallback("both", ["loss", "again"], mode="mean"),
        dl.CriterionCallback(metric_key="again", **KEYS),
        dl.ControlFlowCallbackWrapper(dl.AccuracyCallback(num_classes=3, **KEYS), ignore_loaders="train"),
        Once(order=1000),
    ]
    runner = train(
        make_net(), {"train": make_loader(), "valid": make_loader()}, epochs=9, callbacks=callbacks,
        logdir=str(tmp_path),
    )  # fmt: skip
    assert seen == [1, 2, 3]  # a loss that falls is no better, twice
    metrics = runner.epoch_metrics
    assert metrics["valid"]["again"] == pytest.approx(metrics["valid"]["loss"])
    assert "accuracy01" in metrics["valid"] and "accuracy01" not in metrics["train"]
    assert "Self CPU" in capfd.readouterr().out


def test_a_target_model_follows_its_source_softly(train, make_net, make_loader):
    class Teacher(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, image):
            return {f"teacher_{name}": value for name, value in self.net(image).items()}

    student = make_net()
    nets = {"student": nn.ModuleDict({"net": student}), "teacher": Teacher(make_net())}
    nets["student"].forward = student.forward
    optimizer = torch.optim.SGD(nets["student"].parameters(), lr=0.1)
    expected = [part.clone() for part in nets["teacher"].parameters()]

    class Follow(dl.Callback):
        def on_batch_end(self, runner):
            for mine, part in zip(expected, nets["student"].parameters(), strict=True):
                mine.data.mul_(0.9).add_(part.data, alpha=0.1)

    callbacks = [SoftUpdateCallaback("teacher", "student", 0.1, "on_batch_end"), Follow(order=1000)]
    keys = {"student": "image", "teacher": "image"}
    train(nets, {"train": make_loader()}, optimizer=optimizer, callbacks=callbacks, runner=DictRunner(input_key=keys))
    torch.testing.assert_close(list(nets["teacher"].parameters()), expected, check_stride=False)


def test_several_terms_are_watched_by_their_own_names(train, make_net, make_loader):
    terms = [LossTerm("logits", "target", "classes"), LossTerm("size", "true_size", "size", weight=0.5)]
    criteria = {"classes": nn.CrossEntropyLoss(), "size": nn.MSELoss()}
    callbacks = [dl.CriterionCallback("size", "true_size", "loss_size", criterion_key="size")]
    runner = train(
        make_net(), {"train": make_loader()}, criterion=criteria, callbacks=callbacks, runner=DictRunner(losses=terms)
    )
    metrics = runner.epoch_metrics["train"]
    assert metrics["loss"] == pytest.approx(metrics["loss_classes"] + 0.5 * metrics["loss_size"])


def test_wrappers_are_seen_through():
    callback = dl.TimerCallback()
    wrapped = dl.ControlFlowCallbackWrapper(dl.CallbackWrapper(callback), epochs=2)
    assert inside(wrapped) is callback and inside(callback) is callback
    assert listening([wrapped, callback]) == [callback, callback]
    assert listening([dl.CallbackWrapper(callback, enable_callback=False)]) == []


def rates_by_rank(count):
    """Train with a scheduler that steps by batch; return the learning rate and the weights at the end."""
    model = toy_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    fit(
        DictRunner(), model, {"train": toy_items(count)}, [dl.SchedulerCallback(mode="batch")], batch=4,
        optimizer=optimizer, scheduler=lr_scheduler.StepLR(optimizer, 1, gamma=0.5),
    )  # fmt: skip
    return optimizer.param_groups[0]["lr"], model.state_dict()


def test_ranks_step_a_scheduler_together_where_one_has_no_batch(processes, assert_same_weights):
    (first, weights), (second, others) = processes.run(2, rates_by_rank, 9)  # two rounds, and a last batch of one
    assert first == second == pytest.approx(0.1 * 0.5**2)
    assert_same_weights(weights, others)
