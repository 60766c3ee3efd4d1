"""Ignite: two engines, and the metrics and handlers that it offers.

Those are its metrics on both loaders, its checkpoints, and its TensorBoard logger with the norms of gradients and
weights and the optimizer's parameters.
"""

from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.handlers import ModelCheckpoint
from ignite.handlers.tensorboard_logger import (
    GradsScalarHandler,
    OptimizerParamsHandler,
    OutputHandler,
    TensorboardLogger,
    WeightsScalarHandler,
)
from ignite.metrics import Accuracy, ClassificationReport, ConfusionMatrix, Loss
from torch import Tensor, nn

from ..workload import Workload, weigh

EVERY_N_STEPS = 10


def train(workload: Workload, folder: Path, model: nn.Module, *, diagnostics: bool = False) -> None:
    """Train, log the loss and save each epoch.

    Args:
        workload: what to train.
        folder: of the run.
        model: the network.
        diagnostics: whether to compute what the module's docstring names.
    """
    device = torch.device(workload.device)
    model.to(device)
    optimizer, loaders = workload.get_optimizer(model), workload.get_loaders()

    def run(batch: list[Tensor], *, trains: bool) -> tuple[Tensor, Tensor]:
        model.train(trains)
        image, target = (part.to(device, non_blocking=True) for part in batch)
        with torch.set_grad_enabled(trains):
            with workload.autocast():
                output = model(image)
                loss = weigh(output, target)
            if trains:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return output.detach().float(), target

    trainer = Engine(lambda _, batch: run(batch, trains=True))
    evaluator = Engine(lambda _, batch: run(batch, trains=False))
    for engine in (trainer, evaluator):
        for name, metric in _metrics(workload, diagnostics).items():
            metric.attach(engine, name)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: evaluator.run(loaders["valid"]))
    saved = {"model": model, "optimizer": optimizer}
    trainer.add_event_handler(Events.EPOCH_COMPLETED, ModelCheckpoint(folder / "checkpoints", n_saved=1), saved)
    with TensorboardLogger(log_dir=folder / "tensorboard") as board:
        _log(board, {"train": trainer, "valid": evaluator}, trainer)
        if diagnostics:
            _diagnose(board, trainer, model, optimizer)
        trainer.run(loaders["train"], max_epochs=workload.epochs)


def _metrics(workload: Workload, diagnostics: bool) -> dict[str, Any]:
    plain = {"loss": Loss(weigh)}
    if not diagnostics:
        return plain
    matrix = ConfusionMatrix(workload.classes)
    return plain | {"accuracy": Accuracy(), "report": ClassificationReport(output_dict=True), "matrix": matrix}


def _log(board: TensorboardLogger, engines: dict[str, Engine], trainer: Engine) -> None:
    for key, engine in engines.items():
        handler = OutputHandler(key, metric_names=["loss"], global_step_transform=lambda *_: trainer.state.epoch)
        board.attach(engine, handler, Events.EPOCH_COMPLETED)


def _diagnose(board: TensorboardLogger, trainer: Engine, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    sometimes = Events.ITERATION_COMPLETED(every=EVERY_N_STEPS)
    board.attach(trainer, GradsScalarHandler(model, reduction=torch.norm), sometimes)
    board.attach(trainer, WeightsScalarHandler(model, reduction=torch.norm), sometimes)
    board.attach(trainer, OptimizerParamsHandler(optimizer), sometimes)
