"""Splits of a data set: by class, by group, in folds, from a file; the same wherever they are drawn."""

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from assay.runner import ItemList, UsageError, make_split, read_mask_folders, split_items, write_split

SHARES = [0.1, 0.2, 0.25, 1 / 3, 0.5, 0.75]


def classes(counts, **columns):
    """Return items with so many of each class, named in an order that says nothing of their class."""
    targets = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    names = [f"photos/{number:05}.jpg" for number in range(len(targets))]
    return listing(names, "multiclass", [f"class {one}" for one in range(len(counts))], target=targets, **columns)


def listing(names, task, class_names, **columns):
    return ItemList("/data", {"image": names, **columns}, task=task, layout="a test", class_names=class_names)


def labels(chance, count, shares):
    """Return items of which each has any of some labels, each label with its share."""
    targets = (chance.random((count, len(shares))) < np.array(shares)).astype(np.float32)
    names = [f"{number}.jpg" for number in range(count)]
    return listing(names, "multilabel", [f"label {one}" for one in range(len(shares))], target=list(targets))


def ids(items):
    return set(items.column("sample_id"))


def count_classes(items):
    return Counter(np.asarray(items.column("target")).tolist())


# Shares.


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("counts", [[50, 50], [100, 31, 7], [12, 12, 13, 14, 200]], ids=str)
def test_each_class_and_all_of_them_together_get_their_share_up_to_rounding(counts, share):
    parts = split_items(classes(counts), valid_share=share, seed=3)
    assert len(parts["valid"]) == int(sum(counts) * share + 0.5)
    found = count_classes(parts["valid"])
    assert all(abs(found[one] - count * share) < 1 for one, count in enumerate(counts))


def test_the_parts_hold_each_item_once():
    items = classes([40, 20, 10])
    parts = split_items(items, seed=1)
    assert list(parts) == ["train", "valid"]
    assert not ids(parts["train"]) & ids(parts["valid"])
    assert ids(parts["train"]) | ids(parts["valid"]) == ids(items)


def test_the_order_of_listing_makes_no_difference_and_the_seed_does():
    items = classes([40, 20, 10])
    backwards = items.take(range(len(items))[::-1])
    drawn = ids(split_items(items, seed=5)["valid"])
    assert ids(split_items(backwards, seed=5)["valid"]) == drawn
    assert ids(split_items(items, seed=6)["valid"]) != drawn
    others = items.take(np.random.default_rng(1).permutation(len(items)))
    assert ids(split_items(others, seed=5, fold="2/3")["valid"]) == ids(split_items(items, seed=5, fold="2/3")["valid"])


def test_a_split_is_the_same_on_every_machine():
    names = [f"{letter}.jpg" for letter in "abcdefghijklmnopqrst"]
    parts = split_items(listing(names, "multiclass", ["one", "two"], target=[0, 1] * 10), valid_share=0.2, seed=42)
    assert sorted(ids(parts["valid"])) == ["c.jpg", "p.jpg", "r.jpg", "s.jpg"]


def test_names_that_are_no_text_are_split_as_well_and_written_to_a_file(tmp_path):
    names = ["Ärger.jpg", "日本.jpg", "broken-\udcff.jpg", 'quoted, "d".jpg', "e\n.jpg"]
    items = listing(names, "multiclass", ["one"], target=[0] * 5)
    parts = split_items(items, valid_share=0.4)
    assert (len(parts["train"]), len(parts["valid"])) == (3, 2)
    (tmp_path / "split.csv").write_text(write_split(parts), encoding="utf-8")
    assert ids(split_items(items, split=tmp_path / "split.csv")["valid"]) == ids(parts["valid"])


# Classes that a part would lack.


def test_a_rare_class_is_in_both_parts_and_a_line_says_that_it_was_moved(caplog):
    with caplog.at_level(logging.WARNING, "assay"):
        parts = split_items(classes([100, 100, 2]), valid_share=0.1)
    assert count_classes(parts["valid"])[2] == count_classes(parts["train"])[2] == 1
    assert "valid_share 0.1 leaves valid without the class 'class 2': one image or group was moved." in caplog.text


def test_a_class_of_one_image_is_trained_on_and_a_line_says_so():
    split = make_split(classes([100, 100, 1]), seed=1)
    assert count_classes(split.parts["train"])[2] == 1
    assert split.notes == ["valid has no image of the class 'class 2'."]


def test_a_share_of_fewer_images_than_classes_is_refused_with_what_would_do():
    with pytest.raises(
        UsageError, match=r"valid_share 0.01 of 100 images leaves .* of each of the 10 classes: use 0.1"
    ):
        split_items(classes([10] * 10), valid_share=0.01)
    assert len(split_items(classes([10] * 10), valid_share=0.1)["valid"]) == 10


