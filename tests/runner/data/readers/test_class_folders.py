import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from assay.callbacks import UsageError
from assay.runner import read_class_folders, read_data, read_image


def make(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def found(items):
    """Return class name and split by sample."""
    splits = items.column("split") if "split" in items.names else [None] * len(items)
    return {
        item["sample_id"]: (items.class_names[item["target"]], *([part] if part else []))
        for item, part in zip(items, splits, strict=True)
    }


def test_a_folder_is_a_class(tmp_path):
    items = read_class_folders(make(tmp_path, "dog/2.JPG", "cat/b.png", "cat/a.jpeg"))
    assert found(items) == {"cat/a.jpeg": ("cat",), "cat/b.png": ("cat",), "dog/2.JPG": ("dog",)}
    assert (items.class_names, items.task, items.problems) == (("cat", "dog"), "multiclass", ())
    assert items.describe() == "a folder per class: 3 images, 2 classes; no split given"
    assert items[0]["image"] == str(tmp_path / "cat/a.jpeg")
    assert list(items.column("target")) == [0, 0, 1]


def test_its_images_are_read_when_they_are_asked_for(tmp_path):
    make(tmp_path, "a/broken.png", "b/x.txt")
    Image.new("RGB", (4, 3), (7, 8, 9)).save(tmp_path / "b/whole.PNG")
    items = read_class_folders(tmp_path)
    assert np.array_equal(read_image(items[1]["image"]), np.full((3, 4, 3), (7, 8, 9)))


@pytest.mark.parametrize("valid", ["valid", "val", "Validation"])
def test_folders_of_a_split_are_no_classes(tmp_path, valid):
    paths = ["train/cat/1.jpg", "train/dog/2.jpg", f"{valid}/cat/3.jpg", "test/dog/4.jpg"]
    items = read_class_folders(make(tmp_path, *paths))
    expected = dict(zip(paths, [("cat", "train"), ("dog", "train"), ("cat", "valid"), ("dog", "test")], strict=True))
    assert found(items) == expected
    assert items.describe().endswith("train 2, valid 1, test 1")


def test_a_class_may_be_called_train(tmp_path):
    items = read_class_folders(make(tmp_path, "train/1.jpg", "bus/2.jpg", "test/3.jpg"))
    assert items.class_names == ("bus", "test", "train") and "split" not in items.names


def test_folders_within_a_class_belong_to_it(tmp_path):
    items = read_class_folders(make(tmp_path, "cat/2019/a.jpg", "cat/2020/may/b.jpg", "dog/c.jpg"))
    assert found(items) == {"cat/2019/a.jpg": ("cat",), "cat/2020/may/b.jpg": ("cat",), "dog/c.jpg": ("dog",)}


def test_a_folder_around_everything_is_passed_through(tmp_path):
    items = read_class_folders(make(tmp_path, "photos/all/cat/a.jpg", "photos/all/dog/b.jpg"))
    assert found(items) == {"photos/all/cat/a.jpg": ("cat",), "photos/all/dog/b.jpg": ("dog",)}
    assert items.describe().startswith("a folder per class, in photos/all: 2 images")


def test_hidden_files_and_those_of_systems_are_left_out_without_a_word(tmp_path):
    hidden = [".DS_Store", "cat/.a.jpg", "cat/._b.jpg", ".git/c.jpg", "__MACOSX/cat/d.jpg", "cat/Thumbs.db", "README"]
    items = read_class_folders(make(tmp_path, "cat/1.jpg", "dog/2.jpg", *hidden, "cat/notes.txt", "labels.md"))
    assert list(found(items)) == ["cat/1.jpg", "dog/2.jpg"] and items.problems == ()


def test_names_in_any_script_are_one_class_however_they_are_written(tmp_path):
    one, two = (unicodedata.normalize(form, "Käse") for form in ("NFC", "NFD"))
    items = read_class_folders(make(tmp_path, f"train/{one}/1.jpg", "train/犬/2.jpg", f"valid/{two}/3.jpg"))
    assert one != two and items.class_names == (one, "犬")
    assert list(items.column("target")) == [0, 1, 0]
    assert os.path.exists(items[2]["image"])


def test_links_are_followed_once(tmp_path):
    outside = make(tmp_path / "outside", "x/1.jpg")
    root = make(tmp_path / "photos", "cat/1.jpg", "dog/2.jpg")
    (root / "bird").symlink_to(outside / "x")
    (root / "dog/3.jpg").symlink_to(root / "cat/1.jpg")
    (root / "cat/loop").symlink_to(root)
    (root / "cat/here").symlink_to(root / "cat")
    (root / "dog/dogs").symlink_to(root / "bird")
    (root / "dog/gone.jpg").symlink_to(root / "nowhere.jpg")
    (root / "dog/itself.jpg").symlink_to(root / "dog/itself.jpg")
    items = read_class_folders(root)
    assert found(items) == {
        "bird/1.jpg": ("bird",), "cat/1.jpg": ("cat",), "dog/2.jpg": ("dog",), "dog/3.jpg": ("dog",)
    }  # fmt: skip
    assert sorted(items.problems) == [
        "cat/here: the same folder as cat; taken once",
        "cat/loop: the same folder as the whole data set; taken once",
        "dog/dogs: the same folder as bird; taken once",
        "dog/gone.jpg: a link to what is not there",
        "dog/itself.jpg: a link to what is not there",
    ]


def test_a_validation_set_that_is_the_training_set_is_taken_once(tmp_path):
    make(tmp_path, "train/cat/1.jpg", "train/dog/2.jpg")
    (tmp_path / "valid").symlink_to(tmp_path / "train")
    items = read_class_folders(tmp_path)
    assert {part for _, part in found(items).values()} == {"train"}
    assert items.problems == ("valid: the same folder as train; taken once",)


def test_whatever_is_left_out_is_one_line(tmp_path):
    paths = ["train/cat/1.jpg", "train/dog/2.jpg", "train/3.jpg", "valid/bird/4.jpg", "test/5.jpg", "more/cat/6.jpg"]
    items = read_class_folders(make(tmp_path, *paths, "train/cat/7.npy", "train/horse/8.txt"))
    assert items.problems == (
        "more: left out, as it lies beside train",
        "test: 1 image in no folder of a class; left out test/5.jpg",
        "train: 1 image in no folder of a class; left out train/3.jpg",
        "horse: no image in it; it is no class",
        "valid/bird: a class without an image in train",
        ".npy: no suffix of an image; left out train/cat/7.npy",
    )
    assert list(found(items)) == ["train/cat/1.jpg", "train/dog/2.jpg", "valid/bird/4.jpg"]


def test_classes_that_are_numbers_are_in_their_order(tmp_path):
    items = read_class_folders(make(tmp_path, *(f"{number}/a.jpg" for number in range(12))))
    assert items.class_names == tuple(map(str, range(12)))


def test_a_file_of_names_sets_their_order(tmp_path):
    make(tmp_path, "cat/1.jpg", "dog/2.jpg", "cow/3.jpg")
    (tmp_path / "classes.txt").write_text("dog\nbird\ncat\n", encoding="utf-8-sig")
    items = read_class_folders(tmp_path)
    assert items.class_names == ("dog", "bird", "cat")
    assert found(items) == {"cat/1.jpg": ("cat",), "dog/2.jpg": ("dog",)}
    assert items.problems == (
        "cow: left out, as classes.txt does not name it",
        "classes.txt: there is no image of 'bird'",
    )


@pytest.mark.parametrize("first", [0, 1])
def test_a_file_of_names_names_folders_that_are_numbered(tmp_path, first):
    make(tmp_path, f"{first}/1.jpg", f"{first + 1}/2.jpg")
    (tmp_path / "classes.txt").write_text("cat\ndog\n\n")
    items = read_class_folders(tmp_path)
    assert list(found(items).values()) == [("cat",), ("dog",)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat\n", "classes.txt must name all classes: it has 1 names, and the data has classes from 0 to 1"),
        ("cat\n\ndog", "classes.txt, line 2: the name of a class is missing"),
        ("cat\ndog\ncat", "classes.txt, line 3: 'cat' is in line 1 already"),
        ("", "classes.txt names no class"),
    ],
)
def test_a_wrong_file_of_names_is_refused(tmp_path, text, message):
    make(tmp_path, "0/1.jpg", "1/2.jpg")
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_class_folders(tmp_path)


