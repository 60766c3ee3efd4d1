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
    from .classes.classification_report import ClassificationReport
    from .classes.confusion_matrix import ConfusionMatrix
    from .classes.image_overlap import ImageOverlap
    from .classes.pr_curves import PRCurves
    from .classes.prediction_distribution import PredictionDistribution
    from .metrics.batch_metrics import Metrics
    from .metrics.box_metrics import BoxMetrics
    from .metrics.recall_at_k import RecallAtK
    from .non_finite.guard import NonFiniteGuard
    from .non_finite.report import NonFiniteError
    from .overhead.budget import OverheadBudget
    from .presets import (
        classification_diagnostics,
        detection_diagnostics,
        regression_diagnostics,
        segmentation_diagnostics,
    )
    from .samples.augmentation_preview import AugmentationPreview
    from .samples.best_worst_batches import BestWorstBatches
    from .samples.best_worst_samples import BestWorstSamples
    from .samples.embedding_map import EmbeddingMap
    from .samples.embeddings import Embeddings
    from .samples.grad_cam import GradCAM
    from .samples.prediction_table import PredictionTable
    from .samples.pseudo_labels import PseudoLabels
    from .training.gradient_stats import GradientStats
    from .training.hparams import HParams
    from .training.optimizer_monitor import OptimizerMonitor
    from .training.time_monitor import TimeMonitor

_HOMES = {
    "AugmentationPreview": "samples.augmentation_preview",
    "BestWorstBatches": "samples.best_worst_batches",
    "BestWorstSamples": "samples.best_worst_samples",
    "BoxMetrics": "metrics.box_metrics",
    "ClassificationReport": "classes.classification_report",
    "ConfusionMatrix": "classes.confusion_matrix",
    "EmbeddingMap": "samples.embedding_map",
    "Embeddings": "samples.embeddings",
    "GradCAM": "samples.grad_cam",
    "GradientStats": "training.gradient_stats",
    "HParams": "training.hparams",
    "ImageOverlap": "classes.image_overlap",
    "Metrics": "metrics.batch_metrics",
    "NonFiniteError": "non_finite.report",
    "NonFiniteGuard": "non_finite.guard",
    "OptimizerMonitor": "training.optimizer_monitor",
    "OverheadBudget": "overhead.budget",
    "PRCurves": "classes.pr_curves",
    "PredictionDistribution": "classes.prediction_distribution",
    "PredictionTable": "samples.prediction_table",
    "PseudoLabels": "samples.pseudo_labels",
    "RecallAtK": "metrics.recall_at_k",
    "TimeMonitor": "training.time_monitor",
    "classification_diagnostics": "presets",
    "detection_diagnostics": "presets",
    "regression_diagnostics": "presets",
    "segmentation_diagnostics": "presets",
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
