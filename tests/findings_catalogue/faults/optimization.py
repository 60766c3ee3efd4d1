"""Faults of optimizers and schedules, and of own training loops."""

import torch
from catalyst import dl
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .. import bases, stock
from ..case import adam, fault, sgd


@fault("a learning rate of 1 for Adam", 7, bases.cnn, "learning rate|lr", "high|large", quick=True)
def _(case):
    case.optimizer = lambda model: adam(model, lr=1.0)


@fault("a learning rate of 20 for SGD", 7, bases.plain, "learning rate|lr", "high|large", quick=True)
def _(case):
    case.optimizer = lambda model: sgd(model, lr=20)


@fault("a learning rate of 0.1 for a transformer", 7, bases.vit, "learning rate|lr", "high|large")
def _(case):
    case.optimizer = lambda model: adam(model, lr=0.1)


@fault("a learning rate of 1e-8", 7, bases.cnn, "learning rate|lr", "low|small", quick=True)
def _(case):
    case.optimizer = lambda model: adam(model, lr=1e-8)


@fault("a learning rate of 1e-7 for SGD", 7, bases.plain, "learning rate|lr", "low|small")
def _(case):
    case.optimizer = lambda model: sgd(model, lr=1e-7)


@fault("a learning rate of 0", 7, bases.mlp, "learning rate|lr", "0")
def _(case):
    case.optimizer = lambda model: adam(model, lr=0.0)


@fault("the head alone has a learning rate of 0", 7, bases.cnn, "head", "learning rate|lr", "0")
def _(case):
    case.optimizer = lambda model: torch.optim.Adam(
        [{"params": model.body.parameters()}, {"params": model.head.parameters(), "lr": 0.0}], 2e-3
    )


@fault(
    "the body has a learning rate a thousand times too high",
    7,
    bases.cnn,
    "learning rate|lr",
    "high|large",
    "body|group",
)
def _(case):
    case.optimizer = lambda model: torch.optim.Adam(
        [{"params": model.body.parameters(), "lr": 2.0}, {"params": model.head.parameters()}], 2e-3
    )


@fault(
    "the head has a learning rate a thousand times too high", 7, bases.plain, "learning rate|lr", "high|large", "head"
)
def _(case):
    case.optimizer = lambda model: torch.optim.Adam(
        [{"params": model.body.parameters()}, {"params": model.head.parameters(), "lr": 2.0}], 2e-3
    )


@fault(
    "the body has a learning rate a thousand times too low", 7, bases.cnn, "learning rate|lr", "low|small", "body|group"
)
def _(case):
    case.optimizer = lambda model: torch.optim.SGD(
        [{"params": model.body.parameters(), "lr": 5e-5}, {"params": model.head.parameters()}], 0.05, momentum=0.9
    )


@fault("the schedule is at zero throughout", 7, bases.cnn, "schedul|plan", "0|zero", quick=True)
def _(case):
    case.scheduler = lambda optimizer, steps: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step // 10_000)


@fault("the warm-up is longer than the run", 7, bases.mlp, "warm", "run|end|epochs|never", quick=True)
def _(case):
    case.scheduler = lambda optimizer, steps: torch.optim.lr_scheduler.LinearLR(optimizer, 1e-4, 1.0, 50 * steps)
    case.options = {"scheduler_step": "batch"}


@fault("a schedule for epochs steps with each batch", 7, bases.cnn, "schedul", "batch|step|epoch", quick=True)
def _(case):
    case.scheduler = lambda optimizer, steps: torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.1)
    case.options = {"scheduler_step": "batch"}


@fault(
    "a schedule that decays to nothing within the first epoch",
    7,
    bases.vit,
    "schedul|plan",
    "0|zero|nothing|first epoch|early|share",
)
def _(case):
    case.scheduler = lambda optimizer, steps: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.3)
    case.options = {"scheduler_step": "batch"}


@fault("a schedule for batches steps with each epoch", 7, bases.cnn, "schedul", "epoch", "warm|batch|never|step")
def _(case):
    case.scheduler = lambda optimizer, steps: torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.01, total_steps=30 * steps
    )
    case.options = {"scheduler_step": "epoch"}
    case.epochs = 3


@fault("a cosine for batches steps with each epoch", 7, bases.cnn, "cosine", "epoch", "batch|never|hardly")
def _(case):
    case.scheduler = lambda optimizer, steps: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3 * steps)
    case.epochs = 3


