"""Reading train.csv: what is right is read as it stands, and what is wrong is named by its row."""

import ast
import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from assay.callbacks import UsageError
from assay.experiments.wheat import Wheat
from assay.experiments.wheat.data import read_items, split, to_tensor
from assay.experiments.wheat.generator import make_data
from assay.runner import ItemList

HEADER = "image_id,width,height,bbox,source"
GOOD = 'aa,64,48,"[3.0, 4.0, 20.0, 10.0]",field_1'


def write(folder, *rows, header=HEADER, images=("aa", "bb"), size=(64, 48)):
    (folder / "train").mkdir(exist_ok=True)
    (folder / "train.csv").write_text("\n".join((header, *rows)) + "\n")
    for name in images:
        pixels = np.random.default_rng(len(name)).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        cv2.imwrite(str(folder / "train" / f"{name}.jpg"), pixels)
    return folder


def test_boxes_are_read_as_corners_and_an_image_without_rows_has_none(tmp_path):
    second = 'aa,64,48,"[0, 0, 64, 48]",field_1'
    items = read_items(write(tmp_path, GOOD, second, images=("ac", "bb", "aa")))
    assert [item["sample_id"] for item in items] == ["aa", "ac", "bb"]
    first, other = items[0], items[2]
    assert (first["image"], first["source"]) == (str(tmp_path / "train/aa.jpg"), "field_1")
    assert first["bboxes"].tolist() == [[3, 4, 23, 14], [0, 0, 64, 48]]
    assert first["labels"].tolist() == [1, 1]
    assert (other["source"], other["bboxes"].shape) == ("", (0, 4))
    assert items.class_names == ("background", "head")


def test_a_row_without_a_box_says_that_its_image_has_none(tmp_path):
    items = read_items(write(tmp_path, GOOD, "bb,64,48,,field_2"))
    assert (items[1]["source"], len(items[1]["bboxes"]), items.problems) == ("field_2", 0, ())


def test_what_is_wrong_is_left_out_and_the_run_says_it_by_its_line(tmp_path):
    folder = write(tmp_path, GOOD, 'bb,64,48,"[3, 4, 0, 10]",field_2', "bb,64,48,3 4 5 5,field_2")
    wheat = Wheat(data_dir=str(folder))
    lines = [
        "train.csv, line 4: a box must be four numbers, got '3 4 5 5'; left out",
        "train.csv, line 3: the box [3, 4, 3, 14] of train/bb.jpg has no area: right must be greater than left, and "
        "bottom than top; left out",
    ]
    assert wheat.describe_data() == lines
    assert wheat.files_of_run() == {"data_problems.txt": "\n".join([*lines, ""])}
    assert [len(item["bboxes"]) for item in wheat.items] == [1, 0]


def test_a_table_of_another_kind_is_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"train\.csv must have a column source"):
        read_items(write(tmp_path, 'aa,"[3, 4, 5, 5]"', header="image_id,bbox"))
    with pytest.raises(UsageError, match=r"train\.csv must have the columns image"):
        read_items(write(tmp_path, "aa,64,48", header="image_id,width,height"))
    (tmp_path / "train.csv").unlink()
    with pytest.raises(UsageError, match=r"train\.csv is not there: data_dir must hold train\.csv and"):
        read_items(tmp_path)


def made_up(ids, sources):
    columns = {"image": [f"{name}.jpg" for name in ids], "sample_id": ids, "source": sources}
    columns |= {"bboxes": [np.zeros((0, 4), np.float32)] * len(ids), "labels": [np.zeros(0, np.int64)] * len(ids)}
    return ItemList("", columns, task="detection", layout="", class_names=("background", "head"))


def test_the_default_split_is_the_same_each_time_and_takes_about_one_image_of_five():
    items = made_up([f"{number:09x}" for number in range(1000)], ["s"] * 1000)
    train, valid = (list(part.column("sample_id")) for part in split(items, []))
    assert 150 < len(valid) < 250
    assert {*valid}.isdisjoint(train)
    assert list(split(items[::-1], [])[1].column("sample_id"))[::-1] == valid
    assert valid[:3] == ["000000006", "000000008", "000000010"]


def test_whole_sources_can_be_held_out():
    train, valid = split(made_up([*"012345678"], ["a", "b", ""] * 3), ["b"])
    assert {*valid.column("source")} == {"b"}
    assert {*train.column("source")} == {"a", ""}


def test_an_unknown_source_is_named():
    with pytest.raises(UsageError, match="valid_sources must name sources of the data, a, b, got 'c'"):
        split(made_up(["a", "b"], ["a", "b"]), ["c"])


def test_a_split_without_validation_is_refused():
    with pytest.raises(UsageError, match="1 images give 1 to train on, 0 to validate on"):
        split(made_up(["1"], ["a"]), [])


