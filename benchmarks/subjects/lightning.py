"""Lightning: its trainer, and the diagnostics that its documentation shows how to write.

Those are metrics of torchmetrics (of a detector, its mean average precision), the learning rate's monitor, the gradient
norms of ``lightning.pytorch.utilities`` in ``on_before_optimizer_step``, a figure of the confusion matrix, and the
images of the best and worst batch.
"""

import logging
import warnings
from pathlib import Path
from typing import Any

import lightning
import matplotlib.pyplot as plt
import torch
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import grad_norm
from torch import Tensor, nn
from torchmetrics import ConfusionMatrix, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score
from torchmetrics.detection import MeanAveragePrecision
from torchvision.utils import make_grid

from ..workload import Workload, weigh

EVERY_N_STEPS = 10


def train(workload: Workload, folder: Path, model: nn.Module, *, diagnostics: bool = False) -> None:
    """Train, log and save by Lightning's defaults.

    Args:
        workload: what to train.
        folder: of the run.
        model: the network.
        diagnostics: whether to compute what the module's docstring names.
    """
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    lightning.Trainer(
        accelerator="gpu" if workload.device == "cuda" else "cpu",
        devices=1,
        precision="bf16-mixed" if workload.half else "32-true",
        max_epochs=workload.epochs,
        logger=TensorBoardLogger(folder),
        callbacks=[LearningRateMonitor()] if diagnostics else [],
        log_every_n_steps=EVERY_N_STEPS,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(
        _module(workload, diagnostics)(workload, model),
        *workload.get_loaders().values(),
    )


def _module(workload: Workload, diagnostics: bool) -> "type[Plain]":
    if workload.boxes:
        return DiagnosedDetector if diagnostics else PlainDetector
    return Diagnosed if diagnostics else Plain


class Plain(lightning.LightningModule):
    """Trains and logs the loss."""

    def __init__(self, workload: Workload, network: nn.Module):
        super().__init__()
        self.workload, self.network = workload, network

    def training_step(self, batch: list[Any], index: int) -> Tensor | None:
        return self._step("train", batch)

    def validation_step(self, batch: list[Any], index: int) -> Tensor | None:
        return self._step("valid", batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.workload.get_optimizer(self.network)

    def _step(self, key: str, batch: list[Any]) -> Tensor | None:
        image, target = batch
        output = self.network(image)
        loss = weigh(output, target)
        self.log(f"{key}/loss", loss, on_epoch=True, on_step=key == "train")
        self.look(key, image, output.detach(), target, loss.detach())
        return loss

    def look(self, key: str, *parts: Tensor) -> None:
        """See a batch; here nothing is done with it."""


class PlainDetector(Plain):
    """Trains a detector: it computes its losses by itself, and none in validation."""

    def _step(self, key: str, batch: list[Any]) -> Tensor | None:
        image, target = batch
        if key == "valid":
            self.find(target, self.network(list(image)))
            return None
        loss = torch.stack(list(self.network(list(image), target).values())).sum()
        self.log(f"{key}/loss", loss, on_epoch=True, on_step=True, batch_size=len(image))
        self.look(key, image, loss.detach())
        return loss

    def find(self, target: list[Any], found: list[Any]) -> None:
        """See the boxes of a batch; here nothing is done with them."""


class Shown(Plain):
    """Logs gradient norms, and the images of the best and worst batch."""

    def __init__(self, workload: Workload, network: nn.Module):
        super().__init__(workload, network)
        self.batches: dict[str, dict[str, tuple[Tensor, Tensor]]] = {"train": {}, "valid": {}}

    def look(self, key: str, *parts: Tensor) -> None:
        image, *_, loss = parts
        kept = self.batches[key]
        if "worst" not in kept or loss > kept["worst"][0]:
            kept["worst"] = loss, image
        if "best" not in kept or loss < kept["best"][0]:
            kept["best"] = loss, image

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.global_step % EVERY_N_STEPS == 0:
            self.log_dict(grad_norm(self.network, norm_type=2))

    def on_train_epoch_end(self) -> None:
        self.draw("train")

    def on_validation_epoch_end(self) -> None:
        self.draw("valid")

    def draw(self, key: str) -> None:
        """Write what was kept of an epoch."""
        board: Any = self.logger
        for name, (_, image) in self.batches[key].items():
            grid = make_grid(image, normalize=True)
            board.experiment.add_image(f"{key}/batches/{name}", grid, self.current_epoch)
        self.batches[key] = {}


class Diagnosed(Shown):
    """Adds the diagnostics of a classifier or of masks."""

    def __init__(self, workload: Workload, network: nn.Module):
        super().__init__(workload, network)
        count = workload.classes
        for key in ("train", "valid"):
            metrics = MetricCollection([MulticlassAccuracy(count), MulticlassF1Score(count)], prefix=f"{key}/")
            self.add_module(f"metrics_{key}", metrics)
            self.add_module(f"matrix_{key}", ConfusionMatrix("multiclass", num_classes=count))

    def look(self, key: str, *parts: Tensor) -> None:
        super().look(key, *parts)
        _, output, target, _ = parts
        metrics = getattr(self, f"metrics_{key}")
        metrics.update(output, target)
        self.log_dict(metrics, on_epoch=True, on_step=False)
        getattr(self, f"matrix_{key}").update(output, target)

    def draw(self, key: str) -> None:
        board: Any = self.logger
        matrix = getattr(self, f"matrix_{key}")
        figure, _ = matrix.plot()
        board.experiment.add_figure(f"{key}/confusion_matrix", figure, self.current_epoch)
        plt.close(figure)
        matrix.reset()
        super().draw(key)


class DiagnosedDetector(PlainDetector, Shown):
    """Adds the diagnostics of a detector."""

    def __init__(self, workload: Workload, network: nn.Module):
        super().__init__(workload, network)
        self.precision = MeanAveragePrecision()

    def find(self, target: list[Any], found: list[Any]) -> None:
        self.precision.update(found, target)

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self.log("valid/map", self.precision.compute()["map"])
        self.precision.reset()