@fault("a cosine for epochs steps with each batch", 7, bases.mlp, "sequentiallr", "batch", "rises|times", quick=True)
def _(case):
    def schedule(optimizer, steps):
        warm = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, 1.0, 1)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)
        return torch.optim.lr_scheduler.SequentialLR(optimizer, [warm, cosine], [1])

    case.scheduler, case.options, case.epochs = schedule, {"scheduler_step": "batch"}, 5


class KeepsGradients(dl.Runner):
    """Forgets zero_grad."""

    def handle_batch(self, batch):
        logits = self.model(batch["image"])["logits"]
        loss = F.cross_entropy(logits, batch["target"])
        self.batch_metrics["loss"] = loss
        self.batch = {**batch, "logits": logits}
        if self.is_train_loader:
            self.engine.backward(loss)
            self.optimizer.step()


@fault(
    "gradients are not zeroed between steps", 7, bases.cnn, "zero_grad|zeroed|not zero|add up|still there", quick=True
)
def _(case):
    case.runner = lambda case: KeepsGradients()
    case.callbacks = list


class NeverSteps(KeepsGradients):
    """Forgets the optimizer's step."""

    def handle_batch(self, batch):
        logits = self.model(batch["image"])["logits"]
        loss = F.cross_entropy(logits, batch["target"])
        self.batch_metrics["loss"] = loss
        if self.is_train_loader:
            self.engine.backward(loss)
            self.optimizer.zero_grad()


@fault("the optimizer never steps", 7, bases.cnn, "step", "never|no ")
def _(case):
    case.runner = lambda case: NeverSteps()
    case.callbacks = list


@fault("gradients are zeroed between backward and step", 7, bases.mlp, "gradient", "zero_grad")
def _(case):
    class ZeroesLate(KeepsGradients):
        def handle_batch(self, batch):
            loss = F.cross_entropy(self.model(batch["image"])["logits"], batch["target"])
            self.batch_metrics["loss"] = loss
            if self.is_train_loader:
                self.engine.backward(loss)
                self.optimizer.zero_grad()
                self.optimizer.step()

    case.runner = lambda case: ZeroesLate()
    case.callbacks = list
    case.optimizer = sgd


class StepsScheduleTwice(KeepsGradients):
    """Steps its schedule twice in each batch."""

    def handle_batch(self, batch):
        super().handle_batch(batch)
        if self.is_train_loader:
            self.optimizer.zero_grad()
            self.scheduler.step()
            self.scheduler.step()


@fault("a runner steps its schedule twice in each batch", 7, bases.cnn, "cosine", "two in each|twice")
def _(case):
    case.scheduler = lambda optimizer, steps: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4 * steps)
    case.runner, case.callbacks, case.epochs = lambda case: StepsScheduleTwice(), list, 4


class NeverSchedules(StepsScheduleTwice):
    def handle_batch(self, batch):
        KeepsGradients.handle_batch(self, batch)
        self.optimizer.zero_grad()


@fault("a runner never steps its schedule", 7, bases.cnn, "onecycle", "no step|never")
def _(case):
    case.scheduler = lambda optimizer, steps: torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.01, total_steps=3 * steps
    )
    case.runner, case.callbacks, case.epochs = lambda case: NeverSchedules(), list, 3


class StepsHead(dl.Runner):
    """Has an optimizer for each part, and steps one of them."""

    def handle_batch(self, batch):
        self.batch_metrics["loss"] = loss = F.cross_entropy(self.model(batch["image"])["logits"], batch["target"])
        if self.is_train_loader:
            for optimizer in self.optimizer.values():
                optimizer.zero_grad()
            self.engine.backward(loss)
            self.optimizer["head"].step()


@fault("one of two optimizers never steps", 7, bases.cnn, "body", "no step|never")
def _(case):
    case.optimizer = lambda model: {"body": adam(model.body), "head": adam(model.head, 1e-2)}
    case.runner, case.callbacks = lambda case: StepsHead(), list


@fault("each step is clipped a thousandfold", 7, bases.cnn, "clip", "norm|times|%|every|all", quick=True)
def _(case):
    case.options = {"clip_grad_norm": 1e-4}
    case.optimizer = sgd