def test_a_split_that_leaves_a_part_empty_is_refused():
    with pytest.raises(UsageError, match=r"the split of the 1 images in /data leaves none for valid"):
        split_items(classes([1]))


@pytest.mark.parametrize("share", [0, 1, -0.1, 20])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(UsageError, match="valid_share must be between 0 and 1"):
        split_items(classes([10, 10]), valid_share=share)


# Labels and boxes.


def test_labels_are_spread_as_the_algorithm_of_the_paper_spreads_them():
    items = labels(np.random.default_rng(2), 300, [0.5, 0.3, 0.1, 0.04, 0.02])
    targets = np.stack(list(items.column("target")))
    for share in (0.2, 0.5):
        found = np.stack(list(split_items(items, valid_share=share)["valid"].column("target")))
        assert np.abs(found.sum(0) - share * targets.sum(0)).max() <= 1
        assert abs(len(found) - share * len(targets)) <= 2


@pytest.mark.parametrize("fold", ["1/5", "3/5"])
def test_labels_are_spread_over_folds(fold):
    items = labels(np.random.default_rng(4), 400, [0.5, 0.2, 0.05, 0.03])
    targets = np.stack(list(items.column("target")))
    found = np.stack(list(split_items(items, fold=fold)["valid"].column("target")))
    assert np.abs(found.sum(0) - targets.sum(0) / 5).max() <= 2
    assert abs(len(found) - 80) <= 2


def test_a_label_that_valid_lacks_is_named_in_a_line():
    targets = [np.array([1, number == 3], dtype=np.float32) for number in range(20)]
    items = listing([f"{number}.jpg" for number in range(20)], "multilabel", ["sky", "moon"], target=targets)
    notes = make_split(items).notes
    assert len(notes) == 1
    assert notes[0] in ("valid has no image of the class 'moon'.", "train has no image of the class 'moon'.")


def test_images_are_split_by_the_classes_of_their_boxes_and_those_without_boxes_too():
    of_images = [np.array([1] * 3), np.array([1, 2]), np.zeros(0, dtype=np.int64)] * 30
    boxes = [np.zeros((len(one), 4), dtype=np.float32) for one in of_images]
    names = [f"{number}.jpg" for number in range(90)]
    items = listing(names, "detection", ["background", "cat", "dog"], bboxes=boxes, labels=of_images)
    valid = split_items(items, valid_share=0.2)["valid"]
    found = [np.unique(one).tolist() for one in valid.column("labels")]
    assert len(valid) == 18
    assert sum(2 in one for one in found) == 6
    assert sum(one == [] for one in found) == 6


def test_masks_are_split_by_share_alone():
    names = [f"{number}.png" for number in range(20)]
    parts = split_items(listing(names, "segmentation", ["ground", "house"], target=names))
    assert (len(parts["train"]), len(parts["valid"])) == (16, 4)


def test_masks_are_split_by_the_classes_that_they_hold_where_their_reader_has_looked(tmp_path):
    for number in range(40):
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir(exist_ok=True)
            values = np.zeros((4, 5), dtype=np.uint8)
            values[0, 0] = folder == "masks" and number % 4 == 0
            values[0, 1] = 255 if folder == "masks" else 0
            Image.fromarray(values).save(tmp_path / folder / f"{number}.png")
    split = make_split(read_mask_folders(tmp_path))
    assert split.how == "a share of 0.2, drawn by class"
    numbers = [int(Path(name).stem) for name in split.parts["valid"].column("sample_id")]
    assert (len(numbers), sum(number % 4 == 0 for number in numbers)) == (8, 2)


# Groups.


def grouped(chance, groups, largest):
    sizes = chance.integers(1, largest, groups)
    group = np.repeat(np.arange(groups), sizes)
    target = chance.integers(0, 3, groups)[group]
    names = [f"part{of}_{number}.jpg" for number, of in enumerate(group)]
    columns = {"target": target, "patient": [f"p{of}" for of in group]}
    return listing(names, "multiclass", ["a", "b", "c"], **columns), group


@pytest.mark.parametrize("group_by", ["patient", r"^(part\d+)_"])
@pytest.mark.parametrize("share", [0.2, 0.4])
def test_a_group_lies_in_one_part_and_the_classes_have_their_share_nearly(group_by, share):
    items, _ = grouped(np.random.default_rng(1), 120, 8)
    parts = split_items(items, valid_share=share, group_by=group_by)
    of_parts = [{name.split("_")[0] for name in part.column("sample_id")} for part in parts.values()]
    assert not of_parts[0] & of_parts[1]
    assert len(of_parts[0] | of_parts[1]) == 120
    found, of_all = count_classes(parts["valid"]), count_classes(items)
    assert all(abs(found[one] - share * of_all[one]) <= 4 for one in range(3))  # half of the largest group


