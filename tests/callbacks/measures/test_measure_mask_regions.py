"""The region that is contradicted most, against loops over windows and SciPy's connected components."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from assay.callbacks.measures.mask_regions import (
    SURE,
    UNPACKED,
    can_have_regions,
    contradictions,
    strongest_regions,
    unpack_regions,
    window_reach,
)
from assay.callbacks.measures.targets import decide_targets
from assay.callbacks.metrics.batch_metrics import predicted_classes

IGNORED = 9


def find(logits, target, task="multiclass", ignore_index=IGNORED):
    target = decide_targets(target, logits.shape, task, ignore_index)
    is_finite = logits.flatten(1).isfinite().all(dim=1)
    windows = contradictions(logits, predicted_classes(logits, task), target, is_finite, task, ignore_index)
    contradicted, pair, box = strongest_regions(windows).numpy().T
    reach = np.full(len(logits), window_reach(logits.shape[-2:]))
    return {"contradicted": contradicted, **unpack_regions(pair, box, reach)}


def smooth(shape, seed):
    noise = np.random.default_rng(seed).normal(size=shape)
    width = min(shape[-2:]) / 10
    noise = ndimage.gaussian_filter(noise, (*[0] * (len(shape) - 2), width, width))
    return noise / noise.std()


def case(task, seed, sides=(60, 44), count=6):
    """Return logits and targets in large patches that often differ, some of which do not count."""
    channels = {"multiclass": 4, "binary": 1, "multilabel": 3}[task]
    truth, noise = smooth((count, channels, *sides), seed), smooth((count, channels, *sides), seed + 1)
    logits = 4 * truth + 4 * noise
    target = truth.argmax(axis=1) if task == "multiclass" else (truth > 0).astype(np.int64)
    hidden = smooth(target.shape, seed + 2) > 1
    return torch.tensor(logits, dtype=torch.float32), torch.tensor(np.where(hidden, IGNORED, target))


def pixels_of(logits, target, task):
    """Return by how much each pixel of a sample is contradicted, by which pair, in a list with one of each label."""
    if task == "multiclass":
        shares = np.exp(logits - logits.max(axis=0))
        seen, places = shares.argmax(axis=0), np.indices(target.shape)
        own = shares[(np.clip(target, 0, len(logits) - 1), *places)]
        return [(np.where(target == IGNORED, 0, 1 - own / shares.max(axis=0)), target * 1000 + seen)]
    found = []
    for label, (logit, true) in enumerate(zip(logits, target, strict=True)):
        yes = 1 / (1 + np.exp(-logit))
        own, other = np.where(true == 1, yes, 1 - yes), np.where(true == 1, 1 - yes, yes)
        amount = np.where((true == IGNORED) | (own >= other), 0, 1 - own / other)
        found.append((amount, np.full(true.shape, label), true))
    return found


def expected(logits, target, task):
    """Return the same by loops over samples, windows and regions."""
    rows = []
    for of, true in zip(logits.double().numpy(), target.numpy(), strict=True):
        parts, (height, width) = pixels_of(of, true, task), true.shape[-2:]
        reach = window_reach((height, width))
        side = 2 * reach + 1
        shape = ((height - side) // reach + 1, (width - side) // reach + 1)
        amounts, pairs = np.zeros(shape), np.zeros(shape, int)
        for row, column in np.ndindex(shape):
            place = np.s_[row * reach : row * reach + side, column * reach : column * reach + side]
            if task == "multiclass":
                amount, pair = (part[place] for part in parts[0])
                amounts[row, column], pairs[row, column] = amount.mean(), pair.flat[amount.argmax()]
                continue
            means = [
                (np.where(true[place] == 1, amount[place], -amount[place]).mean(), label[place].flat[0])
                for amount, label, true in parts
            ]
            mean, label = max(means, key=lambda of: abs(of[0]))
            amounts[row, column] = abs(mean)
            pairs[row, column] = label * 2 + (mean > 0)
        regions = []
        for pair in np.unique(pairs[amounts >= 0.5]):
            numbered, count = ndimage.label((pairs == pair) & (amounts >= 0.5))
            regions += [(amounts[numbered == n].sum(), numbered == n, int(pair)) for n in range(1, count + 1)]
        rows.append(row_of(regions, amounts, reach, task))
    return {name: np.array([row.get(name, math.nan) for row in rows]) for name in ("contradicted", *UNPACKED)}


def row_of(regions, amounts, reach, task):
    if not regions:
        return {"contradicted": 0.0}
    _, region, pair = max(regions, key=lambda of: of[0])
    strongest = amounts[region].max()
    if strongest < SURE:
        return {"contradicted": strongest}
    if task == "multiclass":
        classes = divmod(pair, 1000)
    elif task == "binary":
        classes = (1, 0) if pair else (0, 1)
    else:
        classes = (pair // 2, math.nan) if pair % 2 else (math.nan, pair // 2)
    rows, columns = np.nonzero(region)
    half = (reach + 1) // 2
    sides = [columns.min() * reach + reach - half, rows.min() * reach + reach - half]
    sides += [columns.max() * reach + reach + half + 1, rows.max() * reach + reach + half + 1]
    return dict(zip(("contradicted", *UNPACKED), (strongest, *classes, *sides), strict=True))


@pytest.mark.parametrize("sides", [(60, 44), (31, 90), (120, 120)])
@pytest.mark.parametrize("task", ["multiclass", "binary", "multilabel"])
def test_regions_equal_those_of_loops(task, sides):
    told = 0
    for seed in range(3):
        logits, target = case(task, 10 * seed, sides)
        found, wanted = find(logits, target, task), expected(logits, target, task)
        for name, values in wanted.items():
            np.testing.assert_allclose(found[name], values, atol=1e-5, err_msg=name)
        told += np.isfinite(found["x1"]).sum()
        inside = np.isfinite(found["x1"])
        assert (found["x2"][inside] <= sides[1]).all() and (found["y2"][inside] <= sides[0]).all()
    assert told > 6


def test_one_map_and_one_with_an_axis_for_it_are_the_same():
    logits, target = case("binary", 5)
    with_axis, without = find(logits, target, "binary"), find(logits[:, 0], target[:, 0], "binary")
    for name, values in with_axis.items():
        np.testing.assert_array_equal(without[name], values)


def test_soft_targets_count_by_what_they_mean():
    logits, target = case("multiclass", 7)
    shares = torch.nn.functional.one_hot(target.clamp(0, 3), 4).permute(0, 3, 1, 2) * 0.9 + 0.025
    shares = shares.where((target != IGNORED)[:, None], float(IGNORED))
    labels, yes = case("multilabel", 7)
    soft = torch.where(yes == IGNORED, float(IGNORED), yes.clamp(0, 1) * 0.9 + 0.05)
    for task, given, hard, other in [("multiclass", logits, target, shares), ("multilabel", labels, yes, soft)]:
        found, wanted = find(given, other, task), find(given, hard, task)
        for name, values in wanted.items():
            np.testing.assert_array_equal(found[name], values, err_msg=name)


def disc(sides, middle, radius):
    rows, columns = np.mgrid[: sides[0], : sides[1]]
    return (rows - middle[0]) ** 2 + (columns - middle[1]) ** 2 <= radius**2


def sure(classes, count=3):
    """Return logits of a model that is sure of classes, [1, C, H, W]."""
    return torch.nn.functional.one_hot(torch.tensor(classes)[None], count).permute(0, 3, 1, 2) * 10.0


def test_a_missing_object_is_found_where_it_is_at_any_size():
    for side in (48, 96, 256, 600):
        seen = disc((side, side), (0.5 * side, 0.7 * side), 0.15 * side).astype(int) * 2
        found = find(sure(seen), torch.zeros(1, side, side, dtype=torch.long))
        assert found["contradicted"][0] > 0.99
        assert (found["region_target"][0], found["region_seen"][0]) == (0, 2)
        wanted = np.array([0.55, 0.35, 0.85, 0.65]) * side
        box = np.array([found[name][0] for name in ("x1", "y1", "x2", "y2")])
        assert np.abs(box - wanted).max() <= 0.04 * side


def test_rims_and_noise_do_not_count():
    side = 128
    mask, larger = (disc((side, side), (60, 60), radius).astype(int) for radius in (30, 32))
    found = find(sure(larger), torch.tensor(mask)[None])
    assert found["contradicted"][0] == 0
    noisy = np.where(np.random.default_rng(0).random(mask.shape) < 0.2, 2, mask)
    assert find(sure(noisy), torch.tensor(mask)[None])["contradicted"][0] == 0
    # Within what the model is sure of, noise takes little away.
    seen = np.where(np.random.default_rng(0).random(mask.shape) < 0.05, 2, mask)
    assert find(sure(seen), torch.zeros(1, side, side, dtype=torch.long))["region_seen"][0] == 1


def test_a_model_that_is_not_sure_contradicts_nothing():
    seen = disc((64, 64), (32, 32), 20).astype(int)
    for scale, least, most in ((0.02, 0, 0), (0.12, 0.6, 0.8), (0.4, 0.95, 1)):
        found = find(sure(seen) * scale, torch.zeros(1, 64, 64, dtype=torch.long))
        assert least <= found["contradicted"][0] <= most
        assert np.isfinite(found["x1"][0]) == (most == 1)


def test_what_cannot_be_told_is_nan():
    logits, target = case("multiclass", 3)
    target[0] = IGNORED
    logits[1, 0, 0, 0] = math.nan
    logits[2, 1, 5, 5] = math.inf
    found = find(logits, target)
    for values in found.values():
        assert np.isnan(values[:3]).all()
    assert np.isfinite(found["contradicted"][3:]).all()


@pytest.mark.parametrize(
    ("shape", "task", "can"),
    [
        ((2, 3, 32, 32), "multiclass", True),
        ((2, 3, 2, 40), "multiclass", False),
        ((2, 3, 32), "multiclass", False),
        ((2, 3, 8, 32, 32), "multiclass", False),
        ((2, 5000, 32, 32), "multiclass", False),
        ((2, 32, 32), "binary", True),
        ((2, 1, 32, 32), "binary", True),
        ((2, 2, 32, 32), "binary", False),
        ((2, 3, 32, 32), "multilabel", True),
    ],
)
def test_maps_that_windows_do_not_fit_into_have_no_regions(shape, task, can):
    assert can_have_regions(torch.empty(shape, device="meta"), task) == can


@pytest.mark.parametrize("task", ["multiclass", "binary", "multilabel"])
def test_nothing_is_read_from_the_device(task):
    # A tensor without values raises wherever one is read.
    logits, target = (part.to("meta") for part in case(task, 0))
    is_finite = torch.ones(len(logits), dtype=torch.bool, device="meta")
    windows = contradictions(logits, predicted_classes(logits, task), target, is_finite, task, IGNORED)
    assert strongest_regions(windows).shape == (6, 3)
