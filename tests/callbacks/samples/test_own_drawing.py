"""Best and worst batches and samples, drawn by a function of the user's."""

import cv2
import numpy as np
import pytest
import torch
from catalyst import dl
from kit import fit
from torch import nn
from torch.nn import functional as F

from assay.callbacks import BestWorstBatches, BestWorstSamples, UsageError
from assay.callbacks.drawings.own_pictures import own_picture

KEYS = {"target_key": "targets", "output_key": "logits", "sample_id_key": "name"}
RED, BLUE = (250, 10, 20), (10, 20, 250)


class Sound(nn.Module):
    """Logits of sounds: there is no image in the batch."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(7, 3)

    def forward(self, sound):
        return self.layer(sound)


def train(folder, *callbacks):
    torch.manual_seed(0)
    model, noise = Sound(), torch.Generator().manual_seed(1)
    items = [
        {"sound": torch.randn(7, generator=noise), "targets": index % 3, "name": f"s{index}", "rate": {"hz": index}}
        for index in range(11)
    ]
    runner = dl.SupervisedRunner(input_key="sound", output_key="logits", target_key="targets", loss_key="loss")
    fit(runner, model, {"valid": items}, list(callbacks), batch=4, lr=0.0, tensorboard=folder)
    with torch.no_grad():
        sounds, targets = torch.stack([item["sound"] for item in items]), torch.arange(11) % 3
        return items, F.cross_entropy(model(sounds), targets, reduction="none")


def picture_of(read_events, folder, tag):
    (image,) = read_events(folder).Images(tag)
    return cv2.imdecode(np.frombuffer(image.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]


@pytest.mark.parametrize("kind", ["best", "worst"])
def test_the_function_is_given_the_samples_of_the_batch_with_their_losses(kind, tmp_path, read_events):
    given = []

    def draw(batch):
        given.append(batch)
        return np.full((5, 9, 3), RED, dtype=np.uint8)

    items, losses = train(tmp_path, BestWorstBatches(k_images=3, visualize_batch=draw, **KEYS))
    means = [losses[first : first + 4].mean() for first in (0, 4, 8)]
    first = 4 * int(np.argmin(means) if kind == "best" else np.argmax(means))
    batch = losses[first : first + 4]
    order = (batch.argsort(descending=kind == "worst")[:3] + first).tolist()
    shown = given[0 if kind == "best" else 1]
    assert torch.equal(shown["sound"], torch.stack([items[index]["sound"] for index in order]))
    assert shown["name"] == [items[index]["name"] for index in order]
    assert shown["targets"].tolist() == [index % 3 for index in order]
    assert shown["rate"]["hz"].tolist() == order
    torch.testing.assert_close(shown["loss"], losses[order])
    assert shown["logits"].shape == (3, 3)
    picture = picture_of(read_events, tmp_path / "valid", f"9_batches/{kind}/loss")
    assert (picture == RED).all(axis=2).sum() == 45


def test_a_picture_for_each_of_the_best_and_worst_samples_stands_above_its_id(tmp_path, read_events):
    given = []

    def draw(batch):
        given.append(batch)
        return [np.full((150, 150, 3), RED, np.uint8) for _ in batch["name"]]

    items, losses = train(tmp_path, BestWorstSamples(k_samples=4, visualize_batch=draw, **KEYS))
    best, worst = losses.argsort().tolist(), losses.argsort(descending=True).tolist()
    for shown, order in zip(given, (best[:4], worst[:4], worst[:3]), strict=True):
        assert shown["name"] == [items[index]["name"] for index in order]
        assert torch.equal(shown["sound"], torch.stack([items[index]["sound"] for index in order]))
        assert shown["rate"]["hz"].tolist() == order
        torch.testing.assert_close(shown["loss"], losses[order], check_dtype=False)
    picture = picture_of(read_events, tmp_path / "valid", "6_worst_samples/loss")
    assert (picture == RED).all(axis=2).sum() == 4 * 320**2


def test_one_that_draws_by_itself_keeps_samples_of_its_own():
    own = BestWorstSamples(visualize_batch=lambda batch: np.zeros((4, 4)), **KEYS)
    assert own.count_key != BestWorstSamples(**KEYS).count_key


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (np.full((2, 3, 3), RED, np.uint8), RED),
        (np.full((2, 3, 4), (*BLUE, 9), np.uint8), BLUE),
        (torch.tensor(RED, dtype=torch.uint8)[:, None, None].expand(3, 2, 3), RED),
        (np.full((2, 3), 0.2), (51, 51, 51)),
        (np.full((2, 3, 1), np.nan, np.float32), (0, 0, 0)),
        (np.ones((2, 3), bool), (255, 255, 255)),
    ],
)
def test_a_picture_may_be_of_any_usual_form(picture, expected):
    drawn = own_picture(picture)
    assert drawn.shape == (2, 3, 3)
    assert drawn.dtype == np.uint8
    assert (drawn == expected).all()


@pytest.mark.parametrize(
    "wrong", [None, "a", np.zeros(3), np.zeros((3, 5, 5)), np.zeros((2, 2), int), np.empty((0, 2))]
)
def test_what_is_no_picture_is_refused_with_what_it_is(wrong):
    with pytest.raises(UsageError, match=r"visualize_batch must return a picture or a list of them: .*got"):
        own_picture(wrong)


@pytest.mark.parametrize("kind", [BestWorstBatches, BestWorstSamples])
def test_what_the_function_returns_is_checked_in_the_run_too(kind, tmp_path):
    with pytest.raises(UsageError, match=r"visualize_batch must return .*, got an empty list"):
        train(tmp_path, kind(visualize_batch=lambda batch: [], **KEYS))


@pytest.mark.parametrize("kind", [BestWorstBatches, BestWorstSamples])
def test_what_is_no_function_is_refused(kind):
    with pytest.raises(UsageError, match="visualize_batch must be a function of a batch, got 'mine'"):
        kind(visualize_batch="mine")
