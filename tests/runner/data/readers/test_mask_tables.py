"""Tables of images and masks: which column is what, and what is said of each row that is left out."""

import numpy as np
import pytest
from PIL import Image

from assay.runner import UsageError, read_data, read_mask_table


@pytest.fixture
def root(tmp_path):
    """Photos 1 to 4 with masks drawn/1.png to 3.png, of which the third has another size."""
    for folder in ("photos", "drawn"):
        (tmp_path / folder).mkdir()
    for i in range(1, 5):
        Image.new("RGB", (3, 2)).save(tmp_path / f"photos/{i}.jpg")
    for i in range(1, 4):
        Image.fromarray(np.array([[0, 1, 1]] * (2 if i < 3 else 3), dtype=np.uint8)).save(tmp_path / f"drawn/{i}.png")
    return tmp_path


def write(root, text):
    (root / "pairs.csv").write_text(text)
    return root / "pairs.csv"


@pytest.mark.parametrize(
    "text",
    [
        "image,mask\nphotos/1.jpg,drawn/1.png\nphotos/2.jpg,drawn/2.png\n",
        "photos/1.jpg,drawn/1.png\nphotos/2.jpg,drawn/2.png\n",
        "file;label\nphotos/1.jpg;drawn/1.png\nphotos/2.jpg;drawn/2.png\n",
        "Image Path\tMask Path\n1.jpg\tdrawn\\1.png\n2.jpg\tdrawn/2.png\n",
    ],
    ids=["names", "no header", "semicolons", "tabs"],
)
def test_pairs_are_read_from_every_kind_of_table(root, text):
    items = read_mask_table(write(root, text))
    assert list(items.column("image")) == ["photos/1.jpg", "photos/2.jpg"] and items.problems == ()
    assert list(items.column("target").paths) == ["drawn/1.png", "drawn/2.png"]
    assert items.class_names == ("background", "object") and items[1]["target"].tolist() == [[0, 1, 1]] * 2
    assert read_data(root, "segment").layout == items.layout


def test_split_group_and_further_columns_are_taken_over(root):
    text = "image,mask,split,group,city\nphotos/1.jpg,drawn/1.png,train,a,Bern\nphotos/2.jpg,drawn/2.png,val,b,Aix\n"
    items = read_mask_table(write(root, text))
    held = {name: list(items.column(name)) for name in ("split", "group", "city")}
    assert held == {"split": ["train", "valid"], "group": ["a", "b"], "city": ["Bern", "Aix"]}
    assert set(items[0]) == {"image", "sample_id", "target", "group"}


def test_each_row_that_is_left_out_is_one_line_with_its_number(root):
    rows = [
        "photos/1.jpg,drawn/1.png,train", "photos/9.jpg,drawn/1.png,train", "photos/2.jpg,drawn/9.png,train",
        "photos/3.jpg,drawn/3.png,train", "photos/1.jpg,drawn/2.png,valid", "photos/4.jpg,drawn/2.png,often", "a,b",
    ]  # fmt: skip
    items = read_mask_table(write(root, "\n".join(["image,mask,split", *rows])))
    assert list(items.column("image")) == ["photos/1.jpg"]
    assert sorted(items.problems) == [
        "pairs.csv, line 3: photos/9.jpg is not there; left out",
        "pairs.csv, line 4: mask drawn/9.png is not there; left out",
        "pairs.csv, line 5: drawn/3.png has 3 x 3 pixels, and photos/3.jpg 3 x 2; left out",
        "pairs.csv, line 6: photos/1.jpg again, after pairs.csv, line 2; left out",
        "pairs.csv, line 7: split 'often' is none of train, valid, test; left out",
        "pairs.csv, line 8: 2 cells in place of 3; left out",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("image,kind\nphotos/1.jpg,cat\n", "no column names masks: looked for 'image', 'mask'"),
        ("photo,mask\n", "names no pair that is there: it has no rows"),
        ("image,mask\n7.jpg,7.png\n", "names no pair that is there: pairs.csv, line 2: 7.jpg is not there"),
    ],
)
def test_a_table_without_pairs_is_one_line(root, text, line):
    with pytest.raises(UsageError, match=line):
        read_mask_table(write(root, text))


def test_several_tables_are_named(root):
    write(root, "image,mask\n")
    (root / "more.csv").write_text("image,mask\n")
    with pytest.raises(UsageError, match=r"must hold one table .*, got 'more.csv', 'pairs.csv': give its path"):
        read_mask_table(root)
