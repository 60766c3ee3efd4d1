"""Images of every kind are read as a viewer shows them, whole or by windows."""

import warnings

import albumentations as A
import cv2
import numpy as np
import pytest
import rasterio
from image_files import GREY, GREY_ALPHA, PALETTE, RGB, RGBA, exif, turned, write_png, write_tiff
from PIL import Image, features

from assay.runner import Augmented, BadImageError, UsageError, read_image
from assay.runner.data.files import image_errors
from assay.runner.data.files.image_windows import keep_open, open_image

SHAPE = (24, 40)
NEEDS_AVIF = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")


@pytest.fixture
def picture():
    noise = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2) // 2 * 3 % 251


@pytest.fixture
def alpha():
    return np.random.default_rng(1).integers(0, 256, SHAPE).astype(np.uint8)


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(image_errors, "_depth_warned", bytearray(1))


def read_all_ways(path, **options):
    """Return an image by ``read_image``, after the other ways have given the same."""
    image = read_image(path, **options)
    height, width = image.shape[:2]
    with open_image(path, **options) as opened:
        assert (opened.height, opened.width) == (height, width)
        np.testing.assert_array_equal(opened.read(0, 0, height, width), image)
        np.testing.assert_array_equal(opened.read(5, 3, 11, 16), image[5:16, 3:19])
    np.testing.assert_array_equal(keep_open(path, **options).read(2, 1, 9, 20), image[2:11, 1:21])
    grey = read_image(path, grey=True, **options)
    assert grey.shape == (height, width, 1)
    luma = image @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grey[..., 0] - luma).max() < 4  # a JPEG stores it with its own rounding
    return image


def on_white(colours, alpha):
    part = alpha[..., None] / 255
    return colours * part + 255 * (1 - part)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", pytest.param("AVIF", marks=NEEDS_AVIF)])
def test_an_image_stands_as_its_orientation_says(tmp_path, picture, orientation, kind):
    stored = Image.fromarray(turned(picture, orientation))
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}, "AVIF": {"quality": 100}}
    told = {"tiffinfo": {274: orientation}} if kind == "TIFF" else {"exif": exif(orientation)}
    stored.save(tmp_path / "a", kind, **told, **options.get(kind, {}))
    image = read_all_ways(tmp_path / "a").astype(int)
    assert image.shape == picture.shape
    assert np.abs(image - picture).mean() < (3 if kind in ("JPEG", "AVIF") else 1e-9)


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_a_turned_tiff_lies_where_it_lay(tmp_path, picture, orientation):
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.3, 0.1, 500_000, 0.2, -0.4, 5_000_000)}
    write_tiff(tmp_path / "a.tif", turned(picture, orientation), **place)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    start = int.from_bytes(data[4:8], "little") + 2  # GDAL writes no orientation: put it in the place of a tag
    at = next(at for at in range(start, len(data), 12) if data[at : at + 2] == (284).to_bytes(2, "little"))
    with open_image(tmp_path / "a.tif") as image:
        assert image.georeference["transform"] == place["transform"]
    data[at : at + 12] = np.array([274, 3, 1, 0, orientation, 0], "<u2").tobytes()
    (tmp_path / "a.tif").write_bytes(data)
    corner = turned(np.arange(24 * 40).reshape(24, 40), orientation)
    with open_image(tmp_path / "a.tif") as image:
        np.testing.assert_array_equal(image.read(0, 0, *SHAPE), picture)
        for row, column in [(0, 0), (0, 39), (23, 0), (7, 11)]:
            stored = np.argwhere(corner == row * 40 + column)[0] + 0.5
            expected = place["transform"] * (stored[1], stored[0])
            assert image.georeference["transform"] * (column + 0.5, row + 0.5) == pytest.approx(expected)


