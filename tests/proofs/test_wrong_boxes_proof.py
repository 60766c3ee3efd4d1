"""The proof that wrong boxes are found: what it plants, what it asks for, and the result that is kept."""

import copy
import json

import numpy as np
import pytest

from assay.callbacks.measures.box_matching import box_iou
from assay.runner import read_data
from proofs import wrong_boxes
from proofs.made_scenes import SIDE, make_pictures, plant_wrong, write_coco


@pytest.fixture(scope="module")
def made():
    return make_pictures(40, seed=1)


def test_pictures_show_what_their_boxes_say(made, tmp_path):
    pictures, boxes = made
    assert all(picture.shape == (SIDE, SIDE, 3) for picture in pictures.values())
    rows = np.array([box for of in boxes.values() for box in of])
    assert len(rows) > 80 and {*rows[:, 4]} == {1, 2, 3}
    assert (rows[:, :2] >= 0).all() and (rows[:, 2:4] <= SIDE).all() and (rows[:, 2:4] > rows[:, :2]).all()
    # What a box shows is lighter in the colour of its class than in the others.
    for label in (1, 2, 3):
        inside = [pictures[name][int(t + b) // 2, int(x + r) // 2] for name, of in boxes.items()
                  for x, t, r, b, one in of if one == label]  # fmt: skip
        assert np.mean(inside, axis=0).argmax() == label - 1
    write_coco(tmp_path, pictures, boxes)
    assert len(read_data(tmp_path, "detect")) == len(pictures)


def test_so_many_boxes_are_wrong_in_each_way(made):
    _, boxes = made
    wrong, planted = plant_wrong(boxes, 0.1, seed=2)
    count = round(0.1 * sum(map(len, boxes.values())))
    assert {kind: sum(of.kind == kind for of in planted) for kind in wrong_boxes.KINDS} == dict.fromkeys(
        wrong_boxes.KINDS, count
    )
    assert sum(map(len, wrong.values())) == sum(map(len, boxes.values()))
    for of in planted:
        right, now = (np.array(given[of.picture]).reshape(-1, 5) for given in (boxes, wrong))
        label = [rows[(rows[:, :4] == of.box).all(axis=1), 4].tolist() for rows in (right, now)]
        if of.kind == "missing_box":
            assert len(label[0]) == len(label[1]) + 1
        elif of.kind == "swapped_box":
            assert label[0] != label[1] and len(label[0]) == len(label[1])
        else:
            assert box_iou(np.array([of.box]), right[:, :4]).max(initial=0) < 0.1 and label[1]
    assert plant_wrong(boxes, 0.0, seed=2) == (boxes, [])


def test_the_result_that_is_kept_proves_it_and_a_worse_one_does_not():
    kept = json.loads(wrong_boxes.RESULT.read_text())
    wrong, sound = kept["rows"]["wrong"], kept["rows"]["sound"]
    assert kept["machine"]["date"] and kept["proved"] and wrong_boxes.proved(wrong, sound)
    last = str(wrong_boxes.AT[-1])
    for path, value in (
        (("missing_box", "suspects"), 40),
        (("swapped_box", "of these planted"), 0),
        (("false_box", "average precision by picture", "evidence"), 0.1),
    ):
        worse = copy.deepcopy(wrong)
        place = worse[last]
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value
        assert not wrong_boxes.proved(worse, sound)
    crowd = copy.deepcopy(sound)
    crowd[last]["false_box"]["suspects"] = 20
    assert not wrong_boxes.proved(wrong, crowd)


def test_the_exit_code_says_whether_it_is_proved(tmp_path, monkeypatch, capsys):
    kept = json.loads(wrong_boxes.RESULT.read_text())["rows"]
    monkeypatch.setattr(wrong_boxes, "RESULT", tmp_path / "result.json")
    for sound, code in ((kept["sound"], 0), (kept["wrong"], 1)):
        measured = {wrong_boxes.SHARE: kept["wrong"], 0.0: sound}
        monkeypatch.setattr(wrong_boxes, "measure", measured.__getitem__)
        assert wrong_boxes.main([]) == code
    assert json.loads((tmp_path / "result.json").read_text())["proved"] is False
    assert "missing_box" in capsys.readouterr().out
