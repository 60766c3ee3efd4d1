"""The layout of the data set, windows of its files, and a clear line for each way in which it may be wrong."""

import cv2
import numpy as np
import pytest
import rasterio
from inria_set import HEIGHT, WIDTH
from PIL import Image

from assay.callbacks import UsageError
from assay.experiments.inria.generator import write_tiff
from assay.experiments.inria.tiles import IGNORED, find_tiles, find_unlabelled, read_window
from assay.runner import BadImageError


def test_tiles_1_to_5_of_each_city_are_held_out_and_numbers_are_in_their_order(root):
    train, valid = find_tiles(root)
    assert [tile.name for tile in train] == ["aix6", "bern7", "bern10"]
    assert [tile.name for tile in valid] == ["aix1", "aix2", "bern3"]
    assert {(tile.height, tile.width) for tile in train + valid} == {(HEIGHT, WIDTH)}
    assert [(tile.name, tile.mask) for tile in find_unlabelled(root)] == [("chur1", None)]


def test_a_name_with_dashes_is_a_city(root):
    for part in ("images", "gt"):
        (root / "train" / part / "aix6.tif").rename(root / "train" / part / "tyrol-w36.tif")
    tile = find_tiles(root)[0][-1]
    assert (tile.city, tile.number) == ("tyrol-w", 36)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("place", [(0, 0, 30, 40), (33, 41, 20, 17), (0, 0, HEIGHT, WIDTH)])
def test_a_window_equals_that_part_of_the_whole_file(tmp_path, tiled, place):
    image = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    for part in ("images", "gt"):
        (tmp_path / "train" / part).mkdir(parents=True)
    for number in (1, 6):
        write_tiff(tmp_path / f"train/images/x{number}.tif", image, int(tiled))
        write_tiff(tmp_path / f"train/gt/x{number}.tif", (image[..., 0] > 99).astype(np.uint8) * 255, int(tiled))
    with rasterio.open(tmp_path / "train/images/x6.tif") as file:
        assert file.profile.get("tiled", False) is tiled and file.compression is None
    top, left, height, width = place
    parts = read_window(find_tiles(tmp_path)[0][0], *place)
    whole = cv2.cvtColor(cv2.imread(str(tmp_path / "train/images/x6.tif")), cv2.COLOR_BGR2RGB)
    assert np.array_equal(whole, image)
    assert np.array_equal(parts["image"], image[top : top + height, left : left + width])
    assert np.array_equal(parts["target"], image[top : top + height, left : left + width, 0] > 99)


def test_what_lies_outside_of_a_tile_does_not_count(root):
    tile = find_tiles(root)[0][0]
    inner, outer = read_window(tile, 0, 0, HEIGHT, WIDTH), read_window(tile, -5, -7, HEIGHT + 20, WIDTH + 9)
    for name in ("image", "target"):
        assert np.array_equal(outer[name][5 : 5 + HEIGHT, 7 : 7 + WIDTH], inner[name])
    outside = np.ones(outer["target"].shape, bool)
    outside[5 : 5 + HEIGHT, 7 : 7 + WIDTH] = False
    assert (outer["target"][outside] == IGNORED).all() and (inner["target"] <= 1).all()
    assert np.array_equal(outer["image"][4, 7:97], inner["image"][0])  # mirrored


def test_a_missing_mask_is_named(root):
    (root / "train/gt/aix6.tif").unlink()
    with pytest.raises(UsageError, match=r"images/aix6.tif has no mask: .*gt/aix6.tif is not there"):
        find_tiles(root)


def test_a_missing_image_is_named(root):
    (root / "train/images/bern3.tif").unlink()
    with pytest.raises(UsageError, match=r"the mask .*gt/bern3.tif has no image: .*images/bern3.tif is not there"):
        find_tiles(root)


def test_an_image_and_a_mask_of_different_size_are_named(root):
    write_tiff(root / "train/gt/bern7.tif", np.zeros((HEIGHT, WIDTH + 1), np.uint8))
    with pytest.raises(UsageError, match=r"images/bern7.tif is 90 x 70 pixels, and its mask .*gt/bern7.tif is 91 x 70"):
        find_tiles(root)


@pytest.mark.parametrize(("gone", "line"), [((6, 7, 10), "train on.* from 6 on"), ((1, 2, 3), "validate on.*1 to 5")])
def test_no_tile_to_train_or_to_validate_on_is_said(root, gone, line):
    for path in [*root.glob("train/*/*.tif")]:
        if int("".join(filter(str.isdigit, path.stem))) in gone:
            path.unlink()
    with pytest.raises(UsageError, match=line):
        find_tiles(root)


def test_a_folder_that_is_missing_or_empty_is_named(root):
    with pytest.raises(UsageError, match=r"nowhere/train/images is not there: data_dir must hold train/images"):
        find_tiles(root / "nowhere")
    (root / "test/images/chur1.tif").unlink()
    with pytest.raises(UsageError, match=r"test/images holds no .tif file"):
        find_unlabelled(root)


def test_a_name_without_a_number_is_named(root):
    for part in ("images", "gt"):
        (root / "train" / part / "aix6.tif").rename(root / "train" / part / "aix.tif")
    with pytest.raises(UsageError, match=r"aix.tif must be named by its city and number, as austin1.tif"):
        find_tiles(root)


def test_a_file_that_is_no_image_is_named_before_training(root):
    (root / "train/images/aix6.tif").write_bytes(b"II*\0 not a picture")
    with pytest.raises(UsageError, match=r"aix6.tif' cannot be read"):
        find_tiles(root)


def test_wrong_mask_values_are_named_with_their_file(root):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[3, 4:6] = 1, 128
    write_tiff(root / "train/gt/aix6.tif", mask)
    tile = find_tiles(root)[0][0]
    assert read_window(tile, 10, 10, 20, 20)["target"].max() == 0
    with pytest.raises(BadImageError, match=r"gt/aix6.tif' must hold 0 and 255 alone, got 0, 1, 128"):
        read_window(tile, 0, 0, 20, 20)


@pytest.mark.parametrize("mode", ["1", "P"])
def test_the_numbers_of_a_mask_count_and_not_its_colours(root, mode):
    truth = np.random.default_rng(0).integers(0, 2, (HEIGHT, WIDTH)).astype(np.uint8)
    mask = Image.fromarray(truth)
    if mode == "P":
        mask.putpalette([255, 0, 0, 0, 0, 255])  # ground red, houses blue
    else:
        mask = Image.fromarray(truth * 255).convert("1")
    mask.save(root / "train/gt/aix6.tif")
    np.testing.assert_array_equal(read_window(find_tiles(root)[0][0], 0, 0, HEIGHT, WIDTH)["target"], truth)
