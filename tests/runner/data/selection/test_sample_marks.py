"""Marks of samples applied to items: what is left out, what is relabelled, and what is said or refused."""

import numpy as np
import pytest

from assay.callbacks import UsageError
from assay.callbacks.history.marks import Mark, add_marks
from assay.runner import ItemList
from assay.runner.data.selection.sample_marks import SampleMarks

NAMES = ["cat", "dog", "3"]


def plain(first=0):
    return [{"image": number, "target": number % 3, "sample_id": f"s{number}"} for number in range(first, first + 6)]


def packed(first=0, task="multiclass", names=NAMES):
    columns = {"image": [f"s{number}" for number in range(first, first + 6)], "target": [n % 3 for n in range(6)]}
    # Out of the order of the columns, as the parts of a split are.
    return ItemList("/photos", columns, task=task, layout="mine", class_names=names).take([5, 3, 4, 0, 1, 2])


def written(tmp_path, *marks, name="marks.csv"):
    path = tmp_path / name
    path.unlink(missing_ok=True)
    add_marks(path, [Mark(*mark) for mark in marks])
    return str(path)


def told(items):
    return {item["sample_id"]: item["target"] for item in items}


@pytest.mark.parametrize("make", [plain, packed])
def test_samples_are_left_out_and_relabelled_in_their_loaders(make, tmp_path):
    path = written(
        tmp_path, ("train", "s1", "skip"), ("train", "s2", "wrong_label", "dog"), ("train", "s3", "wrong_label"),
        ("train", "s4", "look_again"), ("valid", "s7", "wrong_label", "3"), ("valid", "s8", "wrong_label", "0"),
    )  # fmt: skip
    before = {"train": make(), "valid": make(6)}
    expected = {loader: told(items) for loader, items in before.items()}
    of_classes = NAMES if make is plain else None
    marks = SampleMarks(path, path)
    after = marks.apply(before, of_classes)
    for loader, items in before.items():
        assert told(items) == expected[loader], "what was given is changed"
    del expected["train"]["s1"], expected["train"]["s3"]
    expected["train"]["s2"], expected["valid"]["s7"], expected["valid"]["s8"] = 1, 2, 0
    assert {loader: told(items) for loader, items in after.items()} == expected
    # The order of the items stays.
    assert [*told(after["train"])] == [one for one in told(before["train"]) if one not in ("s1", "s3")]
    assert marks.counts == {"excluded": 2, "relabelled": 3}
    assert marks.lines == [
        f"given another label by {path}: 1 of 6 of train, 2 of 6 of valid; 1 mark without a label changed nothing",
        f"left out by {path}: 2 of 6 of train",
    ]


def test_what_is_not_corrected_is_left_out(tmp_path):
    path = written(tmp_path, ("train", "s1", "wrong_label", "2"), ("train", "s2", "skip"))
    alone = SampleMarks(path, None)
    assert [*told(alone.apply({"train": plain()})["train"])] == ["s0", "s3", "s4", "s5"]
    both = SampleMarks(path, path)
    found = told(both.apply({"train": plain()})["train"])
    assert [*found] == ["s0", "s1", "s3", "s4", "s5"] and found["s1"] == 2
    only = SampleMarks(None, path)
    assert [*told(only.apply({"train": plain()})["train"])] == ["s0", "s1", "s2", "s3", "s4", "s5"]


def test_a_sample_that_is_in_another_loader_now_is_found_there(tmp_path):
    path = written(tmp_path, ("train", "s7", "skip"), ("gone", "s1", "skip"))
    marks = SampleMarks(path, None)
    found = marks.apply({"train": plain(), "valid": plain(6)})
    assert "s7" not in told(found["valid"]) and "s1" not in told(found["train"])


def test_of_two_loaders_with_one_id_that_of_the_mark_counts(tmp_path):
    path = written(tmp_path, ("valid", "s1", "skip"))
    found = SampleMarks(path, None).apply({"train": plain(), "valid": plain()})
    assert len(found["train"]) == 6 and len(found["valid"]) == 5


