"""Settings are read off whatever runs: our runner, Catalyst's own, and a user's with a ``handle_batch`` of its own."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from catalyst import dl
from catalyst.contrib.losses import FocalLossBinary
from kit import Named, fit, make_stock_runner
from pytorch_toolbelt import losses as toolbelt
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

from assay.callbacks import Metrics, NonFiniteGuard, classification_diagnostics
from assay.callbacks.findings.observe.settings.criteria import observe_criterion
from assay.callbacks.findings.observe.settings.settings import observe_settings
from assay.callbacks.findings.probe.settings_probe import CriterionProbe, GroupProbe, MonitorProbe
from assay.runner import DictRunner, LossTerm
from assay.runner.recipe.early_stopping import EarlyStopping
from assay.runner.recipe.fine_tuning.freezing import freeze
from assay.runner.recipe.fine_tuning.loaded import mark_loaded
from assay.runner.recipe.monitor import Monitor
from assay.runner.recipe.named_losses import make_loss
from assay.runner.recipe.schedulers import make_scheduler

BATCHES, EPOCHS = 5, 4


class Observer(dl.Callback):
    """Observes the settings at the start of the run, and notes the learning rate of every training step."""

    def __init__(self):
        super().__init__(order=1000)
        self.settings, self.rates = None, []

    def on_experiment_start(self, runner):
        self.settings = observe_settings(runner)
        optimizers = runner.optimizer if isinstance(runner.optimizer, dict) else {"": runner.optimizer}
        inner = getattr(first := next(iter(optimizers.values())), "optimizer", first)
        self.hook = inner.register_step_pre_hook(lambda it, *_: self.rates.append(float(it.param_groups[0]["lr"])))

    def on_experiment_end(self, runner):
        self.hook.remove()


def items(image="image", target="target"):
    return [{image: torch.full((4,), float(i % 3)), target: i % 3} for i in range(2 * BATCHES)]


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def run_ours(runner=None, *, model=None, callbacks=(), data=None, **options):
    """Train with our runner, and return what was observed."""
    observer, model = Observer(), model or Named(net())
    data = data or {"train": items(), "valid": items()}
    options.setdefault("epochs", EPOCHS)
    fit(runner or DictRunner(), model, data, [*callbacks, observer], batch=2, **options)
    return observer


def run_stock(*, model=None, callbacks=(), **options):
    observer = Observer()
    data = {key: items("features", "targets") for key in ("train", "valid")}
    options.setdefault("epochs", EPOCHS)
    fit(make_stock_runner(), model or net(), data, [*callbacks, observer], batch=2, **options)
    return observer


def test_our_runner_tells_all_of_its_settings():
    model = Named(net())
    optimizer = torch.optim.AdamW(
        [
            {"params": model.layer[0].parameters(), "lr": 0.01, "weight_decay": 0.5},
            {"params": model.layer[2].parameters()},
        ],
        lr=0.1, weight_decay=0.0, betas=(0.8, 0.99),
    )  # fmt: skip
    runner = DictRunner(
        losses=[
            LossTerm("logits", "target", criterion="class"),
            LossTerm("logits", "size", criterion="size", weight=0.5),
        ],
        accumulate_steps=2, clip_grad_norm=1.0, clip_grad_value=3.0, ema_decay=0.9,
    )  # fmt: skip
    data = [{**item, "size": torch.zeros(3)} for item in items()]
    metrics = Metrics(["accuracy"], num_classes=3)
    stopping = EarlyStopping(Monitor.parse("valid/accuracy:max"), 9)
    found = run_ours(
        runner, model=model, optimizer=optimizer, data={"train": data, "valid": data}, callbacks=[metrics, stopping],
        criterion={"class": nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 4.0])), "size": nn.MSELoss(reduction="sum")},
    ).settings  # fmt: skip
    assert (found.runner, found.of_experiment, found.epochs, found.batch_size) == ("DictRunner", False, EPOCHS, 2)
    assert (found.accumulate_steps, found.steps_per_epoch) == (2, 3)
    assert (found.clip_grad_norm, found.clip_grad_value, found.ema_decay) == (1.0, 3.0, 0.9)
    assert found.optimizer == "AdamW"
    assert found.groups == (
        GroupProbe(0.01, 0.5, 0.8, 0.99, ("layer.0.weight", "layer.0.bias")),
        GroupProbe(0.1, 0.0, 0.8, 0.99, ("layer.2.weight", "layer.2.bias")),
    )
    assert [(term.label, term.output, term.target, term.weight) for term in found.terms] == [
        ("loss_class", "logits", "target", 1.0),
        ("loss_size", "logits", "size", 0.5),
    ]
    assert found.terms[0].criterion == CriterionProbe(
        "CrossEntropyLoss", "cross_entropy", "mean", (1.0, 2.0, 4.0), ignore_index=-100
    )
    assert found.terms[1].criterion == CriterionProbe("MSELoss", "mse", "sum")
    assert found.monitors == (MonitorProbe("valid", "accuracy", minimize=False),)
    assert (found.input_keys, found.num_classes, found.task) == (("image",), 3, "multiclass")
    assert (found.precision, found.ranks, found.fields) == ("fp32", 1, {})


def test_a_stock_runner_tells_its_settings_by_its_callbacks():
    clip = partial(nn.utils.clip_grad_norm_, max_norm=2.0)
    accuracy = dl.PrecisionRecallF1SupportCallback(input_key="scores", target_key="targets", num_classes=3)
    found = run_stock(
        callbacks=[
            accuracy,
            dl.BackwardCallback("loss", log_gradient=False),
            dl.OptimizerCallback("loss", accumulation_steps=2, grad_clip_fn=clip),
            dl.EarlyStoppingCallback(patience=9, loader_key="valid", metric_key="loss", minimize=True),
        ],
        optimizer=torch.optim.SGD((model := net()).parameters(), lr=0.1, momentum=0.9),
        model=model, valid_loader="valid", valid_metric="accuracy01", minimize_valid_metric=False,
    ).settings  # fmt: skip
    assert (found.runner, found.batch_size, found.accumulate_steps) == ("SupervisedRunner", 2, 2)
    assert (found.steps_per_epoch, found.clip_grad_norm, found.clip_grad_value) == (3, 2.0, None)
    assert found.groups == (GroupProbe(0.1, 0.0, 0.9, None, ("0.weight", "0.bias", "2.weight", "2.bias")),)
    (term,) = found.terms
    assert (term.label, term.output, term.target, term.criterion.kind) == ("loss", "scores", "targets", "cross_entropy")
    assert found.monitors == (
        MonitorProbe("valid", "loss", minimize=True),
        MonitorProbe("valid", "accuracy01", minimize=False),
    )
    (measured,) = found.metrics
    assert (measured.output_key, measured.target_key, measured.num_classes) == ("scores", "targets", 3)
    assert found.input_keys == ("features",)


def test_a_sum_of_stock_criteria_has_its_weights():
    found = run_stock(
        criterion={"ce": nn.CrossEntropyLoss(), "margin": nn.MultiMarginLoss()},
        callbacks=[
            dl.CriterionCallback("scores", "targets", "loss_ce", criterion_key="ce"),
            dl.CriterionCallback("scores", "targets", "loss_margin", criterion_key="margin"),
            dl.MetricAggregationCallback("loss", {"loss_ce": 0.75, "loss_margin": 0.25}, mode="weighted_sum"),
            dl.BackwardCallback("loss"),
            dl.OptimizerCallback("loss"),
        ],
    ).settings  # fmt: skip
    assert [(term.label, term.weight, term.criterion.kind) for term in found.terms] == [
        ("loss_ce", 0.75, "cross_entropy"),
        ("loss_margin", 0.25, "margin"),
    ]


class OwnRunner(dl.Runner):
    """Trains a generator and a discriminator of tuple batches."""

    def handle_batch(self, batch):
        image, _ = batch
        for name in ("d", "g"):
            loss = self.model[name](image).pow(2).mean()
            if self.is_train_loader:
                self.engine.backward(loss)
                self.optimizer[name].step()
                self.optimizer[name].zero_grad()


@pytest.mark.filterwarnings("ignore:No ``I:UserWarning")
def test_an_own_runner_tells_what_can_be_seen():
    models = {"d": nn.Linear(4, 1), "g": nn.Linear(4, 4)}
    optimizers = {name: torch.optim.Adam(model.parameters(), lr=0.1) for name, model in models.items()}
    observer, data = Observer(), TensorDataset(torch.ones(6, 4), torch.zeros(6))
    fit(OwnRunner(), models, {"train": DataLoader(data, 2)}, [observer], optimizer=optimizers, criterion=None)
    found = observer.settings
    assert (found.terms, found.monitors, found.input_keys, found.metrics) == ((), (), (), ())
    assert found.optimizer == "Adam, Adam"
    assert [group.parameters for group in found.groups] == [("d.weight", "d.bias"), ("g.weight", "g.bias")]
    assert (found.batch_size, found.steps_per_epoch, found.task, found.lr_plan) == (2, 3, "", ())


CRITERIA = {
    "module": (nn.CrossEntropyLoss(label_smoothing=0.1, reduction="sum"), "cross_entropy", "sum"),
    "function": (F.cross_entropy, "cross_entropy", "mean"),
    "partial": (partial(F.cross_entropy, reduction="sum"), "cross_entropy", "sum"),
    "binary": (nn.BCEWithLogitsLoss(pos_weight=torch.tensor([3.0])), "bce_logits", "mean"),
    "probabilities": (nn.BCELoss(), "bce", "mean"),
    "own of assay": (make_loss("bce", "binary", weights=[1.0, 5.0]), "bce_logits", "mean"),
    "labels of assay": (make_loss("focal", "multilabel", weights=[1.0, 5.0]), "focal", "mean"),
    "regions of assay": (make_loss("dice", "binary", ignore_index=255), "dice", "mean"),
    "toolbelt focal": (toolbelt.BinaryFocalLoss(), "focal", "mean"),
    "toolbelt dice": (toolbelt.DiceLoss("binary"), "dice", "mean"),
    "toolbelt soft": (toolbelt.SoftBCEWithLogitsLoss(smooth_factor=0.2, ignore_index=None), "bce_logits", "mean"),
    "catalyst": (FocalLossBinary(), "focal", "mean"),
    "huber": (nn.HuberLoss(), "smooth_l1", "mean"),
}  # fmt: skip


@pytest.mark.parametrize("name", CRITERIA)
def test_kinds_of_criteria_are_known(name):
    criterion, kind, reduction = CRITERIA[name]
    found = observe_criterion(criterion)
    assert (found.kind, found.reduction) == (kind, reduction)


def test_options_of_criteria_are_known():
    found = {name: observe_criterion(criterion) for name, (criterion, *_) in CRITERIA.items()}
    assert (found["module"].label_smoothing, found["toolbelt soft"].label_smoothing) == (0.1, 0.2)
    assert found["binary"].pos_weight == (3.0,)
    assert (found["own of assay"].class_weights, found["own of assay"].pos_weight) == ((1.0, 5.0), None)
    assert (found["labels of assay"].class_weights, found["labels of assay"].pos_weight) == (None, (1.0, 5.0))
    assert found["function"].ignore_index == -100
    assert found["regions of assay"].ignore_index == 255
    assert found["toolbelt soft"].ignore_index is None


class FocalLoss(nn.Module):
    def forward(self, output, target):
        return output.mean()


class Reversed(nn.CrossEntropyLoss):
    def forward(self, output, target):
        return -super().forward(output, target)


class Renamed(nn.CrossEntropyLoss):
    pass


@pytest.mark.parametrize("criterion", [FocalLoss(), Reversed(), lambda output, target: output.mean()])
def test_a_criterion_of_the_user_has_no_kind(criterion):
    assert observe_criterion(criterion).kind == ""


def test_a_subclass_that_computes_the_same_has_the_kind_of_its_base():
    assert observe_criterion(Renamed()).kind == "cross_entropy"
    assert observe_criterion(Renamed()).name == "Renamed"


def scheduled(make, *, stock=False, runner=None, **options):
    """Return what was observed of a run with the scheduler that ``make`` returns for an optimizer."""
    model = net() if stock else Named(net())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    options |= {"model": model, "optimizer": optimizer, "scheduler": make(optimizer)}
    return run_stock(**options) if stock else run_ours(runner, **options)


SCHEDULES = {
    "cosine": ("batch", partial(make_scheduler, "cosine", epochs=EPOCHS, steps_per_epoch=BATCHES)),
    "warm-up": (
        "batch", partial(make_scheduler, "cosine", epochs=EPOCHS, steps_per_epoch=BATCHES, warmup_epochs=1.0),
    ),
    "warm-up by epoch": (
        "epoch",
        partial(make_scheduler, "multi-step", epochs=4, steps_per_epoch=BATCHES, warmup_epochs=1.4, milestones=[2, 3]),
    ),
    "one-cycle": ("batch", partial(make_scheduler, "one-cycle", epochs=EPOCHS, steps_per_epoch=BATCHES)),
    "cyclic": ("batch", partial(make_scheduler, "cyclic", epochs=4, steps_per_epoch=BATCHES, cycle_epochs=2.0)),
    "one-cycle of torch": ("batch", lambda it: lr_scheduler.OneCycleLR(it, max_lr=0.1, total_steps=21)),
    "step": ("epoch", lambda it: lr_scheduler.StepLR(it, 2, gamma=0.5)),
    "in turn": (
        "epoch",
        lambda it: lr_scheduler.SequentialLR(
            it, [lr_scheduler.LinearLR(it, 0.1, total_iters=2), lr_scheduler.ExponentialLR(it, 0.9)], [2]
        ),
    ),
    "restarts": ("batch", lambda it: lr_scheduler.CosineAnnealingWarmRestarts(it, 7)),
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_plan_is_what_the_run_then_does(name):
    moment, make = SCHEDULES[name]
    observer = scheduled(make, runner=DictRunner(scheduler_step=moment))
    assert observer.settings.scheduler_step == moment
    assert len(observer.rates) == EPOCHS * BATCHES
    assert [factor * 0.1 for factor in observer.settings.lr_plan] == pytest.approx(observer.rates)
    assert observer.settings.groups[0].lr == pytest.approx(0.1)


@pytest.mark.parametrize("moment", ["batch", "epoch"])
def test_the_plan_of_a_stock_scheduler_is_what_the_run_then_does(moment):
    observer = scheduled(
        lambda it: lr_scheduler.ExponentialLR(it, 0.9), stock=True, callbacks=[dl.SchedulerCallback(mode=moment)]
    )
    assert (observer.settings.scheduler, observer.settings.scheduler_step) == ("ExponentialLR", moment)
    assert [factor * 0.1 for factor in observer.settings.lr_plan] == pytest.approx(observer.rates)


def test_a_long_plan_has_few_points_and_both_ends():
    make = partial(make_scheduler, "cosine", epochs=30_000, steps_per_epoch=BATCHES, warmup_epochs=20.0)
    observer = Observer()
    model = Named(net())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    class Stop(dl.Callback):
        def on_epoch_end(self, runner):
            runner.need_early_stop = True

    fit(
        DictRunner(scheduler_step="batch"), model, {"train": items()}, [observer, Stop(order=1)], batch=2,
        optimizer=optimizer, scheduler=make(optimizer), epochs=30_000,
    )  # fmt: skip
    plan = observer.settings.lr_plan
    assert len(plan) == 400
    assert plan[0] == pytest.approx(1 / 101)
    assert plan[200] == pytest.approx(0.5, abs=0.01)
    assert plan[-1] < 1e-6


class Fails:
    """A schedule of the user's own that needs its run."""

    def __init__(self, optimizer):
        self.optimizer, self.calls = optimizer, 0

    def step(self):
        if not isinstance(self.optimizer.state, dict) or not self.optimizer.state:
            raise RuntimeError("no state")
        self.calls += 1

    def state_dict(self):
        return {}


