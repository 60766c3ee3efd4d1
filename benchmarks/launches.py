"""Count what the diagnostics ask a GPU for, without a GPU: fake CUDA tensors know device, type and shape.

``python -m benchmarks.counters`` shows these figures below its own; ``tests/benchmarks/test_launches.py`` holds them.

- ``gradients``: one observed step of ``GradientStats`` on the 161 parameters of a ResNet-50, with its copy to the host;
  what the host then adds up is not asked of the GPU.
- ``validation``: ``classification_diagnostics("full")`` on 64 samples of 1000 classes, or of 10. Everything from the
  start of a batch to its end is counted, the mean of the loss too, but for the model and the criterion. Small batches
  are counted together, so the figures are of a whole number of such groups: a mean per step, and the largest step. No
  sample of these steps leads: one that does takes three copies more, of image, target and output. Samples chosen by
  chance take as many, and are counted where they fall: 12 of the 16 of both callbacks are in these steps. Thumbnails,
  which are taken in the first epoch alone, are left out.

Each figure is counted in two ways, in both of which a call counts that a GPU has work from: views, and tensors made
empty, do not. A ``foreach`` call, or one with several kernels, is one.

- ``dispatched``: by a ``TorchDispatchMode``, below the operators that are made of others.
- ``profiled``: top-level operators, ``aten::``, as ``torch.profiler`` shows them.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
import torchvision
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from assay.callbacks import SampleHistory, classification_diagnostics
from assay.callbacks.training.gradient_watch import GradientWatch
from assay.runner.loop.parts.loader_loss import LoaderLoss

from .fake_cuda import FakeEngine, FakeRunner, StepsAreDoneError, fake_cuda
from .work import MAKE_ONLY, storages, tensors

LIMITS = {"gradients": 20, "validation": 25}  # calls a step, however they are counted
BATCH, SIDE = 64, 8
BEFORE, STEPS = 16, 32  # the first steps, of which each sample leads, are left out
_STEP, _LEFT_OUT = "step that counts", "part that does not count"
# Of the profiler's operators, those that ask for nothing by themselves; some of them copy at times.
_NO_WORK = frozenset(
    f"aten::{name}"
    for name in (
        "alias", "as_strided", "chunk", "contiguous", "detach", "detach_", "empty", "empty_like", "empty_strided",
        "expand", "expand_as", "flatten", "lift_fresh", "movedim", "narrow", "new_empty", "permute", "reshape",
        "resolve_conj", "resolve_neg", "select", "slice", "split", "squeeze", "t", "tensor_split", "to", "transpose",
        "unbind", "unflatten", "unsqueeze", "view", "view_as",
    )
)  # fmt: skip
_COPIES = frozenset(("aten::clone", "aten::_to_copy", "aten::copy_"))

Figures = Mapping[str, Mapping[str, float]]  # by way of counting, by name


def beyond_limits(measured: Mapping[str, Figures]) -> list[str]:
    """Return a line for each figure of a step, or mean of steps, that is above its limit."""
    return [
        f"{case}, {way}: {figures.get('step', figures.get('mean'))} a step, at most {LIMITS[case.split(',')[0]]}"
        for case, ways in measured.items()
        for way, figures in ways.items()
        if figures.get("step", figures.get("mean", 0)) > LIMITS[case.split(",")[0]]
    ]


def table(measured: Mapping[str, Figures], committed: Mapping[str, Figures]) -> str:
    """Return the figures as text, a line a case and way; what was committed stands beside it where it differs."""
    lines = ["", f"{'asked of a GPU':30s}{'counted':14s}"]
    for case, ways in measured.items():
        for way, figures in ways.items():
            shown = ", ".join(f"{name} {count:.1f}" for name, count in figures.items())
            old = committed.get(case, {}).get(way, figures)
            lines.append(f"{case:30s}{way:14s}{shown}" + ("" if old == figures else f" (was {old})"))
    return "\n".join(lines)


class Launches(TorchDispatchMode):
    """Counts the calls that a GPU has work from, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.paused = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = storages((args, kwargs))
        result = func(*args, **(kwargs or {}))
        on_gpu = any(tensor.is_cuda for tensor in tensors([list(args), kwargs or {}, result]))
        made = any(size and key not in given for key, size in storages(result).items())
        computes = (made and func.overloadpacket not in MAKE_ONLY) or func._schema.is_mutable
        self.count += on_gpu and computes and not self.paused
        return result


