"""What an exported file tells of pre- and postprocessing, against what the transform does."""

import json
import warnings
from functools import partial

import albumentations as A
import numpy as np
import pytest
import torch

from assay.runner import make_transform, read_image
from assay.runner.export.metadata import as_texts, describe_use
from assay.runner.prediction import BoxPrediction, ClassPrediction, MaskPrediction

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGE = torch.zeros(1, 3, 64, 48)


def classes(transform, **options):
    return ClassPrediction(class_names=["cat", "dog"], transform=transform, **options)


def preprocess(picture, told):
    """Normalize as the metadata says, in plain NumPy."""
    scaled = (picture.astype(np.float64) / 255 - np.array(told["mean"])) / np.array(told["std"])
    return scaled.transpose(2, 0, 1)


@pytest.mark.parametrize("resize", ["letterbox", "stretch", "crop"])
def test_the_normalization_and_the_rule_are_those_of_the_transform(resize):
    transform = make_transform("none", 64, resize=resize, mean=MEAN, std=STD)
    told = describe_use(classes(transform), torch.zeros(1, 3, 64, 64), torch.zeros(1, 2))
    assert (told["resize"], told["size"], told["pixels"]) == (resize, [64, 64], "RGB, 0 to 255, upright")
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    np.testing.assert_allclose(transform(image=picture)["image"].numpy(), preprocess(picture, told), atol=1e-4)
    with warnings.catch_warnings(action="error"):  # albumentations warns of what it has written of a padding itself
        again = A.from_dict(json.loads(as_texts(told)["transform"]))
    other = np.random.default_rng(1).integers(0, 256, (50, 91, 3), dtype=np.uint8)
    torch.testing.assert_close(again(image=other)["image"], transform(image=other)["image"])


def test_a_transform_of_the_users_own_is_measured_too():
    def transform(image):
        return {"image": torch.from_numpy(image).permute(2, 0, 1).float() / 127.5 - 1}

    told = describe_use(classes(transform), IMAGE, torch.zeros(1, 2))
    np.testing.assert_allclose((told["mean"], told["std"]), 0.5, atol=1e-6)
    assert told["resize"].endswith("test_a_transform_of_the_users_own_is_measured_too.<locals>.transform does")


def test_what_is_no_such_normalization_is_not_called_one():
    def squared(image):
        return {"image": torch.from_numpy(image).permute(2, 0, 1).float() ** 2}

    def broken(image):
        raise ZeroDivisionError

    for transform in (squared, broken):
        told = describe_use(classes(transform), IMAGE, torch.zeros(1, 2))
        assert "mean" not in told and "normalization" not in told
    with_reader = describe_use(classes(A.ToTensorV2(), read=np.load), IMAGE, torch.zeros(1, 2))
    assert with_reader["pixels"] == "as numpy.load reads them" and "mean" not in with_reader


def test_grey_images_have_one_channel():
    transform = A.Compose([A.Normalize(0.3, 0.4), A.ToTensorV2()])
    prediction = classes(transform, read=partial(read_image, grey=True))
    told = describe_use(prediction, torch.zeros(1, 1, 8, 8), torch.zeros(1, 2))
    assert (told["pixels"], told["mean"], told["std"]) == ("grey, 0 to 255, upright", [0.3], [0.4])


@pytest.mark.parametrize(
    ("output", "multilabel", "activation"),
    [((1, 2), False, "softmax"), ((1, 2), True, "sigmoid"), ((1, 1), False, "sigmoid"), ((1,), False, "sigmoid")],
)
def test_the_activation_of_classes(output, multilabel, activation):
    told = describe_use(classes(A.ToTensorV2(), multilabel=multilabel), IMAGE, torch.zeros(output))
    assert told["activation"] == activation
    assert told.get("threshold") == (0.5 if activation == "sigmoid" else None)


def test_masks_and_boxes_tell_their_limits():
    mask = MaskPrediction(class_names=["ground", "house"], mean=0.5, std=(0.1, 0.2, 0.3), threshold=0.4)
    told = describe_use(mask, IMAGE, torch.zeros(1, 1, 64, 48))
    assert (told["mean"], told["std"], told["resize"]) == ([0.5] * 3, [0.1, 0.2, 0.3], "none")
    assert (told["activation"], told["threshold"], told["class_names"]) == ("sigmoid", 0.4, ["ground", "house"])
    assert describe_use(mask, IMAGE, torch.zeros(1, 5, 64, 48))["activation"] == "softmax"
    transform = A.Compose([A.LongestMaxSize(64), A.ToFloat(255), A.ToTensorV2()])
    boxes = BoxPrediction(class_names=["background", "cell"], transform=transform, min_score=0.3)
    told = describe_use(boxes, IMAGE, None)
    assert (told["threshold"], told["activation"], told["resize"]) == (0.3, "none", "letterbox")
    assert (told["mean"], told["std"]) == ([0.0] * 3, [1.0] * 3)


def test_values_become_texts_that_json_reads():
    texts = as_texts({"task": "classification", "mean": [0.5, 1.0], "class_names": ["cät"], "threshold": 0.5})
    assert texts["task"] == "classification" and json.loads(texts["class_names"]) == ["cät"]
    assert (json.loads(texts["mean"]), json.loads(texts["threshold"])) == ([0.5, 1.0], 0.5)
