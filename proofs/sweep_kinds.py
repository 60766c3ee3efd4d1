"""Runners as their owners write them, and what stands in them: the parts of the sweep over all callbacks."""

import inspect
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from catalyst import dl
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from assay import callbacks
from assay.callbacks.errors import UsageError
from assay.runner import DictRunner, Engine

CLASSES = ["cat", "dog", "owl"]
SIDE, SAMPLES, BATCH = 8, 12, 4


class Net(nn.Module):
    """Images [N, 3, 8, 8] to logits [N, 3]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.head = nn.Linear(4, len(CLASSES))

    def forward(self, image: Tensor) -> Any:
        return self.head(self.body(image).flatten(1))


class NamedNet(Net):
    """The same, which names its output."""

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"logits": super().forward(image)}


class OwnRunner(dl.Runner):
    """A runner of its user's, of dict batches, that takes its own steps and averages its own loss."""

    def logits(self, image: Tensor) -> Tensor:
        logits: Tensor = self.model(image)
        return logits

    def handle_batch(self, batch: Any) -> None:
        image, target, *_ = batch.values() if isinstance(batch, Mapping) else batch
        logits = self.logits(image)
        losses = F.cross_entropy(logits, target, reduction="none")
        named = batch if isinstance(batch, Mapping) else {"image": image, "target": target}
        self.batch = {**named, "logits": logits, "losses": losses.detach()}
        self.batch_metrics["loss"] = losses.mean()
        self.losses_ = [*self.losses_, losses.detach()]
        if self.is_train_loader:
            self.step(losses.mean(), logits)

    def step(self, loss: Tensor, logits: Tensor) -> None:
        self.engine.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def on_loader_start(self, runner: Any) -> None:
        super().on_loader_start(runner)
        self.losses_: list[Tensor] = []

    def on_loader_end(self, runner: Any) -> None:
        self.loader_metrics["loss"] = torch.cat(self.losses_).mean().item()
        super().on_loader_end(runner)


class SeveralModels(OwnRunner):
    """A student that learns from the truth, and a critic of its logits, each with an optimizer of its own."""

    def logits(self, image: Tensor) -> Tensor:
        logits: Tensor = self.model["student"](image)
        return logits

    def step(self, loss: Tensor, logits: Tensor) -> None:
        self.engine.backward(loss)
        self.engine.backward(self.model["critic"](logits.detach()).square().mean())
        for optimizer in self.optimizer.values():
            optimizer.step()
            optimizer.zero_grad()


KINDS = ("supervised", "dict", "tuple", "several", "DictRunner")

STOCK: dict[str, Callable[[Path], dl.Callback]] = {
    "none": lambda folder: dl.CallbackWrapper(dl.TimerCallback(), enable_callback=False),
    "PeriodicLoaderCallback": lambda folder: dl.PeriodicLoaderCallback("valid", "loss", True, valid=2),
    "TimerCallback": lambda folder: dl.TimerCallback(),
    "TqdmCallback": lambda folder: dl.TqdmCallback(),
    "EarlyStoppingCallback": lambda folder: dl.EarlyStoppingCallback(9, "train", "loss", True),
    "CheckRunCallback": lambda folder: dl.CheckRunCallback(99, 99),
    "CheckpointCallback": lambda folder: dl.CheckpointCallback(str(folder / "stock"), "train", "loss", True),
    "AccuracyCallback": lambda folder: dl.AccuracyCallback("logits", "target", num_classes=3),
    "AUCCallback": lambda folder: dl.AUCCallback("logits", "target"),
    "ControlFlowCallbackWrapper": lambda folder: dl.ControlFlowCallbackWrapper(
        dl.PrecisionRecallF1SupportCallback("logits", "target", num_classes=3), ignore_loaders="train"
    ),
    "BatchTransformCallback": lambda folder: dl.BatchTransformCallback(
        lambda logits: logits.argmax(1), "on_batch_end", "logits", "classes"
    ),
}
"""Catalyst's callbacks that change no weight, each made for a run folder."""

LOGGERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "TensorboardLogger": lambda folder: {"events": dl.TensorboardLogger(str(folder / "events"))},
    "both": lambda folder: {
        "events": dl.TensorboardLogger(str(folder / "events")),
        "csv": dl.CSVLogger(str(folder / "csv")),
    },
}

REFUSED = {("tuple", "AugmentationPreview"): "have the data set return {'image'"}
"""What cannot work, by kind and name, and a part of the line that says so."""

