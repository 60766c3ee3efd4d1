"""assay: ``DictRunner`` with logs, checkpoints and as many diagnostics as are asked for."""

import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from assay.callbacks import (
    OverheadBudget,
    classification_diagnostics,
    detection_diagnostics,
    segmentation_diagnostics,
)
from assay.experiments.detectors import DETECTIONS, Detector, loss_terms
from assay.runner import DictRunner, Engine

from ..workload import Workload


class Named(nn.Module):
    """Gives the network's output a name."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"logits": self.network(image)}


class Timed(DictRunner):
    """Adds up what the loop's own thread does at the end of its loaders."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.event_ms: dict[str, list[float]] = defaultdict(list)

    def _run_event(self, event: str) -> None:
        began = time.perf_counter()
        super()._run_event(event)
        self.event_ms[event].append(1000 * (time.perf_counter() - began))


def train(
    workload: Workload,
    folder: Path,
    model: nn.Module,
    *,
    level: str = "off",
    alone: str | None = None,
    every_n_steps: int = 10,
) -> dict[str, Any]:
    """Train, log and save.

    Args:
        workload: what to train.
        folder: of the run.
        model: the network.
        level: of the diagnostics.
        alone: name of the one callback that is added to level ``off``, with a meter of what it takes of the loop's
            time; None: all of ``level``, without a meter.
        every_n_steps: of ``GradientStats``.
    """
    callbacks = _diagnostics(workload, level, every_n_steps)
    if alone is not None:
        full = _diagnostics(workload, "full", every_n_steps)
        callbacks += [callback for callback in full if type(callback).__name__ == alone] + [OverheadBudget(1.0)]
    of_boxes: dict[str, Any] = {"input_key": ("image", "target"), "losses": loss_terms("fcos")}
    runner = Timed(log_every_steps=10, **(of_boxes if workload.boxes else {}))
    runner.train(
        engine=Engine(workload.device, "bf16" if workload.half else "fp32"),
        model=(named := Detector(model) if workload.boxes else Named(model)),
        criterion=None if workload.boxes else nn.CrossEntropyLoss(),
        optimizer=workload.get_optimizer(named),
        loaders=workload.get_loaders(dicts=True),
        callbacks=callbacks,
        num_epochs=workload.epochs,
        logdir=str(folder),
    )
    found: dict[str, Any] = {f"{name}_ms": runner.event_ms[f"on_{name}"] for name in ("loader_end", "epoch_end")}
    if alone is not None:
        events = EventAccumulator(str(folder / "train")).Reload()
        found["share"] = events.Scalars("9_overhead/share_of_all_loaders")[-1].value
    return found


def _diagnostics(workload: Workload, level: str, every_n_steps: int) -> list[Any]:
    options: dict[str, Any] = {"gradients_every_n_steps": every_n_steps}
    if workload.boxes:
        names = [f"class {number}" for number in range(workload.classes)]
        return detection_diagnostics(level, class_names=names, output_key=DETECTIONS, **options)
    diagnostics = segmentation_diagnostics if workload.masks else classification_diagnostics
    return diagnostics(level, num_classes=workload.classes, **options)
