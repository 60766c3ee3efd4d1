"""Reading boxes from Pascal VOC's XML files."""

import re

import pytest
from box_files import BOXES, CLASSES, SIZES, boxes_of, voc_xml, write_image, write_images, write_voc

from assay.runner import UsageError, read_voc
from assay.runner.data.readers.voc import looks_like

EXPECTED = {name: [tuple(map(float, box)) for box in of] for name, of in BOXES.items()}


def small(folder, *objects, size=(64, 48), **options):
    """Read one image of 64 x 48 pixels with an annotation."""
    write_image(folder / "JPEGImages/a.jpg")
    (folder / "Annotations").mkdir(exist_ok=True)
    (folder / "Annotations/a.xml").write_text(voc_xml("a.jpg", size, objects))
    return read_voc(folder, **options)


GOOD = ("cat", (2, 3, 4, 6))


def test_pixels_count_from_one_and_both_corners_belong_to_the_box(tmp_path):
    items = small(tmp_path, ("cat", (1, 1, 64, 48)), ("cat", (2, 3, 3, 5)))
    # The whole image; columns 2 and 3 and rows 3 to 5, counted from one.
    assert boxes_of(items)["a.jpg"] == [(0, 0, 64, 48, 1), (1, 2, 3, 5, 1)]
    assert items.problems == ()


def test_corners_are_distances_where_a_box_begins_at_zero_and_a_line_says_so(tmp_path):
    items = small(tmp_path, ("cat", (0, 3, 64, 48)), ("cat", ("10.5", 20, 30, 40)))
    assert boxes_of(items)["a.jpg"] == [(0, 3, 64, 48, 1), (10.5, 20, 30, 40, 1)]
    (line,) = items.problems
    assert line.startswith("boxes begin at 0 in 1 files, such as Annotations/a.xml, and not at 1 as VOC has it")
    assert small(tmp_path, ("cat", (2, 3, 64, 48)), first_pixel=0)[0]["bboxes"].tolist() == [[2, 3, 64, 48]]
    with pytest.raises(UsageError, match="first_pixel must be 0, 1 or None, got 2"):
        read_voc(tmp_path, first_pixel=2)


@pytest.mark.parametrize("images", ["JPEGImages", "images", "img"])
def test_annotations_lie_beside_the_folder_of_images(tmp_path, images):
    write_images(tmp_path / images)
    write_voc(tmp_path / "Annotations", BOXES, SIZES)
    items = read_voc(tmp_path)
    assert (boxes_of(items), items.problems) == (EXPECTED, ())
    assert items.class_names == ("background", *CLASSES)
    assert items.describe() == "Pascal VOC: 3 images, 2 classes, 4 boxes; no split given"


def test_annotations_lie_beside_their_images_in_folders_of_parts(tmp_path):
    for part, name in (("train", "a.jpg"), ("valid", "b b.JPG"), ("test", "ünï.png")):
        write_image(tmp_path / part / name, SIZES[name])
        write_voc(tmp_path / part, {name: BOXES[name]}, SIZES)
    items = read_voc(tmp_path)
    assert (boxes_of(items), items.problems) == (
        {name: EXPECTED[name] for name in ("ünï.png", "a.jpg", "b b.JPG")},
        (),
    )
    assert dict(zip((item["sample_id"] for item in items), items.column("split"), strict=True)) == {
        "train/a.jpg": "train", "valid/b b.JPG": "valid", "test/ünï.png": "test",
    }  # fmt: skip


def lists(folder, **parts):
    (folder / "ImageSets/Main").mkdir(parents=True, exist_ok=True)
    for part, text in parts.items():
        (folder / f"ImageSets/Main/{part}.txt").write_text(text)


