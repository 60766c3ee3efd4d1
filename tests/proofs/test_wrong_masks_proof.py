"""The proof that wrong masks are found: what it plants, and what it asks for."""

import numpy as np
import pytest

from proofs import wrong_masks
from proofs.wrong_masks import KINDS, Scene


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_mask_is_wrong_in_its_own_way(kind):
    for seed in range(5):
        sound, wrong = Scene(seed).mask, Scene(seed, kind).mask
        assert np.array_equal(Scene(seed).image, Scene(seed, kind).image)
        changed = sound != wrong
        assert 15 < changed.sum() < changed.size / 2
        if kind in ("missing", "cut"):
            assert (wrong[changed] == 0).all()
        elif kind == "swapped":
            assert (wrong[changed] > 0).all() and (sound[changed] > 0).all()
        elif kind == "extra":
            assert (sound[changed] == 0).all() or (wrong[changed] == 0).all()


def test_as_many_masks_are_wrong_of_each_kind(monkeypatch):
    monkeypatch.setattr(wrong_masks, "COUNTS", {"train": 40, "valid": 20})
    scenes = wrong_masks.Scenes("train", 0.25, seed=1)
    assert sorted(scenes.wrong.values()) == sorted(2 * KINDS)
    assert all(scenes.scenes[index].wrong == scenes.wrong.get(index, "") for index in range(40))
    assert wrong_masks.Scenes("valid", 0, seed=1).wrong == {}
    item = scenes[3]
    assert item["image"].shape == (3, 56, 56) and item["target"].shape == (56, 56)


def test_lists_must_be_right_and_the_order_better_than_others():
    good = {"contradicted": 0.9, "precision": 0.95, "recall": 0.8, **dict.fromkeys(wrong_masks.OTHERS, 0.7)}
    assert wrong_masks.proved("5% wrong", {"train": {"10": good}})
    for change in ({"contradicted": 0.7}, {"precision": 0.8}, {"recall": 0.6}):
        assert not wrong_masks.proved("5% wrong", {"train": {"10": good}, "valid": {"10": good | change}})
    assert wrong_masks.proved("sound", {"train": {"10": {"flagged of sound": 0.01}}})
    assert not wrong_masks.proved("sound", {"train": {"10": {"flagged of sound": 0.02}}})
