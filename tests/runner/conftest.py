"""Toys that train in milliseconds, and a process that remembers no engine from the test before."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from kit import fit
from rank_processes import HereOrRanks
from torch import nn
from torch.utils.data import DataLoader

from assay.runner import DictRunner
from assay.runner.commands.main import main


class TinyNet(nn.Module):
    """Images [N, 4] to {"logits": [N, 3], "size": [N, 1]}."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 5)
        self.logits = nn.Linear(5, 3)
        self.size = nn.Linear(5, 1)

    def forward(self, image):
        hidden = torch.tanh(self.body(image))
        return {"logits": self.logits(hidden), "size": self.size(hidden)}


@pytest.fixture(scope="session")
def processes(rank_processes):
    """Return what runs a function on so many ranks; one is this process."""
    return HereOrRanks(rank_processes)


@pytest.fixture
def make_net():
    """Return TinyNet in float64, where rounding does not hide a wrong formula; the same weights for the same seed."""

    def make(seed=0):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return TinyNet().double()

    return make


@pytest.fixture
def make_items():
    """Return dicts with a float64 image [4], a class, a size [1] and an id."""

    def make(count=21, seed=0):
        rng = np.random.default_rng(seed)
        images, targets = torch.from_numpy(rng.normal(size=(count, 4))), rng.integers(0, 3, count)
        sizes = torch.from_numpy(rng.normal(size=(count, 1)))
        return [
            {"image": image, "target": int(target), "true_size": size, "sample_id": f"sample-{i}"}
            for i, (image, target, size) in enumerate(zip(images, targets, sizes, strict=True))
        ]

    return make


@pytest.fixture
def make_loader(make_items):
    """Return a loader of toy items: by default 21 in batches of 4, so that the last batch holds one."""

    def make(count=21, batch_size=4, *, seed=0, **options):
        return DataLoader(make_items(count, seed), batch_size=batch_size, **options)

    return make


@pytest.fixture
def train():
    """Return a function that trains a DictRunner on the CPU, by SGD where no optimizer is given, and returns it."""

    def run(model, loaders, *, epochs=1, lr=0.1, runner=None, criterion=None, optimizer=None, **options):
        runner = runner or DictRunner()
        return fit(
            runner, model, loaders, optimizer=optimizer or torch.optim.SGD(model.parameters(), lr=lr),
            criterion=criterion or nn.CrossEntropyLoss(), epochs=epochs, **options,
        )  # fmt: skip

    return run


@pytest.fixture
def plain_loop():
    """Return the reference: a plain PyTorch loop over batches, one optimizer step each, and its learning rates."""

    def run(model, batches, optimizer, *, loss=None, before_step=None, after_step=None, epochs=1):
        loss = loss or (lambda outputs, batch: nn.functional.cross_entropy(outputs["logits"], batch["target"]))
        rates = []
        model.train()
        for _ in range(epochs):
            for batch in batches:
                optimizer.zero_grad()
                loss(model(batch["image"]), batch).backward()
                if before_step is not None:
                    before_step(model)
                rates.append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                if after_step is not None:
                    after_step()
        return rates

    return run


@pytest.fixture
def weights_of():
    """Return a function that copies a model's state."""
    return lambda model: copy.deepcopy(model.state_dict())


@pytest.fixture
def assert_same_weights():
    """Return a function that compares two states: exactly, or within ``atol``."""

    def check(first, second, *, atol=0.0):
        assert first.keys() == second.keys()
        for name in first:
            torch.testing.assert_close(
                first[name], second[name], rtol=0.0, atol=atol, msg=lambda m, n=name: f"{n}: {m}"
            )

    return check


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    """Return a function that trains a toy, once, and returns the run folder."""
    runs = {}

    def run(toy, *arguments):
        if (toy, arguments) not in runs:
            folder = tmp_path_factory.mktemp("runs") / toy
            assert (
                main(
                    ["train", str(Path(__file__).with_name("toys") / f"{toy}.py"), "--run-dir", str(folder), *arguments]
                )
                == 0
            )
            runs[toy, arguments] = folder
        return runs[toy, arguments]

    return run
