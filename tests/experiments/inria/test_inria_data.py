"""Crops by chance that can be repeated, and windows that hold each pixel once."""

import numpy as np
import pytest
import torch
from inria_set import HEIGHT, WIDTH
from torch.utils.data import DataLoader

from assay.experiments.inria.augmentation import LEVELS, MEAN, STD, make_transform
from assay.experiments.inria.data import UNLABELLED, Crops, Windows
from assay.experiments.inria.tiles import IGNORED, find_tiles, find_unlabelled, read_window


def pixels(image):
    """Undo the normalization of [3, H, W]."""
    return np.rint((image.permute(1, 2, 0).numpy() * STD + MEAN) * 255).astype(int)


def test_an_epoch_has_as_many_crops_as_cover_the_tiles(root):
    train, _ = find_tiles(root)
    assert len(Crops(train, 32, make_transform(), seed=0)) == 3 * (3 * 3)
    assert len(Crops(train, 32, make_transform(), seed=0, repeat=2)) == 2 * 27


def test_a_crop_is_the_part_of_the_tile_that_its_id_names(root):
    train, _ = find_tiles(root)
    crops = Crops(train, 32, make_transform(), seed=3)
    for index in (0, 13, 26):
        item = crops[index]
        name, top, left = item["sample_id"].split()
        tile = next(tile for tile in train if tile.name == name)
        part = read_window(tile, int(top), int(left), 32, 32)
        assert np.array_equal(pixels(item["image"]), part["image"])
        assert np.array_equal(item["target"], part["target"]) and item["labels"] is item["target"]


def test_crops_follow_from_seed_epoch_and_index_with_any_number_of_workers(root):
    train, _ = find_tiles(root)

    def ids(seed, epoch, workers):
        crops = Crops(train, 32, make_transform("light"), seed=seed)
        crops.set_epoch(epoch)
        batches = list(DataLoader(crops, batch_size=4, num_workers=workers))
        return [name for batch in batches for name in batch["sample_id"]], torch.cat([it["image"] for it in batches])

    first, again, workers = ids(1, 2, 0), ids(1, 2, 0), ids(1, 2, 2)
    assert first[0] == again[0] == workers[0]
    assert torch.equal(first[1], again[1]) and torch.equal(first[1], workers[1])
    assert first[0] != ids(1, 3, 0)[0] and first[0] != ids(2, 2, 0)[0]


def test_a_tile_smaller_than_a_crop_is_mirrored_around_itself(root):
    train, _ = find_tiles(root)
    item = Crops(train, 128, make_transform(), seed=0)[0]
    assert item["image"].shape == (3, 128, 128)
    assert int((item["target"] != IGNORED).sum()) == HEIGHT * WIDTH


def test_crops_without_truth_come_from_their_epoch_on_and_are_marked(root):
    train, _ = find_tiles(root)
    crops = Crops(train, 32, make_transform(), seed=0, unlabelled=find_unlabelled(root), start_epoch=3)
    assert len(crops) == 27 + 9
    for epoch, expected in ((2, 0), (3, 9)):
        crops.set_epoch(epoch)
        items = [crops[index] for index in range(len(crops))]
        without = [item for item in items if item["sample_id"].startswith("chur1")]
        assert len(without) == expected == sum(bool((item["labels"] == UNLABELLED).all()) for item in items)
        assert all((item["target"] == IGNORED).all() for item in without)


@pytest.mark.parametrize(("size", "margin"), [(32, 0), (40, 8), (100, 0)])
def test_the_windows_of_a_tile_hold_each_pixel_once(root, size, margin):
    _, valid = find_tiles(root)
    windows = Windows(valid, size, margin, make_transform())
    seen = np.zeros((len(valid), HEIGHT, WIDTH), int)
    for index in range(len(windows)):
        item = windows[index]
        assert item["image"].shape == (3, size + 2 * margin, size + 2 * margin)
        _, top, left = item["sample_id"].split()
        rows, columns = np.nonzero(item["target"].numpy() != IGNORED)
        seen[item["tile"], rows + int(top) - margin, columns + int(left) - margin] += 1
        truth = read_window(valid[item["tile"]], 0, 0, HEIGHT, WIDTH)["target"]
        counted = item["target"].numpy()[rows, columns]
        assert np.array_equal(counted, truth[rows + int(top) - margin, columns + int(left) - margin])
    assert (seen == 1).all()


@pytest.mark.parametrize("level", LEVELS)
def test_each_level_keeps_shapes_and_the_values_of_masks(root, level):
    train, _ = find_tiles(root)
    crops = Crops(train, 48, make_transform(level), seed=0)
    for index in range(8):
        item = crops[index]
        assert item["image"].shape == (3, 48, 48) and item["image"].dtype == torch.float32
        assert set(item["target"].unique().tolist()) <= {0, 1, IGNORED}


def test_image_and_mask_are_moved_alike(root):
    rng = np.random.default_rng(0)
    mask = (rng.random((48, 48)) < 0.5).astype(np.uint8)
    image = np.repeat(mask[..., None] * 255, 3, axis=2)
    for seed in range(5):
        transform = make_transform("light")
        transform.set_random_seed(seed)
        parts = transform(image=image, mask=mask)
        assert np.array_equal(pixels(parts["image"])[..., 0], parts["mask"].numpy() * 255)
