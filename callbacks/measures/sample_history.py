"""What a model makes of each sample: its prediction, how sure it is, and how far it is from right."""

import numpy as np
import torch
from torch import Tensor

from .box_evidence import EVIDENCE, LABELS
from .box_matching import Boxes, crowds_of, match_beside_crowds
from .image_overlap import tally
from .mask_regions import UNPACKED, unpack_regions

TASKS = ("multiclass", "binary", "multilabel", "detection")
COLUMNS = ("target", "prediction", "probability", "target_probability", "margin", "el2n")
COLUMNS_OF = {
    **dict.fromkeys(("multiclass", "binary"), (*COLUMNS, "loss")),
    "multilabel": ("wrong_labels", "margin", "loss"),
    "segmentation": ("score", "contradicted", *UNPACKED, "loss"),
    "detection": ("score", "boxes", "found", "missed", "false", *EVIDENCE, "loss"),
}
"""What an epoch's file holds of each sample, by kind of sample: that of maps is ``segmentation`` in any task."""
KEPT_OF_MAPS = ("score", "contradicted", "pair", "box", "reach", "loss")
"""What is kept of a sample with maps until its epoch is written, where the region is unpacked."""
KEPT_OF_BOXES = ("score", "boxes", "missed", "false")
"""What is kept of the counts of a sample with boxes until its epoch is written; the others follow from these."""
_COUNTS = ("wrong_labels", "boxes", "found", "missed", "false")
WHOLE = ("target", "prediction", *_COUNTS, *LABELS, *UNPACKED)  # columns of whole numbers


@torch.no_grad()
def sample_numbers(logits: Tensor, target: Tensor, shares: Tensor | None = None) -> Tensor:
    """Return the numbers of each sample, without reading the device.

    ====================== ========================================================================================
    column                 value
    ====================== ========================================================================================
    ``target``             class number
    ``prediction``         class of the largest logit, the first of equals
    ``probability``        of the prediction, 0 to 1
    ``target_probability`` of the target, 0 to 1
    ``margin``             logit of the target less the largest of the others (Pleiss et al., "Identifying Mislabeled
                           Data using the Area Under the Margin Ranking", 2020, equation 1)
    ``el2n``               Euclidean distance of the probabilities from those of a sure and right prediction, 0 to
                           sqrt(2) (Paul et al., "Deep Learning on a Data Diet", 2021, definition of EL2N)
    ====================== ========================================================================================

    All are NaN that cannot be told: of a target that is no class, all but the prediction and its probability; of
    logits that are not finite, all but the target.

    Args:
        logits: [N, C] with C of at least 2, floating point.
        target: [N], class numbers, int64.
        shares: [N, C], float32, probabilities of the classes where they are known.

    Returns:
        [N, 6], float32, in the order of ``COLUMNS``. Class numbers up to 2**24 are exact in it.

    Example:
        >>> sample_numbers(torch.tensor([[2.0, 0.5]]), torch.tensor([1]))[0, [0, 1, 4]].tolist()
        [1.0, 0.0, -1.5]
    """
    logits = logits.float()
    classes = logits.shape[1]
    numbers = torch.arange(classes, device=logits.device)
    is_target = numbers == target[:, None]
    shares = logits.softmax(dim=1) if shares is None else shares
    own = logits.where(is_target, 0).sum(dim=1)
    margin = own - logits.masked_fill(is_target, -torch.inf).amax(dim=1)
    values = [
        target.float(),
        # Of the logits: probabilities near 1 are rounded to equal ones.
        logits.argmax(dim=1).float(),
        shares.amax(dim=1),
        shares.where(is_target, 0).sum(dim=1),
        margin,
        (shares - is_target.float()).norm(dim=1),
    ]
    is_class, is_finite = is_target.any(dim=1), logits.isfinite().all(dim=1)
    known = [is_class, is_finite, is_finite, *[is_class & is_finite] * 3]
    return torch.stack([value.where(told, torch.nan) for value, told in zip(values, known, strict=True)], dim=1)


def two_logits(logit: Tensor) -> Tensor:
    """Return logits [N, 2] of no and yes for logits [N] or [N, 1] of yes, with the same probabilities."""
    yes = logit.reshape(len(logit), 1)
    return torch.cat([torch.zeros_like(yes), yes], dim=1)


@torch.no_grad()
def label_numbers(logits: Tensor, target: Tensor, ignore_index: int | None = None) -> Tensor:
    """Return how many labels of each sample are wrong, and the smallest margin of its labels.

    The margin of a label is its logit where the label is there, and minus it otherwise: below 0 where it is wrong.
    Labels that are neither 0 nor 1 do not count; a sample without one that counts, or with a logit that is not finite,
    has NaN.

    Args:
        logits: [N, C], floating point.
        target: [N, C], int64.
        ignore_index: target value that does not count.

    Returns:
        [N, 2], float32.

    Example:
        >>> label_numbers(torch.tensor([[2.0, -1.0, 0.5]]), torch.tensor([[1, 1, 0]])).tolist()
        [[2.0, -1.0]]
    """
    logits = logits.float()
    counts = is_yes_or_no(target, ignore_index)
    margin = torch.where(target == 1, logits, -logits).where(counts, torch.inf)
    # A logit of 0 predicts no.
    wrong = (((logits > 0) != (target == 1)) & counts).sum(dim=1)
    known = counts.any(dim=1) & logits.isfinite().all(dim=1)
    return torch.stack([wrong.float(), margin.amin(dim=1)], dim=1).where(known[:, None], torch.nan)