def test_folds_by_group_are_disjoint_cover_all_and_are_as_even_as_those_of_scikit_learn():
    items, group = grouped(np.random.default_rng(3), 90, 9)
    target = np.asarray(items.column("target"))
    drawn = [split_items(items, fold=f"{number}/5", group_by="patient")["valid"] for number in range(1, 6)]
    assert sorted(name for one in drawn for name in one.column("sample_id")) == sorted(ids(items))
    patients = [set(one.column("patient")) for one in drawn]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 90
    reference = StratifiedGroupKFold(5, shuffle=True, random_state=0).split(target, target, group)
    theirs = np.array([np.bincount(target[valid], minlength=3) for _, valid in reference])
    ours = np.array([[count_classes(one)[label] for label in range(3)] for one in drawn])
    assert ours.std(axis=0).max() <= theirs.std(axis=0).max() + 1


def test_the_column_group_is_taken_unasked_and_an_item_without_a_group_is_one_of_its_own():
    names = [f"{number}.jpg" for number in range(40)]
    group = ["left"] * 8 + ["right"] * 8 + [""] * 12 + [None] * 12
    items = listing(names, "multiclass", ["one"], target=[0] * 40, group=group)
    parts = split_items(items, valid_share=0.5)
    for of in ("left", "right"):
        assert sum(of in set(part.column("group")) for part in parts.values()) == 1
    assert len(parts["valid"]) == 20


def test_a_class_whose_only_two_groups_would_be_trained_on_is_validated_on_too():
    names = [f"{number}.jpg" for number in range(44)]
    target = [0] * 40 + [1] * 4
    items = listing(names, "multiclass", ["many", "few"], target=target, group=[*names[:40], "a", "a", "b", "b"])
    split = make_split(items, valid_share=0.2)
    assert count_classes(split.parts["valid"])[1] == count_classes(split.parts["train"])[1] == 2


def test_a_pattern_with_a_slash_is_searched_in_the_folder_as_well():
    names = [f"{folder}/{number}.jpg" for folder in ("mon", "tue", "wed", "thu", "fri") for number in range(4)]
    items = listing(names, "multiclass", ["one"], target=[0] * 20)
    valid = split_items(items, group_by="^([a-z]+)/")["valid"]
    assert len({name.split("/")[0] for name in valid.column("sample_id")}) == 1
    assert len(valid) == 4
    with pytest.raises(
        UsageError, match=r"group_by '\^\(\[a-z\]\+\)' matches no part of 20 of 20 images, the first is"
    ):
        split_items(items, group_by="^([a-z]+)")


def test_a_single_group_is_refused():
    with pytest.raises(UsageError, match="all 10 images are of one group, and a split needs two: change group_by"):
        split_items(classes([5, 5]), group_by="(jpg)$")


@pytest.mark.parametrize(
    ("group_by", "message"),
    [
        ("part", r"group_by must be a column \(there is 'patient', 'target'\) or a regular expression with one group"),
        ("(a)(b)", "with one group in parentheses"),
        ("(a", "'\\(a' is neither a column nor a regular expression"),
        ("image", "group_by must be a column that items share values of, got 'image'"),
    ],
)
def test_a_group_by_that_groups_nothing_is_refused(group_by, message):
    items, _ = grouped(np.random.default_rng(0), 5, 3)
    with pytest.raises(UsageError, match=message):
        split_items(items, group_by=group_by)


# Folds.


def test_folds_are_disjoint_cover_all_and_are_as_even_as_those_of_scikit_learn():
    items = classes([50, 23, 11, 6])
    target = np.asarray(items.column("target"))
    drawn = [split_items(items, fold=f"{number}/5", seed=9) for number in range(1, 6)]
    assert sorted(name for one in drawn for name in one["valid"].column("sample_id")) == sorted(ids(items))
    for one in drawn:
        assert ids(one["train"]) == ids(items) - ids(one["valid"])
    ours = np.array([[count_classes(one["valid"])[label] for label in range(4)] for one in drawn])
    reference = [np.bincount(target[valid]) for _, valid in StratifiedKFold(5).split(target, target)]
    assert np.ptp(ours, axis=0).max() <= np.ptp(reference, axis=0).max() == 1
    assert np.ptp(ours.sum(axis=1)) <= 1


@pytest.mark.parametrize("fold", ["0/5", "6/5", "1/1", "2", "1/5/2", "a/b", "-1/5", ""])
def test_a_fold_that_is_none_is_refused(fold):
    with pytest.raises(UsageError, match=r"fold must be one of several, such as 1/5 to 5/5, got"):
        split_items(classes([10, 10]), fold=fold)