@pytest.mark.parametrize("make", [lr_scheduler.ReduceLROnPlateau, Fails])
def test_what_cannot_be_planned_has_no_plan(make):
    observer = scheduled(make)
    assert observer.settings.lr_plan == ()
    assert observer.settings.scheduler == make.__name__


def test_the_plan_copies_no_weights_and_changes_nothing(monkeypatch):
    model, copied = Named(net()), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = make_scheduler("cosine", optimizer, epochs=EPOCHS, steps_per_epoch=BATCHES, warmup_epochs=1.0)
    before = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    state = scheduler.state_dict()
    original = nn.Parameter.__deepcopy__
    monkeypatch.setattr(nn.Parameter, "__deepcopy__", lambda one, memo: copied.append(one) or original(one, memo))

    class Look(dl.Callback):
        def on_experiment_start(self, runner):
            observe_settings(runner)
            after = [{key: value for key, value in it.items() if key != "params"} for it in optimizer.param_groups]
            assert (after, scheduler.state_dict()) == (before, state)
            runner.num_epochs_seen = True

    runner = DictRunner(scheduler_step="batch")
    fit(
        runner, model, {"train": items()}, [Look(order=1)], batch=2, optimizer=optimizer, scheduler=scheduler,
    )  # fmt: skip
    assert runner.num_epochs_seen
    assert copied == []