def test_lists_of_image_sets_say_the_part_and_what_is_in_none_is_left_out(tmp_path):
    write_images(tmp_path / "JPEGImages")
    write_image(tmp_path / "JPEGImages/plain.jpg")
    write_voc(tmp_path / "Annotations", BOXES, SIZES)
    lists(tmp_path, train="a\nb b  1\n", val="gone\na\n", trainval="ünï\n", test="", cat_train="a 1\nünï -1\n")
    items = read_voc(tmp_path)
    assert list(zip(boxes_of(items), items.column("split"), strict=True)) == [("a.jpg", "train"), ("b b.JPG", "train")]
    assert items.problems == (
        "ImageSets/Main/val.txt, line 1: gone has no XML file; left out",
        "ImageSets/Main/val.txt, line 2: a is in the list of train already; left out",
        "1 XML files are in no list of ImageSets/Main, and are left out: Annotations/ünï.xml",
        "1 images have no XML file, and are left out: JPEGImages/plain.jpg",
    )


def test_the_list_of_train_and_val_together_leaves_the_part_open(tmp_path):
    write_images(tmp_path / "JPEGImages")
    write_voc(tmp_path / "Annotations", BOXES, SIZES)
    lists(tmp_path, trainval="a\nb b\n", test="ünï")
    items = read_voc(tmp_path)
    assert list(items.column("split")) == [None, None, "test"]


def test_several_years_have_lists_of_their_own(tmp_path):
    for year, name, part in (("VOC2007", "a.jpg", "val"), ("VOC2012", "b b.JPG", "train")):
        folder = tmp_path / "VOCdevkit" / year
        write_image(folder / "JPEGImages" / name, SIZES[name])
        write_voc(folder / "Annotations", {name: EXPECTED["a.jpg"] if name == "a.jpg" else []}, SIZES)
        lists(folder, **{part: name.rpartition(".")[0]})
    items = read_voc(tmp_path)
    assert list(items.column("split")) == ["valid", "train"]
    assert [item["sample_id"] for item in items] == [
        "VOCdevkit/VOC2007/JPEGImages/a.jpg", "VOCdevkit/VOC2012/JPEGImages/b b.JPG",
    ]  # fmt: skip


def test_the_image_may_be_the_one_that_filename_states(tmp_path):
    write_image(tmp_path / "images/photo 1.png")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/0001.xml").write_text(voc_xml(r"C:\mine\photo 1.jpg", None, [GOOD]))
    assert boxes_of(read_voc(tmp_path)) == {"photo 1.png": [(1, 2, 4, 6, 1)]}


def test_a_missing_image_is_one_line(tmp_path):
    write_image(tmp_path / "JPEGImages/b.jpg")
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations/b.xml").write_text(voc_xml("gone.jpg", (64, 48), [GOOD]))
    (tmp_path / "Annotations/gone.xml").write_text(voc_xml("gone.jpg", (64, 48), [GOOD]))
    items = read_voc(tmp_path)
    assert items.problems == ("Annotations/gone.xml: its image gone.jpg is not there; left out",)


def test_a_size_of_zero_is_that_of_the_image_and_another_one_leaves_the_image_out(tmp_path):
    items = small(tmp_path, GOOD, size=(0, 0))
    assert boxes_of(items)["a.jpg"] == [(1, 2, 4, 6, 1)]
    says = "Annotations/a.xml: says {} pixels, and JPEGImages/a.jpg has 64 x 48; "
    line = "a stated width or height of 0 counts as none: JPEGImages/a.jpg"
    assert items.problems == (line,)
    write_image(tmp_path / "JPEGImages/b.jpg")
    (tmp_path / "Annotations/b.xml").write_text(voc_xml("b.jpg", (64, 48), [GOOD]))
    items = small(tmp_path, GOOD, size=(128, 96))
    assert boxes_of(items).keys() == {"b.jpg"}
    out = "left out, as its annotations may be in pixels of another image"
    assert items.problems == (says.format("128 x 96") + out,)


IRREGULAR = {
    "no area": (("cat", (9, 9, 8, 12)), r"the box \[9, 9, 8, 12\] has no area: xmax must be greater than xmin"),
    "a click": (("cat", (9, 9, 9, 9)), r"the box \[9, 9, 9, 9\] has no area"),
    "outside": (("cat", (70, 9, 80, 12)), "lies outside of its image; left out"),
    "a word": (("cat", ("x", 9, 8, 12)), "bndbox must hold xmin, ymin, xmax and ymax as numbers; left out"),
    "empty": (("cat", ("", 9, 8, 12)), "bndbox must hold"),
    "no class": ((" ", (5, 6, 7, 8)), "a class without a name; left out"),
    "not finite": (("cat", (5, 6, "nan", 8)), "is not finite"),
    "twice": (GOOD, "is there twice with one label"),
    "clipped": (
        ("cat", (60, 6, 70, 8)),
        r"the box \[59, 5, 70, 8\] of JPEGImages/a.jpg reaches beyond its image; clipped",
    ),
}