def test_nothing_to_read_is_one_line(tmp_path):
    with pytest.raises(UsageError, match="nowhere is not a folder"):
        read_class_folders(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"holds no folder per class: .*, found 0 images .* and 0 folders"):
        read_class_folders(tmp_path)
    make(tmp_path, "1.jpg", "2.jpg", "empty/notes.txt")
    with pytest.raises(UsageError, match="found 2 images in the folder itself and 1 folder without images"):
        read_class_folders(tmp_path)


def test_a_layout_is_recognized(tmp_path):
    make(tmp_path, "cat/1.jpg", "dog/2.jpg")
    assert read_data(tmp_path, "classify").layout == "a folder per class"


def test_what_has_no_layout_is_one_line(tmp_path):
    make(tmp_path, "a.jpg", "b.jpg", *(f"images/{number}.jpg" for number in range(3)))
    with pytest.raises(UsageError, match=r"no layout for classify: looked for .*; found a.jpg, b.jpg, images/"):
        read_data(tmp_path, "classify")
    with pytest.raises(UsageError, match="is not there"):
        read_data(tmp_path / "x", "classify")
    with pytest.raises(UsageError, match="unknown kind 'classifies'"):
        read_data(tmp_path, "classifies")


def test_options_of_a_table_are_refused_for_folders(tmp_path):
    make(tmp_path, "cat/1.jpg", "dog/2.jpg")
    with pytest.raises(UsageError, match="a folder per class, which has no use for 'separator'"):
        read_data(tmp_path, "classify", separator="|")


