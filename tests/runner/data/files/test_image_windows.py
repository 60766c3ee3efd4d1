"""Windows of images on the disk hold the pixels that the whole image holds, and masks are written in bands."""

import os
import resource
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import lru_cache

import numpy as np
import pytest
import rasterio
from image_files import write_tiff
from PIL import Image
from torch.utils.data import DataLoader

from assay.runner.data.files import image_windows as windows
from assay.runner.data.files.image_errors import BadImageError
from assay.runner.data.files.image_windows import keep_open, open_image, write_mask
from assay.runner.data.files.images import read_image
from assay.runner.data.files.tiffs import Tiff

TILED = {"tiled": True, "blockxsize": 64, "blockysize": 64}
LAYOUTS = [
    {},
    {"compress": "lzw"},
    {"compress": "deflate", "predictor": 2, **TILED},
    {"compress": "zstd", "interleave": "band"},
    {"compress": "packbits", "bigtiff": "yes", **TILED},
]


@pytest.fixture
def picture():
    rows, columns = np.mgrid[:150, :217]
    return np.stack([columns, rows, (rows * columns) % 256], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_window_of_a_tiff_holds_the_pixels_of_the_image(tmp_path, picture, layout):
    write_tiff(tmp_path / "a.tif", picture, **layout)
    with open_image(tmp_path / "a.tif") as image:
        assert (image.height, image.width) == (150, 217)
        for top, left, height, width in [(0, 0, 150, 217), (63, 10, 30, 200), (149, 216, 1, 1)]:
            window = image.read(top, left, height, width)
            assert window.dtype == np.uint8
            np.testing.assert_array_equal(window, picture[top : top + height, left : left + width])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_tiff_that_stays_open_holds_the_same_pixels(tmp_path, picture, layout):
    write_tiff(tmp_path / "a.tif", picture, **layout)
    for top, left, height, width in [(0, 0, 150, 217), (63, 10, 30, 200), (149, 216, 1, 1)]:
        window = keep_open(tmp_path / "a.tif").read(top, left, height, width)
        np.testing.assert_array_equal(window, picture[top : top + height, left : left + width])
    assert keep_open(tmp_path / "a.tif") is keep_open(str(tmp_path / "a.tif"))


def test_of_files_that_stay_open_the_oldest_are_closed(tmp_path, picture, monkeypatch):
    monkeypatch.setattr(windows, "_open_kept_tiff", lru_cache(2)(windows._open_kept_tiff.__wrapped__))
    for name in "abcd":
        write_tiff(tmp_path / f"{name}.tif", picture)
        keep_open(tmp_path / f"{name}.tif").read(0, 0, 5, 5)
    links = (os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd"))
    assert {os.path.basename(link) for link in links if str(tmp_path) in link} == {"c.tif", "d.tif"}


def test_a_file_that_changed_is_opened_anew(tmp_path, picture):
    write_tiff(tmp_path / "a.tif", picture)
    before = keep_open(tmp_path / "a.tif").read(0, 0, 150, 217)
    write_tiff(tmp_path / "b.tif", 255 - picture)
    os.replace(tmp_path / "b.tif", tmp_path / "a.tif")
    np.testing.assert_array_equal(keep_open(tmp_path / "a.tif").read(0, 0, 150, 217), 255 - before)


def test_threads_that_open_files_at_once_do_not_hear_that_these_lie_nowhere(tmp_path, picture):
    write_tiff(tmp_path / "a.tif", picture)
    before = list(warnings.filters)

    def heights(_):
        for _ in range(200):
            with open_image(tmp_path / "a.tif") as image:
                yield image.height

    with ThreadPoolExecutor(8) as pool:  # warnings are errors here
        assert {height for of in pool.map(lambda one: set(heights(one)), range(8)) for height in of} == {150}
    assert warnings.filters == before


def test_each_process_and_thread_has_its_own_open_file(tmp_path, picture):
    write_tiff(tmp_path / "a.tif", picture, compress="lzw", **TILED)
    mine = keep_open(tmp_path / "a.tif")
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(keep_open, tmp_path / "a.tif").result() is not mine
    loader = DataLoader([str(tmp_path / "a.tif")] * 40, collate_fn=_sum_of_strips, num_workers=2)
    assert {*loader} == {int(picture.sum())}


def _sum_of_strips(paths):
    return sum(int(keep_open(paths[0]).read(top, 0, 10, 217).sum()) for top in range(0, 150, 10))


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_other_pixels_and_formats_stay_what_they_are(tmp_path, picture, mode):
    for name in ("a.tif", "a.png"):
        Image.fromarray(picture).convert(mode).save(tmp_path / name)
        np.testing.assert_array_equal(
            keep_open(tmp_path / name).read(5, 6, 70, 80), read_image(tmp_path / name)[5:75, 6:86]
        )


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), (b"II*\0\x08", "TIFF"), (b"", "it is empty")])
def test_a_file_that_cannot_be_kept_open_is_named(tmp_path, content, reason):
    path = tmp_path / "bad.tif"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadImageError, match=f"bad.tif' cannot be read: .*{reason}"):
        keep_open(path)


