"""Which masks are probably wrong, and where: regions that a model contradicts in epoch after epoch."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..measures.mask_regions import SURE, UNPACKED
from .suspects import Suspects

EPOCHS = 3  # the last ones in which a sample was seen, in each of which its mask is contradicted
_SAME_PLACE = 0.3  # least overlap, as IoU, of the bounding boxes of one region in two epochs
_MOSTLY = 0.5  # share of the suspects whose boxes overlap, where samples are not augmented
_KNOWN = 0.5  # share of its samples in which a class is recognized by a model that may contradict a mask


def find_region_suspects(
    count: int,
    newest_first: Sequence[Mapping[str, np.ndarray]],
    recognized: np.ndarray | None = None,
    *,
    same_place: bool,
) -> tuple[Suspects, np.ndarray]:
    """Return the samples whose masks are contradicted in each of the last three epochs in which they were seen.

    That is, in each a region is contradicted surely (see ``measures.mask_regions.SURE``), by the same pair of classes.
    A pair counts only if the model recognizes both classes in half of the samples in which they are: one that never
    finds a class contradicts all of its masks, which are right.

    Args:
        count: n, number of samples.
        newest_first: of the last epochs the columns ``contradicted`` and ``UNPACKED``, [n] each, NaN for what is not
            known; epochs of a version without them count for nothing.
        recognized: [C], in which share of its samples each class is recognized, NaN where it has none; None: not known,
            as of very many classes, and then all pairs count.
        same_place: whether the three regions must overlap, too, as where samples are not augmented.

    Returns:
        The suspects, each with the mean of how surely it is contradicted in the three epochs, and with the bounding box
        in the last of them where those of all three overlap, as they do in half of the suspects or more: in fewer they
        do by chance, of augmented samples; and this mean of all samples, [n], 0 to 1, NaN where a
        sample was seen in none.
    """
    epochs, total = np.zeros(count, np.int64), np.zeros(count)
    is_same, stays = np.ones(count, bool), np.ones(count, bool)
    found = np.full((count, len(UNPACKED)), -1, np.int64)  # in the newest epoch of each sample
    for columns in newest_first:
        if not {"contradicted", *UNPACKED} <= columns.keys():
            continue
        rows = np.flatnonzero(np.isfinite(columns["contradicted"]) & (epochs < EPOCHS))
        contradicted = columns["contradicted"][rows].astype(np.float64)
        region = np.stack([np.nan_to_num(columns[name][rows], nan=-1) for name in UNPACKED], axis=1).astype(np.int64)
        is_newest = epochs[rows] == 0
        found[rows[is_newest]] = region[is_newest]
        epochs[rows] += 1
        total[rows] += contradicted
        is_same[rows] &= (contradicted >= SURE) & (region[:, :2] == found[rows, :2]).all(axis=1)
        stays[rows] &= _overlap(region[:, 2:], found[rows, 2:]) >= _SAME_PLACE
    score = np.divide(total, epochs, out=np.full(count, np.nan), where=epochs > 0)
    chosen = is_same & (epochs == EPOCHS) & _are_known(found[:, :2], recognized)
    chosen &= stays | (not same_place)
    index = np.flatnonzero(chosen)
    index = index[np.argsort(-score[index], kind="stable")]
    suspects = Suspects.of("region", index, found[index, 0], found[index, 1], score[index])
    told = stays[index] & (stays[index].mean() >= _MOSTLY) if len(index) else stays[index]
    boxes = zip(found[index, 2:].tolist(), told.tolist(), strict=True)
    where = [" ".join(map(str, box)) if stay else "" for box, stay in boxes]
    return replace(suspects, where=where), score


def _overlap(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the IoU of boxes, [m, 4] each; 0 where both are empty."""
    sides = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
    both = sides.clip(min=0).prod(axis=1)
    union = (one[:, 2:] - one[:, :2]).prod(axis=1) + (other[:, 2:] - other[:, :2]).prod(axis=1) - both
    return np.asarray(both / np.maximum(union, 1))


def _are_known(classes: np.ndarray, recognized: np.ndarray | None) -> np.ndarray:
    """Return which pairs of classes, [n, 2], -1 for none, are both recognized, [n] bool."""
    if recognized is None:
        return np.ones(len(classes), bool)
    # The last stands for no class. Class 0 of yes or no has no recall of its own.
    is_known = np.concatenate([recognized >= _KNOWN, [True]])
    if len(recognized) == 1:
        is_known = np.array([True, is_known[0], True])
    return np.asarray(is_known[classes].all(axis=1))