def test_unknown_samples_are_told_and_a_file_of_other_data_is_refused(tmp_path):
    path = written(tmp_path, ("train", "s1", "skip"), ("train", "x\n1", "skip"), ("train", "x2", "skip"))
    marks = SampleMarks(path, None)
    marks.apply({"train": plain()})
    assert marks.lines == [f"left out by {path}: 1 of 6 of train; 2 marked samples in no loader, the first is 'x\\n1'"]
    path = written(tmp_path, ("train", "x1", "skip"))
    with pytest.raises(UsageError, match=r"none of the samples that .* marks is in 'train', the first is 'x1'"):
        SampleMarks(path, None).apply({"train": plain()})


def test_marks_of_another_kind_change_nothing_and_say_so(tmp_path):
    path = written(tmp_path, ("train", "s1", "look_again"))
    marks, items = SampleMarks(path, path), plain()
    assert marks.apply({"train": items})["train"] == items
    assert marks.lines == [f"given another label by {path}: no sample", f"left out by {path}: no sample"]
    without = SampleMarks(None, None)
    assert without.apply({"train": items})["train"] is items and not without and not without.lines


def test_a_run_goes_on_with_the_marks_that_it_was_started_with(tmp_path):
    path = written(tmp_path, ("train", "s1", "skip"))
    run = tmp_path / "run"
    run.mkdir()
    for name, text in SampleMarks(path, None).files().items():
        (run / name).write_text(text)
    add_marks(path, [Mark("train", "s2", "skip")])
    assert "s2" in told(SampleMarks(path, None, run).apply({"train": plain()})["train"])
    # As when it is evaluated on other data.
    marks = SampleMarks(path, None, run)
    assert len(marks.apply({"valid": plain(90)})["valid"]) == 6
    assert marks.lines == [f"left out by {path}: no sample; 1 marked sample in no loader, the first is 's1'"]


@pytest.mark.parametrize("label", ["dog", "not dog", "0", "1"])
def test_binary_labels_have_two_names(label, tmp_path):
    columns = {"image": ["a", "b"], "target": [0, 1]}
    items = ItemList("/photos", columns, task="binary", layout="mine", class_names=["dog"])
    path = written(tmp_path, ("train", "a", "wrong_label", label), ("train", "b", "wrong_label", label))
    found = SampleMarks(None, path).apply({"train": items})["train"]
    assert {*told(found).values()} == {int(label in ("dog", "1"))}


class Unlisted:
    def __len__(self):
        return 3

    def __getitem__(self, index):
        raise AssertionError("no item is read for marks")


@pytest.mark.parametrize(
    ("items", "mark", "message"),
    [
        (packed(), ("s1", "wrong_label", "doog"), "unknown label in the marks of relabel 'doog'; did you mean 'dog'"),
        (packed(), ("s1", "wrong_label", "4"), "unknown label in the marks of relabel '4'"),
        (plain(), ("s1", "wrong_label", "dog"), "the label 'dog' must be a class number, as the classes have no names"),
        (packed(task="segmentation"), ("s1", "wrong_label", "1"), "one class per sample, and those of segmentation"),
        ([{"sample_id": "s1", "target": np.zeros(3)}], ("s1", "wrong_label", "1"), r"needs a class number as 'target'"),
        (Unlisted(), ("s1", "skip"), "marks need the items of train as a list of dicts or an ItemList, got Unlisted"),
        ([{"target": 1}], ("s1", "skip"), "marks need a 'sample_id' in each item of train"),
        (plain() + plain(), ("s1", "skip"), "'sample_id' of its own for each item of train, got 's0' twice"),
        (plain()[:1], ("s0", "skip"), "exclude leaves no sample of train"),
    ],
)
def test_what_cannot_be_done_is_refused(items, mark, message, tmp_path):
    path = written(tmp_path, ("train", *mark))
    with pytest.raises(UsageError, match=message) as caught:
        SampleMarks(path, path if mark[1] == "wrong_label" else None).apply({"train": items})
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no file of marks"):
        SampleMarks(str(tmp_path / "none.csv"), None)


def test_targets_of_other_tasks_are_not_replaced():
    with pytest.raises(UsageError, match="with_targets needs one class per item"):
        packed(task="segmentation").with_targets({0: 1})
