"""What an experiment says about prediction, and the errors for what its model does otherwise."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from assay.runner import Engine, Experiment, UsageError
from assay.runner.commands.predict import PredictOptions, _name_missing_package, _select_predictor
from assay.runner.prediction import BoxPrediction, ClassPrediction, MaskPrediction, Prediction
from assay.runner.prediction.boxes import predict_boxes
from assay.runner.prediction.classes import predict_classes
from assay.runner.prediction.inputs import Input
from assay.runner.prediction.masks import predict_masks
from assay.runner.prediction.models import Models
from assay.runner.prediction.outcome import Outcome
from assay.runner.prediction.tta import Views


class Says(nn.Module):
    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, image, target=None):
        return {"logits": self.output(image)}


def to_tensor(image):
    return {"image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))}


def models(prediction, output, *, input_key="image"):
    class Toy(Experiment):
        def get_model(self):
            return Says(output)

    toy = Toy()
    toy.input_key = input_key
    return Models(toy, prediction, [{"": {}}], Engine("cpu"), Views("none"))


@pytest.fixture
def inputs(tmp_path):
    Image.fromarray(np.zeros((6, 8, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    return [Input(tmp_path / "a.png", "a.png", "a")]


def test_normalization_is_that_of_albumentations():
    import albumentations as A

    images = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    mean, std = (0.1, 0.5, 0.7), (0.2, 0.3, 0.4)
    normalized = MaskPrediction(mean=mean, std=std).normalize(torch.from_numpy(images))
    expected = np.stack([A.Normalize(mean, std)(image=image)["image"] for image in images]).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(normalized.numpy(), expected, atol=1e-5)


def test_one_output_is_yes_or_no_and_several_share_a_probability_of_one():
    logits = torch.tensor([[0.0], [2.0]])
    yes = ClassPrediction(class_names=["cat"], transform=to_tensor)
    torch.testing.assert_close(yes.probabilities(logits), logits.sigmoid())
    torch.testing.assert_close(yes.probabilities(logits[:, 0]), logits.sigmoid())
    two = torch.tensor([[0.0, 1.0]])
    names = {"class_names": ["cat", "dog"], "transform": to_tensor}
    torch.testing.assert_close(ClassPrediction(**names).probabilities(two), two.softmax(dim=1))
    torch.testing.assert_close(ClassPrediction(**names, multilabel=True).probabilities(two), two.sigmoid())
    torch.testing.assert_close(MaskPrediction().probabilities(two[..., None, None])[0, :, 0, 0], two.softmax(dim=1)[0])


@pytest.mark.parametrize(("logits", "expected"), [([1.0, 2.0], "cat;dog"), ([-1.0, 2.0], "dog"), ([-1.0, -1.0], "")])
def test_all_labels_that_are_likely_are_named(inputs, tmp_path, logits, expected):
    prediction = ClassPrediction(class_names=["cat", "dog"], transform=to_tensor, multilabel=True)
    with Outcome(1) as outcome:
        ready = models(prediction, lambda image: torch.tensor([logits]))
        predict_classes(ready, prediction, inputs, tmp_path, batch_size=2, outcome=outcome)
    assert (tmp_path / "predictions.csv").read_text().splitlines()[1].split(",")[:2] == ["a.png", expected]


def test_of_a_models_inputs_those_that_are_not_images_are_left_to_their_default(inputs):
    prediction = ClassPrediction(class_names=["cat"], transform=to_tensor)
    ready = models(prediction, lambda image: image[:, 0, 0, :1], input_key=("image", "target"))
    assert ready.outputs(torch.ones(1, 3, 2, 2))[0][0].tolist() == [[1.0]]


def test_another_number_of_classes_is_an_error(inputs, tmp_path):
    prediction = ClassPrediction(class_names=["cat", "dog"], transform=to_tensor)
    with Outcome(1) as outcome, pytest.raises(UsageError, match="the model's 'logits' has 3, got 2"):
        ready = models(prediction, lambda image: torch.zeros(1, 3))
        predict_classes(ready, prediction, inputs, tmp_path, batch_size=2, outcome=outcome)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            lambda image: image[:, :1, ::2],
            r"must be \[N, C, H, W\] in the images' size, \[1, C, 32, 32\] here; got \[1, 1, 16",
        ),
        (lambda image: image[:, 0], r"got \[1, 32, 32\]"),
        (lambda image: [1], "got list"),
        (lambda image: image[:, :1].expand(-1, 257, -1, -1), "a mask holds at most 256 classes; 'logits' has 257"),
    ],
)
def test_an_output_that_is_no_mask_is_an_error(inputs, tmp_path, output, message):
    prediction = MaskPrediction()
    with Outcome(1) as outcome, pytest.raises(UsageError, match=message):
        ready = models(prediction, output)
        predict_masks(ready, prediction, inputs, tmp_path, tile=32, overlap=8, batch_size=2, outcome=outcome)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda image: [{"boxes": 1}], "of boxes, scores and labels, got a dict of boxes"),
        (lambda image: [3], "got a int"),
    ],
)
def test_an_output_that_is_no_boxes_is_an_error(inputs, tmp_path, output, message):
    prediction = BoxPrediction(class_names=["head"], transform=to_tensor)
    with Outcome(1) as outcome, pytest.raises(UsageError, match=message):
        predict_boxes(models(prediction, output), prediction, inputs, tmp_path, batch_size=2, outcome=outcome)


def test_the_most_and_the_best_boxes_are_kept_within_the_image(inputs, tmp_path):
    boxes = torch.tensor([[-5.0, 0, 4, 3], [1, 1, 99, 5], [0, 0, 2, 2]])
    found = {"boxes": boxes, "scores": torch.tensor([0.6, 0.9, 0.55]), "labels": torch.tensor([0, 7, 0])}
    prediction = BoxPrediction(class_names=["head"], transform=to_tensor, max_boxes=2)
    with Outcome(1) as outcome:
        predict_boxes(
            models(prediction, lambda i: [found]), prediction, inputs, tmp_path, batch_size=2, outcome=outcome
        )
    assert (tmp_path / "predictions.csv").read_text().splitlines()[1:] == [
        "a.png,7,0.900000,1.00,1.00,8.00,5.00",
        "a.png,head,0.600000,0.00,0.00,4.00,3.00",
    ]


def test_an_experiment_must_say_how_to_predict():
    with pytest.raises(UsageError, match="Experiment does not say how to predict: give it a method get_prediction"):
        Experiment().get_prediction()
    with pytest.raises(
        UsageError, match="must return a ClassPrediction, MaskPrediction or BoxPrediction, got a Prediction"
    ):
        _select_predictor(Prediction(), PredictOptions(input=["a"], output="none"))


def test_a_package_that_is_not_installed_is_named():
    message = r"needs the package 'rasterio': pip install 'catalyst-assay\[experiments\]'"
    with pytest.raises(UsageError, match=message), _name_missing_package():
        raise ModuleNotFoundError(name="rasterio.windows")
