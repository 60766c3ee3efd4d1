"""Nothing in a step waits for the device: the dispatches of a step are counted, with diagnostics and without.

On a CPU nothing shows a wait, so what would wait on a GPU is counted instead: each read of a value by the host, each
search for indices, and each copy that says neither that it may run late nor that it stays where it is.
"""

from collections import Counter

import pytest
import torch
from accelerate.state import AcceleratorState
from catalyst import dl
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from assay.callbacks import BestWorstBatches, Metrics
from assay.callbacks.non_finite_guard import NonFiniteGuard
from assay.runner import DictRunner, Engine, LossTerm, Progress, TensorBoardLogger

READS = (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero, torch.ops.aten.item)
COPIES = (torch.ops.aten.copy_, torch.ops.aten._to_copy)


class HostReads(TorchDispatchMode):
    """Counts what would make the host wait for the device, had the tensors been on one."""

    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        packet = func.overloadpacket
        if packet in READS or (packet in COPIES and self._blocks(func, args, kwargs)):
            self.seen[packet._qualified_op_name] += 1
        return result

    @staticmethod
    def _blocks(func, args, kwargs):
        """Whether a copy may cross devices and waits for it: one that only changes the type never does."""
        if func.overloadpacket is torch.ops.aten._to_copy:
            return kwargs.get("device") is not None and not kwargs.get("non_blocking", False)
        non_blocking = args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
        return not non_blocking


class CountSteps(dl.Callback):
    """Keeps one count a step, from the start of the batch to behind the last callback at its end."""

    def __init__(self, extra=None):
        super().__init__(order=10_000)
        self.steps = []
        self.extra = extra

    def on_batch_start(self, runner):
        self.mode = HostReads()
        self.mode.__enter__()

    def on_batch_end(self, runner):
        if self.extra is not None:
            self.extra(runner)

    def stop(self):
        self.mode.__exit__(None, None, None)
        self.steps.append(self.mode.seen)


class Counting(DictRunner):
    """The runner itself logs after the last callback of a batch: the count ends behind that."""

    def on_batch_end(self, runner):
        super().on_batch_end(runner)
        self.callbacks["count"].stop()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
        self.side = nn.Linear(144, 1)

    def forward(self, image):
        return {"logits": self.layers(image), "size": self.side(self.layers[:-1](image))}


@pytest.fixture(autouse=True)
def fresh_accelerate():
    """Accelerate keeps device and precision for the whole process; each test starts without."""
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


def loader():
    noise = torch.Generator().manual_seed(0)
    items = [
        {
            "image": torch.randn(3, 8, 8, generator=noise), "target": i % 3, "sample_id": f"s{i}",
            "true_size": torch.rand(1, generator=noise),
        }
        for i in range(40)
    ]  # fmt: skip
    return DataLoader(items, batch_size=4)


def count_steps(folder, *, diagnostics=False, extra=None, guarded=False, fused=False, **optimizer_options):
    """Train for two epochs, and return the counts of every step."""
    torch.manual_seed(0)
    model, callbacks = Net(), {"count": CountSteps(extra)}
    options = {}
    if diagnostics:
        callbacks["metrics"] = Metrics(["accuracy", "f1", "balanced_accuracy", "iou"], num_classes=3)
        callbacks["batches"] = BestWorstBatches(["loss", "accuracy"], [True, False], class_names=["a", "b", "c"])
        callbacks["progress"] = Progress(show_bar=True, refresh_s=0.0)
        options["loggers"] = {"tensorboard": TensorBoardLogger(folder, log_every_steps=1)}
    if guarded:
        callbacks["guard"] = NonFiniteGuard("skip", folder=folder)
        options["loggers"] = {"tensorboard": TensorBoardLogger(folder, log_every_steps=0)}
    criterion = {"class": nn.CrossEntropyLoss(), "size": nn.MSELoss()}
    losses = [
        LossTerm("logits", "target", criterion="class"),
        LossTerm("size", "true_size", criterion="size", weight=0.5),
    ]
    runner = Counting(losses=losses, clip_grad_norm=1.0, accumulate_steps=2)
    runner.train(
        engine=Engine("cpu"),
        loaders={"train": loader(), "valid": loader()},
        model=model,
        criterion=criterion,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=fused, **optimizer_options),
        callbacks=callbacks,
        num_epochs=2,
        **options,
    )
    return callbacks["count"].steps


def test_diagnostics_add_no_read_by_the_host_to_any_step(tmp_path, capsys):
    off = count_steps(tmp_path / "off")
    on = count_steps(tmp_path / "on", diagnostics=True)
    assert len(on) == len(off) == 40
    assert on == off
    assert list(tmp_path.glob("on/*/events*"))  # the diagnostics did run
    assert "epoch 2/2" in capsys.readouterr().out


def test_a_step_of_the_runner_itself_reads_nothing(tmp_path):
    assert set(map(frozenset, count_steps(tmp_path))) == {frozenset()}


def test_the_guard_adds_no_read_where_the_optimizer_is_fused(tmp_path):
    assert count_steps(tmp_path, guarded=True, fused=True) == count_steps(tmp_path / "bare", fused=True)


def test_the_guard_reads_once_an_optimizer_step_where_it_is_not_fused(tmp_path):
    steps = count_steps(tmp_path, guarded=True)
    assert sum(step["aten::_local_scalar_dense"] for step in steps) == 2 * 5  # of 10 batches, two a step
    assert set().union(*steps) == {"aten::_local_scalar_dense"}


def test_the_guard_reads_a_first_step_that_momentum_and_dampening_make_different(tmp_path):
    steps = count_steps(tmp_path, guarded=True, fused=True, dampening=0.5)
    bare = count_steps(tmp_path / "bare", fused=True, dampening=0.5)
    extra = [
        step["aten::_local_scalar_dense"] - other["aten::_local_scalar_dense"]
        for step, other in zip(steps, bare, strict=True)
    ]
    assert [index for index, reads in enumerate(extra) if reads] == [1]


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("aten::_local_scalar_dense", lambda runner: runner.batch_metrics["loss"].item()),
        ("aten::_local_scalar_dense", lambda runner: float(runner.batch_metrics["loss"])),
        ("aten::_local_scalar_dense", lambda runner: bool((runner.batch["logits"] > 0).any())),
        ("aten::nonzero", lambda runner: torch.nonzero(runner.batch["target"])),
        ("aten::copy_", lambda runner: torch.empty_like(runner.batch["logits"]).copy_(runner.batch["logits"])),
        ("aten::_to_copy", lambda runner: runner.batch["logits"].to("cpu", copy=True)),
    ],
)
def test_one_read_in_a_step_is_counted(tmp_path, name, read):
    steps = count_steps(tmp_path, extra=read)
    assert all(step[name] == 1 for step in steps)
    assert len(steps) == 40


@pytest.mark.parametrize(
    "harmless",
    [
        lambda runner: runner.batch["logits"].double(),
        lambda runner: torch.empty_like(runner.batch["logits"]).copy_(runner.batch["logits"], non_blocking=True),
    ],
)
def test_what_does_not_wait_is_not_counted(tmp_path, harmless):
    assert count_steps(tmp_path, extra=harmless) == count_steps(tmp_path)
