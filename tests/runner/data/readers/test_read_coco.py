"""Reading boxes from COCO JSON, in the layouts that data sets have."""

import json
import re

import pytest
from box_files import BOXES, CLASSES, SIZES, boxes_of, coco, write_coco, write_image, write_images, write_json

from assay.runner import UsageError, read_coco
from assay.runner.data.readers.coco import looks_like


def small(folder, annotations, *, images=None, categories=None, **more):
    """Write one image and a file about it, and read that."""
    write_image(folder / "a.jpg")
    listed = [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}] if images is None else images
    write_json(folder / "boxes.json", coco(listed, annotations, categories) | more)
    return read_coco(folder)


def box(*sides, category=3, image=1, **more):
    return {"image_id": image, "category_id": category, "bbox": list(sides), **more}


GOOD = box(1, 2, 3, 4)


def test_categories_with_gaps_become_labels_from_one_on_by_rising_id(tmp_path):
    categories = [{"id": 90, "name": "b"}, {"id": 3, "name": "a"}, {"id": 17, "name": "c"}]
    items = small(tmp_path, [box(1, 2, 3, 4, category=90), box(5, 6, 7, 8)], categories=categories)
    assert items.class_names == ("background", "a", "c", "b")
    assert boxes_of(items)["a.jpg"] == [(1, 2, 4, 6, 3), (5, 6, 12, 14, 1)]
    assert items.describe() == "COCO: 1 image, 3 classes, 2 boxes; no split given"


def test_files_of_parts_and_folders_of_images_as_coco_itself_has_them(tmp_path):
    parts = {"train": ["a.jpg", "b b.JPG"], "val": ["ünï.png"]}
    for part, names in parts.items():
        for name in names:
            write_image(tmp_path / f"{part}2017" / name, SIZES[name])
        write_coco(tmp_path / f"annotations/instances_{part}2017.json", {name: BOXES[name] for name in names}, SIZES)
    write_json(tmp_path / "annotations/captions_train2017.json", coco([], []))
    write_json(tmp_path / "annotations/image_info_test-dev2017.json", {"images": []})
    items = read_coco(tmp_path)
    assert (items.problems, boxes_of(items).keys()) == ((), BOXES.keys())
    assert [(item["sample_id"], split) for item, split in zip(items, items.column("split"), strict=True)] == [
        ("train2017/a.jpg", "train"), ("train2017/b b.JPG", "train"), ("val2017/ünï.png", "valid"),
    ]  # fmt: skip
    alone = read_coco(tmp_path / "annotations/instances_val2017.json")
    assert (alone.root, [item["sample_id"] for item in alone]) == (tmp_path, ["val2017/ünï.png"])


def test_a_file_alone_finds_its_images_in_a_folder_beside_it(tmp_path):
    write_images(tmp_path / "images")
    write_coco(tmp_path / "annotations/train.json", BOXES, SIZES)
    assert len(read_coco(tmp_path)) == 3


@pytest.mark.parametrize("folders", ["{}", "images/{}", "{}/images"], ids=["part", "images, part", "part, images"])
def test_images_lie_in_folders_of_their_part(tmp_path, folders):
    write_images(tmp_path / folders.format("train"))
    write_coco(tmp_path / "annotations/instances_train.json", BOXES, SIZES)
    assert boxes_of(read_coco(tmp_path)).keys() == BOXES.keys()


def test_a_file_per_part_as_roboflow_exports_it_has_no_class_that_only_groups_the_others(tmp_path):
    categories = [{"id": 0, "name": "cells", "supercategory": "none"}]
    categories += [{"id": number, "name": name, "supercategory": "cells"} for number, name in enumerate(CLASSES, 1)]
    for part in ("train", "valid", "test"):
        write_image(tmp_path / part / f"{part}.jpg")
        listed = [{"id": 0, "file_name": f"{part}.jpg", "width": 64, "height": 48}]
        content = coco(listed, [box(1, 2, 3, 4, category=2, image=0)], categories)
        write_json(tmp_path / part / "_annotations.coco.json", content)
    items = read_coco(tmp_path)
    assert (items.class_names, items.problems) == (("background", *CLASSES), ())
    assert list(items.column("split")) == ["train", "valid", "test"]
    assert {tuple(item["labels"]) for item in items} == {(2,)}