OURS = sorted(
    name
    for name in callbacks.__all__
    if inspect.isclass(getattr(callbacks, name)) and issubclass(getattr(callbacks, name), dl.Callback)
    # Of a detector; changes the data set.
    if name not in ("BoxConfusion", "BoxCurves", "BoxMetrics", "PseudoLabels")
)


def make_ours(name: str, kind: str, folder: Path) -> dl.Callback:
    """Build an exported callback as a user of that kind of runner would."""
    made = getattr(callbacks, name)
    own = {"score": "losses"} if kind not in ("supervised", "DictRunner") else {}
    several = {"model": "student"} if kind == "several" else {}
    given = {"class_names": CLASSES, "folder": str(folder / "own"), **own, **several}
    given |= {"stop": False}  # what is trained on is validated on, which is worthless
    by_loss = {"HParams": {"metric": "train/loss"}, "Results": {"metric": "train/loss"}}
    given |= {**by_loss, "EmbeddingMap": {"method": "pca"}}.get(name, {})
    known = inspect.signature(made).parameters
    return made(**{key: value for key, value in given.items() if key in known})  # type: ignore[no-any-return]


def make_loaders(kind: str) -> dict[str, DataLoader[Any]]:
    """Return loaders of images, classes and ids, of dicts or of tuples."""
    noise = torch.Generator().manual_seed(0)
    items: list[Any] = [
        {"image": torch.randn(3, SIDE, SIDE, generator=noise), "target": number % 3, "sample_id": f"s{number}"}
        for number in range(SAMPLES)
    ]
    if kind == "tuple":
        items = [(item["image"], item["target"]) for item in items]
    return {key: DataLoader(items, batch_size=BATCH) for key in ("train", "valid")}


def train(kind: str, made: Mapping[str, dl.Callback], loggers: Mapping[str, Any], *, epochs: int = 2) -> dict[str, Any]:
    """Train a runner of a kind; return weights and losses, which no callback may change."""
    torch.manual_seed(0)
    model: Any = NamedNet() if kind == "DictRunner" else Net()
    student, runner = model, _make_runner(kind)
    if kind == "several":
        model = {"student": model, "critic": nn.Linear(3, 1)}
    parts = model if isinstance(model, dict) else {"": model}
    optimizers = {name: torch.optim.SGD(part.parameters(), lr=0.1, momentum=0.9) for name, part in parts.items()}
    given = {"criterion": nn.CrossEntropyLoss()} if kind in ("supervised", "DictRunner") else {}
    losses: list[Any] = []
    watch = _Losses(losses)
    runner.train(
        engine=Engine("cpu"), model=model, optimizer=optimizers if kind == "several" else optimizers[""],
        loaders=make_loaders(kind), callbacks={**made, "watch": watch}, loggers=dict(loggers), num_epochs=epochs,
        hparams={"lr": 0.1}, seed=1, **given,
    )  # fmt: skip
    return {"weights": {key: part.clone() for key, part in student.state_dict().items()}, "losses": losses}


class _Losses(dl.Callback):
    def __init__(self, losses: list[Any]):
        super().__init__(order=1000)
        self.losses = losses

    def on_epoch_end(self, runner: Any) -> None:
        self.losses.append(float(runner.epoch_metrics["train"]["loss"]))


def _make_runner(kind: str) -> Any:
    if kind == "supervised":
        return dl.SupervisedRunner(input_key="image", output_key="logits", target_key="target", loss_key="loss")
    kinds = {"dict": OwnRunner, "tuple": OwnRunner, "several": SeveralModels, "DictRunner": DictRunner}
    return kinds[kind]()


def same(found: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    """Whether two runs ended with the same weights, bit by bit, and had the same losses."""
    weights = zip(found["weights"].values(), expected["weights"].values(), strict=True)
    return found["losses"] == expected["losses"] and all(torch.equal(one, other) for one, other in weights)


def outcome(
    kind: str, names: list[str], stock: list[str], logger: str, expected: Mapping[str, Any], epochs: int = 2
) -> str:
    """Run callbacks of ours beside Catalyst's; return ``same``, ``other numbers``, or the line that refuses them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        try:
            made = {name: make_ours(name, kind, path) for name in names}
            beside = {f"stock-{name}": STOCK[name](path) for name in stock}
            found = train(kind, {**made, **beside}, LOGGERS[logger](path), epochs=epochs)
        except UsageError as error:
            return str(error)
    return "same" if same(found, expected) else "other numbers"