@fault("values of gradients are clipped to nothing", 7, bases.plain, "clip", "value|times|%|every|all")
def _(case):
    case.options = {"clip_grad_value": 1e-7}
    case.optimizer = sgd


@fault("weight decay eats the weights", 7, bases.cnn, "weight decay|weight_decay", quick=True)
def _(case):
    case.optimizer = lambda model: sgd(model, lr=0.1, weight_decay=1.0)


@fault("AdamW with a weight decay of 100", 7, bases.vit, "weight decay|weight_decay")
def _(case):
    case.optimizer = lambda model: torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=100.0)


@fault("the optimizer maximizes the loss", 7, bases.cnn, "maximize", "loss", quick=True)
def _(case):
    case.optimizer = lambda model: adam(model, maximize=True)


@fault("a momentum of 0.999", 7, bases.plain, "momentum", "0.999", quick=True)
def _(case):
    case.optimizer = lambda model: sgd(model, lr=0.05, momentum=0.999)


@fault("Adam with its betas exchanged", 7, bases.cnn, "beta|momentum", "0.999")
def _(case):
    case.optimizer = lambda model: adam(model, betas=(0.999, 0.9))


@fault("accumulation is longer than the epoch", 7, bases.mlp, "accumul", "epoch|batches", quick=True)
def _(case):
    case.options = {"accumulate_steps": 64}


@fault(
    "the best epoch is that of the lowest accuracy",
    7,
    bases.cnn,
    "accuracy",
    "min|lowest|smallest|direction|low",
    quick=True,
)
def _(case):
    case.fit = {"valid_loader": "valid", "valid_metric": "accuracy", "minimize_valid_metric": True}


@fault("the best epoch is that of the largest loss", 7, bases.mlp, "loss", "max|largest|highest|direction|large")
def _(case):
    case.fit = {"valid_loader": "valid", "valid_metric": "loss", "minimize_valid_metric": False}


class KeepsAverage(KeepsGradients):
    """Validates a moving average without a warm-up, as torch makes it."""

    def on_experiment_start(self, runner):
        super().on_experiment_start(runner)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(0.9999))

    def handle_batch(self, batch):
        model = self.model if self.is_train_loader else self.average
        self.batch_metrics["loss"] = loss = F.cross_entropy(model(batch["image"])["logits"], batch["target"])
        if self.is_train_loader:
            self.optimizer.zero_grad()
            self.engine.backward(loss)
            self.optimizer.step()
            self.average.update_parameters(self.model)


@fault("a moving average that has hardly moved is validated", 7, bases.cnn, "average|ema", "0.9999|steps|decay")
def _(case):
    case.runner, case.callbacks = lambda case: KeepsAverage(), list


class SwapsAverage(dl.Callback):
    """Puts a moving average in the place of the weights while validation lasts."""

    def __init__(self, decay):
        super().__init__(order=25)
        self.decay = decay

    def on_experiment_start(self, runner):
        self.average = {name: value.clone() for name, value in runner.model.state_dict().items()}

    def on_batch_end(self, runner):
        if runner.is_train_loader:
            for name, value in runner.model.state_dict().items():
                if value.is_floating_point():
                    self.average[name].lerp_(value, 1 - self.decay)

    def on_loader_start(self, runner):
        if not runner.is_train_loader:
            self.kept = {name: value.clone() for name, value in runner.model.state_dict().items()}
            runner.model.load_state_dict(self.average)

    def on_loader_end(self, runner):
        if not runner.is_train_loader:
            runner.model.load_state_dict(self.kept)


@fault("a callback validates an average that has hardly moved", 7, stock.supervised, "average|ema", "steps|decay")
def _(case):
    make = case.callbacks
    case.callbacks = lambda: [*make(), SwapsAverage(0.9999)]


@fault(
    "a stock runner with a learning rate that is too high",
    7,
    stock.supervised,
    "learning rate|lr",
    "high|large",
    quick=True,
)
def _(case):
    case.optimizer = lambda model: sgd(model, lr=50)


@fault(
    "a stock project keeps the best checkpoint by the lowest accuracy",
    7,
    stock.supervised,
    "accuracy",
    "min|lowest|smallest|direction|low",
)
def _(case):
    case.fit = {"valid_loader": "valid", "valid_metric": "accuracy01", "minimize_valid_metric": True}