def test_a_crowd_keeps_its_mark_and_other_data_sets_have_no_such_column(tmp_path):
    items = small(tmp_path, [box(1, 2, 3, 4, iscrowd=0), box(5, 6, 30, 8, iscrowd=1)])
    assert items[0]["iscrowd"].tolist() == [0, 1]
    assert "iscrowd" not in small(tmp_path, [GOOD])[0]


def test_an_image_without_annotations_is_one_without_objects(tmp_path):
    write_image(tmp_path / "b.jpg")
    listed = [{"id": "x", "file_name": "b.jpg"}, {"id": 1, "file_name": "a.jpg"}]
    items = small(tmp_path, [GOOD], images=listed)
    assert boxes_of(items) == {"b.jpg": [], "a.jpg": [(1, 2, 4, 6, 1)]}
    assert items.problems == ()


IRREGULAR = {
    "no area": (box(1, 2, 0, 4), r"the box \[1, 2, 1, 6\] of a.jpg has no area"),
    "negative": (box(9, 9, -2, 4), "has no area"),
    "outside": (box(70, 2, 3, 4), "lies outside of its image; left out"),
    "not finite": (box(1, 2, float("nan"), 4), "is not finite"),
    "three numbers": (box(1, 2, 3), r"bbox must be \[left, top, width, height\], got \[1, 2, 3\]; left out"),
    "texts": (box(1, 2, 3, "4"), "bbox must be"),
    "no box": ({"image_id": 1, "category_id": 3}, "bbox must be .* got None"),
    "no such image": (box(1, 2, 3, 4, image=5), "there is no image with id 5; left out"),
    "no such category": (box(1, 2, 3, 4, category=4), "there is no category with id 4 and a name"),
    "a category without a name": (box(1, 2, 3, 4, category=8), "there is no category with id 8 and a name"),
    "twice": (GOOD, "is there twice with one label"),
}


@pytest.mark.parametrize("wrong, message", IRREGULAR.values(), ids=IRREGULAR)
def test_an_irregular_annotation_is_left_out_and_named_by_its_place(tmp_path, wrong, message):
    categories = [{"id": 3, "name": "a"}, {"id": 8, "name": " "}]
    items = small(tmp_path, [GOOD, wrong, box(5, 6, 7, 8)], categories=categories)
    assert boxes_of(items)["a.jpg"] == [(1, 2, 4, 6, 1), (5, 6, 12, 14, 1)]
    (line,) = items.problems
    assert line.startswith("boxes.json, line 1, entry 2 of annotations: ") and "\n" not in line
    assert re.search(message, line), line


def test_an_entry_is_named_by_the_line_in_which_it_begins(tmp_path):
    write_image(tmp_path / "a.jpg")
    (tmp_path / "boxes.json").write_text("""
    {"info": {"images": [{"id": 5}]}, "licenses": [], "n": [1,
      2], "categories": [{"id": 3, "name": "a"}],
     "images": [{"id": 1, "file_name": "a.jpg"}, {
       "id": "x", "file_name": "gone.jpg", "note": "\\n]}, {"}
     ],
     "annotations": [
       {"id": 7, "image_id": 1, "category_id": 3, "bbox": [1, 2,
         3, 4]},
       {"id": 8, "image_id": 1, "category_id": 3, "bbox": [70, 2, 3, 4], "segmentation": [[1,
         2], [3]]},

       {}
     ] }
    """)
    assert [line.partition(":")[0] for line in read_coco(tmp_path).problems] == [
        "boxes.json, line 4, image id 'x'",
        "boxes.json, line 13, entry 3 of annotations",
        "boxes.json, line 10, annotation id 8",
    ]


def test_a_box_that_reaches_beyond_its_image_is_clipped_and_said_to_be(tmp_path):
    items = small(tmp_path, [box(-3, 2, 10, 100), box(60.2, 0, 4.1, 48)])
    assert boxes_of(items)["a.jpg"] == [(0, 2, 7, 48, 1), (pytest.approx(60.2), 0, 64, 48, 1)]
    # The second one by rounding alone.
    assert items.problems == (
        "boxes.json, line 1, entry 1 of annotations: the box [-3, 2, 7, 102] of a.jpg reaches beyond its image; "
        "clipped",
    )


