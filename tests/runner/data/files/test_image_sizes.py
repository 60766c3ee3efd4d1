"""The size of an image by its header is that of the image that is read."""

import cv2
import numpy as np
import pytest
from PIL import Image

from assay.runner import BadImageError, read_image
from assay.runner.data.files.image_sizes import image_size

KINDS = ("jpg", "png", "tif", "webp", "bmp", "gif", "ppm", "jp2")


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_that_of_the_pixels(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    Image.new("RGB", (37, 21)).save(path)
    assert image_size(path) == (37, 21, False)
    assert read_image(path).shape[:2] == (21, 37)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "webp"])
def test_it_is_that_of_the_upright_image(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"a.{kind}"
    options = {"tiffinfo": {274: orientation}} if kind == "tif" else {"exif": exif}
    Image.new("RGB", (37, 21)).save(path, **options)
    size = image_size(path)
    assert (size.height, size.width) == read_image(path).shape[:2]
    assert size.is_turned == (orientation > 4)


def test_a_long_preview_before_the_size_of_a_jpeg_is_passed_over(tmp_path):
    exif = Image.Exif()
    exif[37510] = b"x" * 60_000  # a comment of the user's
    Image.new("RGB", (37, 21)).save(tmp_path / "a.jpg", exif=exif, icc_profile=b"y" * 150_000)
    assert image_size(tmp_path / "a.jpg") == (37, 21, False)


def test_large_tiffs_of_either_order_of_bytes(tmp_path):
    import rasterio

    for endianness, bigtiff in (("LITTLE", "YES"), ("BIG", "NO")):
        path = tmp_path / f"{endianness}.tif"
        shape = {"width": 70_000, "height": 2, "count": 1, "dtype": "uint8"}
        shape["transform"] = rasterio.Affine.translation(1, 1)  # without one it warns
        with rasterio.open(path, "w", driver="GTiff", ENDIANNESS=endianness, BIGTIFF=bigtiff, **shape) as dataset:
            dataset.write(np.zeros((1, 2, 70_000), np.uint8))
        assert image_size(path)[:2] == (70_000, 2)


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"II*\0\x08\0\0\0", b"no image"])
def test_a_broken_file_is_named(tmp_path, content):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(BadImageError, match=r"image '.*a\.jpg' cannot be read: "):
        image_size(path)
    with pytest.raises(BadImageError, match="No such file"):
        image_size(tmp_path / "gone.jpg")


def test_only_the_header_is_read(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    for kind in ("jpg", "png"):
        path = tmp_path / f"a.{kind}"
        data = cv2.imencode(f".{kind}", pixels)[1].tobytes()
        path.write_bytes(data[: len(data) // 2])
        assert image_size(path) == (400, 300, False)
