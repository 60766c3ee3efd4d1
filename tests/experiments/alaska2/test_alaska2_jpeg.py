"""Decoding of JPEG files against SciPy and Pillow, and what is no file of the data set."""

import jpeglib
import numpy as np
import pytest
from PIL import Image
from scipy import fft

from assay.experiments.alaska2.jpeg import dct_basis, read_header, read_rgb
from assay.runner import BadImageError


def photo(side=48):
    rng = np.random.default_rng(0)
    smooth = np.array(Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((side, side)))
    return Image.fromarray(smooth)


def decoded_by_scipy(path):
    """The planes before rounding, [3, H, W] of Y, Cb, Cr from 0 to 255, a block at a time."""
    jpeg = jpeglib.read_dct(str(path))
    planes = []
    for number, part in enumerate((jpeg.Y, jpeg.Cb, jpeg.Cr)):
        rows = [
            np.hstack([fft.idctn(block * jpeg.get_component_qt(number), norm="ortho") for block in row]) for row in part
        ]
        planes.append(np.vstack(rows) + 128)
    return np.stack(planes)


@pytest.mark.parametrize("quality", [75, 90, 95])
def test_pixels_are_those_before_rounding(quality, tmp_path):
    path = tmp_path / "00001.jpg"
    photo().save(path, quality=quality, subsampling=0)
    y, blue, red = decoded_by_scipy(path)
    expected = np.stack(
        [y + 1.402 * (red - 128), y - 0.344136 * (blue - 128) - 0.714136 * (red - 128), y + 1.772 * (blue - 128)],
        axis=-1,
    )
    found = read_rgb(path)
    assert found.dtype == np.float32
    assert np.allclose(found * 255, expected.clip(0, 255), atol=2e-3)
    assert np.abs(found * 255 - np.asarray(Image.open(path), dtype=np.float32)).max() < 2.5  # it rounds twice
    assert np.abs(found * 255 - np.round(found * 255)).mean() > 0.2


def test_components_with_fewer_samples_are_enlarged(tmp_path):
    path = tmp_path / "00001.jpg"
    Image.new("RGB", (40, 24), (200, 40, 90)).save(path, quality=95, subsampling=2)
    found = read_rgb(path)
    assert found.shape == (24, 40, 3)
    assert np.allclose(found * 255, [200, 40, 90], atol=2)


def test_the_basis_is_scipys():
    assert np.allclose(dct_basis(), fft.dct(np.eye(8), axis=0, norm="ortho"), atol=1e-6)


@pytest.mark.parametrize("quality", [75, 90, 95])
def test_the_quality_is_read_from_the_tables(quality, tmp_path):
    photo().resize((40, 24)).save(tmp_path / "a.jpg", quality=quality)
    header = read_header(tmp_path / "a.jpg")
    assert (header.width, header.height, header.quality) == (40, 24, quality)


def _cut(path):
    path.write_bytes(path.read_bytes()[:-400])


def _png(path):
    photo().save(path, format="PNG")


SPOILT = {
    "missing": (lambda path: path.unlink(), "No such file"),
    "empty": (lambda path: path.write_bytes(b""), "cannot identify image file"),
    "text": (lambda path: path.write_text("no image"), "cannot identify image file"),
    "cut": (_cut, "truncated"),
    "png": (_png, "it is PNG, not JPEG"),
    "grey": (lambda path: photo().convert("L").save(path, quality=90), "its mode is L, not three components"),
    "sides": (
        lambda path: photo().resize((60, 64)).save(path, quality=90),
        "its sides are no multiples of 8: 60 x 64 pixels",
    ),
    "quality": (
        lambda path: photo().save(path, quality=80),
        "its quantization table is none of the qualities 75, 90, 95",
    ),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_a_file_that_is_none_of_the_data_set_is_named_in_one_line(kind, tmp_path):
    path = tmp_path / "00007.jpg"
    photo().save(path, quality=90, subsampling=0)
    spoil, message = SPOILT[kind]
    spoil(path)
    with pytest.raises(BadImageError, match=message) as caught:
        read_rgb(path)
    assert "00007.jpg" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_header_of_no_image_is_named_too(tmp_path):
    with pytest.raises(BadImageError, match=r"00009.jpg' cannot be used: .*No such file"):
        read_header(tmp_path / "00009.jpg")


def test_a_header_beyond_the_limit_of_pillow_is_named_too(tmp_path, monkeypatch):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.jpg", quality=75)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for read in (read_header, read_rgb):
        with pytest.raises(BadImageError, match=r"a.jpg' cannot be used: Image size \(4096 pixels\) exceeds limit"):
            read(tmp_path / "a.jpg")