def test_an_irregular_image_is_left_out_with_its_boxes(tmp_path):
    write_image(tmp_path / "small.jpg", (20, 20))
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "small.jpg").read_bytes()[:20])
    listed = [
        {"id": 1, "file_name": "a.jpg", "width": 64, "height": 48},
        {"id": 2, "file_name": "gone.jpg"},
        {"id": 3, "file_name": "small.jpg", "width": 40, "height": 40},
        {"id": 1, "file_name": "small.jpg"},
        {"id": 5, "file_name": "a.jpg"},
        {"file_name": "a.jpg"},
        {"id": 7, "file_name": "cut.jpg"},
    ]
    items = small(tmp_path, [GOOD, *(box(5, 5, 5, 5, image=number) for number in (2, 3, 5, 7))], images=listed)
    assert boxes_of(items) == {"a.jpg": [(1, 2, 4, 6, 1)]}
    assert [line.replace(str(tmp_path), "") for line in items.problems] == [
        "boxes.json, line 1, image id 2: gone.jpg is not there",
        "boxes.json, line 1, image id 1: id 1 is there already; left out",
        "boxes.json, line 1, image id 5: a.jpg is there already, by boxes.json, line 1, image id 1; left out",
        "boxes.json, line 1, entry 6 of images: no id or file_name; left out",
        "boxes.json, line 1, image id 3: says 40 x 40 pixels, and small.jpg has 20 x 20; left out, as its annotations "
        "may be in pixels of another image",
        "boxes.json, line 1, image id 7: image '/cut.jpg' cannot be read: its 20 bytes are a JPEG without a size",
    ]


def test_what_is_no_coco_file_is_one_line(tmp_path):
    with pytest.raises(UsageError, match="holds no COCO JSON: looked for"):
        read_coco(tmp_path)
    (tmp_path / "boxes.json").write_text('{"images": [],\n "annotations": [}')
    with pytest.raises(UsageError, match=r"boxes\.json, line 2: no JSON: Expecting value"):
        read_coco(tmp_path)
    write_json(tmp_path / "boxes.json", {"images": [], "annotations": {}})
    with pytest.raises(
        UsageError, match="must hold images, annotations and categories; it lacks annotations, categories"
    ):
        read_coco(tmp_path)


def test_nothing_to_learn_from_is_one_line_with_the_first_problem(tmp_path):
    with pytest.raises(
        UsageError, match=r"1 images and 0 boxes of 1 images in the files; the first problem: boxes\.json, li"
    ):
        small(tmp_path, [box(1, 2, 0, 0)])


def test_shares_in_place_of_pixels_are_refused(tmp_path):
    with pytest.raises(UsageError, match="boxes of COCO must be in pixels, and no number of theirs is above 1"):
        small(tmp_path, [box(0.25, 0.25, 0.5, 0.75)])


def test_files_that_contradict_each_other_on_a_category_are_named(tmp_path):
    for part, name in (("train", "a"), ("val", "b")):
        write_json(tmp_path / f"instances_{part}.json", coco([], [], [{"id": 1, "name": name}]))
    with pytest.raises(UsageError, match="category 1 is 'b', and 'a' in another file"):
        read_coco(tmp_path)


def test_it_is_recognized_by_its_keys(tmp_path):
    (tmp_path / "package.json").write_text(json.dumps({"name": "x", "files": []}))
    assert not looks_like(tmp_path)
    write_json(tmp_path / "train/_annotations.coco.json", coco([], []))
    assert looks_like(tmp_path)
    assert not looks_like(tmp_path / "nothing")


def test_a_class_called_background_is_that_of_no_object(tmp_path):
    categories = [{"id": 0, "name": "Background"}, {"id": 3, "name": "a"}]
    assert small(tmp_path, [GOOD], categories=categories).class_names == ("background", "a")
    categories[0]["name"] = "background"
    with pytest.raises(UsageError, match="two classes are called 'background'; label 0 is 'background': rename one"):
        small(tmp_path, [GOOD, box(1, 2, 3, 4, category=0)], categories=categories)
