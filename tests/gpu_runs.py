"""What the tests of a GPU share: the device, short runs on it, and what they have logged.

``GPU_TESTS_DEVICE=cpu`` runs most of them on a machine without a GPU, so that a mistake is found there.
"""

import inspect
import os

import pytest
import torch
from accelerate.state import AcceleratorState
from kit import fit, read_events
from test_fake_cuda import OPTIONS
from test_host_reads import CLASSES
from torch import nn
from torch.utils.data import DataLoader

from assay import callbacks
from assay.runner import DictRunner, Engine, LossTerm

DEVICE = os.environ.get("GPU_TESTS_DEVICE", "cuda")
ON_GPU = DEVICE == "cuda"
needs_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        ON_GPU and not torch.cuda.is_available(), reason="needs a GPU: torch finds none on this machine"
    ),
    # Inductor's, and those of torch about kernels that it looks for on a GPU.
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
cuda_only = pytest.mark.skipif(not ON_GPU, reason="a CPU has none of it")
# The CPU beside itself: one epoch is enough to find a mistake in the test.
EPOCHS = 2 if ON_GPU else 1
# Times and memory differ from machine to machine.
MACHINES_OWN = ("9_time/", "memory", "throughput", "9_overhead/", "samples_per_second")

CRITERION = {"class": nn.CrossEntropyLoss(), "size": nn.MSELoss()}
LOSSES = [
    LossTerm("logits", "target", criterion="class"),
    LossTerm("size", "true_size", criterion="size", weight=0.5),
]


def train(folder, device, model, batches, criterion, given, *, precision="fp32", lr=0.0, make_engine=Engine, **options):
    """Train for two epochs; without a learning rate, rounding does not add up from step to step."""
    AcceleratorState._reset_state(True)
    torch.manual_seed(0)
    net = model()
    runner = DictRunner(**options)
    return fit(
        runner, net, few(batches), {str(i): callback for i, callback in enumerate(given)},
        engine=make_engine(device, precision), optimizer=torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9),
        criterion=criterion, epochs=EPOCHS, hparams={"lr": lr}, logdir=str(folder),
    )  # fmt: skip


def few(batches):
    """Return the loaders, on a CPU with their first four batches alone, which two ranks share evenly."""
    if ON_GPU:
        return batches
    return {
        key: DataLoader(loader.dataset[: 4 * loader.batch_size], loader.batch_size, collate_fn=loader.collate_fn)
        for key, loader in batches.items()
    }


def make_callback(name):
    """Return an exported callback for the classes of the classifier."""
    kind = getattr(callbacks, name)
    names = {"class_names": CLASSES} if "class_names" in inspect.signature(kind).parameters else {}
    # It is tried on toys that validate on what they train on.
    names |= {"stop": False} if name == "Findings" else {}
    return kind(**names, **OPTIONS.get(name, {}))


def scalars(folder):
    """Return {(event folder, tag): values} of a run."""
    found = {}
    for events in sorted({path.parent for path in folder.glob("*/events*")}):
        log = read_events(events)
        for tag in log.Tags()["scalars"]:
            if not any(part in tag for part in MACHINES_OWN):
                found[events.name, tag] = [point.value for point in log.Scalars(tag)]
    return found


def weights_of(runner):
    """Return the weights of a run, on the CPU."""
    return {name: value.cpu() for name, value in runner.engine.unwrap_model(runner.model).state_dict().items()}
