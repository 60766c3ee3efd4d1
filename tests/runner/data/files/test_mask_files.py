"""Masks are read as stored, or as their colours say; what holds no class numbers is named."""

import albumentations as A
import numpy as np
import pytest
import rasterio
import torch
from image_files import GREY, PALETTE, RGB, exif, turned, write_png, write_tiff
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from assay.runner import Augmented, BadImageError, DictRunner, Engine, UsageError, read_mask
from assay.runner.data.files.image_windows import keep_mask_open

VOC = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
COLOURS = {0: (0, 0, 0), 1: (128, 0, 0), 7: (0, 128, 0), 300: (128, 128, 0)}


@pytest.fixture
def classes():
    return np.random.default_rng(0).integers(0, 4, (13, 17)).astype(np.uint8)


def png(depth, kind=GREY):
    return lambda path, of: write_png(path, of, depth, kind, **({"PLTE": bytes(VOC)} if kind == PALETTE else {}))


def tiff(dtype, **options):
    return lambda path, of: write_tiff(path, of.astype(dtype), **options)


def pillow(mode, form, **options):
    def save(path, of):
        image = Image.fromarray(of)
        if mode == "P":
            image.putpalette(VOC)
        image.save(path, form, **options)

    return save


def jp2(bits):
    def save(path, of):
        shape = {"height": of.shape[0], "width": of.shape[1], "count": 1, "dtype": "uint8" if bits <= 8 else "uint16"}
        options = {"NBITS": bits, "QUALITY": 100, "REVERSIBLE": "YES"}
        with rasterio.open(path, "w", driver="JP2OpenJPEG", **shape, **options) as file:
            file.write(of.astype(shape["dtype"])[None])

    return save


TILED = {"tiled": True, "blockxsize": 16, "blockysize": 16}
KINDS = {
    "png 8": png(8),
    "png 16": png(16),
    "png 4": png(4),
    "png 2": png(2),
    "png palette 8": png(8, PALETTE),
    "png palette 4": png(4, PALETTE),
    "png palette 2": png(2, PALETTE),
    "png transparent palette": lambda path, of: write_png(path, of, 8, PALETTE, PLTE=bytes(VOC), tRNS=b"\0\x80"),
    "gif": pillow("P", "GIF"),
    "bmp palette": pillow("P", "BMP"),
    "bmp": pillow("L", "BMP"),
    "pgm": lambda path, of: path.write_bytes(b"P5 # made by hand\n17 13 3\n" + of.tobytes()),
    "pgm 16": lambda path, of: path.write_bytes(b"P5 17 13 4095\n" + of.astype(">u2").tobytes()),
    "jp2 4": jp2(4),
    "jp2 12 (16)": jp2(12),
    "tiff 8": tiff("uint8"),
    "tiff 16": tiff("uint16", compress="lzw"),
    "tiff big endian": tiff("uint16", ENDIANNESS="BIG", compress="deflate", predictor=2),
    "tiff int16": tiff("int16"),
    "tiff int32": tiff("int32", **TILED),
    "tiff uint32": tiff("uint32"),
    "tiff float32": tiff("float32"),
    "tiff 2 bits": tiff("uint8", NBITS=2),
    "tiff 4 bits": tiff("uint8", NBITS=4),
    "tiff big": tiff("uint8", bigtiff="yes"),
    "tiff palette": tiff("uint8", colormap={n: (*VOC[3 * n : 3 * n + 3], 255) for n in range(4)}, compress="lzw"),
    "tiff palette by pillow": pillow("P", "TIFF"),
    "tiff white is zero": tiff("uint8", photometric="MINISWHITE"),
}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_class_numbers_are_those_that_are_stored(tmp_path, classes, kind):
    KINDS[kind](tmp_path / "m", classes)
    mask = read_mask(tmp_path / "m")
    np.testing.assert_array_equal(mask, classes)
    is_wide = any(name in kind for name in ("16", "32", "endian"))
    assert mask.dtype == (np.int32 if is_wide else np.uint8)
    window = keep_mask_open(tmp_path / "m").read(3, 2, 9, 14)
    np.testing.assert_array_equal(window, classes[3:12, 2:16])


@pytest.mark.parametrize("kind", ["png grey", "png palette", "png by pillow", "tiff", "bmp", "pbm"])
def test_of_one_bit_the_numbers_are_0_and_1(tmp_path, classes, kind):
    classes, path = classes % 2, tmp_path / "m"
    if kind == "png palette":
        write_png(path, classes, 1, PALETTE, PLTE=bytes([9, 9, 9, 200, 0, 0]))
    elif kind == "png grey":
        write_png(path, classes, 1, GREY)
    else:
        form = {"png by pillow": "PNG", "tiff": "TIFF", "bmp": "BMP", "pbm": "PPM"}[kind]
        Image.fromarray(classes * 255).convert("1").save(path, form)
    np.testing.assert_array_equal(read_mask(path), classes)