def test_marks_tell_what_was_frozen_and_loaded():
    model = Named(net())
    freeze({"": model}, r"layer\.0")
    mark_loaded(model.layer[0].parameters())
    model.layer[2].bias.requires_grad_(requires_grad=False)
    trained = [model.layer[2].weight]
    found = run_ours(model=model, optimizer=torch.optim.SGD(trained, lr=0.1)).settings
    assert found.frozen_on_purpose == found.loaded == {"layer.0.weight", "layer.0.bias"}
    assert found.groups[0].parameters == ("layer.2.weight",)


@pytest.mark.parametrize(
    ("kind", "task", "expected"),
    [("dice", "binary", "segmentation"), ("bce", "binary", "binary"), ("dice", "multilabel", "multilabel"),
     ("cross_entropy", None, "multiclass")],
)  # fmt: skip
def test_criteria_and_callbacks_tell_the_task(kind, task, expected):
    classes = {"binary": 1, "multilabel": 2, None: 2}[task]
    shape = (4, 4) if task is None else (classes, 4, 4)
    masks = [{"image": torch.randn(3, 4, 4), "target": torch.zeros(shape, dtype=torch.int64)}] * 4
    metrics = [] if task is None else [Metrics(["iou"], task=task, num_classes=2)]
    found = run_ours(
        model=Named(nn.Conv2d(3, classes, 1)), data={"train": masks}, callbacks=metrics, epochs=1,
        criterion=make_loss(kind, task or "multiclass"),
    ).settings  # fmt: skip
    assert found.task == expected