@pytest.mark.parametrize(
    "data", [b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*", b"Exif\0\0", b"Exif\0\0nonsense", exif(9)]
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_turns_nothing(tmp_path, picture, data, kind):
    Image.fromarray(picture).save(tmp_path / "a", kind, exif=data)
    assert read_all_ways(tmp_path / "a").shape == picture.shape


def save_transparent(path, kind, colours, alpha):
    grey = colours[..., :1]
    if kind in ("PNG", "TIFF", "WEBP"):
        Image.fromarray(np.dstack([colours, alpha])).save(
            path, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {})
        )
    elif kind == "grey PNG":
        write_png(path, np.dstack([grey, alpha]), 8, GREY_ALPHA)
    elif kind == "grey TIFF":
        write_tiff(path, np.dstack([grey, alpha]), alpha="non-premultiplied")
    elif kind == "deep PNG":
        write_png(path, np.dstack([colours, alpha]).astype(np.uint16) * 257, 16, RGBA)
    elif kind == "deep grey PNG":
        write_png(path, np.dstack([grey, alpha]).astype(np.uint16) * 257, 16, GREY_ALPHA)
    elif kind == "deep TIFF":
        write_tiff(
            path, np.dstack([colours, alpha]).astype(np.uint16) * 257, photometric="RGB", alpha="non-premultiplied"
        )
    else:
        multiplied = np.dstack([np.round(colours * (alpha[..., None] / 255)), alpha]).astype(np.uint8)
        write_tiff(path, multiplied, photometric="RGB", alpha="premultiplied")


@pytest.mark.parametrize(
    "kind",
    ["PNG", "TIFF", "WEBP", "grey PNG", "grey TIFF", "deep PNG", "deep grey PNG", "deep TIFF", "premultiplied TIFF"],
)
def test_transparency_is_shown_on_white(tmp_path, picture, alpha, kind):
    save_transparent(tmp_path / "a", kind, picture, alpha)
    colours = picture[..., :1].repeat(3, axis=2) if "grey" in kind else picture
    assert np.abs(read_all_ways(tmp_path / "a") - on_white(colours, alpha)).max() <= 1


@pytest.mark.parametrize("kind", ["palette PNG", "grey PNG", "1-bit PNG", "2-bit PNG", "colour PNG", "deep PNG", "GIF"])
def test_a_colour_that_is_transparent_is_white(tmp_path, kind):
    values = np.random.default_rng(0).integers(0, 4, SHAPE)
    if kind == "1-bit PNG":
        values //= 2
    hidden = values == (1 if kind == "1-bit PNG" else 2)
    table = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [9, 9, 200]], dtype=np.uint8)
    key, path = (2).to_bytes(2, "big"), tmp_path / "a"
    expected = values[..., None].repeat(3, axis=2)
    if kind in ("palette PNG", "GIF"):
        expected = table[values]
        if kind == "GIF":
            image = Image.fromarray(values.astype(np.uint8), "P")
            image.putpalette(table.tobytes())
            image.save(path, "GIF", transparency=2)
        else:
            write_png(path, values, 8, PALETTE, PLTE=table.tobytes(), tRNS=b"\xff\xff\0\xff")
    elif kind == "grey PNG":
        write_png(path, values, 8, GREY, tRNS=key)
    elif kind == "1-bit PNG":
        write_png(path, values, 1, GREY, tRNS=b"\0\1")
        expected = expected * 255
    elif kind == "2-bit PNG":
        write_png(path, values, 2, GREY, tRNS=key)
        expected = expected * 85
    elif kind == "colour PNG":
        write_png(path, expected, 8, RGB, tRNS=key * 3)
    else:
        write_png(path, expected * 256, 16, RGB, tRNS=(512).to_bytes(2, "big") * 3)
    np.testing.assert_array_equal(read_all_ways(path), np.where(hidden[..., None], 255, expected))


@pytest.mark.parametrize("options", [{"photometric": "RGB"}, {}])
def test_of_more_than_three_bands_the_colours_are_kept(tmp_path, picture, alpha, options):
    """Near infrared is no alpha."""
    for further in ([alpha], [alpha, alpha]):
        write_tiff(tmp_path / "a.tif", np.dstack([picture, *further]), alpha="no", **options)
        np.testing.assert_array_equal(read_all_ways(tmp_path / "a.tif"), picture)


