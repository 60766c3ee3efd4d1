import pickle
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import default_collate

from assay.callbacks import UsageError
from assay.runner import ItemList
from assay.runner.data.readers.item_list import Ragged, Texts

NAMES = ["a.jpg", "snow/Ä b.JPG", "c.png"]


def classes(**options):
    columns = {"image": NAMES, "target": np.array([2, 0, 1])}
    return ItemList("/photos", columns, **{"task": "multiclass", "layout": "mine", "class_names": "abc"} | options)


def test_an_item_has_its_full_path_and_its_id():
    assert classes()[1] == {"image": "/photos/snow/Ä b.JPG", "target": 0, "sample_id": "snow/Ä b.JPG"}
    assert type(classes()[1]["target"]) is int
    assert classes()[-1] == classes()[2]
    with pytest.raises(IndexError):
        classes()[3]


def test_an_absolute_path_stays():
    items = ItemList(
        Path("/photos"), {"image": ["/far/a.jpg"], "target": [0]}, task="multiclass", layout="x", class_names="a"
    )
    assert items[0]["image"] == "/far/a.jpg"


def test_taking_items_keeps_columns_in_step():
    taken = classes(extra_columns={"patient": ["p", "q", "r"]}).take([2, 0])
    assert [item["sample_id"] for item in taken] == ["c.png", "a.jpg"]
    assert list(taken.column("target")) == [1, 2]
    assert list(taken.column("patient")) == ["r", "p"]
    assert list(taken.take(np.array([1])).column("image")) == ["a.jpg"]
    assert [item["target"] for item in classes()[1:]] == [0, 1]
    with pytest.raises(IndexError, match="below 3"):
        classes().take([3])


def test_a_further_column_of_a_table_does_not_pass_for_a_part_of_items():
    plain = classes()
    called = {name: ["x", "y", "z"] for name in ("sample_id", "bboxes", "labels", "iscrowd", "split")}
    items = classes(extra_columns={"age": ["1", "2", "3"], **called})
    assert set(items.names) == {*plain.names, "age"}
    assert list(items) == list(plain) and items.describe() == plain.describe()


def test_split_and_extra_columns_are_no_part_of_an_item():
    columns = {"image": NAMES, "target": [0, 0, 0], "split": ["train", None, "valid"], "group": ["g", None, ""]}
    items = ItemList(
        "/p", columns, task="multiclass", layout="x", class_names="a", extra_columns={"age": ["1", "2", "3"]}
    )
    assert sorted(items[0]) == ["group", "image", "sample_id", "target"]
    assert default_collate([items[0], items[1]])["group"] == ["g", ""]
    assert items.column("split")[1] is None
    assert items.names == ("age", "image", "target", "split", "group", "sample_id")


def test_boxes_are_packed_and_given_as_copies():
    boxes = [np.array([[1, 2, 3, 4]], np.float32), np.zeros((0, 4), np.float32), np.ones((2, 4), np.float32)]
    labels = [np.array([1]), np.array([], np.int64), np.array([2, 1])]
    columns = {"image": NAMES, "bboxes": boxes, "labels": labels}
    items = ItemList("/p", columns, task="detection", layout="COCO", class_names=["background", "cat", "dog"])
    for item, box, label in zip(items, boxes, labels, strict=True):
        assert np.array_equal(item["bboxes"], box) and item["bboxes"].dtype == np.float32
        assert np.array_equal(item["labels"], label)
    items[0]["bboxes"][:] = 9
    assert np.array_equal(items[0]["bboxes"], boxes[0])
    assert items.describe() == "COCO: 3 images, 2 classes, 3 boxes; no split given"
    assert items.take([1, 1]).describe() == "COCO: 2 images, 2 classes, 0 boxes; no split given"


def test_several_labels_are_floats():
    targets = np.array([[0, 1], [1, 1], [0, 0]], np.float32)
    items = ItemList("/p", {"image": NAMES, "target": targets}, task="multilabel", layout="t", class_names="ab")
    assert default_collate(list(items))["target"].tolist() == targets.tolist()
    assert items.describe() == "t: 3 images, 2 labels; no split given"


def test_masks_are_paths_or_are_made_when_they_are_asked_for():
    class Drawn:
        made = []

        def __len__(self):
            return 3

        def __getitem__(self, index):
            self.made.append(index)
            return np.full((2, 2), index)

    kinds = {"task": "segmentation", "layout": "x", "class_names": "ab"}
    assert ItemList("/p", {"image": NAMES, "target": NAMES}, **kinds)[0]["target"] == "/p/a.jpg"
    items = ItemList("/p", {"image": NAMES, "target": Drawn()}, **kinds).take([2, 1])
    assert Drawn.made == []
    assert items[0]["target"].tolist() == [[2, 2], [2, 2]]
    assert Drawn.made == [2]


def test_the_description_counts_splits_and_problems():
    items = ItemList(
        "/p",
        {"image": [f"{n}.jpg" for n in range(1200)], "target": [0] * 1200, "split": ["train"] * 1100 + ["test"] * 100},
        task="multiclass",
        layout="a folder per class",
        class_names=["cat"],
        problems=["x is wrong"],
    )
    assert items.describe() == "a folder per class: 1,200 images, 1 class; train 1,100, test 100; 1 problem"


def test_it_goes_to_another_process_as_arrays():
    items = pickle.loads(pickle.dumps(classes().take([2, 1])))
    assert [item["sample_id"] for item in items] == ["c.png", "snow/Ä b.JPG"]


def test_texts_come_back_as_they_were():
    texts = ["", None, "Ä", "bytes \udcff that are no text", "x" * 1000]
    assert list(Texts(texts)) == texts
    assert Texts(texts)[1:3] == [None, "Ä"] and len(Texts([])) == 0


def test_arrays_of_several_lengths_come_back_as_they_were():
    found = Ragged(np.arange(5), [2, 2, 5])
    assert [one.tolist() for one in found] == [[0, 1], [], [2, 3, 4]]
    assert [one.tolist() for one in found[1:]] == [[], [2, 3, 4]]
    assert list(Ragged(np.zeros(0), [])) == []
    with pytest.raises(UsageError, match="ends must rise from 0 to the 5 rows"):
        Ragged(np.arange(5), [3, 2])


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"target": [1]}, {}, "columns must hold 'image', got target"),
        ({"image": ["a"], "target": [1, 2]}, {}, "of one length"),
        ({"image": ["a", "b", "a"], "target": [1, 2, 1]}, {}, "sample_id must be unique, got 'a' twice"),
        ({"image": ["a"], "target": [1]}, {"task": "multi"}, "unknown task 'multi'"),
    ],
)
def test_wrong_columns_are_refused(columns, options, message):
    with pytest.raises(UsageError, match=message):
        ItemList("/p", columns, **{"task": "multiclass", "layout": "x", "class_names": "ab"} | options)


def test_an_unknown_column_is_named():
    with pytest.raises(UsageError, match="unknown column 'targets'; did you mean 'target'"):
        classes().column("targets")
