"""torchvision's detectors, rewritten for the time of an export so that shapes follow from the image's size alone.

As they are, they select boxes by their scores several times, and what they do next depends on how many are left. An
exporter cannot follow that. Here every box stays until the end, the rejected ones empty and without a score, and one
selection follows the suppression of overlaps. The result is the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import MultiScaleRoIAlign, clip_boxes_to_image, nms, roi_align

_SMALLEST_BOX = 1e-2  # torchvision's own limit for what RoI heads find, in pixels


@contextmanager
def followable(model: nn.Module) -> Iterator[None]:
    """Give the parts of torchvision's detectors in a model methods that an exporter can follow, within the block.

    The model must have run once on an image of the same size: that sets up its anchors and pooling.
    """
    replaced = [(module, *found) for module in model.modules() if (found := _replacement(module)) is not None]
    for module, name, method in replaced:
        setattr(module, name, MethodType(method, module))
    try:
        yield
    finally:
        for module, name, _ in replaced:
            delattr(module, name)  # the method of the class shows again


def _replacement(module: nn.Module) -> tuple[str, Any] | None:
    """Return the name of the method to replace in a part of a detector, and its replacement."""
    for kind, name, method in _REPLACEMENTS:
        if isinstance(module, kind):
            return name, method
    return None


def _detect_in_levels(self: Any, head_outputs: Any, anchors: Any, image_shapes: Any) -> list[dict[str, Tensor]]:
    """Stand in for ``postprocess_detections`` of FCOS and RetinaNet."""
    found = []
    for index, shape in enumerate(image_shapes):
        parts = {name: [level[index] for level in levels] for name, levels in head_outputs.items()}
        levels = [
            _best_of_level(self, {name: part[number] for name, part in parts.items()}, of_level)
            for number, of_level in enumerate(anchors[index])
        ]
        boxes, scores, labels = (torch.cat(of) for of in zip(*levels, strict=True))
        boxes = clip_boxes_to_image(boxes, shape)
        kept = _select(boxes, scores, labels, scores > self.score_thresh, self.nms_thresh, self.detections_per_img)
        found.append({"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]})
    return found


def _best_of_level(self: Any, parts: dict[str, Tensor], anchors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return boxes [K, 4], scores [K] and labels [K] with the highest scores of a level."""
    logits = parts["cls_logits"]
    scores = logits.sigmoid()
    if "bbox_ctrness" in parts:
        scores = (scores * parts["bbox_ctrness"].sigmoid()).sqrt()
    # The best K are chosen before the score's threshold, and not after it: what is left in the end is the same.
    best, places = scores.flatten().topk(min(self.topk_candidates, scores.numel()))
    classes = logits.shape[-1]
    at = torch.div(places, classes, rounding_mode="floor")
    decode = self.box_coder.decode if isinstance(self, FCOS) else self.box_coder.decode_single
    return decode(parts["bbox_regression"][at], anchors[at]), best, places % classes


def _select(boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, overlap: float, most: int) -> Tensor:
    """Return the places of the boxes that non-maximum suppression keeps within groups, at most ``most``, best first."""
    # Offsets keep the groups apart. An empty box overlaps none, and so suppresses none.
    apart = boxes + (groups.to(boxes) * (boxes.max() + 1))[:, None]
    kept: Tensor = nms(torch.where(valid[:, None], apart, 0.0), torch.where(valid, scores, -1.0), overlap)
    # Rejected boxes have the lowest score: they come last, and move no other beyond the limit.
    return kept[valid[kept] & (torch.arange(kept.shape[0], device=kept.device) < most)]


