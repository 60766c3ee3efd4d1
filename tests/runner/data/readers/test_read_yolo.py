"""Reading boxes from YOLO's text files."""

import os
import re

import pytest
import yaml
from box_files import BOXES, CLASSES, SIZES, boxes_of, write_image, write_yolo

from assay.runner import UsageError, read_yolo
from assay.runner.data.readers.yolo import looks_like

PARTS = {"train": ["a.jpg", "b b.JPG"], "val": ["ünï.png"]}


def write(folder, *, images="images/{}", labels="labels/{}", **settings):
    """Write a data set of two parts; return the path of its YAML, if it has settings."""
    for part, names in PARTS.items():
        for name in names:
            write_image(folder / images.format(part) / name, SIZES[name])
        write_yolo(folder / labels.format(part), {name: BOXES[name] for name in names}, SIZES)
    path = folder / "data.yaml"
    path.write_text(yaml.safe_dump(settings, allow_unicode=True)) if settings else None
    return path


def check(items, problems=()):
    assert items.problems == problems
    assert items.class_names == ("background", *CLASSES)
    assert list(items.column("split")) == ["train", "train", "valid"]
    found = boxes_of(items)
    assert found.keys() == BOXES.keys()
    for name, boxes in BOXES.items():
        assert found[name] == [pytest.approx(box, abs=1e-3) for box in boxes], name


NAMES = {"list": list(CLASSES), "by number": dict(enumerate(CLASSES))}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_folders_of_a_yaml(tmp_path, names):
    path = write(tmp_path, train="images/train", val="images/val", names=names, nc=2)
    check(read_yolo(path))
    check(read_yolo(tmp_path))


def test_parts_hold_images_and_labels_as_roboflow_exports_them(tmp_path):
    # Its YAML names a folder beside that of the data set, and a test part that may not be there.
    settings = {"train": "../train/images", "val": "../val/images", "test": "../test/images", "names": list(CLASSES)}
    path = write(tmp_path, images="{}/images", labels="{}/labels", **settings)
    check(read_yolo(path), ("data.yaml: test: ../test/images is not there",))


def test_the_path_of_a_yaml_counts_where_it_is_there(tmp_path):
    write(tmp_path / "set")
    settings = {"path": "set", "train": "images/train", "val": ["images/val"], "names": list(CLASSES)}
    (tmp_path / "mine.yml").write_text(yaml.safe_dump(settings, allow_unicode=True))
    check(read_yolo(tmp_path / "mine.yml"))
    settings["path"] = "/of/another/machine"
    (tmp_path / "set/data.yaml").write_text(yaml.safe_dump(settings, allow_unicode=True))
    check(read_yolo(tmp_path / "set"))


def test_a_text_file_lists_images(tmp_path):
    path = write(tmp_path, train="train.txt", val="lists/val.txt", names=list(CLASSES))
    (tmp_path / "train.txt").write_text("./images/train/a.jpg\n\nimages/train/b b.JPG\nimages/train/gone.jpg\n")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/val.txt").write_text("../images/val/ünï.png\n")
    check(read_yolo(path), ("train.txt, line 4: images/train/gone.jpg is not there",))


def test_without_a_yaml_folders_say_the_part_and_a_text_file_the_names(tmp_path):
    write(tmp_path)
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    check(read_yolo(tmp_path))


def test_without_names_classes_are_called_by_number(tmp_path):
    write(tmp_path)
    assert read_yolo(tmp_path).class_names == ("background", "0", "1")


def test_labels_may_lie_beside_their_images(tmp_path):
    check(read_yolo(write(tmp_path, images="{}", labels="{}", train="train", val="val", names=list(CLASSES))))


def small(folder, text, *, names=CLASSES, **settings):
    """Read one image with a file of labels."""
    write_image(folder / "images/a.jpg", (100, 50))
    (folder / "labels").mkdir(exist_ok=True)
    if text is not None:
        (folder / "labels/a.txt").write_text(text)
    (folder / "data.yaml").write_text(yaml.safe_dump({"train": "images", "val": None, "names": names, **settings}))
    return read_yolo(folder)


def test_an_outline_becomes_the_box_around_it(tmp_path):
    names = list(CLASSES)
    items = small(tmp_path, "0 0.1 0.2 0.5 0.4 0.3 0.9\n1 0.5 0.5 0.5 0.5\n1 0 0 1 0 1 1 0 1", names=names)
    expected = [(10, 10, 50, 45, 1), (25, 12.5, 75, 37.5, 2), (0, 0, 100, 50, 2)]
    assert boxes_of(items)["a.jpg"] == [pytest.approx(box) for box in expected]


@pytest.mark.parametrize("folders", ["{}", "obj_{}_data", ""], ids=["of parts", "named freely", "none"])
def test_labels_beside_their_images_without_a_yaml(tmp_path, folders):
    write(tmp_path, images=folders, labels=folders)
    (tmp_path / "obj.names").write_text("\n".join(CLASSES))
    (tmp_path / "train.txt").write_text("data/a.jpg\n")
    assert looks_like(tmp_path)
    items = read_yolo(tmp_path)
    assert items.problems == ("train.txt: left out, as a list of images needs a YAML file that names it",)
    assert {name: len(boxes) for name, boxes in boxes_of(items).items()} == {
        name: len(boxes) for name, boxes in BOXES.items()
    }
    (tmp_path / "obj.names").unlink()
    for file in tmp_path.rglob("*.txt"):
        file.write_text("a caption\n")
    assert not looks_like(tmp_path)


