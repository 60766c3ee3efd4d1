"""Tiles cover an image of any size, and together say what the whole image says."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from pytorch_toolbelt.inference.tiles import compute_pyramid_patch_weight_loss
from torch import nn

from assay.runner.prediction.tiles import BandMerger, TileGrid

SIZES = [(1, 1, 8, 2), (5, 64, 16, 4), (16, 16, 16, 8), (17, 40, 16, 0), (100, 77, 32, 24), (33, 90, 24, 7)]


class Picture:
    """An image in memory, of any number of channels."""

    georeference = {}

    def __init__(self, pixels):
        self.pixels = pixels
        self.height, self.width = pixels.shape[:2]

    def read(self, top, left, height, width):
        assert 0 <= top <= top + height <= self.height
        assert 0 <= left <= left + width <= self.width
        return self.pixels[top : top + height, left : left + width]


def noise(height, width, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def merge(grid, image, say):
    """Merge what ``say`` makes of each tile, [C, side, side], as prediction does; return [C, H, W]."""
    merger, bands, rows = None, [], list(grid.rows())
    for row, below in zip(rows, [*rows[1:], None], strict=True):
        for tile in row:
            said = say(grid.read(image, tile))[:, : grid.shape[0], : grid.shape[1]]
            merger = merger or BandMerger(grid, image.width, len(said), torch.device("cpu"))
            merger.add(tile, said)
        bands.append(merger.take(image.height if below is None else below[0].top + below[0].kept[0].start))
    return torch.cat(bands, dim=1)


def as_it_is(pixels):
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255


@pytest.mark.parametrize(("height", "width", "tile", "overlap"), SIZES)
def test_what_is_said_of_each_pixel_alone_comes_through(height, width, tile, overlap):
    image = Picture(noise(height, width))
    grid = TileGrid(height, width, tile, overlap, divisor=8)
    merged = merge(grid, image, as_it_is)
    torch.testing.assert_close(merged, as_it_is(image.pixels), atol=1e-6, rtol=0)
    assert len(grid) == sum(len(row) for row in grid.rows())


@pytest.mark.parametrize(("height", "width", "tile", "overlap"), SIZES)
def test_neighbours_overlap_by_no_less_than_asked(height, width, tile, overlap):
    grid = TileGrid(height, width, tile, overlap, divisor=8)
    for starts, length, whole in [(grid.tops, grid.shape[0], height), (grid.lefts, grid.shape[1], width)]:
        assert (starts[0], starts[-1]) == (0, whole - length)
        assert all(length - (after - before) >= overlap for before, after in pairwise(starts))


@pytest.mark.parametrize("overlap", [3, 12])
def test_tiles_are_weighted_by_toolbelts_pyramid_without_the_outer_quarter_of_an_overlap(overlap):
    height, width, tile = 50, 43, 20
    grid, values = TileGrid(height, width, tile, overlap, divisor=1), torch.rand(100, 1, tile, tile)
    given = iter(values)
    merged = merge(grid, Picture(noise(height, width)), lambda pixels: next(given))
    sums, weights = np.zeros((height, width)), np.zeros((height, width))
    places = [(top, left) for top in grid.tops for left in grid.lefts]
    trim = overlap // 4
    for (top, left), value in zip(places, values, strict=False):
        rows = range(trim if top > 0 else 0, tile - trim if top + tile < height else tile)
        columns = range(trim if left > 0 else 0, tile - trim if left + tile < width else tile)
        pyramid = compute_pyramid_patch_weight_loss(len(rows), len(columns))[0]
        for y in rows:
            for x in columns:
                weight = pyramid[y - rows[0], x - columns[0]]
                sums[top + y, left + x] += weight * value[0, y, x].item()
                weights[top + y, left + x] += weight
    np.testing.assert_allclose(merged[0].numpy(), sums / weights, atol=1e-6)


def convolutions(size):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, size, padding="same"), nn.Tanh(), nn.Conv2d(4, 1, size, padding="same"))


@torch.no_grad()
def test_a_model_that_sees_no_farther_than_a_quarter_of_the_overlap_says_what_it_says_of_the_whole_image():
    model, image = convolutions(5), Picture(noise(150, 133))  # each pixel follows from those up to 4 away
    merged = merge(TileGrid(150, 133, 64, 16, divisor=32), image, lambda pixels: model(as_it_is(pixels)[None])[0])
    torch.testing.assert_close(merged, model(as_it_is(image.pixels)[None])[0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_model_that_sees_farther_leaves_no_seams():
    model, image = convolutions(25), Picture(noise(200, 200))
    grid = TileGrid(200, 200, 64, 32, divisor=32)
    merged = merge(grid, image, lambda pixels: model(as_it_is(pixels)[None])[0])[0]
    error = merged - model(as_it_is(image.pixels)[None])[0, 0]
    jumps = error.diff(dim=1).abs().mean(dim=0)
    borders = [left + side for left in grid.lefts for side in (8, 56) if 0 < left + side < 200]
    at_borders = max(jumps[border - 1].item() for border in borders)
    elsewhere = [jump for x, jump in enumerate(jumps.tolist(), 1) if min(abs(x - border) for border in borders) > 2]
    assert at_borders < max(elsewhere)
    assert at_borders < 0.2 * merged.diff(dim=1).abs().mean().item()


def test_a_small_image_is_filled_up_by_its_mirror_image():
    grid = TileGrid(3, 5, 64, 16, divisor=4)
    ((tile,),) = grid.rows()
    pixels = noise(3, 5)
    filled = grid.read(Picture(pixels), tile)
    assert filled.shape == (8, 8, 3)
    np.testing.assert_array_equal(filled, np.pad(pixels, ((0, 5), (0, 3), (0, 0)), mode="reflect"))


def test_a_band_is_as_high_as_a_tile():
    grid = TileGrid(10_000, 300, 64, 16, divisor=32)
    merger = BandMerger(grid, 300, 2, torch.device("cpu"))
    assert (merger.sums.shape, merger.weights.shape) == ((2, 64, 300), (64, 300))
