"""Count what the diagnostics run on the device, per step and at the end of a loader; counts are the same everywhere.

``python -m benchmarks.counters`` shows the figures beside the committed ones, ``--write`` replaces those. A narrow
ResNet-18 (62 parameters) is trained on noise of ten classes on the CPU; what the same run asks for without callbacks is
taken off. ``tests/benchmarks/test_counters.py`` fails where a figure is not as it was committed.

How to read the figures:

- The run is on the CPU, where a loader may use the memory of a batch again. So each batch is compared within its own
  step, the last one too, and none is left for the end of a loader: ``BestWorstBatches``, ``BestWorstSamples`` and
  ``GradCAM`` add 0 there but for their pictures. With two steps of validation a step bears the more for it; the sum of
  steps and end is what it costs. On a GPU, whose copies are its own, a batch is compared one step later.
- ``train loader`` of ``GradCAM``, and so of ``full``, holds what is done once for a size of images: the layer is
  searched for. That takes a pass of one sample for the forms of outputs, one for gradients, and four with a quarter of
  the image changed in each, as nothing else tells a map of the image from a table of positions: some 500 operations,
  270 of them for the four. The second epoch has none of it.
"""

import argparse
import copy
import io
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import redirect_stdout
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from catalyst import dl
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.models.resnet import BasicBlock

from assay.callbacks import Metrics, classification_diagnostics
from assay.callbacks.tensorboard.writer import Writer
from assay.runner import DictRunner, Engine, TensorBoardLogger

from . import launches
from .work import COUNTERS, Work

PATH = Path(__file__).resolve().parent / "results" / "counters.json"
BATCH, SIDE, CLASSES = 4, 16, 10
STEPS = {"train": 10, "valid": 2}
EXACT = ("host_copies", "host_reads")
ACCEPT = "accept it by: python -m benchmarks.counters --write"
_SHARE_KEPT = 0.9

# By place of the run (``train step``: all of its steps together, ``train loader``, ...), by counter.
Counts = dict[str, dict[str, int]]
Row = tuple[Callable[[], list[dl.Callback]], int]


class Net(nn.Module):
    """ResNet-18, a quarter as wide as torchvision's, so that the counting takes seconds: 62 parameters all the same."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 16, 7, 2, 3, bias=False), nn.BatchNorm2d(16), nn.MaxPool2d(3, 2, 1)]
        before = 16
        for planes, stride in ((16, 1), (32, 2), (64, 2), (128, 2)):
            shortcut = nn.Sequential(nn.Conv2d(before, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))
            layers += [BasicBlock(before, planes, stride, shortcut if stride > 1 else None), BasicBlock(planes, planes)]
            before = planes
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(before, CLASSES)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"logits": self.head(self.body(image).mean(dim=(2, 3)))}


class NoFiles(TensorBoardLogger):
    """Leaves out what is done in the writer's thread, as on a rank that does not write."""

    def get_writer(self, loader_key: str) -> Writer:
        return self.writers_.setdefault(loader_key, Writer(None))


class CountingRunner(DictRunner):
    """Counts in the last epoch: from before the first callback of a step to behind the runner's own logging of it, and
    at both ends of a loader."""

    def on_epoch_start(self, runner: dl.IRunner) -> None:
        super().on_epoch_start(runner)
        self.work = {f"{key} {unit}": Work() for key in STEPS for unit in ("step", "loader")}

    def _run_event(self, event: str) -> None:
        unit = {
            "on_loader_start": "loader",
            "on_loader_end": "loader",
            "on_batch_start": "step",
            "on_batch_end": "step",
        }
        work = self.work[f"{self.loader_key} {unit[event]}"] if event in unit else None
        if work is not None and event != "on_batch_end":
            work.__enter__()
        super()._run_event(event)
        if work is not None and event != "on_batch_start":
            work.__exit__(None, None, None)


def rows() -> dict[str, Row]:
    """Return what is measured: callbacks, and the epoch that is looked at."""
    build = partial(classification_diagnostics, num_classes=CLASSES)
    levels: dict[str, Row] = {level: (partial(build, level), 1) for level in ("off", "light", "full")}
    alone: dict[str, Row] = {
        f"{type(callback).__name__} alone": (partial(_only, index), 1)
        for index, callback in enumerate(build("full"))
        if not isinstance(callback, Metrics)  # the level ``off``
    }
    return {
        **levels,
        "full, second epoch": (partial(build, "full"), 2),
        "full, gradients every step": (partial(build, "full", gradients_every_n_steps=1), 1),
        **alone,
    }


def _only(index: int) -> list[dl.Callback]:
    return [classification_diagnostics("full", num_classes=CLASSES)[index]]


