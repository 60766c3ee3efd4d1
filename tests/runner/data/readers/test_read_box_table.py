"""Reading boxes from a CSV file."""

import csv
import json
import re
from pathlib import Path

import pytest
from box_files import boxes_of, write_image

from assay.experiments.wheat.generator import make_data
from assay.runner import UsageError, read_box_table
from assay.runner.data.readers.box_table import looks_like

HEADER = "image,x_min,y_min,x_max,y_max,label"
GOOD = "a.jpg,1,2,4,6,cat"


def small(folder, *rows, images=("a.jpg",), name="boxes.csv", **options):
    for image in images:
        write_image(folder / image)
    (folder / name).write_text("".join(f"{row}\n" for row in rows))
    return read_box_table(folder / name, **options)


FORMS = {
    "corners": (HEADER, GOOD),
    "of TensorFlow": ("filename,width,height,class,xmin,ymin,xmax,ymax", "a.jpg,64,48,cat,1,2,4,6"),
    "without a header": ("a.jpg,1,2,4,6,cat",),
    "from zero": ("path,x0,y0,x1,y1,category", "a.jpg,1,2,4,6,cat"),
    "sides": ("Label;Image Name;Left;Top;Right;Bottom", "cat;a.jpg;1;2;4;6"),
    "extents": ("image_id\tx\ty\tw\th\tclass_name", "a.jpg\t1\t2\t3\t4\tcat"),
    "centres": ("image,x_center,y_center,width,height,label", "a.jpg,2.5,4,3,4,cat"),
    "centres in short": ("image,label,cx,cy,w,h,image_width,image_height", "a.jpg,cat,2.5,4,3,4,64,48"),
    "extents in words": ("image,x,y,width,height,label", "a.jpg,1,2,3,4,cat"),
    "one column": ("image,bbox,label", 'a.jpg,"[1, 2, 3.0, 4]",cat'),
    "without a suffix": ("image_id,xmin,ymin,xmax,ymax,label", "a,1,2,4,6,cat"),
    "quoted": (HEADER, '"a.jpg","1","2","4","6","cat"'),
}


@pytest.mark.parametrize("rows", FORMS.values(), ids=FORMS)
def test_columns_are_known_by_their_usual_names(tmp_path, rows):
    items = small(tmp_path, *rows)
    assert boxes_of(items) == {"a.jpg": [(1, 2, 4, 6, 1)]}
    assert (items.class_names, items.problems) == (("background", "cat"), ())


def test_a_row_without_numbers_is_an_image_without_objects(tmp_path):
    items = small(tmp_path, HEADER, "b.jpg,,,,,", GOOD, "", "a.jpg,5,6,7,8,ant", images=("a.jpg", "b.jpg"))
    assert boxes_of(items) == {"b.jpg": [], "a.jpg": [(1, 2, 4, 6, 2), (5, 6, 7, 8, 1)]}
    assert items.describe() == "a CSV of boxes: 2 images, 2 classes, 2 boxes; no split given"


def test_images_lie_beside_the_table_or_anywhere_below_it(tmp_path):
    rows = ("images/a.jpg", "b.jpg", "c.jpg", r"deep\d.jpg")
    images = ("images/a.jpg", "images/b.jpg", "some/where/c.jpg", "deep/d.jpg")
    items = small(tmp_path, HEADER, *(f"{name},1,2,4,6,cat" for name in rows), images=images)
    assert ([item["sample_id"] for item in items], items.problems) == (list(images), ())


def test_numbers_up_to_one_are_shares_and_a_line_says_so(tmp_path):
    items = small(tmp_path, HEADER, "a.jpg,0.25,0.5,1,1,cat")
    assert boxes_of(items)["a.jpg"] == [(16, 24, 64, 48, 1)]
    assert items.problems == ("boxes.csv: boxes have no number above 1: sides are read as shares of width and height",)


def test_one_box_beyond_its_image_does_not_make_pixels_of_shares(tmp_path):
    header = "image,x_center,y_center,width,height,label"
    items = small(tmp_path, header, "a.jpg,0.5,0.5,1,1,cat", "a.jpg,0.5,0.5,0.5,0.5,cat", "a.jpg,1,0.5,0.5,0.5,cat")
    assert boxes_of(items)["a.jpg"] == [(0, 0, 64, 48, 1), (16, 12, 48, 36, 1), (48, 12, 64, 36, 1)]
    assert items.problems[1].startswith("boxes.csv, line 4: the box [48, 12, 80, 36] of a.jpg reaches beyond")


def test_parts_sizes_and_further_columns(tmp_path):
    rows = ("file,split,width,height,plant,xmin,ymin,xmax,ymax,label", "a.jpg,TRAIN,64,48,p1,1,2,4,6,cat")
    rows += ("b.jpg,val,32,32,p2,1,2,4,6,cat", "c.jpg,Validation,64,48,p3,1,2,4,6,cat")
    items = small(tmp_path, *rows, images=("a.jpg", "b.jpg", "c.jpg"))
    assert list(items.column("split")) == ["train", "valid"]
    assert list(items.column("plant")) == ["p1", "p3"]
    assert "plant" not in items[0]
    assert [line.partition(";")[0] for line in items.problems] == [
        "boxes.csv, line 3: says 32 x 32 pixels, and b.jpg has 64 x 48"
    ]