@pytest.mark.parametrize("kind", ["png 16", "tiff 16", "tiff int32"])
def test_class_numbers_above_255_and_below_0_stay_what_they_are(tmp_path, kind):
    numbers = np.arange(24).reshape(4, 6) * 2000
    if kind == "tiff int32":
        numbers[0, 0], numbers[0, 1] = -1, 2**31 - 1
    KINDS[kind](tmp_path / "m", numbers)
    np.testing.assert_array_equal(read_mask(tmp_path / "m"), numbers)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_a_mask_is_turned_as_its_orientation_says(tmp_path, classes, orientation, kind):
    stored = turned(classes, orientation)
    if kind == "png":
        write_png(tmp_path / "m", stored, 8, GREY, eXIf=exif(orientation).removeprefix(b"Exif\0\0"))
    else:
        Image.fromarray(stored).save(tmp_path / "m", "TIFF", tiffinfo={274: orientation})
    np.testing.assert_array_equal(read_mask(tmp_path / "m"), classes)


def shown(classes):
    table = np.array([COLOURS[number] for number in (0, 1, 7, 300)], dtype=np.uint8)
    return table[classes], np.array([0, 1, 7, 300])[classes]


@pytest.mark.parametrize("kind", ["png", "tiff", "palette", "rgba", "webp", "bmp"])
def test_colours_stand_for_classes(tmp_path, classes, kind):
    picture, numbers = shown(classes)
    path = tmp_path / "m"
    image = Image.fromarray(picture)
    if kind == "tiff":
        write_tiff(path, picture, photometric="RGB")
    elif kind == "palette":
        KINDS["png palette 8"](path, classes)
    elif kind == "rgba":
        image.convert("RGBA").save(path, "PNG")
    else:
        image.save(path, kind.upper(), **({"lossless": True} if kind == "webp" else {}))
    mask = read_mask(path, colours=COLOURS)
    np.testing.assert_array_equal(mask, numbers)
    assert mask.dtype == np.int32
    if kind != "palette":
        with pytest.raises(BadImageError, match=r"m' cannot be read: .*holds colours \(RGB\): give colours="):
            read_mask(path)


def test_black_and_white_may_be_named_as_colours_too(tmp_path, classes):
    Image.fromarray(classes % 2 * 255).save(tmp_path / "m", "PNG")
    mask = read_mask(tmp_path / "m", colours={0: (0, 0, 0), 1: (255, 255, 255)})
    np.testing.assert_array_equal(mask, classes % 2)
    assert mask.dtype == np.uint8


def test_colours_that_stand_for_no_class_are_named_with_how_many_pixels_have_them(tmp_path, classes):
    picture, _ = shown(classes)
    picture[0, :3], picture[1, 0] = (1, 2, 3), (128, 0, 1)
    Image.fromarray(picture).save(tmp_path / "m", "PNG")
    message = r"2 of its colours are not in colours=: \(1, 2, 3\) in 3 pixels, \(128, 0, 1\) in 1 pixel$"
    with pytest.raises(BadImageError, match=message):
        read_mask(tmp_path / "m", colours=COLOURS)
    noise = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "m", "PNG")
    with pytest.raises(BadImageError, match=r"81 of its colours are not in colours=: .* and 76 more"):
        read_mask(tmp_path / "m", colours=COLOURS)


@pytest.mark.parametrize(
    ("colours", "message"),
    [
        ({}, "colours must name the colour of each class"),
        ({0: (0, 0, 0), 4: (1, 2, 3), 5: (1, 2, 3)}, r"colours must differ: classes 4 and 5 both have \(1, 2, 3\)"),
        ({-1: (0, 0, 0)}, "colours must be given by class numbers, 0 to 2147483647, got -1"),
        ({"road": (0, 0, 0)}, "colours must be given by class numbers, 0 to 2147483647, got 'road'"),
        ({0: (0, 0, 256)}, r"colours of class 0 must be three whole numbers from 0 to 255, got \(0, 0, 256\)"),
        ({0: (0.5, 0, 0)}, "colours of class 0 must be three whole numbers"),
        ({0: (0, 0)}, "colours of class 0 must be three whole numbers"),
        ({0: "red"}, "colours of class 0 must be three whole numbers from 0 to 255, got 'red'"),
    ],
)
def test_wrong_colours_are_refused_before_a_file_is_read(colours, message):
    with pytest.raises(UsageError, match=message):
        Augmented([], A.Compose([]), colours=colours)
    with pytest.raises(UsageError, match=message):
        read_mask("none.png", colours=colours)


def save_tiff_of(values, **options):
    return lambda path: write_tiff(path, values, **options)


