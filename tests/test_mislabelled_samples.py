"""Samples with a wrong label are found among the worst ones of a training run."""

from dataclasses import dataclass

import numpy as np
import pytest
from catalyst import dl

from assay.callbacks.samples.best_worst_samples import BestWorstSamples
from assay.experiments.digits import Digits
from assay.runner import train

pytestmark = pytest.mark.long("trains digits for ten epochs")
FLIPPED, SHOWN = 50, 36


class Worst(BestWorstSamples):
    """Keeps the ids of the worst training samples of each epoch."""

    def __init__(self):
        super().__init__(k_samples=SHOWN)
        self.ids = []

    def show(self, runner, writer, ranking):
        super().show(runner, writer, ranking)
        if runner.loader_key == "train":
            self.ids.append([sample.sample_id for sample in ranking.worst])


class ScoresAll(dl.Callback):
    """The plain loop: reads the loss of every sample of every step, and sorts them all."""

    def __init__(self):
        super().__init__(order=dl.CallbackOrder.External)
        self.losses, self.ids = {}, []

    def on_loader_start(self, runner):
        self.losses = {}

    def on_batch_end(self, runner):
        losses = runner.sample_losses(runner.batch).tolist()
        self.losses.update(zip(runner.batch["sample_id"], losses, strict=True))

    def on_loader_end(self, runner):
        if runner.loader_key == "train":
            self.ids.append(sorted(self.losses, key=self.losses.get, reverse=True)[:SHOWN])


@dataclass(kw_only=True)
class FlippedDigits(Digits):
    def get_loaders(self):
        loaders = super().get_loaders()
        items, chance = loaders["train"].dataset.items, np.random.default_rng(7)
        self.flipped = set()
        for index in chance.choice(len(items), FLIPPED, replace=False):
            items[index]["target"] = int((items[index]["target"] + chance.integers(1, 10)) % 10)
            self.flipped.add(items[index]["sample_id"])
        return loaders

    def get_callbacks(self):
        self.worst, self.all = Worst(), ScoresAll()
        return [self.worst, self.all]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    experiment = FlippedDigits(epochs=10, device="cpu", monitor=["valid/loss:min"])
    train(experiment, name="digits", run_dir=tmp_path_factory.mktemp("flipped") / "run")
    return experiment


def test_most_of_the_worst_training_samples_are_those_whose_label_was_flipped(run):
    assert len(run.flipped) == FLIPPED
    shares = [len(run.flipped.intersection(ids)) / SHOWN for ids in run.worst.ids]
    assert len(shares) == 10
    assert max(shares) >= 0.8, shares
    assert shares[-1] >= 0.8, shares


def test_the_worst_samples_are_those_of_a_loop_that_scores_every_sample(run):
    assert run.worst.ids == run.all.ids
