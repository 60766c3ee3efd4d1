"""Whether Grad-CAM shows the evidence: the share of images on whose planted patch the peak of the map lies."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from assay.callbacks.measures.explained_layer import Layer, find_layer
from assay.callbacks.measures.explained_score import explained_score, repeated_score
from assay.callbacks.measures.grad_cam import heat_maps, undisturbed

from .planted import SIDE, Planted, plant
from .training import RIGHT, logits, train
from .zoo import ZOO

NEEDED = 0.9  # of the images have the peak on the patch

_IMAGES = 160  # of which four in five have a patch
_RANDOM_MAPS = 20  # an image, for the share of chance


def prove(name: str, kept: Path) -> dict[str, Any]:
    """Train a model of the zoo, and return what was measured of it; see ``python -m proofs``."""
    make, rate = ZOO[name]
    trained = train(make, rate, kept / f"{name.replace(' ', '-')}.pt")
    images = plant(_IMAGES, torch.Generator().manual_seed(5))
    data = images[(images.labels > 0) & _is_found(trained.model, images, images.images)]
    with undisturbed([trained.model]):
        layer = find_layer([trained.model], partial(logits, trained.model, data.images[:1]))
        if layer is None:
            raise RuntimeError(f"{name}: no layer to explain it by was found.")
        maps = torch.cat([_maps(trained.model, images, layer) for images in data.images.split(25)])
    share = on_patch(maps, data.boxes)
    return {
        "share": share,
        "chance": _chance(maps, data.boxes),
        "on_decoy": on_patch(maps, data.decoys),
        "found_when_erased": round(float(_is_found(trained.model, data, data.erased).float().mean()), 3),
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


@torch.no_grad()
def _is_found(model: nn.Module, data: Planted, images: Tensor) -> Tensor:
    """Return whether the look of each image is predicted, [N]; in a mask, for more than half of the patch."""
    predicted = logits(model, images).argmax(dim=1)
    if predicted.ndim == 1:
        return predicted == data.labels
    patch = data.masks > 0
    # Outside the patch a mask is class 0 in every image, which says nothing about the evidence.
    return ((predicted == data.masks) & patch).sum(dim=(1, 2)) * 2 > patch.sum(dim=(1, 2))


def _maps(model: nn.Module, images: Tensor, layer: Layer) -> Tensor:
    score = partial(explained_score, target=None, explain="predicted")
    return heat_maps(repeated_score(partial(logits, model, images), score), layer).maps


def _chance(maps: Tensor, boxes: Tensor) -> float:
    """Return the share that maps of random values reach."""
    # Maps of few cells touch a patch by chance more often, so chance is measured at the size of these maps.
    random = torch.rand(len(maps) * _RANDOM_MAPS, *maps.shape[1:], generator=torch.Generator().manual_seed(4))
    return on_patch(random, boxes.repeat(_RANDOM_MAPS, 1))
