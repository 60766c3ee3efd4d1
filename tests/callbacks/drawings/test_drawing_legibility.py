"""Each kind of a sheet of samples can be read in a card of TensorBoard, with 2 classes and with 200, in any script."""

import numpy as np
import pytest
from legibility import LEAST_TEXT, card_view, check_texts, digit_height, recorded_texts

from assay.callbacks.drawings.canvas.picture_style import PictureStyle
from assay.callbacks.drawings.own_pictures import draw_own_pictures
from assay.callbacks.drawings.samples import draw_samples

COUNT = 3
CHANCE = np.random.default_rng(0)
NAMES = {
    "2": ["cat", "dog"],
    "200": [f"class number {number}" for number in range(200)],
    "long": [f"a name of many words, the {number}th of them" for number in range(4)],
    "Unicode": ["größer", "λόγος", "Ёж", "naïve"],
}
IMAGES = {
    "small": [CHANCE.random((3, 8, 8), dtype=np.float32) for _ in range(COUNT)],
    "large": [CHANCE.integers(0, 255, (3, 3000, 4000), dtype=np.uint8)] * COUNT,
    "16 bit": [CHANCE.integers(0, 65535, (60, 90)).astype(np.uint16) for _ in range(COUNT)],
    "many channels": [CHANCE.random((9, 60, 20), dtype=np.float32) for _ in range(COUNT)],
}


def boxes(count, classes, *scores):
    corners = CHANCE.random((count, 2)) * 5
    found = {"boxes": np.concatenate([corners, corners + 2], axis=1), "labels": CHANCE.integers(0, classes, count)}
    return {**found, "scores": np.linspace(*scores, count)} if scores else found


def parts(kind, classes):
    """Return targets and outputs of a kind."""
    maps, logits = CHANCE.integers(0, classes, (COUNT, 8, 8)), CHANCE.normal(size=(COUNT, classes, 8, 8))
    return {
        "classes": (CHANCE.integers(0, classes, COUNT), CHANCE.normal(size=(COUNT, classes))),
        "labels": (CHANCE.integers(0, 2, (COUNT, classes)), CHANCE.normal(size=(COUNT, classes))),
        "numbers": (CHANCE.normal(size=COUNT) * 1e-9, CHANCE.normal(size=COUNT) * 1e9),
        "several numbers": (CHANCE.normal(size=(COUNT, 9)), CHANCE.normal(size=(COUNT, 9))),
        "mask": (maps % 2, logits[:, :1]),
        "masks": ((logits > 0.3).astype(int), logits),
        "class maps": (maps, logits),
        "number maps": (maps + 0.5, logits[:, :1]),
        "boxes": ([boxes(5, classes)] * COUNT, [boxes(9, classes, 0.1, 0.9)] * COUNT),
        "true maps": (maps, None),
        "true boxes": ([boxes(5, classes)] * COUNT, None),
        "images": (None, None),
    }[kind]


KINDS = ["classes", "labels", "numbers", "several numbers", "mask", "masks", "class maps", "number maps", "boxes"]


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("kind", [*KINDS, "true maps", "true boxes", "images"])
def test_texts_of_every_kind_are_ten_pixels_high_in_a_card(kind, names):
    classes = NAMES[names]
    target, output = parts(kind, len(classes))
    samples = {"image": IMAGES["small"], "sample_id": [f"folder/of/{number}.png" for number in range(COUNT)]}
    samples |= {"caption": ["#1  loss 0.5"] * COUNT, "loss": np.ones(COUNT), "target": target, "output": output}
    task = "regression" if "number" in kind else None
    with recorded_texts() as texts:
        picture = draw_samples(samples, ["worst valid samples", "epoch 1"], style=PictureStyle(classes), task=task)
    check_texts(picture, texts)
    captions = [size for line, size in texts if line in ("#1  loss 0.5", "loss 1")]
    assert captions and all(digit_height(picture, size) >= LEAST_TEXT for size in captions)
    assert picture.shape[1] == 700 and card_view(picture).shape[1] == 350


@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize("heat", [False, True])
def test_texts_do_not_depend_on_the_images(images, heat):
    samples = {"image": IMAGES[images], "sample_id": ["a", "b", "c"], "target": np.arange(3), "output": np.eye(3)}
    if heat:
        samples["heat"] = [np.eye(3, dtype=np.float32)] * COUNT
    with recorded_texts() as texts:
        picture = draw_samples(samples, ["a title"])
    check_texts(picture, texts)
    assert {"0  0.58", "1  0.58", "2  0.58"} <= {line for line, _ in texts}


@pytest.mark.parametrize("side", [20, 400, 3000])
@pytest.mark.parametrize("alone", [False, True])
def test_titles_and_ids_of_own_pictures_are_seen_too(side, alone):
    own = np.zeros((side, side, 3), dtype=np.uint8)
    with recorded_texts() as texts:
        picture = draw_own_pictures(own if alone else [own] * 3, ["a title"], [["loss 1"]] * 3, ["a", "b", "c"])
    check_texts(picture, texts)