def count(callbacks: Sequence[dl.Callback], epochs: int = 1) -> Counts:
    """Return what the last epoch of a run with these callbacks asks of the device.

    The learning rate is 0, so that rounding does not grow from step to step, and the same samples are the worst on
    every machine.
    """
    model, runner = copy.deepcopy(_model()), CountingRunner()
    # The report prints its table. The history of samples asks nothing of the device where it has no folder.
    with redirect_stdout(io.StringIO()), TemporaryDirectory() as logdir:
        runner.train(
            engine=Engine("cpu"),
            model=model,
            criterion=nn.CrossEntropyLoss(),
            optimizer=torch.optim.SGD(model.parameters(), lr=0.0, fused=True),
            loaders={key: _loader(key, steps) for key, steps in STEPS.items()},
            callbacks={f"{place:02d}": callback for place, callback in enumerate(callbacks)},
            loggers={"tensorboard": NoFiles("nowhere")},
            logdir=logdir,
            num_epochs=epochs,
        )
    return {place: work.counts for place, work in runner.work.items()}


@cache
def _model() -> Net:
    torch.manual_seed(0)
    return Net()


def _loader(key: str, steps: int) -> DataLoader[Any]:
    images = torch.randn(steps * BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(steps))
    items: Any = [{"image": x, "target": i % CLASSES, "sample_id": f"{key}-{i}"} for i, x in enumerate(images)]
    return DataLoader(items, batch_size=BATCH)


def measure(names: Collection[str] | None = None) -> dict[str, Counts]:
    """Return for each row, or for those of the names, what it adds to a run without callbacks."""
    bare, wanted = count([]), rows()
    wanted = wanted if names is None else {name: wanted[name] for name in names}
    return {name: subtract(count(build(), epochs), bare) for name, (build, epochs) in wanted.items()}


def subtract(counts: Counts, bare: Counts) -> Counts:
    """Return the differences."""
    return {place: {name: of[name] - bare[place][name] for name in COUNTERS} for place, of in counts.items()}


def compare(measured: Mapping[str, Counts], committed: Mapping[str, Counts]) -> list[str]:
    """Return a line for each figure that is not as it was committed, with the way to accept it.

    Copies and reads have to be equal. Of operations and allocations there may be fewer, down to a tenth less: beyond
    that the committed figures are no longer true.
    """
    if measured.keys() != committed.keys():
        return [f"the rows are {sorted(measured)}, committed are {sorted(committed)}; {ACCEPT}"]
    found = []
    for row, places in measured.items():
        for place, counts in places.items():
            for name, new in counts.items():
                old = committed[row][place][name]
                if new > old or new < _SHARE_KEPT * old or (name in EXACT and new != old):
                    change = f"{_a_time(new, place)}, committed {_a_time(old, place)}"
                    found.append(f"{row}, {place}: {name} {change}; {ACCEPT}")
    return found


def _units(place: str) -> int:
    key, unit = place.split()
    return STEPS[key] if unit == "step" else 1


def _a_time(total: int, place: str) -> str:
    return f"{total / _units(place):,.1f} a {place.split()[1]}"


def torch_minor() -> str:
    """Return the version of torch that the figures hold for; another one may take operations apart otherwise."""
    return ".".join(torch.__version__.split(".")[:2])


def read() -> dict[str, Any]:
    """Return the committed figures: ``torch``, ``settings``, ``rows`` and ``launches``, those of that module."""
    content: dict[str, Any] = json.loads(PATH.read_text())
    return content


def write(measured: Mapping[str, Counts], on_gpu: Mapping[str, launches.Figures]) -> None:
    """Write the figures that are to be committed."""
    settings = {"batch_size": BATCH, "side": SIDE, "classes": CLASSES, "steps": STEPS}
    content = {"torch": torch_minor(), "settings": settings, "rows": measured, "launches": on_gpu}
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(json.dumps(content, indent=1) + "\n")
    print(f"written: {PATH.relative_to(PATH.parents[2])}")


def table(measured: Mapping[str, Counts], committed: Mapping[str, Counts]) -> str:
    """Return the figures as text, a line a row and place; what was committed stands beside it where it differs."""
    heads = [name.replace("bytes", "kib") for name in COUNTERS]
    lines = [f"{'':30s}{'added a':14s}" + "".join(f"{head:>26s}" for head in heads)]
    for row, places in measured.items():
        for place, counts in places.items():
            old = committed.get(row, {}).get(place, counts)
            units = [_units(place) * (1024 if "bytes" in name else 1) for name in COUNTERS]
            cells = [_cell(counts[name] / unit, old[name] / unit) for name, unit in zip(COUNTERS, units, strict=True)]
            lines.append(f"{row:30s}{place:14s}" + "".join(f"{cell:>26s}" for cell in cells))
    return "\n".join(lines)


def _cell(new: float, old: float) -> str:
    return f"{new:,.1f}" + ("" if new == old else f" (was {old:,.1f})")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.counters", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the figures to benchmarks/results/counters.json")
    options = parser.parse_args(arguments)
    committed: dict[str, Any] = read() if PATH.is_file() else {"torch": torch_minor(), "rows": {}}
    if committed["torch"] != torch_minor():
        print(f"the committed figures are those of torch {committed['torch']}; this is {torch_minor()}")
    measured, on_gpu = measure(), launches.measure()
    print(table(measured, committed["rows"]))
    print(launches.table(on_gpu, committed.get("launches", {})))
    if options.write:
        write(measured, on_gpu)


if __name__ == "__main__":
    main()
