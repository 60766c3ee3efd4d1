"""The precision of detected boxes per image, as the Global Wheat Detection competition scores it."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

MIN_IOUS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75)

Boxes = Sequence[Mapping[str, Tensor]]


def box_precision(found: Boxes, true: Boxes, *, min_score: float = 0.0, min_ious: Sequence[float] = MIN_IOUS) -> Tensor:
    """Return the mean over several overlaps of hits / (hits + false alarms + misses) for each image.

    At each overlap, predictions choose in the order of their scores (the first of equals first): each takes the true
    box of its label that is still free and overlaps it most (the first of equals), and is a hit if their IoU is greater
    than that overlap. An image without true boxes has 0 as soon as anything is predicted; one in which nothing is
    predicted either has no precision, NaN.

    Source of the rule: the page "Evaluation" of https://www.kaggle.com/c/global-wheat-detection.

    Args:
        found: of N images, at least one: ``boxes`` [P, 4] (left, top, right, bottom), ``scores`` [P], ``labels`` [P].
        true: of the same images: ``boxes`` [M, 4], ``labels`` [M].
        min_score: predictions below it do not count, nor do those whose score is NaN.
        min_ious: the overlaps, 0 to 1.

    Returns:
        [N], float64, 0 to 1 or NaN, on the device of the boxes; the host reads nothing.

    Example:
        >>> true = [{"boxes": torch.tensor([[0.0, 0.0, 10.0, 10.0]]), "labels": torch.tensor([1])}]
        >>> found = [{**true[0], "scores": torch.tensor([0.9])}]
        >>> box_precision(found, true)
        tensor([1.], dtype=torch.float64)
    """
    scores = _stack_padded([one["scores"].double() for one in found], -torch.inf)
    kept = scores >= min_score
    order = scores.where(kept, -torch.inf).argsort(dim=1, descending=True, stable=True)
    kept = kept.gather(1, order)
    boxes = _stack_padded([one["boxes"].double().reshape(-1, 4) for one in found])
    boxes = boxes.gather(1, order[..., None].expand_as(boxes))
    labels = _stack_padded([one["labels"] for one in found]).gather(1, order)
    # One more box that no prediction can hit, as argmax needs at least one to choose from.
    true_boxes = _stack_padded([_append_zero(one["boxes"].double().reshape(-1, 4)) for one in true])
    true_labels = _stack_padded([_append_zero(one["labels"]) for one in true])
    free = _stack_padded([_append_zero(torch.ones_like(one["labels"], dtype=torch.bool)) for one in true])
    fits = kept[:, :, None] & free[:, None, :] & (labels[:, :, None] == true_labels[:, None, :])
    overlaps = _iou(boxes, true_boxes) * fits
    hits = _count_hits(overlaps, free, min_ious)
    # hits + false alarms + misses = predictions + true boxes - hits.
    either = kept.sum(dim=1) + free.sum(dim=1)
    precision = hits / (either[:, None] - hits).clamp(min=1)
    return torch.where(either == 0, torch.nan, precision.mean(dim=1))


def _count_hits(overlaps: Tensor, free: Tensor, min_ious: Sequence[float]) -> Tensor:
    """Return the number of hits, [N, T], of predictions in their order: overlaps [N, P, M], free [N, M]."""
    count, predictions, truths = overlaps.shape
    # Filled on the device: a tensor of the list would be copied there, for which the step waits.
    limits = torch.cat([overlaps.new_full((1,), limit) for limit in min_ious])
    free = free[:, None, :].expand(count, len(limits), truths)
    hits = overlaps.new_zeros((count, len(limits)))
    places = torch.arange(truths, device=overlaps.device)
    for index in range(predictions):  # in turn, as each takes a box from the next; all images and overlaps at once
        overlap = overlaps[:, index, None, :] * free
        nearest = overlap.argmax(dim=2, keepdim=True)
        hit = overlap.gather(2, nearest) > limits[None, :, None]
        free = free & ~(hit & (places == nearest))
        hits = hits + hit[..., 0]
    return hits


def _stack_padded(parts: Sequence[Tensor], value: float = 0.0) -> Tensor:
    most = max(len(part) for part in parts)
    return torch.stack([F.pad(part, (0, 0) * (part.ndim - 1) + (0, most - len(part)), value=value) for part in parts])


def _append_zero(part: Tensor) -> Tensor:
    return torch.cat([part, part.new_zeros((1, *part.shape[1:]))])


def _iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the IoU of every pair of boxes [N, P, 4] and [N, M, 4], 0 where they share nothing or are not finite."""
    first, second = first[:, :, None, :], second[:, None, :, :]
    corner, opposite = torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:])
    shared = (opposite - corner).clamp(min=0.0).prod(dim=-1)
    union = _area(first) + _area(second) - shared
    return torch.where(shared > 0, shared / union, 0.0).nan_to_num(0.0)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0.0).prod(dim=-1)
