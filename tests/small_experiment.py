"""An experiment for runs of real processes: it imports little, trains fast, and leaves much of its course to chance."""

from dataclasses import dataclass, field

import torch
from torch import nn
from torch.utils.data import DataLoader

from assay.runner import Augmented, Experiment

CLASSES = 3


class Shift:
    """Adds a number to an image that is drawn anew for each sample and epoch, as albumentations would."""

    def set_random_seed(self, seed):
        self.seed = seed

    def __call__(self, image):
        return {"image": image + torch.randn((), generator=torch.Generator().manual_seed(self.seed))}


class Net(nn.Module):
    """Images [N, 1, 8, 8] to {"logits": [N, 3]}, with layers that draw, and that remember batches."""

    def __init__(self, dropout):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(dropout), nn.Linear(144, CLASSES)
        )

    def forward(self, image):
        return {"logits": self.layers(image)}


@dataclass(kw_only=True)
class Small(Experiment):
    """Learns which way noise leans."""

    epochs: int = 2
    silence: list[str] = field(default_factory=lambda: ["near-duplicates", "shared-images"])
    batch_size: int = 8
    samples: int = 96
    """How many there are for training; a third of them is for validation too."""
    dropout: float = 0.5
    """Share of the features that are left out."""
    persistent: bool = True
    """Whether workers live through the run or through an epoch."""

    def get_loaders(self):
        chance = torch.Generator().manual_seed(0)
        images = torch.randn(self.samples, 1, 8, 8, generator=chance)
        items = [
            {"image": image + i % CLASSES, "target": i % CLASSES, "sample_id": i} for i, image in enumerate(images)
        ]
        return {
            "train": self.make_loader(Augmented(items, Shift(), seed=self.seed), shuffle=True),
            "valid": self.make_loader(items[: self.samples // 3]),
        }

    def make_loader(self, dataset, *, shuffle=False):
        return DataLoader(
            dataset,
            self.batch_size,
            shuffle=shuffle,
            num_workers=self.workers,
            persistent_workers=self.persistent and self.workers > 0,
        )

    def get_model(self):
        return Net(self.dropout)

    def get_callbacks(self):
        """Return everything that a classifier can show, or what does not take seconds to import, or nothing."""
        if self.diagnostics == "off":
            return []
        if self.diagnostics == "full":
            from assay.callbacks import classification_diagnostics

            return classification_diagnostics("full", num_classes=CLASSES)
        from assay.callbacks import BestWorstBatches, ConfusionMatrix, GradientStats, OptimizerMonitor

        return [BestWorstBatches("loss"), ConfusionMatrix(num_classes=CLASSES), GradientStats(), OptimizerMonitor()]