def test_a_layout_of_another_experiment_names_it(tmp_path):
    make(tmp_path, "JPEGImages/1.jpg")
    (tmp_path / "Annotations").mkdir()
    size = "<size><width>4</width><height>4</height></size>"
    (tmp_path / "Annotations/1.xml").write_text(f"<annotation><filename>1.jpg</filename>{size}</annotation>")
    with pytest.raises(UsageError, match="assay train detect reads Pascal VOC, which it looks like"):
        read_data(tmp_path, "classify")


def test_parts_within_the_classes_are_a_split(tmp_path):
    paths = ["cat/train/1.jpg", "cat/val/2.jpg", "dog/Train/3.jpg", "dog/test/more/4.jpg"]
    items = read_data(make(tmp_path, *paths), "classify")
    expected = [("cat", "train"), ("cat", "valid"), ("dog", "train"), ("dog", "test")]
    assert found(items) == dict(zip(paths, expected, strict=True))
    assert items.problems == ()


def test_folders_called_like_parts_in_some_classes_alone_are_one_line(tmp_path):
    items = read_class_folders(make(tmp_path, "cat/train/1.jpg", "cat/val/2.jpg", "dog/3.jpg"))
    assert "split" not in items.names
    assert items.problems == (
        "cat: its folders 'train', 'val' are no parts of a split, as dog has images outside of such folders",
    )


def test_parts_without_classes_are_no_classes(tmp_path):
    make(tmp_path, "train/1.jpg", "valid/2.jpg")
    with pytest.raises(UsageError, match=r"found train: 1 image in no folder of a class; left out train/1.jpg"):
        read_class_folders(tmp_path)
    with pytest.raises(UsageError, match="has no layout for classify"):
        read_data(tmp_path, "classify")


def test_a_table_that_is_not_read_is_one_line(tmp_path):
    items = read_data(make(tmp_path, "cat/1.jpg", "dog/2.jpg", "more.csv"), "classify")
    assert items.problems == (
        f"more.csv: not read, as folders name the classes; --data-dir {tmp_path}/more.csv reads it",
    )