def test_callbacks_tell_what_they_were_told_of_the_data(tmp_path):
    images = [{**item, "image": torch.zeros(3, 8, 8), "sample_id": str(i)} for i, item in enumerate(items())]
    diagnostics = classification_diagnostics(
        "light", class_names=["cat", "dog", "owl"], mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1)
    )
    found = run_ours(
        model=Named(nn.Sequential(nn.Flatten(), nn.Linear(192, 3))), data={"train": images, "valid": images}, epochs=1,
        callbacks=[*diagnostics, NonFiniteGuard()], logdir=str(tmp_path / "run"),
    ).settings  # fmt: skip
    assert found.class_names == ("cat", "dog", "owl")
    assert (found.num_classes, found.task) == (3, "multiclass")
    told = [one for one in found.metrics if one.mean is not None]
    assert told
    assert {(one.mean, one.std, one.image_key) for one in told} == {((0.5, 0.4, 0.3), (0.2, 0.2, 0.1), "image")}
    guard = next(one for one in found.metrics if one.callback == "NonFiniteGuard")
    assert (guard.mean, guard.std, guard.output_key) == (None, None, "logits")


def test_a_schedule_is_planned_in_the_other_unit_too_with_its_length():
    settings = scheduled(lambda it: lr_scheduler.CosineAnnealingLR(it, EPOCHS * BATCHES)).settings
    assert (settings.scheduler_step, settings.scheduler_length) == ("epoch", EPOCHS * BATCHES)
    assert settings.lr_plan == settings.lr_plans["epoch"]
    assert settings.lr_plan[-1] > 0.8 > 0.1 > settings.lr_plans["batch"][-1]
