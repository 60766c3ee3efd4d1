import numpy as np
import pytest
import torch

from assay.callbacks.measures.region_counts import RegionCounts, iou, spread
from assay.callbacks.support.distributed import reduce_state


def border_by_loop(mask, counted, reach):
    """Pixels of a mask with a counted pixel outside of it at most ``reach`` rows and columns away."""
    found = np.zeros_like(mask)
    for i, row, column in np.ndindex(*mask.shape):
        around = (i, slice(max(0, row - reach), row + reach + 1), slice(max(0, column - reach), column + reach + 1))
        found[i, row, column] = mask[i, row, column] and (counted[around] & ~mask[around]).any()
    return found


def make_windows(count=7, images=3):
    rng = np.random.default_rng(2)
    logits = np.kron(rng.normal(size=(count, 4, 5)), np.ones((3, 3))) + 0.3 * rng.normal(size=(count, 12, 15))
    target = np.kron(rng.integers(0, 2, (count, 4, 5)), np.ones((3, 3), int)).astype(np.uint8)
    target[rng.random(target.shape) < 0.1] = 255
    return logits.astype(np.float32), target, rng.integers(0, images, count)


def by_loop(logits, target, image, images, reach):
    """Add up intersection and union of area and border pixel by pixel."""
    counted = target <= 1
    found, true = (logits > 0) & counted, (target == 1) & counted
    area, border = np.zeros((images, 2), int), np.zeros((images, 2), int)
    near_found, near_true = border_by_loop(found, counted, reach), border_by_loop(true, counted, reach)
    for place in np.ndindex(*target.shape):
        area[image[place[0]]] += [found[place] and true[place], found[place] or true[place]]
        border[image[place[0]]] += [near_found[place] and near_true[place], near_found[place] or near_true[place]]
    return area, border


@pytest.mark.parametrize("reach", [1, 2, 4])
def test_area_and_border_of_each_image_equal_a_plain_loop(reach):
    logits, target, image = make_windows()
    measure = RegionCounts(3, reach)
    for part in (slice(0, 3), slice(3, 7)):
        measure.update(
            torch.from_numpy(logits[part])[:, None], torch.from_numpy(target[part]), torch.from_numpy(image[part])
        )
    area, border = by_loop(logits, target, image, 3, reach)
    assert np.array_equal(measure.state["area"], area) and np.array_equal(measure.state["border"], border)


def test_a_border_is_as_wide_as_it_should_be():
    target = torch.zeros(1, 20, 20, dtype=torch.uint8)
    target[0, 5:15, 5:15] = 1
    measure = RegionCounts(1, 2)
    measure.update(torch.where(target == 1, 1.0, -1.0)[:, None], target, torch.tensor([0]))
    assert measure.state["border"].tolist() == [[10**2 - 6**2] * 2]


def test_what_lies_outside_of_a_window_makes_no_border():
    target = torch.ones(1, 8, 8, dtype=torch.uint8)
    measure = RegionCounts(1, 2)
    measure.update(torch.ones(1, 1, 8, 8), target, torch.tensor([0]))
    assert measure.state["border"].tolist() == [[0, 0]] and measure.state["area"].tolist() == [[64, 64]]


def test_an_image_without_any_house_has_no_iou():
    measure = RegionCounts(2, 1)
    measure.update(torch.full((1, 1, 4, 4), -1.0), torch.zeros(1, 4, 4, dtype=torch.uint8), torch.tensor([1]))
    assert iou(measure.state["area"]).isnan().all()


def test_it_reads_nothing_from_the_device():
    measure = RegionCounts(3, 2, device="meta")
    logits, target = torch.empty(2, 1, 8, 8, device="meta"), torch.empty(2, 8, 8, dtype=torch.uint8, device="meta")
    measure.update(logits, target, torch.empty(2, dtype=torch.int64, device="meta"))


def test_spread_takes_the_largest_of_a_square():
    mask = torch.zeros(1, 1, 9, 9)
    mask[0, 0, 4, 4] = 1
    assert spread(mask, 2)[0, 0].nonzero().tolist() == [[row, column] for row in range(2, 7) for column in range(2, 7)]


def _on_rank(rank, size):
    logits, target, image = make_windows()
    measure = RegionCounts(3, 2)
    for window in range(rank, len(logits), size):
        measure.update(
            torch.from_numpy(logits[window])[None, None],
            torch.from_numpy(target[window])[None],
            torch.from_numpy(image[window : window + 1]),
        )
    return {name: part.tolist() for name, part in reduce_state(measure.state, measure.reductions).items()}


def test_windows_of_several_ranks_make_up_the_images(ranks):
    area, border = by_loop(*make_windows(), 3, 2)
    for state in ranks.run(_on_rank, ranks.size):
        assert state == {"area": area.tolist(), "border": border.tolist()}