@torch.no_grad()
def region_overlaps(
    predicted: Tensor, target: Tensor, classes: int | None, ignore_index: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return IoU and recall of each class in each map, in numbers of pixels.

    Pixels whose target is no class do not count.

    Args:
        predicted: int64, class numbers [N, ...], or 0 and 1, [N, C, ...].
        target: the same.
        classes: C, where they are class numbers; None: they are 0 and 1.
        ignore_index: target value that does not count.

    Returns:
        [N, C] each, float32, 0 to 1; NaN where the class is neither predicted nor true, and where it is not true.

    Example:
        >>> region_overlaps(torch.tensor([[[1, 0], [0, 0]]]), torch.tensor([[[1, 1], [0, 0]]]), classes=3)
        (tensor([[0.6667, 0.5000,    nan]]), tensor([[1.0000, 0.5000,    nan]]))
    """
    if classes is None:
        counts = is_yes_or_no(target, ignore_index)
        masks = torch.stack([predicted == 1, target == 1]) & counts
        hits, found, true = (one.flatten(2).sum(dim=2) for one in (masks[0] & masks[1], *masks))
        return _overlaps(hits, found, true)
    predicted, target = (part.reshape(len(part), -1) for part in (predicted, target))
    left_out = (target < 0) | (target >= classes)
    left_out = left_out if ignore_index is None else left_out | (target == ignore_index)
    # A pixel is counted by its predicted class, with whether that is right, and by its true one.
    found = (predicted * 2 + (predicted == target)).masked_fill(left_out, 2 * classes)
    by_found = tally(found, 2 * classes + 1)[:, :-1].reshape(-1, classes, 2)
    true = tally(target.masked_fill(left_out, classes), classes + 1)[:, :-1]
    return _overlaps(by_found[..., 1], by_found.sum(dim=2), true)


def _overlaps(hits: Tensor, found: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    # 0 / 0 is NaN.
    return hits.float() / (found + true - hits), hits.float() / true


def box_numbers(found: Boxes, true: Boxes, *, min_score: float, min_iou: float) -> list[float]:
    """Return the average precision of the boxes of one image, and how many there are, are found, missed and false.

    The average precision is the mean over the true boxes of the precision at the prediction that hits each, 0 where
    none does: predictions of all labels are ranked by score, and the precision at one is the share of hits down to it
    (uninterpolated, as in Manning et al., "Introduction to Information Retrieval", 2008, section 8.4).

    Args:
        found: ``boxes`` [P, 4], ``scores`` [P], ``labels`` [P].
        true: ``boxes`` [M, 4], ``labels`` [M] and, where there are crowds, ``iscrowd`` [M].
        min_score: predictions below it are neither found nor false; they do count in the average precision.
        min_iou: smallest overlap at which a box is hit, see ``match_beside_crowds``.

    Returns:
        Average precision, 0 to 1, NaN without a true box; the number of true boxes, of which crowds are none; of those
        that a prediction hits; of those that none does; of predictions that hit none, but for those within a crowd.

    Example:
        >>> box = np.array([[0.0, 0.0, 10.0, 10.0]])
        >>> found = {"boxes": np.concatenate([box + 50, box]), "scores": np.array([0.9, 0.8]), "labels": np.ones(2)}
        >>> box_numbers(found, {"boxes": box, "labels": np.array([1])}, min_score=0.5, min_iou=0.5)
        [0.5, 1.0, 1.0, 0.0, 1.0]
    """
    matching, counts = match_beside_crowds(found, true, min_iou=min_iou)
    scores, hit = found["scores"][counts], matching.hit[counts]
    ranked = hit[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
    count, kept = int((~crowds_of(true)).sum()), scores >= min_score
    # What is kept is the head of the ranking, so that its matches are those that it would have alone.
    hits = int((hit & kept).sum())
    score = float(precision[ranked].sum()) / count if count else float("nan")
    return [score, float(count), float(hits), float(count - hits), float(kept.sum() - hits)]


def map_columns(numbers: np.ndarray) -> dict[str, np.ndarray]:
    """Return the columns of an epoch's file of samples with maps, [n] each.

    Args:
        numbers: [n, K], the columns of ``KEPT_OF_MAPS``.
    """
    kept = dict(zip(KEPT_OF_MAPS, numbers.T, strict=True))
    kept |= unpack_regions(*(kept[name] for name in ("pair", "box", "reach")))
    return {name: kept[name] for name in COLUMNS_OF["segmentation"]}


def box_columns(counts: np.ndarray, evidence: np.ndarray) -> dict[str, np.ndarray]:
    """Return the columns of an epoch's file of samples with boxes, [n] float32 each.

    Args:
        counts: [n, 4], of ``KEPT_OF_BOXES``.
        evidence: [n, K], of ``EVIDENCE``.
    """
    columns = dict(zip((*KEPT_OF_BOXES, *EVIDENCE), [*counts.T, *evidence.astype(np.float32).T], strict=True))
    # Detectors have no loss in evaluation.
    columns |= {"found": columns["boxes"] - columns["missed"], "loss": np.full(len(counts), np.nan, np.float32)}
    return {name: columns[name] for name in COLUMNS_OF["detection"]}


def is_yes_or_no(target: Tensor, ignore_index: int | None) -> Tensor:
    """Return where a target is 0 or 1 and counts, bool."""
    counts = (target == 0) | (target == 1)
    return counts if ignore_index is None else counts & (target != ignore_index)