def test_names_of_classes_by_number_are_in_a_file(tmp_path):
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    items = small(tmp_path, HEADER, "a.jpg,1,2,4,6,1", "a.jpg,5,6,8,8,2")
    assert items.class_names == ("background", "cat", "dog")
    assert items[0]["labels"].tolist() == [2]
    assert items.problems == ("boxes.csv, line 3: class '2' is not in the file of the classes' names; left out",)
    (tmp_path / "classes.txt").unlink()
    assert small(tmp_path, HEADER, "a.jpg,1,2,4,6,10", "a.jpg,5,6,8,8,9").class_names == ("background", "9", "10")


IRREGULAR = {
    "a word": ("a.jpg,1,2,x,6,cat", "a box must be four numbers, got '1, 2, x, 6'; left out"),
    "half a box": ("a.jpg,1,2,,6,cat", "a box must be four numbers"),
    "no area": ("a.jpg,4,2,1,6,cat", r"the box \[4, 2, 1, 6\] of a.jpg has no area"),
    "outside": ("a.jpg,70,2,80,6,cat", "lies outside of its image"),
    "not finite": ("a.jpg,1,2,inf,6,cat", "is not finite"),
    "no class": ("a.jpg,1,2,4,6,", "a box without a class"),
    "no image": (",1,2,4,6,cat", "no image; left out"),
    "too few cells": ("a.jpg,1,2", "3 cells in place of 6; left out"),
    "missing image": ("gone.jpg,1,2,4,6,cat", "gone.jpg is not there"),
    "several images": ("b.jpg,1,2,4,6,cat", "b.jpg names 2 images: x/b.jpg, y/b.jpg"),
    "a row without a box": ("a.jpg,,,,,", "a row without a box, beside others of its image"),
    "twice": (GOOD, "is there twice with one label"),
}


@pytest.mark.parametrize("wrong, message", IRREGULAR.values(), ids=IRREGULAR)
def test_an_irregular_row_is_left_out_and_named_by_its_line(tmp_path, wrong, message):
    images = ("a.jpg", "x/b.jpg", "y/b.jpg")
    items = small(tmp_path, HEADER, GOOD, "", wrong, images=images)
    assert boxes_of(items) == {"a.jpg": [(1, 2, 4, 6, 1)]}
    (line,) = items.problems
    assert re.match(f"boxes.csv, line 4: .*{message}", line), line


def test_images_without_a_row_are_counted(tmp_path):
    rows = (HEADER, "images/a.jpg,1,2,4,6,cat")
    items = small(tmp_path, *rows, images=("images/a.jpg", "images/b.jpg", "icons/c.jpg"))
    assert len(items) == 1
    out = "1 images have no row, and are left out: one without objects needs a row without a box: images/b.jpg"
    assert items.problems == (out,)
    items = read_box_table(tmp_path, keep_unlisted=True)
    assert boxes_of(items) == {"a.jpg": [(1, 2, 4, 6, 1)], "b.jpg": []}


def test_global_wheat_detection_is_read_as_published(tmp_path):
    make_data(tmp_path, count=14, size=96)
    with open(tmp_path / "train.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    without = 14 - len({row["image_id"] for row in rows})
    items = read_box_table(tmp_path, class_name="head")
    assert len(items) == 14
    assert items.class_names == ("background", "head")
    (line,) = items.problems
    assert line.startswith(f"{without} images have no row, and count as images without objects: train/")
    assert set(items.column("source")) == {"", *(row["source"] for row in rows)}
    boxes = {Path(name).stem: of for name, of in boxes_of(items).items()}
    assert sum(map(len, boxes.values())) == len(rows)
    for row in rows:
        left, top, width, height = json.loads(row["bbox"])
        assert (left, top, left + width, top + height, 1) in boxes[row["image_id"]]


@pytest.mark.parametrize(
    "header", ["image,label", "xmin,ymin,xmax,ymax", "image,xmin,ymin,xmax"], ids=["no box", "no image", "three sides"]
)
def test_a_table_without_boxes_is_one_line(tmp_path, header):
    with pytest.raises(UsageError, match="must have the columns image, x_min, y_min, x_max, y_max and label, got"):
        small(tmp_path, header)
    with pytest.raises(UsageError, match="holds no CSV file with columns image"):
        read_box_table(tmp_path)
    assert not looks_like(tmp_path)


def test_several_tables_are_named(tmp_path):
    small(tmp_path, HEADER, GOOD)
    small(tmp_path, HEADER, GOOD, name="other.CSV")
    (tmp_path / "notes.csv").write_text("a,b\n")
    with pytest.raises(UsageError, match=r"holds 2 CSV files with boxes; give one: .*boxes\.csv, .*other\.CSV"):
        read_box_table(tmp_path)
    assert looks_like(tmp_path)