def test_a_kept_tiff_that_is_cut_off_fails_where_it_ends(tmp_path, picture, capfd):
    path = tmp_path / "cut.tif"
    write_tiff(path, picture)
    path.write_bytes(path.read_bytes()[: picture.size // 2])
    keep_open(path).read(0, 0, 20, 217)
    with pytest.raises(BadImageError, match=r"cut.tif' cannot be read: "):
        keep_open(path).read(100, 0, 50, 217)
    assert capfd.readouterr().err == ""


def test_a_tiff_in_one_large_block_is_decoded_once(tmp_path, picture, monkeypatch):
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.3, 0, 500_000, 0, -0.3, 5_000_000)}
    write_tiff(tmp_path / "a.tif", picture, blockysize=150, compress="deflate", **place)
    monkeypatch.setattr(windows, "CACHE_BYTES", picture.nbytes)
    with open_image(tmp_path / "a.tif") as image:
        np.testing.assert_array_equal(image.read(20, 30, 40, 50), picture[20:60, 30:80])
        assert image.georeference["transform"] == place["transform"]
        assert isinstance(image, windows._WholeImage)
    monkeypatch.setattr(windows, "CACHE_BYTES", 2 * picture.nbytes)
    with open_image(tmp_path / "a.tif") as image:
        assert isinstance(image, Tiff)


def test_an_error_of_another_file_is_not_blamed_on_the_image(tmp_path, picture):
    write_tiff(tmp_path / "a.tif", picture)
    with pytest.raises(rasterio.RasterioIOError), open_image(tmp_path / "a.tif"):
        rasterio.open(tmp_path / "other.tif")


@pytest.mark.parametrize("kind", [".png", ".bmp", ".jpg"])
def test_another_format_is_decoded_whole(tmp_path, picture, kind):
    path = tmp_path / f"a{kind}"
    Image.fromarray(picture).save(path)
    with open_image(str(path)) as image:
        np.testing.assert_array_equal(image.read(20, 30, 40, 50), read_image(path)[20:60, 30:80])
        assert image.georeference == {}


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA"])
def test_a_tiff_of_any_kind_of_pixels_is_what_read_image_makes_of_it(tmp_path, picture, mode):
    path = tmp_path / "a.tif"
    Image.fromarray(picture).convert(mode).save(path)
    with open_image(path) as image:
        np.testing.assert_array_equal(image.read(0, 0, 150, 217), read_image(path))


def test_of_sixteen_bits_the_upper_eight_are_kept(tmp_path, picture):
    write_tiff(tmp_path / "a.tif", picture.astype(np.uint16) * 256 + 201)
    with open_image(tmp_path / "a.tif") as image:
        np.testing.assert_array_equal(image.read(5, 6, 70, 80), picture[5:75, 6:86])


def test_floats_are_refused(tmp_path, picture):
    write_tiff(tmp_path / "a.tif", picture.astype(np.float32))
    message = r"a.tif' cannot be read: its pixels are float32, neither uint8 nor uint16"
    with pytest.raises(BadImageError, match=message), open_image(tmp_path / "a.tif"):
        pass


@pytest.mark.parametrize(("content", "reason"), [(b"II*\0\x08", "TIFF"), (b"", "it is empty"), (b"text", "4 bytes")])
def test_a_file_that_is_no_image_is_named(tmp_path, content, reason):
    path = tmp_path / "bad.tif"
    path.write_bytes(content)
    with pytest.raises(BadImageError, match=f"bad.tif' cannot be read: .*{reason}"), open_image(path):
        pass


