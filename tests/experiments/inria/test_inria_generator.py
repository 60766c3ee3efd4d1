"""The made-up tiles: formats, repetition, and that they are not segmented by colour."""

import cv2
import numpy as np
import pytest
import rasterio
from simple_predictors import simple_ious

from assay.experiments.inria import Inria
from assay.experiments.inria.generator import CITIES, SIDE
from assay.experiments.inria.scene import draw_scene
from assay.experiments.inria.tiles import find_tiles, find_unlabelled

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
long = pytest.mark.long("draws all tiles of the made-up data; test_a_tile_follows_from_its_seed draws small ones")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    Inria().make_data(folder)
    return folder


@long
def test_each_city_has_five_tiles_to_validate_on_and_others_to_train_on(made):
    train, valid = find_tiles(made)
    for city in CITIES:
        assert [tile.number for tile in valid if tile.city == city.name] == [1, 2, 3, 4, 5]
        assert sum(tile.city == city.name for tile in train) >= 5
    assert {(tile.height, tile.width) for tile in train + valid} == {(SIDE, SIDE)} and SIDE <= 1000
    assert find_unlabelled(made)


@long
def test_files_have_the_format_of_the_real_ones_striped_and_tiled(made):
    layouts = set()
    for tile in [tile for part in find_tiles(made) for tile in part]:
        with rasterio.open(tile.image) as image, rasterio.open(tile.mask) as mask:
            assert (image.driver, image.count, mask.count) == ("GTiff", 3, 1)
            assert {*image.dtypes, *mask.dtypes} == {"uint8"} and image.compression is None
            assert set(np.unique(mask.read())) == {0, 255}
            layouts.add(image.profile["tiled"])
    assert layouts == {False, True}


@long
def test_other_readers_see_the_same_pixels(made):
    tile = find_tiles(made)[0][0]
    with rasterio.open(tile.image) as image:
        whole = image.read().transpose(1, 2, 0)
    assert np.array_equal(cv2.cvtColor(cv2.imread(str(tile.image)), cv2.COLOR_BGR2RGB), whole)


def test_a_tile_follows_from_its_seed():
    first, again, other = (draw_scene(CITIES[0], 128, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first.image, again.image) and np.array_equal(first.mask, again.mask)
    assert not np.array_equal(first.mask, other.mask)


@long
def test_who_sees_no_shapes_stays_far_below_the_model(made):
    found = simple_ious(made / "train")
    assert found["everything"] < 0.25 and found["random"] < 0.25
    assert max(value for name, value in found.items() if name.startswith("threshold")) < 0.3
    assert found["colour classifier"] < 0.45
