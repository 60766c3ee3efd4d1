"""How each measure over a loader is made on a device, and what its ``update`` takes of a batch."""

import torch

from assay.callbacks.measures.binned_scores import BinnedScores
from assay.callbacks.measures.calibration import ReliabilityBins
from assay.callbacks.measures.class_metric import ClassTotals
from assay.callbacks.measures.confusion_by_group import ConfusionByGroup
from assay.callbacks.measures.confusion_matrix import ConfusionMatrix
from assay.callbacks.measures.gradient_stats import GradientStats
from assay.callbacks.measures.image_overlap import ImageOverlap
from assay.callbacks.measures.optimizer_steps import OptimizerSteps
from assay.callbacks.measures.region_counts import RegionCounts
from assay.callbacks.measures.weighted_mean import WeightedMean

N, C = 8, 3


def classes(*shape):
    return torch.randint(0, C, shape)


CASES = {
    "BinnedScores": (
        lambda device: BinnedScores("multiclass", C, 64, 1, device),
        lambda: (torch.randn(N, C), classes(N)),
    ),
    "ReliabilityBins": (
        lambda device: ReliabilityBins(5, C, 1, device),
        lambda: (torch.rand(N), torch.rand(N) < 0.5, classes(N)),
    ),
    "ClassTotals": (lambda device: ClassTotals("multiclass", C, 1, device), lambda: (classes(N), classes(N))),
    "ConfusionByGroup": (
        lambda device: ConfusionByGroup(2, C, 1, device),
        lambda: (classes(N), classes(N), torch.randint(0, 3, (N,))),
    ),
    "ConfusionMatrix": (lambda device: ConfusionMatrix(1, C, 1, device), lambda: (classes(N), classes(N))),
    "GradientStats": (
        lambda device: GradientStats([6, 20_000], device),
        lambda: ([torch.randn(6), torch.randn(20_000)],),
    ),
    "ImageOverlap": (
        lambda device: ImageOverlap("multiclass", C, [0, 2], 1, device=device, boundary=True),
        lambda: (classes(N, 4, 4), classes(N, 4, 4)),
    ),
    "OptimizerSteps": (
        lambda device: OptimizerSteps(device, max_norm=1.0),
        lambda: (torch.rand(()) * 2, torch.zeros(())),
    ),
    "RegionCounts": (
        lambda device: RegionCounts(4, 2, device),
        lambda: (torch.randn(N, 1, 9, 9), torch.randint(0, 2, (N, 9, 9)), torch.randint(0, 4, (N,))),
    ),
    "WeightedMean": (lambda device: WeightedMean(["a", "b"], device), lambda: (torch.rand(2), N)),
}


def to(device, part):
    if isinstance(part, torch.Tensor):
        return part.to(device)
    return [to(device, one) for one in part] if isinstance(part, list) else part
