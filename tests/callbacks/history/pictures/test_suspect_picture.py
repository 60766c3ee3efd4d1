"""The picture of the surest suspects in TensorBoard, of digits with labels that are known to be wrong."""

import numpy as np
import torch
from kit import Named, fit, read_events
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import SampleHistory
from assay.callbacks.history.pictures import suspect_picture
from assay.runner import Augmented, DictRunner

WRONG = {40: 5}  # by how much their labels are off


class Flat:
    """A transform without chance."""

    def set_random_seed(self, seed):
        pass

    def __call__(self, image):
        return {"image": torch.from_numpy(image.reshape(1, 8, 8).astype(np.float32) / 255)}


def digits(count=500):
    pictures, labels = load_digits(return_X_y=True)
    items = [
        {"image": (picture * 15).astype(np.uint8).reshape(8, 8, 1), "target": int(label), "sample_id": f"digit-{i:04}"}
        for i, (picture, label) in enumerate(zip(pictures[:count], labels, strict=False))
    ]
    for index, shift in WRONG.items():
        items[index]["target"] = (items[index]["target"] + shift) % 10
    return items


def test_it_shows_wrong_labels_from_the_third_epoch_on(tmp_path, monkeypatch):
    drawn = {}

    def draw(suspects, title, style):
        drawn[title[1].split(",")[0]] = title[0], suspects
        return draw_suspects(suspects, title, style)

    draw_suspects = suspect_picture.draw_suspects
    monkeypatch.setattr(suspect_picture, "draw_suspects", draw)
    torch.manual_seed(0)
    items = digits()
    fit(
        DictRunner(), Named(nn.Sequential(nn.Flatten(), nn.Linear(64, 10))),
        {"train": DataLoader(Augmented(items, Flat()), 8)}, [SampleHistory()], epochs=4, lr=0.5, logdir=str(tmp_path),
    )  # fmt: skip
    events = read_events(tmp_path / "train")
    assert [event.step for event in events.Images("2_suspects/surest")] == [3, 4]
    title, suspects = drawn["epoch 4"]
    assert title.endswith("of train may be wrong")
    assert {f"digit-{index:04}" for index in WRONG} <= {one.name for one in suspects[:4]}
    for one in suspects:
        item = items[int(one.name[-4:])]
        assert one.label == item["target"] != one.likely
        np.testing.assert_allclose(one.picture, np.repeat(item["image"], 3, axis=2), atol=25)


def test_without_suspects_it_says_so(tmp_path):
    data = [{"image": torch.full((1, 4, 4), float(i % 2)), "target": i % 2, "sample_id": f"s{i}"} for i in range(8)]
    fit(
        DictRunner(), Named(nn.Sequential(nn.Flatten(), nn.Linear(16, 2))), {"train": DataLoader(data, 4)},
        [SampleHistory()], epochs=3, logdir=str(tmp_path),
    )  # fmt: skip
    events = read_events(tmp_path / "train")
    assert [event.step for event in events.Images("2_suspects/surest")] == [3]
    assert not (tmp_path / "results" / "suspects.csv").read_text().splitlines()[1:]
