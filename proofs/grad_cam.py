"""Whether Grad-CAM shows the evidence: the share of images on whose planted patch the peak of the map lies."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from assay.callbacks.measures.explained_layer import Layer, find_layer
from assay.callbacks.measures.explained_score import explained_score
from assay.callbacks.measures.grad_cam import heat_maps, undisturbed

from .planted import SIDE, Planted, plant
from .training import RIGHT, logits, train
from .zoo import ZOO

NEEDED = 0.9  # of the images have the peak on the patch

_IMAGES = 100
_RANDOM_MAPS = 20  # an image, for the share of chance


def prove(name: str, kept: Path) -> dict[str, Any]:
    """Train a model of the zoo, and return what was measured of it; see ``on_patch`` for the shares."""
    make, rate = ZOO[name]
    trained = train(make, rate, kept / f"{name.replace(' ', '-')}.pt")
    data = _predicted_right(trained.model, plant(_IMAGES, torch.Generator().manual_seed(3)))
    with undisturbed([trained.model]):
        layer = find_layer([trained.model], partial(logits, trained.model, data.images[:1]))
        if layer is None:
            raise RuntimeError(f"{name}: no layer to explain it by was found.")
        maps = torch.cat([_maps(trained.model, images, layer) for images in data.images.split(25)])
    share = on_patch(maps, data.boxes)
    return {
        "share": share,
        "chance": _chance(maps, data.boxes),
        "proved": share >= NEEDED and trained.accuracy > RIGHT,
        "layer": next(path for path, module in trained.model.named_modules() if module is layer.module),
        "map": "{} x {}".format(*maps.shape[1:]),
        "zero_maps": int((maps.amax(dim=(1, 2)) == 0).sum()),
        "images": len(maps),
        "accuracy": round(trained.accuracy, 3),
        "steps": trained.steps,
    }


def on_patch(maps: Tensor, boxes: Tensor) -> float:
    """Return the share of maps whose largest cell touches the patch.

    The peak of a map that is scaled up lies in the middle of its largest cell, so this is the peak on the patch with
    half a cell of slack. A map of zeros is a miss.

    Args:
        maps: [N, h, w].
        boxes: [N, 4], see ``Planted``.
    """
    height, width = SIDE / maps.shape[1], SIDE / maps.shape[2]
    peak = maps.flatten(1).argmax(dim=1)
    top, left = peak // maps.shape[2] * height, peak % maps.shape[2] * width
    touches = (left < boxes[:, 2]) & (left + width > boxes[:, 0]) & (top < boxes[:, 3]) & (top + height > boxes[:, 1])
    return round(float((touches & (maps.amax(dim=(1, 2)) > 0)).float().mean()), 3)


def _predicted_right(model: nn.Module, data: Planted) -> Planted:
    """Return the images that are predicted right; of masks, those whose patch is, in more than half of its pixels."""
    with torch.no_grad():
        predicted = logits(model, data.images).argmax(dim=1)
    if predicted.ndim == 1:
        right = predicted == data.labels
    else:
        patch = data.masks > 0
        right = ((predicted == data.masks) & patch).sum(dim=(1, 2)) * 2 > patch.sum(dim=(1, 2))
    return Planted(data.images[right], data.labels[right], data.boxes[right])


def _maps(model: nn.Module, images: Tensor, layer: Layer) -> Tensor:
    return heat_maps(lambda: explained_score(logits(model, images), None, "predicted"), layer).maps


def _chance(maps: Tensor, boxes: Tensor) -> float:
    """Return the share that maps of random values reach."""
    random = torch.rand(len(maps) * _RANDOM_MAPS, *maps.shape[1:], generator=torch.Generator().manual_seed(4))
    return on_patch(random, boxes.repeat(_RANDOM_MAPS, 1))