def test_a_missing_file_is_named(tmp_path):
    message = r"none.tif' cannot be read: No such file"
    with pytest.raises(BadImageError, match=message), open_image(tmp_path / "none.tif"):
        pass


def test_a_tiff_that_is_cut_off_fails_where_it_ends(tmp_path, picture):
    path = tmp_path / "cut.tif"
    write_tiff(path, picture)
    path.write_bytes(path.read_bytes()[: picture.size // 2])
    with open_image(path) as image:
        image.read(0, 0, 20, 217)
        with pytest.raises(BadImageError, match=r"cut.tif' cannot be read: "):
            image.read(100, 0, 50, 217)


@pytest.mark.parametrize("window", [(-1, 0, 5, 5), (0, 213, 5, 5), (0, 0, 0, 5), (146, 0, 5, 5)])
def test_a_window_must_lie_within_the_image(tmp_path, picture, window):
    for name in ("a.tif", "a.png"):
        Image.fromarray(picture).save(tmp_path / name)
        with (
            open_image(tmp_path / name) as image,
            pytest.raises(ValueError, match="within the image of 150 x 217, got"),
        ):
            image.read(*window)


@pytest.mark.parametrize("palette", [None, np.array([[0, 0, 0], [255, 0, 0], [0, 9, 200]], dtype=np.uint8)])
def test_a_mask_is_written_in_bands(tmp_path, palette):
    mask = np.random.default_rng(0).integers(0, 3, (700, 333), dtype=np.uint8)
    path = tmp_path / "mask.tif"
    path.write_bytes(b"of before")
    with write_mask(path, 700, 333, palette=palette) as file:
        for top in range(0, 700, 130):
            file.write(mask[top : top + 130])
    np.testing.assert_array_equal(np.asarray(Image.open(path)), mask)
    with open_image(path) as image:
        shown = palette[mask] if palette is not None else np.repeat(mask[..., None], 3, axis=-1)
        np.testing.assert_array_equal(image.read(0, 0, 700, 333), shown)


def test_a_mask_lies_where_its_image_lies(tmp_path, picture):
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.3, 0, 500_000, 0, -0.3, 5_000_000)}
    write_tiff(tmp_path / "a.tif", picture, **place)
    with (
        open_image(tmp_path / "a.tif") as image,
        write_mask(tmp_path / "m.tif", image.height, image.width, georeference=image.georeference) as file,
    ):
        file.write(picture[..., 0])
    with rasterio.open(tmp_path / "m.tif") as mask:
        assert (mask.crs, mask.transform) == (rasterio.CRS.from_string("EPSG:32633"), place["transform"])


def test_a_mask_in_a_missing_folder_is_an_os_error(tmp_path):
    path = tmp_path / "none" / "m.tif"
    with pytest.raises(OSError, match=r"m.tif' cannot be written: "), write_mask(path, 5, 5):
        pass


@pytest.mark.parametrize("bands", [1, 6])
def test_a_full_disk_is_an_os_error(tmp_path, bands):
    script = f"""if True:
        import resource, numpy as np
        from assay.runner.data.files.image_windows import write_mask
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        noise = np.random.default_rng(0).integers(0, 255, (256, 1000), dtype=np.uint8)
        try:
            with write_mask({str(tmp_path / "m.tif")!r}, 256 * {bands}, 1000) as file:
                for _ in range({bands}):
                    file.write(noise)
        except OSError as error:
            print(error)"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=180, check=True)
    assert "m.tif' cannot be written: " in done.stdout


@pytest.mark.parametrize("opened", [open_image, lambda path: nullcontext(keep_open(path))])
def test_memory_is_bounded_by_the_cache_however_large_the_image(tmp_path, monkeypatch, opened):
    monkeypatch.setitem(windows.GDAL_OPTIONS, "GDAL_CACHEMAX", 4 * 2**20)
    monkeypatch.setattr(windows, "KEPT_BYTES", 4 * 2**20)
    size, path = 5000, tmp_path / "large.tif"
    write_tiff(path, np.zeros((size, size, 3), dtype=np.uint8), compress="lzw", tiled=True)  # 75 MB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with opened(path) as image:
        for top in range(0, size, 500):
            for left in range(0, size, 500):
                image.read(top, left, 500, 500)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * 1024