def measure() -> dict[str, Figures]:
    """Return the figures of each case by way of counting: of ``gradients`` a step, of others mean and most of steps."""
    return {
        "gradients": {way: {"step": count} for way, count in count_gradients().items()},
        "validation, 1000 classes": count_validation(1000),
        "validation, 10 classes": count_validation(10),
    }


def count_gradients() -> dict[str, int]:
    """Return what observing one step asks for, as it would be of each further one."""
    with fake_cuda() as mode, mode, torch.device("cuda"):
        model = torchvision.models.resnet50()  # of 161 parameters
        watch = GradientWatch(dict(model.named_parameters()), 1, set())
        for parameter in watch.parameters.values():
            parameter.grad = torch.zeros_like(parameter)
        watch()
        watch.settle()  # the host's part
        counting = Launches()
        with profile(activities=[ProfilerActivity.CPU]) as profiler, record_function(_STEP), counting:
            watch()
    return {"dispatched": counting.count, "profiled": sum(_profiled(profiler))}


def count_validation(classes: int) -> Figures:
    """Return the mean and the most of the steps of a validation loader."""
    items: Any = [
        {"image": torch.zeros(3, SIDE, SIDE), "target": i % classes, "sample_id": str(i)}
        for i in range((BEFORE + STEPS) * BATCH)
    ]
    loader, training = DataLoader(items, batch_size=BATCH), DataLoader(items[:BATCH], batch_size=BATCH)
    with fake_cuda() as mode, tempfile.TemporaryDirectory() as folder:
        with mode, torch.device("cuda"):
            model = _Net(classes)
        runner = _CountingRunner(mode)
        try:
            with runner.loop.step, mock.patch.object(LoaderLoss, "compute", runner.left_out(LoaderLoss.compute)):
                runner.train(
                    engine=FakeEngine(),
                    model=model,
                    criterion=nn.CrossEntropyLoss(),
                    optimizer=torch.optim.SGD(model.parameters(), lr=0.1, fused=True),
                    loaders={"valid": loader, "train": training},
                    callbacks={f"{i:02d}": one for i, one in enumerate(_diagnostics(classes))},
                    num_epochs=1,
                    logdir=folder,
                )
        except StepsAreDoneError:
            pass
    counts = {"dispatched": runner.counts[BEFORE:], "profiled": runner.profiled()[-STEPS:]}
    return {way: {"mean": sum(of) / len(of), "most": max(of)} for way, of in counts.items()}


def _diagnostics(classes: int) -> list[Any]:
    found = classification_diagnostics(num_classes=classes)
    for callback in found:
        if isinstance(callback, SampleHistory):
            callback.thumbnails = False
    return found


class _Net(nn.Module):
    def __init__(self, classes: int):
        super().__init__()
        self.head = nn.Linear(3 * SIDE * SIDE, classes)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"logits": self.head(image.flatten(1))}


class _CountingRunner(FakeRunner):
    """Counts each step from before the first callback to behind the runner's own logging of it."""

    def __init__(self, mode: Any):
        super().__init__(mode, steps=BEFORE + STEPS)
        self.counts: list[int] = []
        self.profiler = profile(activities=[ProfilerActivity.CPU])

    def _run_event(self, event: str) -> None:
        if event == "on_batch_start":
            if len(self.counts) == BEFORE:
                self.profiler.start()
            self.range, self.counting = record_function(_STEP), Launches()
            self.range.__enter__()
            self.counting.__enter__()
        super()._run_event(event)
        if event == "on_batch_end":
            self.counting.__exit__(None, None, None)
            self.range.__exit__(None, None, None)
            self.counts.append(self.counting.count)

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        return self.left_out(super().forward)(batch)  # type: ignore[no-any-return]

    def left_out(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function whose calls do not count."""

        def call(*arguments: Any, **options: Any) -> Any:
            with record_function(_LEFT_OUT), self.pause():
                return work(*arguments, **options)

        return call

    @contextmanager
    def pause(self) -> Iterator[None]:
        self.counting.paused = True
        yield
        self.counting.paused = False

    def profiled(self) -> list[int]:
        self.profiler.stop()
        return _profiled(self.profiler)


def _profiled(profiler: Any) -> list[int]:
    """Return how many operators each step has asked for at the top level."""
    steps = [event for event in profiler.events() if event.name == _STEP]
    return [sum(_has_work(event) for event in step.cpu_children) for step in steps]


def _has_work(event: Any) -> bool:
    if not event.name.startswith("aten::"):
        return False
    return event.name not in _NO_WORK or any(child.name in _COPIES for child in event.cpu_children)
