"""Boxes of several sources become one set."""

import numpy as np
import pytest

from assay.runner.prediction.box_fusion import fuse_boxes


def found(*boxes):
    """Boxes as (left, top, right, bottom, score, label)."""
    table = np.array(boxes, dtype=np.float64).reshape(-1, 6)
    return {"boxes": table[:, :4], "scores": table[:, 4], "labels": table[:, 5].astype(np.int64)}


def test_boxes_that_overlap_become_their_weighted_mean():
    fused = fuse_boxes([found((0, 0, 10, 10, 0.9, 1)), found((1, 0, 11, 10, 0.3, 1))])
    np.testing.assert_allclose(fused["boxes"], [[0.25, 0, 10.25, 10]])
    np.testing.assert_allclose(fused["scores"], [0.6])
    assert fused["labels"].tolist() == [1]


def test_a_box_that_one_source_alone_found_counts_less():
    fused = fuse_boxes([found((0, 0, 10, 10, 0.9, 1)), found(), found()])
    np.testing.assert_allclose(fused["boxes"], [[0, 0, 10, 10]])
    np.testing.assert_allclose(fused["scores"], [0.3])


def test_boxes_of_other_labels_or_places_stay_apart():
    fused = fuse_boxes([found((0, 0, 10, 10, 0.9, 1), (50, 50, 60, 60, 0.5, 1)), found((0, 0, 10, 10, 0.8, 2))])
    assert sorted(zip(fused["labels"].tolist(), fused["scores"].tolist(), strict=True)) == [
        (1, 0.25), (1, 0.45), (2, 0.4),
    ]  # fmt: skip


def test_the_same_boxes_from_all_sources_stay_what_they_are():
    rng = np.random.default_rng(0)
    corners = 40 * np.stack(np.unravel_index(rng.permutation(25)[:9], (5, 5)), axis=1)
    one = found(*[(x, y, x + 20, y + 30, score, 1) for (x, y), score in zip(corners, rng.random(9), strict=True)])
    fused = fuse_boxes([one] * 4)
    order = np.argsort(-one["scores"])
    np.testing.assert_allclose(fused["boxes"], one["boxes"][order])
    np.testing.assert_allclose(fused["scores"], one["scores"][order])


def test_more_boxes_than_sources_in_a_group_do_not_raise_its_score():
    fused = fuse_boxes([found((0, 0, 10, 10, 0.8, 1), (0, 0, 10, 10, 0.6, 1)), found((0, 0, 10, 10, 0.4, 1))])
    np.testing.assert_allclose(fused["scores"], [0.6])


@pytest.mark.parametrize("scores", [(), (0.0, 0.0)])
def test_no_boxes_and_scores_of_zero_are_fused_too(scores):
    fused = fuse_boxes([found(*[(0, 0, 4, 4, score, 1) for score in scores]), found()])
    assert fused["boxes"].shape == (min(1, len(scores)), 4)
    assert np.isfinite(fused["boxes"]).all()