def test_more_folds_than_images_or_groups_are_refused():
    items = listing(["a.jpg", "b.jpg", "c.jpg"], "multiclass", ["one"], target=[0] * 3, group=["x", "x", "y"])
    with pytest.raises(UsageError, match=r"fold '1/3' asks for more folds than there are images or groups, 2"):
        split_items(items, fold="1/3")


# The data set's own split.


def given(splits, **columns):
    names = [f"{number}.jpg" for number in range(len(splits))]
    return listing(names, "multiclass", ["one"], target=[0] * len(splits), split=splits, **columns)


def test_the_data_sets_own_split_holds_and_what_it_leaves_out_is_said():
    split = make_split(given(["train"] * 3 + ["valid"] * 2 + ["test"] + [None] * 2))
    assert {name: sorted(ids(part)) for name, part in split.parts.items()} == {
        "train": ["0.jpg", "1.jpg", "2.jpg"],
        "valid": ["3.jpg", "4.jpg"],
        "test": ["5.jpg"],
    }
    assert split.notes == ["the split leaves out 2 of 8 images, the first is '6.jpg'."]


def test_without_a_valid_part_it_is_drawn_from_train_and_test_is_left_alone():
    split = make_split(given(["train"] * 20 + ["test"] * 5))
    assert {name: len(part) for name, part in split.parts.items()} == {"train": 16, "valid": 4, "test": 5}
    assert ids(split.parts["test"]) == {f"{number}.jpg" for number in range(20, 25)}


def test_without_a_train_part_the_rest_is_trained_on():
    assert sorted(ids(split_items(given([None, "valid", None]))["train"])) == ["0.jpg", "2.jpg"]


def test_folds_are_drawn_from_train_and_valid_of_the_data_sets_own_split():
    drawn = [split_items(given(["train"] * 8 + ["valid"] * 2 + ["test"] * 5), fold=f"{one}/5") for one in range(1, 6)]
    assert sorted(name for one in drawn for name in ids(one["valid"])) == [f"{number}.jpg" for number in range(10)]
    assert all(len(one["test"]) == 5 for one in drawn)


def test_a_group_in_two_parts_of_the_data_sets_own_split_is_named():
    split = make_split(given(["train", "train", "valid", "valid"], group=["a", "b", "b", "c"]))
    assert split.notes == ["the split puts groups into several parts: 'b'."]


# Files.


def test_a_split_goes_to_a_file_and_comes_back(tmp_path):
    items = classes([30, 10])
    parts = split_items(items, seed=8)
    (tmp_path / "split.csv").write_text(write_split(parts))
    again = split_items(items, seed=1, split=tmp_path / "split.csv")
    assert {name: ids(part) for name, part in again.items()} == {name: ids(part) for name, part in parts.items()}


def test_a_file_of_the_users_may_have_other_words_columns_and_a_mark_of_its_encoding(tmp_path):
    text = "\ufeffnotes,image,split\nx,0.jpg,Train\n,1.jpg,dev\n,2.jpg,VALIDATION\n,3.jpg, test \n"
    (tmp_path / "mine.csv").write_text(text, encoding="utf-8")
    split = make_split(given([None] * 5), split=tmp_path / "mine.csv")
    assert {name: sorted(ids(part)) for name, part in split.parts.items()} == {
        "train": ["0.jpg"],
        "valid": ["1.jpg", "2.jpg"],
        "test": ["3.jpg"],
    }
    assert f"{tmp_path / 'mine.csv'} leaves out 1 of 5 images, the first is '4.jpg'." in split.notes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "image,split\n0.jpg,train\n9.jpg,valid\n",
            "names 1 of 2 images that the data set in /data does not hold: '9",
        ),
        ("image,split\n0.jpg,train\n0.jpg,valid\n", "line 3: '0.jpg' is there twice"),
        ("image,split\n0.jpg,trian\n", "line 2: split must be train, valid or test, got 'trian'"),
        ("name,split\n0.jpg,train\n", "must have the columns image and split; it has 'name', 'split'"),
        ("image,split\n0.jpg,train\n1.jpg,train\n", "leaves none for valid"),
        ("image,split\n0.jpg\n", "line 2: 1 cell in place of 2; left out: it must have as many cells as the first"),
        ("", "is empty"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_its_line(tmp_path, text, message):
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(UsageError, match=message):
        split_items(given([None] * 2), split=tmp_path / "mine.csv")


def test_a_file_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match=r"nowhere\.csv cannot be read: No such file or directory"):
        split_items(given([None] * 2), split="nowhere.csv")