def _propose(
    self: Any, proposals: Tensor, objectness: Tensor, image_shapes: Any, num_anchors_per_level: list[int]
) -> tuple[list[Tensor], list[Tensor]]:
    """Stand in for ``filter_proposals`` of a region proposal network.

    It always returns the same number of proposals. Those beyond what the original returns are empty boxes.
    """
    objectness = objectness.reshape(len(proposals), -1)
    chosen = self._get_top_n_idx(objectness, num_anchors_per_level)
    counts = enumerate(num_anchors_per_level)
    levels = torch.cat([torch.full((count,), number, device=objectness.device) for number, count in counts])
    boxes_of, scores_of = [], []
    for index, shape in enumerate(image_shapes):
        at = chosen[index]
        boxes, scores = clip_boxes_to_image(proposals[index][at], shape), objectness[index][at].sigmoid()
        valid = _is_larger(boxes, self.min_size) & (scores >= self.score_thresh)
        most = min(self.post_nms_top_n(), len(at))
        kept = _select(boxes, scores, levels[at], valid, self.nms_thresh, most)
        alive = torch.zeros_like(scores).index_fill(0, kept, 1.0) > 0
        best, order = torch.where(alive, scores, -1.0).topk(most)
        boxes_of.append(torch.where((best >= 0)[:, None], boxes[order], 0.0))
        scores_of.append(best)
    return boxes_of, scores_of


def _detect_in_regions(
    self: Any, class_logits: Tensor, box_regression: Tensor, proposals: list[Tensor], image_shapes: Any
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Stand in for ``postprocess_detections`` of RoI heads, after ``_propose``."""
    counts = [len(of) for of in proposals]
    boxes_of = self.box_coder.decode(box_regression, proposals).split(counts)
    scores_of = class_logits.softmax(dim=-1).split(counts)
    found = []
    for boxes, scores, regions, shape in zip(boxes_of, scores_of, proposals, image_shapes, strict=True):
        is_proposed = _is_larger(regions, 0.0)[:, None].expand_as(scores)[:, 1:].reshape(-1)
        labels = torch.arange(scores.shape[-1], device=scores.device).expand_as(scores)[:, 1:].reshape(-1)
        boxes, scores = clip_boxes_to_image(boxes, shape)[:, 1:].reshape(-1, 4), scores[:, 1:].reshape(-1)
        valid = is_proposed & (scores > self.score_thresh) & _is_larger(boxes, _SMALLEST_BOX)
        kept = _select(boxes, scores, labels, valid, self.nms_thresh, self.detections_per_img)
        found.append((boxes[kept], scores[kept], labels[kept]))
    boxes_found, scores_found, labels_found = zip(*found, strict=True)
    return list(boxes_found), list(scores_found), list(labels_found)


def _is_larger(boxes: Tensor, side: float) -> Tensor:
    """Whether both sides of boxes are of a length, and above 0."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return ((sides >= side) & (sides > 0)).all(dim=1)


def _pool(self: Any, features: dict[str, Tensor], boxes: list[Tensor], image_shapes: Any) -> Tensor:
    """Stand in for the forward pass of ``MultiScaleRoIAlign``: all levels are pooled, and the right one is chosen."""
    maps = [level for name, level in features.items() if name in self.featmap_names]
    indices = [torch.full_like(of[:, :1], index) for index, of in enumerate(boxes)]
    regions = torch.cat([torch.cat(indices), torch.cat(boxes)], dim=1)
    pooled: list[Tensor] = [
        roi_align(level, regions, self.output_size, scale, self.sampling_ratio)
        for level, scale in zip(maps, self.scales, strict=True)
    ]
    if len(pooled) == 1:
        return pooled[0]
    levels = self.map_levels(boxes)[:, None, None, None]
    of_levels = [torch.where(levels == number, of_level, 0.0) for number, of_level in enumerate(pooled)]
    return torch.stack(of_levels).sum(dim=0)


def _keep_anchors(self: Any, dtype: torch.dtype, device: torch.device) -> None:
    """Stand in for ``set_cell_anchors``, which assigns tensors that are of the right kind already."""


_REPLACEMENTS = (
    (FCOS, "postprocess_detections", _detect_in_levels),
    (RetinaNet, "postprocess_detections", _detect_in_levels),
    (RegionProposalNetwork, "filter_proposals", _propose),
    (RoIHeads, "postprocess_detections", _detect_in_regions),
    (MultiScaleRoIAlign, "forward", _pool),
    (AnchorGenerator, "set_cell_anchors", _keep_anchors),
)
