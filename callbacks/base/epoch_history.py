"""The metrics of a run by epoch, kept in any Catalyst runner."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from catalyst import dl

from ..support.runner_view import history_of

History = dict[int, dict[str, dict[str, float]]]
"""Metrics by epoch, loader and name."""


def past_history(runner: dl.IRunner) -> History:
    """Return the metrics of the epochs before a run goes on; empty where none are kept."""
    return {epoch: metrics_of_loaders(metrics) for epoch, metrics in history_of(runner).items()}


def metrics_of_loaders(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the metrics of loaders that are numbers; a stock runner also has some of the epoch."""
    return {
        loader: {name: float(value) for name, value in of.items() if np.ndim(value) == 0}
        for loader, of in metrics.items()
        if loader != "_epoch_"
    }
