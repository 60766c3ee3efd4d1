"""What a training of the catalogue is made of, how a fault is planted into it, and how it is run."""

import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from catalyst import dl
from torch import nn
from torch.utils.data import DataLoader, Dataset

from assay.callbacks import Findings, Metrics
from assay.runner import DictRunner, Engine, LossTerm

MEAN = np.array([0.45, 0.36, 0.27], np.float32)
STD = np.array([0.22, 0.20, 0.18], np.float32)


def normalize(item, mean=MEAN, std=STD):
    """Bring the image of an item to [C, H, W] float32, normalized."""
    image = (item["image"].astype(np.float32) / 255 - mean) / std
    return {**item, "image": torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1).contiguous()}


def flip(item):
    """Mirror the image of an item at random, with its mask."""
    if torch.rand(()) < 0.5:
        item = {**item, "image": item["image"][:, ::-1]}
        if "mask" in item:
            item["mask"] = item["mask"][:, ::-1].copy()
    return item


class Pictures(Dataset):
    """Items with a chain of transforms."""

    def __init__(self, items, transforms):
        self.items, self.transforms = items, transforms

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        item = dict(self.items[index])
        for transform in self.transforms:
            item = transform(item)
        return item


def sgd(model, lr=0.05, momentum=0.9, weight_decay=0.0):
    return torch.optim.SGD(model.parameters(), lr, momentum=momentum, weight_decay=weight_decay)


def adam(model, lr=2e-3, **options):
    return torch.optim.Adam(model.parameters(), lr, **options)


@dataclass
class Case:
    """A training: what a fault changes one thing of."""

    train: Sequence[dict]
    valid: Sequence[dict]
    model: Callable[[], Any]
    criterion: Any = field(default_factory=nn.CrossEntropyLoss)
    augment: list[Callable] = field(default_factory=list)
    prepare: list[Callable] = field(default_factory=lambda: [normalize])
    prepare_valid: list[Callable] | None = None
    """None: as for training."""
    dataset: Callable[[Sequence[dict], list[Callable]], Any] = Pictures
    valid_dataset: Callable[[Sequence[dict], list[Callable]], Any] = Pictures
    batch_size: int = 16
    loader_options: dict = field(default_factory=dict)
    collate: Callable | None = None
    optimizer: Callable[[Any], Any] = adam
    scheduler: Callable[[Any, int], Any] | None = None
    losses: Sequence[LossTerm] = (LossTerm(),)
    callbacks: Callable[[], list] = list
    options: dict = field(default_factory=dict)
    """Of the runner."""
    fit: dict = field(default_factory=dict)
    """Of ``runner.train``."""
    epochs: int = 2
    runner: Callable[["Case"], Any] | None = None
    """None: a ``DictRunner``."""
    start: Callable[["Case", Findings], None] | None = None
    """Runs it in a way of its own."""

    def loaders(self):
        prepare_valid = self.prepare if self.prepare_valid is None else self.prepare_valid
        options = {"shuffle": True, **self.loader_options}
        if {"sampler", "batch_sampler"} & set(options):
            options.pop("shuffle")
        if "batch_sampler" not in options:
            options["batch_size"] = self.batch_size
        train = self.dataset(self.train, [*self.augment, *self.prepare])
        valid = self.valid_dataset(self.valid, prepare_valid)
        return {
            "train": DataLoader(train, collate_fn=self.collate, **options),
            "valid": DataLoader(valid, self.batch_size, collate_fn=self.collate),
        }


def run(case, check="quick"):
    """Train a case and return what was found, with the epochs, and the error that ended it, None where none did."""
    findings = Findings(check, stop=False)
    error = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of a fault, by torch and by the runner
        try:
            (case.start or _train)(case, findings)
        except Exception as caught:  # noqa: BLE001  a fault may well end a run by an error of its own
            error = caught
    return findings.found_, error


def _train(case, findings):
    torch.manual_seed(0)
    np.random.seed(0)
    loaders = case.loaders()
    model = case.model()
    optimizer = case.optimizer(model)
    scheduler = None if case.scheduler is None else case.scheduler(optimizer, len(loaders["train"]))
    runner = DictRunner(losses=case.losses, **case.options) if case.runner is None else case.runner(case)
    with tempfile.TemporaryDirectory() as folder:
        logs = (
            {"logdir": folder} if isinstance(runner, DictRunner) else {"loggers": {"tb": dl.TensorboardLogger(folder)}}
        )
        runner.train(
            model=model, loaders=loaders, criterion=case.criterion, optimizer=optimizer, scheduler=scheduler,
            callbacks=[findings, *case.callbacks()], num_epochs=case.epochs, engine=Engine("cpu"), **logs, **case.fit,
        )  # fmt: skip


def accuracy(classes=6, **options):
    return lambda: [Metrics(["accuracy"], num_classes=classes, **options)]


@dataclass(frozen=True)
class Fault:
    """A fault that is planted into a healthy training.

    Attributes:
        name: says what is wrong.
        kind: 1 to 8, as the kinds of rules are counted.
        plant: changes a case.
        base: makes the healthy case.
        words: each must stand in one sentence: the cause and the place; alternatives stand apart by ``|``.
        quick: whether it is among those that are run each time.
    """

    name: str
    kind: int
    plant: Callable[[Case], Any]
    base: Callable[[], Case]
    words: tuple[str, ...]
    quick: bool = False

    def case(self):
        case = self.base()
        changed = self.plant(case)
        return case if changed is None else changed

    def names(self, sentence):
        """Whether a sentence gives the cause and the place."""
        text = sentence.lower()
        return all(any(word in text for word in words.lower().split("|")) for words in self.words)


FAULTS: list[Fault] = []


def fault(name, kind, base, *words, quick=False):
    """Register a function as what plants a fault."""

    def register(plant):
        FAULTS.append(Fault(name, kind, plant, base, words, quick))
        return plant

    return register


def named_by(fault, found):
    """Return the finding that names a fault, or None."""
    return next((finding for finding in found if fault.names(finding.sentence)), None)