@pytest.mark.parametrize("wrong, message", IRREGULAR.values(), ids=IRREGULAR)
def test_an_irregular_object_is_named_by_the_line_that_it_begins_in(tmp_path, wrong, message):
    items = small(tmp_path, GOOD, wrong)
    clipped = [(59, 5, 64, 8, 1)] if "clipped" in message else []
    assert boxes_of(items)["a.jpg"] == [(1, 2, 4, 6, 1), *clipped]
    (line,) = items.problems
    text = (tmp_path / "Annotations/a.xml").read_text().splitlines()
    number = [number for number, of in enumerate(text, 1) if of.strip() == "<object>"][1]
    assert re.match(rf"Annotations/a.xml, line {number}: .*{message}", line), line


def test_names_of_classes_in_a_file_set_their_order(tmp_path):
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    items = small(tmp_path, GOOD, ("cow", (5, 6, 7, 8)))
    assert items.class_names == ("background", "dog", "cat")
    assert items[0]["labels"].tolist() == [2]
    assert [line.partition(": ")[2] for line in items.problems] == [
        "class 'cow' is not in the file of the classes' names; left out"
    ]


def test_a_file_without_objects_is_an_image_without_objects(tmp_path):
    small(tmp_path, GOOD)
    write_image(tmp_path / "JPEGImages/b.jpg")
    (tmp_path / "Annotations/b.xml").write_text(voc_xml("b.jpg", (64, 48), []))
    assert boxes_of(read_voc(tmp_path))["b.jpg"] == []


def test_difficult_objects_are_counted_in_a_line(tmp_path):
    small(tmp_path, GOOD)
    file = tmp_path / "Annotations/a.xml"
    file.write_text(file.read_text().replace("<difficult>0", "<difficult>1"))
    items = read_voc(tmp_path)
    assert len(items[0]["labels"]) == 1
    assert items.problems == ("1 objects are marked difficult, and count as the others do",)


BROKEN = {
    "cut short": ("<annotation>\n<object>", "line 2: no XML: no element found; left out"),
    "of another kind": ("<robot/>", "its root is 'robot' and not 'annotation'; left out"),
    "an unknown encoding": ('<?xml version="1.0" encoding="moon"?><annotation/>', "left out"),
    "a file of this machine": (
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]>\n<annotation>&x;</annotation>',
        "line 2: no XML: undefined entity &x;; left out",
    ),
    "a thousand million laughs": (
        "<!DOCTYPE a [<!ENTITY a0 'ha'>"
        + "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 10))
        + "]>\n<annotation>&a9;</annotation>",
        "no XML: limit on input amplification factor",
    ),
}


@pytest.mark.parametrize("text, message", BROKEN.values(), ids=BROKEN)
def test_a_file_that_is_no_annotation_is_one_line(tmp_path, text, message):
    small(tmp_path, GOOD)
    write_image(tmp_path / "JPEGImages/b.jpg")
    (tmp_path / "Annotations/b.xml").write_text(text)
    items = read_voc(tmp_path)
    assert boxes_of(items).keys() == {"a.jpg"}
    assert items.problems[0].startswith("Annotations/b.xml") and message in items.problems[0]
    assert items.problems[1:] == ("1 images have no XML file, and are left out: JPEGImages/b.jpg",)


def test_a_folder_without_xml_is_one_line(tmp_path):
    with pytest.raises(
        UsageError, match=r"holds no XML file: looked for Annotations/\*\.xml, and \*\.xml beside images"
    ):
        read_voc(tmp_path)


def test_it_is_recognized_by_its_xml(tmp_path):
    (tmp_path / "feed.xml").write_text("<rss/>")
    assert not looks_like(tmp_path)
    small(tmp_path / "b", GOOD)
    assert looks_like(tmp_path / "b")
