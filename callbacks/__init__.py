"""Callbacks that show in TensorBoard what a model does; they work with any Catalyst runner.

Names are imported when they are first used, so that ``assay --help`` does not wait for torch.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if find_spec("catalyst") is None:
    raise ModuleNotFoundError(
        "assay needs Catalyst 22.4, whose metadata pip 24.1 and newer refuse; install it with: "
        "pip install uv && uv pip install catalyst==22.4",
        name="catalyst",
    )

from .errors import UsageError
from .keys import IMAGE_KEY, OUTPUT_KEY, SAMPLE_ID_KEY, TARGET_KEY

if TYPE_CHECKING:
    from .best_worst_batches import BestWorstBatches
    from .classification_report import ClassificationReport
    from .confusion_matrix import ConfusionMatrix
    from .gradient_stats import GradientStats
    from .metrics import Metrics
    from .optimizer_monitor import OptimizerMonitor
    from .time_monitor import TimeMonitor

_HOMES = {
    "BestWorstBatches": "best_worst_batches",
    "ClassificationReport": "classification_report",
    "ConfusionMatrix": "confusion_matrix",
    "GradientStats": "gradient_stats",
    "Metrics": "metrics",
    "OptimizerMonitor": "optimizer_monitor",
    "TimeMonitor": "time_monitor",
}

__all__ = [
    "IMAGE_KEY",
    "OUTPUT_KEY",
    "SAMPLE_ID_KEY",
    "TARGET_KEY",
    "BestWorstBatches",
    "ClassificationReport",
    "ConfusionMatrix",
    "GradientStats",
    "Metrics",
    "OptimizerMonitor",
    "TimeMonitor",
    "UsageError",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
