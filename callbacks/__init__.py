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
    from .augmentation_preview import AugmentationPreview
    from .best_worst_batches import BestWorstBatches
    from .best_worst_samples import BestWorstSamples
    from .box_metrics import BoxMetrics
    from .classification_report import ClassificationReport
    from .confusion_matrix import ConfusionMatrix
    from .embedding_map import EmbeddingMap
    from .embeddings import Embeddings
    from .grad_cam import GradCAM
    from .gradient_stats import GradientStats
    from .hparams import HParams
    from .image_overlap import ImageOverlap
    from .metrics import Metrics
    from .non_finite_guard import NonFiniteGuard
    from .non_finite_report import NonFiniteError
    from .optimizer_monitor import OptimizerMonitor
    from .overhead_budget import OverheadBudget
    from .pr_curves import PRCurves
    from .prediction_distribution import PredictionDistribution
    from .prediction_table import PredictionTable
    from .pseudo_labels import PseudoLabels
    from .recall_at_k import RecallAtK
    from .task_diagnostics import (
        classification_diagnostics,
        detection_diagnostics,
        regression_diagnostics,
        segmentation_diagnostics,
    )
    from .time_monitor import TimeMonitor

_HOMES = {
    "AugmentationPreview": "augmentation_preview",
    "BestWorstBatches": "best_worst_batches",
    "BestWorstSamples": "best_worst_samples",
    "BoxMetrics": "box_metrics",
    "ClassificationReport": "classification_report",
    "ConfusionMatrix": "confusion_matrix",
    "EmbeddingMap": "embedding_map",
    "Embeddings": "embeddings",
    "GradCAM": "grad_cam",
    "GradientStats": "gradient_stats",
    "HParams": "hparams",
    "ImageOverlap": "image_overlap",
    "Metrics": "metrics",
    "NonFiniteError": "non_finite_report",
    "NonFiniteGuard": "non_finite_guard",
    "OptimizerMonitor": "optimizer_monitor",
    "OverheadBudget": "overhead_budget",
    "PRCurves": "pr_curves",
    "PredictionDistribution": "prediction_distribution",
    "PredictionTable": "prediction_table",
    "PseudoLabels": "pseudo_labels",
    "RecallAtK": "recall_at_k",
    "TimeMonitor": "time_monitor",
    "classification_diagnostics": "task_diagnostics",
    "detection_diagnostics": "task_diagnostics",
    "regression_diagnostics": "task_diagnostics",
    "segmentation_diagnostics": "task_diagnostics",
}

__all__ = [
    "IMAGE_KEY",
    "OUTPUT_KEY",
    "SAMPLE_ID_KEY",
    "TARGET_KEY",
    "AugmentationPreview",
    "BestWorstBatches",
    "BestWorstSamples",
    "BoxMetrics",
    "ClassificationReport",
    "ConfusionMatrix",
    "EmbeddingMap",
    "Embeddings",
    "GradCAM",
    "GradientStats",
    "HParams",
    "ImageOverlap",
    "Metrics",
    "NonFiniteError",
    "NonFiniteGuard",
    "OptimizerMonitor",
    "OverheadBudget",
    "PRCurves",
    "PredictionDistribution",
    "PredictionTable",
    "PseudoLabels",
    "RecallAtK",
    "TimeMonitor",
    "UsageError",
    "classification_diagnostics",
    "detection_diagnostics",
    "regression_diagnostics",
    "segmentation_diagnostics",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
