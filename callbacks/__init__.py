"""Callbacks that show in TensorBoard what a model does; they work with any Catalyst runner.

Names are imported when they are first used, so that ``assay --help`` does not wait for torch.
"""

from typing import TYPE_CHECKING

from .errors import UsageError as UsageError
from .keys import IMAGE_KEY as IMAGE_KEY
from .keys import OUTPUT_KEY as OUTPUT_KEY
from .keys import SAMPLE_ID_KEY as SAMPLE_ID_KEY
from .keys import TARGET_KEY as TARGET_KEY
from .lazy_exports import lazy_exports

# The only list of what is exported.
if TYPE_CHECKING:
    from .classes.calibration import Calibration as Calibration
    from .classes.classification_report import ClassificationReport as ClassificationReport
    from .classes.confusion_matrix import ConfusionMatrix as ConfusionMatrix
    from .classes.image_overlap import ImageOverlap as ImageOverlap
    from .classes.pr_curves import PRCurves as PRCurves
    from .classes.prediction_distribution import PredictionDistribution as PredictionDistribution
    from .findings.findings import Findings as Findings
    from .findings.findings import FindingsError as FindingsError
    from .gallery.report.callback import Report as Report
    from .gallery.report.notebook import show_report as show_report
    from .gallery.report.notebook import show_samples as show_samples
    from .history.sample_history import SampleHistory as SampleHistory
    from .metrics.batch_metrics import Metrics as Metrics
    from .metrics.box_confusion import BoxConfusion as BoxConfusion
    from .metrics.box_curves import BoxCurves as BoxCurves
    from .metrics.box_metrics import BoxMetrics as BoxMetrics
    from .metrics.recall_at_k import RecallAtK as RecallAtK
    from .non_finite.guard import NonFiniteGuard as NonFiniteGuard
    from .non_finite.report import NonFiniteError as NonFiniteError
    from .overhead.budget import OverheadBudget as OverheadBudget
    from .presets import classification_diagnostics as classification_diagnostics
    from .presets import detection_diagnostics as detection_diagnostics
    from .presets import regression_diagnostics as regression_diagnostics
    from .presets import segmentation_diagnostics as segmentation_diagnostics
    from .results.results import Results as Results
    from .samples.augmentation_preview import AugmentationPreview as AugmentationPreview
    from .samples.best_worst_batches import BestWorstBatches as BestWorstBatches
    from .samples.best_worst_samples import BestWorstSamples as BestWorstSamples
    from .samples.chosen_samples import FixedSamples as FixedSamples
    from .samples.chosen_samples import RandomSamples as RandomSamples
    from .samples.embedding_map import EmbeddingMap as EmbeddingMap
    from .samples.embeddings import Embeddings as Embeddings
    from .samples.grad_cam import GradCAM as GradCAM
    from .samples.prediction_table import PredictionTable as PredictionTable
    from .samples.pseudo_labels import PseudoLabels as PseudoLabels
    from .training.curves import Curves as Curves
    from .training.data_overview import DataOverview as DataOverview
    from .training.gradient_stats import GradientStats as GradientStats
    from .training.hparams import HParams as HParams
    from .training.optimizer_monitor import OptimizerMonitor as OptimizerMonitor
    from .training.time_monitor import TimeMonitor as TimeMonitor
else:
    __getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
