"""Images and masks in every common layout, each irregularity as one line, and what the values of masks mean."""

import os

import numpy as np
import pytest
from PIL import Image

from assay.runner import BadImageError, UsageError, read_data, read_mask_folders
from assay.runner.data.readers.masks import mask_scan
from assay.runner.data.readers.masks.class_files import NamedClass, read_class_file
from assay.runner.data.readers.masks.folders import looks_like

VALUES = np.array([[0, 1, 2], [2, 1, 0]], dtype=np.uint8)


def image(path, size=(3, 2)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 60, 30)).save(path)


def mask(path, values=VALUES, palette=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    file = Image.fromarray(np.asarray(values, dtype=np.uint8))
    if palette is not None:
        file.putpalette([part for colour in palette for part in colour])
    file.save(path)


def write(root, *names):
    for name in names:
        (mask if name.endswith(".png") else image)(root / name)


def pairs_of(items):
    """The mask file of each image."""
    return dict(zip(items.column("sample_id"), items.column("target").paths, strict=True))


LAYOUTS = {
    "folders": ({"images/1.jpg": "masks/1.png"}, None),
    "upper case": ({"Images/1.JPG": "Labels/1_mask.png"}, None),
    "nested": ({"imgs/a/1.jpg": "gt/a/1.png", "imgs/b/1.jpg": "gt/b/1_gt.png"}, None),
    "split outside": ({"train/images/1.jpg": "train/masks/1.png", "val/images/2.jpg": "val/masks/2.png"},
                      ["train", "valid"]),
    "split inside": ({"images/training/1.jpg": "annotations/training/1.png",
                      "images/validation/2.jpg": "annotations/validation/2.png"}, ["train", "valid"]),
    "train_masks": ({"train/1.jpg": "train_masks/1_mask.png"}, ["train"]),
    "train_images": ({"train_images/1.jpg": "train_masks/1.png"}, ["train"]),
    "trainannot": ({"train/1.jpg": "trainannot/1.png", "val/2.jpg": "valannot/2.png"}, ["train", "valid"]),
    "one folder": ({"855_sat.jpg": "855_mask.png", "9_sat.jpg": "9_mask.png"}, None),
    "one folder each": ({"train/8_sat.jpg": "train/8_mask.png", "valid/9_sat.jpg": "valid/9_mask.png"},
                        ["train", "valid"]),
    "passed through": ({"set/images/1.jpg": "set/masks/1.png"}, None),
    "beside": ({"1.jpg": "masks/1.png"}, None),
    "unicode": ({"images/Straße 1.jpg": "masks/Straße 1.png"}, None),
    "names alone": ({"images/1.jpg": "annotations/trimaps/1.png", "images/2.jpg": "annotations/trimaps/2.png"}, None),
    "prefixes": ({"images/image_1.jpg": "masks/mask_1.png"}, None),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_pairs_are_found_in_every_layout(tmp_path, name):
    pairs, splits = LAYOUTS[name]
    write(tmp_path, *pairs, *pairs.values())
    assert looks_like(tmp_path)
    items = read_mask_folders(tmp_path)
    assert pairs_of(items) == pairs and items.problems == ()
    assert (list(items.column("split")) if splits else None) == splits
    assert items[0]["image"] == str(tmp_path / next(iter(pairs)))
    assert items[0]["target"].tolist() == VALUES.tolist() and items[0]["target"].dtype == np.uint8


def test_hidden_files_links_and_other_files_make_no_difference(tmp_path):
    write(tmp_path, "images/1.jpg", "images/.2.jpg", "masks/1.png", "masks/.3.png", "other/4.jpg", "other/4.png")
    os.symlink(tmp_path / "other/4.jpg", tmp_path / "images/4.jpg")
    os.symlink(tmp_path / "other/4.png", tmp_path / "masks/4.png")
    (tmp_path / "masks/notes.txt").write_text("drawn by hand")
    assert pairs_of(read_mask_folders(tmp_path)) == {"images/1.jpg": "masks/1.png", "images/4.jpg": "masks/4.png"}


def test_the_lists_of_voc_are_the_split(tmp_path):
    write(tmp_path, *(f"JPEGImages/{i}.jpg" for i in range(4)), *(f"SegmentationClass/{i}.png" for i in range(3)))
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("0\n2\n7\n")
    (lists / "val.txt").write_text("1\n")
    items = read_mask_folders(tmp_path)
    assert dict(zip(items.column("sample_id"), items.column("split"), strict=True)) == {
        "JPEGImages/0.jpg": "train", "JPEGImages/2.jpg": "train", "JPEGImages/1.jpg": "valid",
    }  # fmt: skip
    where = "ImageSets/Segmentation/train.txt, line 3"
    assert items.problems == (f"{where}: 7 has no image and mask, or is listed before; left out",)


def test_each_irregular_pair_is_one_line(tmp_path):
    write(tmp_path, *(f"images/{i}.jpg" for i in range(5)), *(f"masks/{i}.png" for i in (0, 1, 2, 3, 6)))
    write(tmp_path, "masks/0_mask.png", "images/0.bmp")
    mask(tmp_path / "masks/1.png", np.zeros((2, 4)))
    mask(tmp_path / "masks/2.png", [[0, 1, 9], [0, 0, 0]])
    (tmp_path / "masks/3.png").write_bytes(b"no image")
    (tmp_path / "classes.txt").write_text("ground\nroad\nhouse\n")
    items = read_mask_folders(tmp_path)
    assert pairs_of(items) == {"images/0.bmp": "masks/0.png"}
    lines = [line.replace(f"{tmp_path}/", "") for line in items.problems]
    for part in (
        "images/0.jpg: images/0.bmp has the same name; left out",
        "masks/0_mask.png: images/0.bmp has the mask masks/0.png already; left out",
        "masks/6.png: a mask without an image; left out",
        "images/4.jpg: no mask in masks; left out",
        "masks/1.png has 4 x 2 pixels, and images/1.jpg 3 x 2; left out",
        "masks/2.png holds 9, and the classes are those of classes.txt, 255 not counted; left out",
    ):
        assert lines.count(part) == 1, lines
    assert sum("masks/3.png" in line and "left out" in line for line in lines) == 1
    assert len(lines) == 7


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_black_and_white_masks_that_were_smoothed_are_one_line(tmp_path, mode):
    values = np.zeros((40, 40), dtype=np.uint8)
    values[:, 20:] = 255
    values[:, 20] = np.arange(40) * 6  # 39 greys and a black in a column of 40 of 1,600 pixels
    image(tmp_path / "images/1.jpg", (40, 40))
    (tmp_path / "masks").mkdir()
    Image.fromarray(values).convert(mode).save(tmp_path / "masks/1.png")
    with pytest.raises(UsageError, match=r"0 and 255, and 39 values between in 2.4% of the pixels, as after smoothing"):
        read_mask_folders(tmp_path)


def test_rare_classes_beside_void_are_not_smoothing(tmp_path):
    values = np.zeros((40, 40), dtype=np.uint8)
    values[0, :9], values[1] = np.arange(9), 255
    image(tmp_path / "images/1.jpg", (40, 40))
    mask(tmp_path / "masks/1.png", values)
    assert len(read_mask_folders(tmp_path).class_names) == 9


CITY = "gtFine/{0}/ulm/ulm_{1}_gtFine_{2}.png"


@pytest.mark.parametrize("kind", ["labelIds", "labelTrainIds"])
def test_of_the_masks_of_cityscapes_the_numbers_of_one_kind_are_read(tmp_path, kind):
    numbers = {"labelIds": [[7, 33, 0], [26, 4, 7]], "labelTrainIds": [[0, 18, 255], [13, 255, 0]]}
    for split, number in (("train", 1), ("val", 2)):
        image(tmp_path / f"leftImg8bit/{split}/ulm/ulm_{number}_leftImg8bit.png")
        mask(tmp_path / CITY.format(split, number, "instanceIds"), VALUES)
        Image.new("RGBA", (3, 2), (128, 64, 128, 255)).save(tmp_path / CITY.format(split, number, "color"))
        for one in ["labelIds", kind]:
            mask(tmp_path / CITY.format(split, number, one), numbers[one])
    items = read_mask_folders(tmp_path)
    assert items.problems == () and list(items.column("split")) == ["train", "valid"]
    assert items.column("target").paths[0] == CITY.format("train", 1, kind)
    for index in range(2):
        assert items[index]["target"].tolist() == [[0, 18, 255], [13, 255, 0]]
    names = items.class_names
    assert len(names) == 19 and (names[0], names[13], names[18]) == ("road", "car", "bicycle")
    assert items.palette[13].tolist() == [0, 0, 142]
    assert items.layout.endswith(f"({kind} of Cityscapes, other numbers not counted)")


def test_masks_of_cityscapes_that_some_images_alone_have_are_not_mixed_with_others(tmp_path):
    for number in (1, 2):
        image(tmp_path / f"leftImg8bit/train/ulm/ulm_{number}_leftImg8bit.png")
        mask(tmp_path / CITY.format("train", number, "labelIds"), [[7, 8, 7], [8, 7, 8]])
    mask(tmp_path / CITY.format("train", 1, "labelTrainIds"), VALUES)
    paths = read_mask_folders(tmp_path).column("target").paths
    assert [*paths] == [CITY.format("train", number, "labelIds") for number in (1, 2)]


@pytest.mark.parametrize(
    ("values", "names", "target", "described"),
    [
        ([[0, 255, 255]], ("background", "object"), [[0, 1, 1]], "0 and 255"),
        ([[0, 1, 255]], ("background", "object"), [[0, 1, 255]], "0 and 1, 255 not counted"),
        ([[0, 1, 2]], ("0", "1", "2"), [[0, 1, 2]], "numbers 0 to 2, 255 not counted"),
        ([[0, 1, 255], [3, 1, 0]], ("0", "1", "2", "3"), [[0, 1, 255], [3, 1, 0]], "numbers 0 to 3, 255 not counted"),
        ([[0, 128, 255]], ("0", "128", "255"), [[0, 1, 2]], "grey levels 0, 128, 255"),
        ([[0, 85, 170, 255]], ("0", "85", "170", "255"), [[0, 1, 2, 3]], "grey levels 0, 85, 170, 255"),
        ([[0, 7, 11, 255]], ("0", "7", "11"), [[0, 1, 2, 255]], "values 0, 7, 11, 255 not counted"),
    ],
)
def test_values_without_names_are_told_by_themselves(tmp_path, values, names, target, described):
    image(tmp_path / "images/1.png", np.shape(values)[::-1])
    mask(tmp_path / "masks/1.png", values)
    items = read_mask_folders(tmp_path)
    assert items.class_names == names and items[0]["target"].tolist() == target
    assert items.layout == f"images/ and masks/ ({described})"
    assert items.describe() == f"{items.layout}: 1 image, {len(names)} classes; no split given"


@pytest.mark.parametrize(
    ("text", "values", "names", "target"),
    [
        ("ground\nroad\nhouse\n", [[0, 1, 2]], ("ground", "road", "house"), [[0, 1, 2]]),
        ("road\nhouse\n", [[0, 1, 2]], ("background", "road", "house"), [[0, 1, 2]]),
        ("ground\nroof\n", [[0, 255, 0]], ("ground", "roof"), [[0, 1, 0]]),
        ("roof\n", [[0, 1, 0]], ("background", "roof"), [[0, 1, 0]]),
        ("ground\nroad\nvoid\n", [[0, 1, 2]], ("ground", "road"), [[0, 1, 255]]),
        ("unlabeled\nground\nroad\n", [[0, 1, 2]], ("ground", "road"), [[255, 0, 1]]),
        ("0 ground\n7 road\n11 house\n", [[0, 7, 11]], ("ground", "road", "house"), [[0, 1, 2]]),
        ("# label:color_rgb:parts:actions\nground:0,0,0::\nroad:128,64,128::\n", [[0, 1, 1]], ("ground", "road"),
         [[0, 1, 1]]),
    ],
    ids=["numbers", "without background", "0 and 255", "one object", "void", "unlabeled", "values", "colours"],
)  # fmt: skip
def test_a_file_names_the_classes(tmp_path, text, values, names, target):
    image(tmp_path / "images/1.png")
    mask(tmp_path / "masks/1.png", np.vstack([values, values]))
    (tmp_path / "classes.txt").write_text(text)
    items = read_mask_folders(tmp_path)
    assert items.class_names == names and items[0]["target"][:1].tolist() == target


COLOURS = {"Sky": (128, 128, 128), "Road": (128, 64, 128), "Void": (0, 0, 0)}


@pytest.mark.parametrize(
    ("name", "line"),
    [("label_colors.txt", "{r} {g} {b}\t{name}"), ("class_dict.csv", "{name},{r},{g},{b}"),
     ("labelmap.txt", "{name}:{r},{g},{b}::"), ("Label_Colours.TXT", "#{r:02x}{g:02x}{b:02x} {name}")],
)  # fmt: skip
def test_colours_are_looked_up_in_a_file(tmp_path, name, line):
    order = [["Sky", "Road", "Void"], ["Road", "Road", "Sky"]]
    image(tmp_path / "images/1.png")
    mask(tmp_path / "masks/1.png", [[COLOURS[one] for one in row] for row in order])
    lines = [line.format(name=one, r=r, g=g, b=b) for one, (r, g, b) in COLOURS.items()]
    (tmp_path / name).write_text("\n".join((["name,r,g,b"] if name.endswith("csv") else []) + lines))
    items = read_mask_folders(tmp_path)
    assert items.class_names == ("Sky", "Road") and items.palette.tolist() == [[128, 128, 128], [128, 64, 128]]
    assert items[0]["target"].tolist() == [[0, 1, 255], [1, 1, 0]]
    assert items.describe().startswith(f"images/ and masks/ (those of {name}, Void not counted)")


def test_a_palette_gives_the_colours_of_the_classes_and_their_names_by_a_file(tmp_path):
    palette = [(0, 0, 0), (128, 0, 0), (0, 128, 0)] + [(0, 0, 0)] * 252 + [(224, 224, 192)]
    image(tmp_path / "images/1.png")
    mask(tmp_path / "masks/1.png", [[0, 1, 2], [255, 1, 0]], palette)
    items = read_mask_folders(tmp_path)
    assert items.class_names == ("0", "1", "2") and items[0]["target"].tolist() == [[0, 1, 2], [255, 1, 0]]
    assert items.palette.tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    (tmp_path / "label_colors.txt").write_text("0 128 0 tree\n128 0 0 house\n0 0 0 ground\n")
    items = read_mask_folders(tmp_path)
    assert items.class_names == ("tree", "house", "ground") and items[0]["target"].tolist() == [[2, 1, 0], [255, 1, 2]]


def test_black_and_white_saved_as_colours_is_black_and_white(tmp_path):
    image(tmp_path / "images/1.png")
    mask(tmp_path / "masks/1.png", np.repeat(np.array([[0, 255, 0], [255, 0, 0]])[..., None], 3, axis=2))
    items = read_mask_folders(tmp_path)
    assert items.class_names == ("background", "object") and items[0]["target"].tolist() == [[0, 1, 0], [1, 0, 0]]


def test_colours_that_nothing_names_are_classes_by_their_colours(tmp_path):
    image(tmp_path / "images/1.png")
    mask(tmp_path / "masks/1.png", [[(0, 0, 0), (255, 0, 0), (0, 0, 255)]] * 2)
    items = read_mask_folders(tmp_path)
    assert items.class_names == ("#000000", "#0000ff", "#ff0000") and items[0]["target"].tolist() == [[0, 2, 1]] * 2
    (tmp_path / "classes.txt").write_text("ground\nriver\nroof\n")
    with pytest.raises(UsageError, match=r"hold 3 colours, and no file says which class.*classes.txt: 0 0 0 NAME; 0"):
        read_mask_folders(tmp_path)


def test_of_a_large_set_some_masks_are_looked_at_and_the_rest_when_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(mask_scan, "_MOST_PIXELS", 6 * 3)
    for i in range(9):
        image(tmp_path / f"images/{i}.jpg")
        mask(tmp_path / f"masks/{i}.png", VALUES if i != 1 else VALUES + 5)
    items = read_mask_folders(tmp_path)
    assert len(items) == 9 and items.class_names == ("0", "1", "2")
    with pytest.raises(BadImageError, match=r"masks/1.png' holds 5, 6, 7, and the classes are numbers 0 to 2"):
        items[1]


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ({}, "holds no images with masks: looked for images/ and masks/.*found nothing"),
        ({"images/1.png": (2, 3)}, "holds no images with masks.*found images/"),
        ({"images/1.png": (2, 3), "masks/2.png": (2, 3)}, "hold no image and mask of one name: masks/2.png"),
        ({"images/1.png": (2, 3), "masks/1.png": (2, 3)}, "hold 0 alone"),
        ({"images/1.png": (2, 3), "masks/1.jpg": (2, 3)}, "no mask can be read: .*with loss"),
        ({"images/1.png": (2, 3), "masks/1.png": (3, 3)}, "no image with its mask is left of 1: masks/1.png has 3 x 3"),
    ],
    ids=["empty", "no masks", "other names", "nothing drawn", "lossy", "other size"],
)
def test_what_cannot_be_read_at_all_is_one_line(tmp_path, files, line):
    for name, shape in files.items():
        mask(tmp_path / name, np.zeros(shape))
    with pytest.raises(UsageError, match=line):
        read_mask_folders(tmp_path)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("road\nroad\n", "line 2: the name 'road' is in line 1 already"),
        ("1 road\n1 house\n", "line 2: the value 1 is in line 1 already"),
        ("0 0 9 road\n0 0 9 house\n", r"line 2: the colour \(0, 0, 9\) is in line 1 already"),
        ("road\n3 house\n", "line 2: a name with a value, and line 1 is a name alone: let all be alike"),
        ("road 300 0 0\n", "line 1: must be a class such as"),
        ("\n\n", "names no class"),
    ],
    ids=["name", "value", "colour", "form", "beyond", "empty"],
)
def test_a_wrong_file_of_classes_is_named_by_line(tmp_path, text, line):
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(UsageError, match=line):
        read_class_file(tmp_path / "classes.txt")


def test_names_may_hold_spaces_and_numbers(tmp_path):
    (tmp_path / "classes.txt").write_text("low vegetation\nroad 2\n")
    assert read_class_file(tmp_path / "classes.txt") == [NamedClass("low vegetation"), NamedClass("road 2")]


def test_a_folder_of_masks_is_recognized(tmp_path):
    write(tmp_path, "images/1.jpg", "masks/1.png")
    assert read_data(tmp_path, "segment").class_names == ("0", "1", "2")
