"""An experiment of all tasks at once, with each diagnostic that keeps something of an unfinished loader.

It is trained by former versions too (see ``write.py``), so it uses what all of them have.
"""

from dataclasses import dataclass

import albumentations as A
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, default_collate

import assay.callbacks as shown
from assay.callbacks import Embeddings, GradientStats, RecallAtK, classification_diagnostics
from assay.experiments.alaska2 import ConfusionByGroup
from assay.experiments.inria.metrics import TileIoU
from assay.experiments.wheat import BoxMetrics
from assay.runner import Augmented, Experiment, LossTerm

CLASSES, TRAIN, VALID, SIDE = 3, 48, 20, 6
NAMES = ["low", "middle", "high"]


class Net(nn.Module):
    """Draws for itself, normalizes over the batch, has a layer that Grad-CAM finds, and an output for each task."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Linear(4 * SIDE**2, CLASSES)
        self.mask = nn.Conv2d(4, 1, 1)

    def forward(self, image):
        features = self.features(image)
        mask = self.mask(features)
        # A box for each image; how tall it is depends on the weights.
        sizes = 2 + 2 * mask.detach().sigmoid().mean(dim=(1, 2, 3))
        boxes = [
            {"boxes": torch.stack([size * 0, size * 0, size, size])[None], "labels": torch.tensor([1]),
             "scores": (size / 8)[None]}
            for size in sizes
        ]  # fmt: skip
        vector = features.mean(dim=(2, 3))
        logits = self.head(features.flatten(1))
        return {"logits": logits, "mask": mask, "found": boxes, "vector": vector}


def make_items(count, seed):
    rng = np.random.default_rng(seed)
    for index in range(count):
        image = rng.integers(0, 256, (SIDE, SIDE, 1), dtype=np.uint8)
        mask = torch.from_numpy((image[:, :, 0] > 128).astype(np.float32))
        side = float(2 + index % 3)
        box = {"boxes": torch.tensor([[0.0, 0.0, side, side]]), "labels": torch.tensor([1])}
        yield {
            "image": image, "target": int(rng.integers(CLASSES)), "sample_id": f"{seed}-{index}",
            "true_mask": mask, "true_boxes": box, "tile": index % 2, "quality": index % 2,
        }  # fmt: skip


def collate(items):
    whole = default_collate([{key: part for key, part in item.items() if key != "true_boxes"} for item in items])
    return {**whole, "true_boxes": [item["true_boxes"] for item in items]}


@dataclass(kw_only=True)
class EveryMeasure(Experiment):
    """Learns noise."""

    epochs: int = 3
    check: str = "off"
    batch_size: int = 4
    device: str = "cpu"
    threads: int | None = 1
    lr: float = 0.01
    scheduler: str = "one-cycle"
    accumulate_steps: int = 2
    clip_grad_norm: float | None = 0.5
    ema_decay: float | None = 0.9
    log_every_steps: int = 1
    newer: bool = False
    """Whether to add the diagnostics that came after c625354."""

    losses = (LossTerm(criterion="classes"), LossTerm("mask", "true_mask", "mask"))

    def get_loaders(self):
        change = [A.GaussNoise(p=0.5), A.ToFloat(), A.ToTensorV2()]
        train = Augmented(list(make_items(TRAIN, 0)), A.Compose(change), seed=self.seed)
        valid = Augmented(list(make_items(VALID, 1)), A.Compose(change[1:]), seed=self.seed)
        return {
            "train": DataLoader(train, self.batch_size, shuffle=True, collate_fn=collate),
            "valid": DataLoader(valid, self.batch_size, collate_fn=collate),
        }

    def get_model(self):
        return Net()

    def get_criterion(self):
        return {"classes": nn.CrossEntropyLoss(), "mask": mask_loss}

    def get_callbacks(self):
        general = classification_diagnostics(
            metrics=["accuracy", "f1"], class_names=NAMES, k_samples=4, gradients_every_n_steps=2
        )
        # The one that looks at every step takes the place of the one that looks at every second.
        general = [callback for callback in general if not isinstance(callback, GradientStats)]
        return [
            *general,
            GradientStats(every_n_steps=2, per_parameter=True, update_ratio=True),
            Embeddings(max_samples=10, every_n_epochs=1, loader="train", embedding_key="vector"),
            RecallAtK([1, 2], embedding_key="vector"),
            ConfusionByGroup("quality", ["good", "bad"], class_names=NAMES),
            TileIoU(["first", "second"], ["here", "there"], 1, output_key="mask", target_key="true_mask"),
            BoxMetrics(output_key="found", target_key="true_boxes", min_score=0.25),
            *(self.newer_callbacks() if self.newer else []),
        ]

    def newer_callbacks(self):
        pixels = {"output_key": "mask", "target_key": "true_mask"}
        return [
            shown.ImageOverlap(task="binary", **pixels),
            shown.EmbeddingMap("pca", max_samples=8, loader="valid", embedding_key="vector", class_names=NAMES),
        ]


def mask_loss(mask, true):
    return nn.functional.binary_cross_entropy_with_logits(mask[:, 0], true)