@pytest.mark.parametrize("size", [(64, 64), (100, 50), (48, 80)])
def test_images_of_any_size_fit_and_their_boxes_lie_on_the_same_pixels(tmp_path, size):
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    image[10:30, 8:40] = 255
    parts = to_tensor([], 64)(image=image, bboxes=np.float32([[8, 10, 40, 30]]), labels=np.array([1]))
    assert parts["image"].shape == (3, 64, 64)
    left, top, right, bottom = np.asarray(parts["bboxes"])[0]
    rows, columns = np.nonzero(parts["image"][0].numpy() > 0.5)
    seen = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    assert seen == pytest.approx((left, top, right, bottom), abs=1)


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generated")
    make_data(folder, count=24, size=96)
    return folder


def batches(folder, epoch, workers=0, **fields):
    loader = Wheat(data_dir=str(folder), image_size=96, workers=workers, **fields).get_loaders()["train"]
    loader.dataset.set_epoch(epoch)
    torch.manual_seed(epoch)  # of the order
    return list(loader)


def test_a_batch_holds_images_in_one_tensor_and_boxes_by_image(generated):
    for batch in batches(generated, 1):
        count = len(batch["sample_id"])
        assert batch["image"].shape == (count, 3, 96, 96)
        assert batch["image"].min() >= 0 and batch["image"].max() <= 1
        assert len(batch["target"]) == count
        for target in batch["target"]:
            assert (target["boxes"].dtype, target["labels"].dtype) == (torch.float32, torch.int64)
            assert target["boxes"].shape == (len(target["labels"]), 4)
            assert (target["boxes"][:, 2:] > target["boxes"][:, :2]).all()


def test_chance_follows_from_seed_epoch_and_sample_with_any_number_of_workers(generated):
    plain, again, workers, later = (batches(generated, *of) for of in ((1,), (1,), (1, 2), (2,)))
    by_id = [
        {name: (image, target["boxes"]) for batch in of for name, image, target in zip(*parts(batch), strict=True)}
        for of in (plain, again, workers, later)
    ]
    for name, (image, boxes) in by_id[0].items():
        for other in by_id[1:3]:
            assert torch.equal(other[name][0], image) and torch.equal(other[name][1], boxes)
    assert any(not torch.equal(by_id[3][name][0], image) for name, (image, _) in by_id[0].items())


def parts(batch):
    return batch["sample_id"], batch["image"], batch["target"]


def test_boxes_turn_with_their_image(generated):
    plain = Wheat(data_dir=str(generated), image_size=96)._augmented(read_items(generated), [])
    turned = Wheat(data_dir=str(generated), image_size=96).get_loaders()["train"].dataset
    table = {row["sample_id"]: row for row in plain}
    moved = 0
    for item in turned:
        before = table[item["sample_id"]]
        assert len(item["bboxes"]) == len(before["bboxes"])
        first, second = (np.asarray(of["bboxes"]) for of in (item, before))
        sides = [np.sort(of[:, 2:] - of[:, :2], axis=1) for of in (first, second)]
        assert sides[0] == pytest.approx(sides[1], abs=1e-3)
        moved += not np.array_equal(item["bboxes"], before["bboxes"])
    assert moved


def test_a_bad_image_is_left_out_where_that_is_asked_for(generated, tmp_path):
    import shutil

    folder = shutil.copytree(generated, tmp_path / "copy")
    victim = Path(read_items(folder)[1]["image"])
    victim.write_bytes(victim.read_bytes()[:700])
    fields = {"data_dir": str(folder), "image_size": 96, "on_bad_image": "skip"}
    ids = [name for loader in Wheat(**fields).get_loaders().values() for batch in loader for name in batch["sample_id"]]
    assert sorted(ids) == [item["sample_id"] for item in read_items(folder) if item["image"] != str(victim)]


def test_generated_data_is_in_the_true_layout_and_the_same_each_time(generated, tmp_path):
    make_data(tmp_path, count=24, size=96)
    names = sorted(path.name for path in (generated / "train").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "train").iterdir())
    assert (generated / "train.csv").read_text() == (tmp_path / "train.csv").read_text()
    assert all((generated / "train" / n).read_bytes() == (tmp_path / "train" / n).read_bytes() for n in names)
    with open(generated / "train.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == HEADER.split(",")
    assert all(len(ast.literal_eval(row["bbox"])) == 4 for row in rows)
    bare = {name.removesuffix(".jpg") for name in names} - {row["image_id"] for row in rows}
    assert bare  # images without boxes exist
    assert len({row["source"] for row in rows}) == 4


def test_generated_boxes_are_tight_around_what_is_seen_of_a_head():
    from assay.experiments.wheat.generator import _boxes

    owner = np.zeros((40, 40), dtype=np.int32)
    owner[4:14, 6:20] = 1
    owner[20:22, 0:9] = 2
    assert _boxes(owner, [140, 30, 0]) == [[3.0, 2.0, 7.0, 5.0], [0.0, 10.0, 5.0, 1.0]]
    assert _boxes(owner, [140, 60, 0]) == [[3.0, 2.0, 7.0, 5.0]]  # less than 40% of the second one is seen
