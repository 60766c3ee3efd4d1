"""Masks drawn from COCO's outlines and run lengths, against pycocotools' own API object by object."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as tools
from pycocotools.coco import COCO

from assay.runner import UsageError, read_coco_masks, read_data
from assay.runner.data.readers.masks.coco import looks_like

CATEGORIES = [{"id": 7, "name": "tree"}, {"id": 3, "name": "house"}]  # class 1 is the house


def objects(rng, image, height, width, first):
    """Outlines that overlap and have fractions, one of two rings, one of run lengths each way, and a crowd."""
    found = []
    for place in range(9):
        x, y = rng.uniform(-4, width - 3), rng.uniform(-4, height - 3)
        turns = np.sort(rng.uniform(0, 2 * np.pi, 7))
        radius = rng.uniform(2, 9)
        ring = np.stack([x + radius * np.cos(turns), y + radius * np.sin(turns)], axis=1)
        found.append({"segmentation": [ring.round(2).reshape(-1).tolist()]})
        if place % 3 == 0:
            found[-1]["segmentation"].append((ring + 5).round(2).reshape(-1).tolist())
    crowd = np.asfortranarray(rng.random((height, width)) < 0.4).astype(np.uint8, order="F")
    counts = [len(list(run)) for run in np.split(crowd.T.reshape(-1), np.flatnonzero(np.diff(crowd.T.reshape(-1))) + 1)]
    counts = counts if crowd[0, 0] == 0 else [0, *counts]
    found.append({"segmentation": {"size": [height, width], "counts": counts}, "iscrowd": 1})
    packed = tools.encode(np.asfortranarray(rng.random((height, width)) < 0.1).astype(np.uint8, order="F"))
    found.append({"segmentation": {"size": [height, width], "counts": packed["counts"].decode()}})
    common = {"image_id": image, "iscrowd": 0, "bbox": [0, 0, 2, 2]}
    return [{**common, "id": first + i, "category_id": [3, 7][i % 2], **one} for i, one in enumerate(found)]


def write(folder, content, name="annotations.json"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def make(root, count=3, folder="", split=None):
    rng = np.random.default_rng(3)
    content = {"images": [], "annotations": [], "categories": CATEGORIES}
    (root / folder).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        height, width = 20 + 7 * i, 31 - 3 * i
        name = f"{split or 'im'}{i}.jpg"
        Image.new("RGB", (width, height)).save(root / folder / name)
        content["images"].append({"id": 10 + i, "file_name": name, "height": height, "width": width})
        content["annotations"] += objects(rng, 10 + i, height, width, 100 * i) if i else []
    return content


def test_masks_are_those_of_pycocotools_drawn_from_crowds_and_large_to_small(tmp_path):
    path = write(tmp_path, make(tmp_path))
    items = read_coco_masks(path)
    assert items.class_names == ("background", "house", "tree") and items.problems == ()
    api = COCO(str(path))
    for item, image in zip(items, api.loadImgs(api.getImgIds()), strict=True):
        right = np.zeros((image["height"], image["width"]), dtype=np.uint8)
        drawn = [(one, api.annToMask(one).astype(bool)) for one in api.loadAnns(api.getAnnIds(image["id"]))]
        for one, inside in sorted(drawn, key=lambda pair: (1 - pair[0]["iscrowd"], -pair[1].sum())):
            right[inside] = {3: 1, 7: 2}[one["category_id"]]
        assert item["target"].dtype == np.uint8 and np.array_equal(item["target"], right)
    assert [len(np.unique(item["target"])) for item in items] == [1, 3, 3]


def test_files_of_a_split_are_found_in_a_folder(tmp_path):
    for split in ("train", "valid"):
        write(tmp_path, make(tmp_path, 2, split, split), f"{split}/_annotations.coco.json")
    assert looks_like(tmp_path)
    items = read_data(tmp_path, "segment")
    assert list(items.column("split")) == ["train"] * 2 + ["valid"] * 2
    assert items.describe() == "COCO outlines: 4 images, 3 classes; train 2, valid 2"
    assert items[3]["image"] == str(tmp_path / "valid/valid1.jpg") and items[3]["target"].any()


def test_items_are_the_same_in_a_loaders_worker(tmp_path):
    items = read_coco_masks(write(tmp_path, make(tmp_path)))
    again = pickle.loads(pickle.dumps(items))
    assert all(np.array_equal(one["target"], other["target"]) for one, other in zip(items, again, strict=True))
    assert np.array_equal(items.take([2, 1])[0]["target"], items[2]["target"])


def test_each_irregularity_is_one_line(tmp_path):
    content = make(tmp_path, 2)
    good = content["annotations"][:2]
    Image.new("RGB", (9, 9)).save(tmp_path / "small.jpg")
    content["images"] += [
        {"id": 1, "file_name": "gone.jpg", "height": 4, "width": 4},
        {"id": 2, "file_name": "small.jpg", "height": 8, "width": 9},
        {"id": 10, "file_name": "im1.jpg", "height": 4, "width": 4},
        {"file_name": "im1.jpg"},
    ]
    wrong = [
        {"image_id": 99}, {"category_id": 4}, {"segmentation": []}, {"segmentation": [[1, 2, 3, 4]]},
        {"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, {"segmentation": {"size": [5, 5], "counts": [25]}},
        {"segmentation": {"size": [27, 28], "counts": [5]}}, {"segmentation": {"size": [27, 28], "counts": "x1"}},
        {"segmentation": [1, 2]}, {"image_id": 1},
    ]  # fmt: skip
    content["annotations"] = good + [{**good[0], "id": 500 + i, **one} for i, one in enumerate(wrong)]
    items = read_coco_masks(write(tmp_path, content))
    assert len(items) == 2
    file, outline = "annotations.json, line 1", "the outline in im1.jpg"
    points = ": it must have x and y of 3 points or more"
    assert list(items.problems) == [
        f"{file}, image id 1: gone.jpg is not there",
        f"{file}, image id 2: says 9 x 8 pixels, and small.jpg has 9 x 9; left out, as its annotations may be in "
        "pixels of another image",
        f"{file}, image id 10: id 10 is there already; left out",
        f"{file}, entry 6 of images: no id or file_name; left out",
        f"{file}, annotation id 500: there is no image with id 99; left out",
        f"{file}, annotation id 501: there is no category with id 4 and a name; left out",
        f"{file}, annotation id 502: {outline} is missing; left out",
        f"{file}, annotation id 503: {outline} has a ring of 4 numbers{points}; left out",
        f"{file}, annotation id 504: {outline} has a ring of 7 numbers{points}; left out",
        f"{file}, annotation id 505: {outline} has run lengths of size [5, 5], and the image has [27, 28]; left out",
        f"{file}, annotation id 506: {outline} has run lengths that do not add up to the image; left out",
        f"{file}, annotation id 507: {outline} has run lengths that do not add up to the image; left out",
        f"{file}, annotation id 508: {outline} is neither a list of rings nor run lengths; left out",
    ]


def test_a_stated_size_of_zero_is_that_of_the_file(tmp_path):
    content = make(tmp_path, 2)
    content["images"][0] |= {"height": 0, "width": 0}
    content["images"][1].pop("height")
    items = read_coco_masks(write(tmp_path, content))
    assert items[1]["target"].shape == (27, 28)
    line = "a stated width or height of 0 counts as none: im0.jpg and 1 more"
    assert items.problems == (line,)
    assert read_data(tmp_path, "detect").problems[0] == line


def test_boxes_alone_are_no_masks(tmp_path):
    content = make(tmp_path, 2)
    content["annotations"] = [{**one, "segmentation": []} for one in content["annotations"]]
    path = write(tmp_path, content)
    assert not looks_like(path)
    with pytest.raises(UsageError, match=r"COCO without outlines to learn from: 2 images; the first problem: anno"):
        read_coco_masks(path)


def test_a_folder_without_coco_is_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"holds no COCO JSON: looked for \*.json in it"):
        read_coco_masks(tmp_path)
