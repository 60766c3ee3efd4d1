"""Catalyst 22.04: its ``SupervisedRunner`` with its own metric callbacks.

It has no diagnostics of gradients, samples or batches, and its confusion matrix asks for packages that it does not
install. Its engine fails with today's accelerate, so it gets ours.
"""

from pathlib import Path

from catalyst import dl
from torch import nn

from assay.runner import Engine

from ..workload import Workload


def train(workload: Workload, folder: Path, model: nn.Module, *, diagnostics: bool = False) -> None:
    """Train, log and save by Catalyst's defaults for ``logdir``.

    Args:
        workload: what to train.
        folder: of the run.
        model: the network.
        diagnostics: whether to compute accuracy, precision, recall and F1.
    """
    keys = {"input_key": "logits", "target_key": "targets"}
    metrics = [
        dl.AccuracyCallback(**keys, topk=(1,), num_classes=workload.classes),
        dl.PrecisionRecallF1SupportCallback(**keys, num_classes=workload.classes),
    ]
    dl.SupervisedRunner(output_key="logits").train(
        engine=Engine(workload.device, "bf16" if workload.half else "fp32"),
        model=model,
        criterion=nn.CrossEntropyLoss(),
        optimizer=workload.get_optimizer(model),
        loaders=workload.get_loaders(),
        callbacks=metrics if diagnostics else [],
        num_epochs=workload.epochs,
        logdir=str(folder),
        valid_loader="valid",
        valid_metric="loss",
        minimize_valid_metric=True,
    )