FOUR = np.arange(64, dtype=np.uint8).reshape(4, 4, 4)
REFUSED = {
    "jpeg": (lambda path: Image.fromarray(FOUR[..., 0]).save(path, "JPEG"), "compressed with loss"),
    "lossy webp": (lambda path: Image.fromarray(FOUR[..., :3]).save(path, "WEBP"), "compressed with loss"),
    "jpeg 2000": (lambda path: Image.fromarray(FOUR[..., 0]).save(path, "JPEG2000", irreversible=True), "with loss"),
    "jpeg in tiff": (save_tiff_of(np.zeros((64, 64), np.uint8), compress="jpeg"), "compressed with loss"),
    "alpha": (lambda path: write_png(path, FOUR[..., :2], 8, 4), "16 of its pixels are transparent"),
    "alpha in tiff": (save_tiff_of(FOUR[..., :2], alpha="yes"), "16 of its pixels are transparent"),
    "two bands": (save_tiff_of(FOUR[..., :2]), "it holds 2 bands"),
    "fractions": (save_tiff_of(FOUR[..., 0] / np.float32(3)), "float32 with fractions or NaN"),
    "nan": (save_tiff_of(np.full((4, 4), np.nan, np.float32)), "float32 with fractions or NaN"),
    "too large": (save_tiff_of(np.full((4, 4), 2**32 - 1, np.uint32)), "reach from 4294967295 to 4294967295"),
    "16-bit colours": (lambda path: write_png(path, FOUR[..., :3], 16, RGB), "more than 8 bits"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_holds_no_class_numbers_is_refused_by_the_name_of_its_file(tmp_path, kind):
    save, reason = REFUSED[kind]
    save(tmp_path / "m")
    with pytest.raises(BadImageError, match=f"m' cannot be read: .*({reason})"):
        read_mask(tmp_path / "m", colours=COLOURS if kind == "16-bit colours" else None)


def test_the_masks_of_an_item_are_read_as_albumentations_calls_them(tmp_path, classes):
    KINDS["png palette 8"](tmp_path / "a.png", classes)
    KINDS["png 16"](tmp_path / "b.png", classes.astype(np.uint16) * 300)
    Image.fromarray(np.zeros((13, 17, 3), np.uint8)).save(tmp_path / "i.png")
    item = {
        "i": tmp_path / "i.png",
        "a": tmp_path / "a.png",
        "b": str(tmp_path / "b.png"),
        "all": [tmp_path / "a.png"] * 2,
    }
    transform = A.Compose([A.HorizontalFlip(p=1)], additional_targets={"depth": "mask"})
    keys = {"image": "i", "mask": "a", "depth": "b", "masks": "all"}
    found = Augmented([item], transform, keys=keys)[0]
    np.testing.assert_array_equal(found["a"], classes[:, ::-1])
    np.testing.assert_array_equal(found["b"], classes[:, ::-1].astype(int) * 300)
    np.testing.assert_array_equal(found["all"], [classes[:, ::-1]] * 2)


class PixelClasses(nn.Module):
    """Gives every pixel the same four logits."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.tensor([0.0, 0.5, -1.0, 2.0]))

    def forward(self, image):
        return {"logits": self.bias[:, None, None].expand(len(image), 4, *image.shape[2:])}


@pytest.mark.parametrize("save", ["png palette 8", "png 16", "tiff int32"])
def test_masks_of_paths_train_with_a_loss_over_classes_as_they_come(tmp_path, classes, save):
    KINDS[save](tmp_path / "m", classes)
    Image.fromarray(np.zeros((13, 17, 3), np.uint8)).save(tmp_path / "i.png")
    items = [{"image": tmp_path / "i.png", "target": tmp_path / "m"}] * 4
    transform = A.Compose([A.HorizontalFlip(p=1), A.ToFloat(255), A.ToTensorV2()])
    data = Augmented(items, transform, keys={"image": "image", "mask": "target"})
    model = PixelClasses()
    runner = DictRunner()
    options = {"optimizer": torch.optim.SGD(model.parameters(), 0.0), "criterion": nn.CrossEntropyLoss()}
    loaders = {"train": DataLoader(data, 2)}
    options |= {"engine": Engine("cpu"), "num_epochs": 1, "logdir": str(tmp_path / "r")}
    runner.train(model=model, loaders=loaders, **options)
    logs = model.bias.detach().log_softmax(0).numpy()
    assert runner.history[1]["train"]["loss"] == pytest.approx(-logs[classes].mean(), rel=1e-5)


def test_colours_of_a_data_set_reach_its_masks_and_an_unknown_one_names_the_sample(tmp_path, classes):
    picture, numbers = shown(classes)
    for name in ("i.png", "m.png"):
        Image.fromarray(picture).save(tmp_path / name)
    item = {"image": tmp_path / "i.png", "mask": tmp_path / "m.png", "sample_id": "a-1"}
    keys = {"image": "image", "mask": "mask"}
    found = Augmented([item], A.Compose([]), keys=keys, colours=COLOURS)[0]
    np.testing.assert_array_equal(found["mask"], numbers)
    np.testing.assert_array_equal(found["image"], picture)
    with pytest.raises(BadImageError, match=r"sample_id 'a-1': .*m.png' cannot be read: .*\(0, 0, 0\) in"):
        Augmented([item], A.Compose([]), keys=keys, colours={1: (128, 0, 0)})[0]