def test_keypoints_are_no_outline(tmp_path):
    items = small(tmp_path, "0 0.5 0.5 0.5 0.5 0.1 0.1 2 0.9 0.9 1", names=["cat"], kpt_shape=[2, 3])
    assert boxes_of(items)["a.jpg"] == [(25, 12.5, 75, 37.5, 1)]


def test_numbers_of_classes_may_have_gaps(tmp_path):
    items = small(tmp_path, "7 0.5 0.5 0.5 0.5\n", names={7: "b", 2: "a"})
    assert (items.class_names, items[0]["labels"].tolist()) == (("background", "a", "b"), [2])


def test_an_empty_file_is_an_image_without_objects_and_so_is_a_missing_one_which_a_line_counts(tmp_path):
    for name in "bcdef":
        write_image(tmp_path / f"images/{name}.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/b.txt").write_text(" \n")
    items = small(tmp_path, "0 0.5 0.5 0.5 0.5", names=["cat"])
    assert [len(item["bboxes"]) for item in items] == [1, 0, 0, 0, 0, 0]
    assert items.problems == (
        "4 of 6 images have no file of labels, and count as images without objects: images/c.jpg, images/d.jpg, "
        "images/e.jpg and 1 more",
    )


IRREGULAR = {
    "four numbers": (
        "0 0.5 0.5 0.5",
        "it must be 'class x y width height' or a class and the points of an outline, got",
    ),
    "a score": ("0 0.5 0.5 0.5 0.5 0.9", "it must be 'class x y width height'"),
    "an odd outline": ("0 0.5 0.5 0.5 0.5 0.9 0.9 0.1", "it must be 'class x y width height'"),
    "a word": ("cat 0.5 0.5 0.5 0.5", "it must be 'class x y width height'"),
    "half a class": ("0.5 0.5 0.5 0.5 0.5", "a class must be a number from 0 on"),
    "a negative class": ("-1 0.5 0.5 0.5 0.5", "a class must be a number from 0 on"),
    "not finite": ("0 0.5 0.5 nan 0.5", "all others finite"),
    "no name": ("2 0.5 0.5 0.5 0.5", "class 2 has no name; left out"),
    "no area": ("0 0.5 0.5 0 0.5", r"the box \[50, 12.5, 50, 37.5\] of images/a.jpg has no area"),
    "outside": ("0 1.5 0.5 0.5 0.5", "lies outside of its image; left out"),
    "twice": ("0 0.25 0.5 0.5 0.5", "is there twice with one label; left out"),
}


@pytest.mark.parametrize("wrong, message", IRREGULAR.values(), ids=IRREGULAR)
def test_an_irregular_line_is_left_out_and_named_by_its_number(tmp_path, wrong, message):
    items = small(tmp_path, f"0 0.25 0.5 0.5 0.5\n\n{wrong}\n", names=["a", "b"])
    assert boxes_of(items)["a.jpg"] == [(0, 12.5, 50, 37.5, 1)]
    (line,) = items.problems
    assert re.match(f"labels/a.txt, line 3: .*{message}", line), line


def test_shares_are_those_of_the_upright_image(tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[274] = 6  # turned by a quarter
    (tmp_path / "images").mkdir(parents=True)
    small(tmp_path, "0 0.5 0.5 1 1", names=["a"])
    Image.new("RGB", (100, 50)).save(tmp_path / "images/a.jpg", exif=exif)
    assert boxes_of(read_yolo(tmp_path))["a.jpg"] == [(0, 0, 50, 100, 1)]


def test_a_part_that_is_another_one_is_taken_once(tmp_path):
    items = small(tmp_path, "0 0.5 0.5 0.5 0.5", names=["a"], val="images")
    assert items.problems == ("data.yaml: val: images is that of train already; left out",)


def test_what_a_yaml_names_and_is_not_there_is_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"data\.yaml: val: pictures is not there: looked for .*pictures") as caught:
        small(tmp_path, "", names=["a"], val="pictures")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("names", ["cat", 3, {"cat": 0}], ids=["a text", "a number", "by text"])
def test_names_of_another_form_are_refused(tmp_path, names):
    with pytest.raises(UsageError, match="names must be a list of names, or names by number, got"):
        small(tmp_path, "", names=names)


def test_several_yaml_files_are_named(tmp_path):
    small(tmp_path, "0 0.5 0.5 0.5 0.5", names=["a"])
    (tmp_path / "other.yaml").write_text((tmp_path / "data.yaml").read_text())
    with pytest.raises(UsageError, match=r"holds 2 YAML files of data sets; give one: .*data\.yaml, .*other\.yaml"):
        read_yolo(tmp_path)
    assert len(read_yolo(tmp_path / "other.yaml")) == 1


def test_an_image_whose_labels_are_no_text_is_left_out(tmp_path):
    write_image(tmp_path / "images/b.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/b.txt").write_bytes(b"\xff\xd8\xff\xe0\x80")
    items = small(tmp_path, "0 0.5 0.5 0.5 0.5", names=["a"])
    assert boxes_of(items).keys() == {"a.jpg"}
    (line,) = items.problems
    assert re.search(r"labels/b\.txt.*: images/b.jpg is left out", line)


def test_it_is_recognized_by_its_yaml_or_its_folders(tmp_path):
    os.makedirs(tmp_path / "images")
    assert not looks_like(tmp_path)
    (tmp_path / "other.yaml").write_text("a: 1\n")
    assert not looks_like(tmp_path)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("")
    assert looks_like(tmp_path)
    small(tmp_path / "b", "0 0.5 0.5 0.5 0.5", names=["a"])
    assert looks_like(tmp_path / "b") and looks_like(tmp_path / "b/data.yaml")