DEPTHS = {
    "TIFF of 12 bits": lambda path, deep: write_tiff(path, deep, NBITS=12, photometric="RGB"),
    "TIFF with MaxSampleValue": lambda path, deep: write_tiff(
        path, deep, tags={"TIFFTAG_MAXSAMPLEVALUE": "4095"}, photometric="RGB"
    ),
    "grey TIFF with MaxSampleValue": lambda path, deep: write_tiff(
        path, deep[..., 0], tags={"TIFFTAG_MAXSAMPLEVALUE": "4095"}
    ),
    "PNG with sBIT": lambda path, deep: write_png(path, deep, 16, RGB, sBIT=b"\x0c\x0c\x0c"),
    "grey PNG with sBIT": lambda path, deep: write_png(path, deep[..., 0], 16, GREY, sBIT=b"\x0c"),
    "PNG scaled as the format demands": lambda path, deep: write_png(
        path, (deep << 4) | (deep >> 8), 16, RGB, sBIT=b"\x0c\x0c\x0c"
    ),
    "PGM": lambda path, deep: path.write_bytes(b"P5 40 24 4095\n" + deep[..., 0].astype(">u2").tobytes()),
}  # fmt: skip


@pytest.mark.parametrize("kind", DEPTHS)
def test_a_declared_depth_scales_the_samples(tmp_path, capfd, kind):
    deep = np.random.default_rng(0).integers(0, 4096, (*SHAPE, 3)).astype(np.uint16)
    deep[0, 0] = 4095
    DEPTHS[kind](tmp_path / "a", deep)
    colours = deep[..., :1].repeat(3, axis=2) if "grey" in kind or kind == "PGM" else deep
    assert np.abs(read_all_ways(tmp_path / "a") - colours / 4095 * 255).max() <= 1
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("max_value", [4095, 3000])
def test_a_depth_that_is_not_declared_can_be_given(tmp_path, capfd, kind, max_value):
    deep = np.random.default_rng(0).integers(0, 4096, SHAPE).astype(np.uint16)
    write_png(tmp_path / "a", deep, 16, GREY) if kind == "PNG" else write_tiff(tmp_path / "a", deep)
    expected = np.minimum(deep / max_value * 255, 255)
    assert np.abs(read_all_ways(tmp_path / "a", max_value=max_value)[..., 0] - expected).max() <= 1
    item = Augmented([{"image": tmp_path / "a"}], A.Compose([]), max_value=max_value)[0]
    assert np.abs(item["image"][..., 0] - expected).max() <= 1
    assert capfd.readouterr().err == ""


