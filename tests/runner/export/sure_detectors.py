"""Detectors of fresh weights that are sure enough of many boxes."""

import torch
from torch import nn

from assay.experiments.detectors import make_detector


def sure_detector(name, images):
    """Return a detector whose scores differ, and which finds about half of what it could find in images."""
    torch.manual_seed(0)
    model = make_detector(name, "light", image_size=max(images.shape), channels=32, num_classes=3).eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, std=0.05)
    if name == "retinanet":
        # Its scores would hardly differ otherwise, and rounding would decide which boxes suppress others.
        nn.init.normal_(model.net.head.classification_head.cls_logits.weight, std=2.5)
    limit_scores(model, 0.0)
    with torch.no_grad():
        limit_scores(model, float(model(images)["detections"][0]["scores"].median()))
    return model.requires_grad_(False)


def limit_scores(model, score):
    """Have a detector drop boxes of lower scores."""
    for part in model.modules():
        if hasattr(part, "detections_per_img"):
            part.score_thresh = score