def test_sixteen_bits_are_assumed_otherwise_and_said_once(tmp_path, capfd):
    deep = (np.arange(960, dtype=np.uint16) * 68).reshape(SHAPE)
    write_png(tmp_path / "a.png", deep, 16, GREY)
    write_tiff(tmp_path / "b.tif", deep, tags={"TIFFTAG_MAXSAMPLEVALUE": "3817"})  # a maximum, and no depth
    for name in ("a.png", "b.tif"):
        np.testing.assert_array_equal(read_all_ways(tmp_path / name)[..., 0], deep // 256)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"assay: image '{tmp_path}/a.png' has 16 bits per sample and does not declare")
    assert "give max_value=" in line


@pytest.mark.parametrize("dtype", ["float32", "int16", "int32", "uint32", "float64"])
def test_other_numbers_need_to_know_what_is_white(tmp_path, dtype):
    values = (
        np.linspace(-20, 120, 960).reshape(SHAPE).astype(dtype)
        if dtype != "uint32"
        else np.arange(960, dtype=dtype).reshape(SHAPE)
    )
    write_tiff(tmp_path / "a.tif", values)
    for read in (read_image, keep_open):
        with pytest.raises(BadImageError, match=f"its pixels are {dtype}, neither uint8 nor uint16: give max_value="):
            read(tmp_path / "a.tif")
    expected = (values / 100 * 255).clip(0, 255)
    assert np.abs(read_all_ways(tmp_path / "a.tif", max_value=100)[..., 0] - expected).max() <= 1


@pytest.mark.parametrize("max_value", [0, -1, float("nan")])
def test_what_is_white_must_be_greater_than_zero(tmp_path, max_value):
    write_tiff(tmp_path / "a.tif", np.zeros(SHAPE, np.uint16))
    for read in (read_image, keep_open, lambda path, **of: open_image(path, **of).__enter__()):
        with pytest.raises(UsageError, match="max_value must be greater than 0, got "):
            read(tmp_path / "a.tif", max_value=max_value)
    with pytest.raises(UsageError, match="max_value must be greater than 0, got "):
        Augmented([], None, max_value=max_value)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_inks_become_colours(tmp_path, picture, kind):
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    Image.fromarray(picture).convert("CMYK").save(tmp_path / "a", kind, **options)
    assert np.abs(read_all_ways(tmp_path / "a").astype(int) - picture).mean() < 3


@pytest.mark.parametrize("bits", [1, 8, 16])
def test_zero_may_be_white(tmp_path, picture, bits):
    values = {1: picture[..., 0] % 2, 8: picture[..., 0], 16: picture[..., 0].astype(np.uint16) * 257}[bits]
    write_tiff(tmp_path / "a.tif", values, photometric="MINISWHITE", **({"NBITS": 1} if bits == 1 else {}))
    expected = 255 - (values * 255 if bits == 1 else picture[..., 0])
    np.testing.assert_array_equal(read_all_ways(tmp_path / "a.tif")[..., 0], expected)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_few_bits_reach_from_black_to_white(tmp_path, bits, kind):
    values = np.random.default_rng(0).integers(0, 2**bits, SHAPE).astype(np.uint8)
    write_png(tmp_path / "a", values, bits, GREY) if kind == "PNG" else write_tiff(tmp_path / "a", values, NBITS=bits)
    np.testing.assert_array_equal(read_all_ways(tmp_path / "a")[..., 0], values * (255 // (2**bits - 1)))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_picture_is_read(tmp_path, kind):
    frames = [Image.new("RGB", SHAPE[::-1], colour) for colour in ((200, 30, 10), (0, 0, 250))]
    frames[0].save(
        tmp_path / "a", kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {})
    )
    assert np.abs(read_all_ways(tmp_path / "a") - [200.0, 30, 10]).max() < 2


@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_heic_names_the_package_that_reads_it(tmp_path, brand, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftyp" + brand + b"\0" * 40)
    with pytest.raises(BadImageError, match="it is HEIC, for which a package is missing: pip install pillow-heif"):
        read_image(tmp_path / "a.heic")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "deep PNG", "BMP"])
def test_an_image_beyond_the_limit_of_pillow_is_named_by_whatever_it_is_read(tmp_path, picture, kind, monkeypatch):
    if kind == "deep PNG":
        write_png(tmp_path / "a", picture.astype(np.uint16) * 257, 16, RGB)
    else:
        Image.fromarray(picture).save(tmp_path / "a", kind)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 479)
    with pytest.raises(BadImageError, match=r"a' cannot be read: .*960.*|40 x 24 .*raise PIL.Image.MAX_IMAGE_PIXELS"):
        read_image(tmp_path / "a")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read_image(tmp_path / "a").shape == picture.shape


def test_names_that_are_not_utf_8_are_read(tmp_path, picture):
    for kind in ("PNG", "TIFF"):
        path = tmp_path / f"caf\udce9.{kind}"
        with open(path, "wb") as file:
            Image.fromarray(picture).save(file, kind)
        np.testing.assert_array_equal(read_all_ways(path), picture)


def test_nothing_is_warned_of(tmp_path, picture):
    Image.fromarray(picture).quantize(8).save(tmp_path / "a.png", transparency=bytes([255, 0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_all_ways(tmp_path / "a.png")
