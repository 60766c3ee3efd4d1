"""Masks and boxes are predicted at the scale of training, and come back at the image's own size."""

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from image_files import exif, turned, write_tiff
from PIL import Image
from torch import nn

from assay.runner import Engine, Experiment, UsageError, read_image, read_mask
from assay.runner.commands.predict import PredictOptions, _select_predictor
from assay.runner.data.files.image_windows import open_image
from assay.runner.prediction import BoxPrediction, MaskPrediction
from assay.runner.prediction.inputs import Input
from assay.runner.prediction.models import Models
from assay.runner.prediction.outcome import Outcome
from assay.runner.prediction.scale import ScaledImage, resize_bands
from assay.runner.prediction.transform import Place, Placing
from assay.runner.prediction.tta import Views

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


class Seen(nn.Module):
    """Says what ``say`` makes of images, and remembers their shapes."""

    def __init__(self, say):
        super().__init__()
        self.say, self.shapes = say, []

    def forward(self, image):
        self.shapes.append(tuple(image.shape[1:]))
        return {"logits": self.say(image)}


def colours(image):
    """Three classes: which channel is the strongest, after the normalization."""
    return 20 * image


def run(tmp_path, prediction, name, model, *, tta="none", **options):
    """Predict one file and return the folder of what comes out."""

    class Toy(Experiment):
        def get_model(self):
            return model

    work = _select_predictor(prediction, PredictOptions(input=["a"], output="b", tta=tta, **options))
    models = Models(Toy(), prediction, [{"": {}}], Engine("cpu"), Views(tta))
    (tmp_path / "out").mkdir(exist_ok=True)
    inputs = [Input(tmp_path / name, name, name.partition(".")[0])]
    with Outcome(1) as outcome:
        work(models, prediction, inputs, tmp_path / "out", batch_size=2, outcome=outcome)
    assert outcome.unreadable == []
    return tmp_path / "out"


@pytest.fixture
def picture():
    noise = np.random.default_rng(0).integers(0, 256, (90, 131, 3)).astype(np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 5), None, 0, 255, cv2.NORM_MINMAX)


def expected_mask(logits, size):
    """Return the classes of logits [C, h, w] at another size, by torch's own interpolation."""
    whole = nn.functional.interpolate(logits.softmax(dim=0)[None], size, mode="bilinear", align_corners=False)[0]
    return whole.argmax(dim=0).numpy()


@pytest.mark.parametrize("tta", ["none", "flips", "d4"])
@pytest.mark.parametrize("size", [(45, 64), (200, 150), (33, 33)])
def test_a_mask_is_that_of_the_transformed_image_at_the_images_own_size(tmp_path, picture, size, tta):
    Image.fromarray(picture).save(tmp_path / "a.png")
    transform = A.Compose([A.Resize(*size), A.Normalize(MEAN, STD), A.ToTensorV2()])
    model = Seen(colours)
    out = run(tmp_path, MaskPrediction(transform=transform), "a.png", model, tta=tta)
    mask = read_mask(out / "a.png")
    assert mask.shape == picture.shape[:2]
    assert (mask == expected_mask(colours(transform(image=picture)["image"]), picture.shape[:2])).mean() > 0.999
    if tta != "d4":
        assert set(model.shapes) == {(3, *size)}  # as in training: neither cut nor filled up


@pytest.mark.parametrize(("tile", "overlap"), [(40, 8), (64, 32), (96, 0)])
def test_what_a_transform_returns_can_be_cut_to_tiles(tmp_path, picture, tile, overlap):
    Image.fromarray(picture).save(tmp_path / "a.png")
    transform = A.Compose([A.Resize(140, 100), A.Normalize(MEAN, STD), A.ToTensorV2()])
    model = Seen(colours)
    out = run(tmp_path, MaskPrediction(transform=transform, divisor=8), "a.png", model, tile=tile, overlap=overlap)
    assert {shape[1:] for shape in model.shapes} == {(tile, tile)}
    expected = expected_mask(colours(transform(image=picture)["image"]), picture.shape[:2])
    assert (read_mask(out / "a.png") == expected).mean() > 0.999


PADDED = {
    "below": [A.LongestMaxSize(64), A.PadIfNeeded(64, 64, position="top_left", border_mode=0)],
    "around": [A.LongestMaxSize(64), A.PadIfNeeded(72, 80, border_mode=0, fill=99, fill_mask=255)],
    "mirrored": [A.LongestMaxSize(64), A.PadIfNeeded(72, 80, border_mode=cv2.BORDER_REFLECT_101)],
    "enlarged": [A.Resize(180, 262), A.PadIfNeeded(200, 300, border_mode=0)],
}


@pytest.mark.parametrize("kind", PADDED)
def test_what_a_transform_adds_around_is_left_out_again(tmp_path, picture, kind):
    Image.fromarray(picture).save(tmp_path / "a.png")
    transform = A.Compose([*PADDED[kind], A.Normalize(MEAN, STD), A.ToTensorV2()])
    out = run(tmp_path, MaskPrediction(transform=transform), "a.png", Seen(colours))
    small = A.Compose([PADDED[kind][0], A.Normalize(MEAN, STD), A.ToTensorV2()])(image=picture)["image"]
    expected = expected_mask(colours(small), picture.shape[:2])
    assert (read_mask(out / "a.png") == expected).mean() > 0.999


@pytest.mark.parametrize("kind", ["below", "around", "enlarged"])
def test_boxes_come_back_from_what_a_transform_adds_around(tmp_path, kind):
    picture = np.zeros((90, 131, 3), dtype=np.uint8)
    picture[20:61, 30:101] = 255
    Image.fromarray(picture).save(tmp_path / "a.png")

    def find(images):
        bright = images[0].mean(dim=0) > 0.8
        rows, columns = bright.any(dim=1).nonzero()[:, 0], bright.any(dim=0).nonzero()[:, 0]
        box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        beyond = [images.shape[3] - 2, images.shape[2] - 2, images.shape[3], images.shape[2]]  # in what is added
        return [{"boxes": torch.tensor([box, beyond]).float(), "labels": torch.ones(2).long(), "scores": torch.ones(2)}]

    transform = A.Compose([*PADDED[kind], A.Normalize(0.0, 1.0), A.ToTensorV2()])
    out = run(tmp_path, BoxPrediction(class_names=["no", "yes"], transform=transform), "a.png", Seen(find))
    (line,) = (out / "predictions.csv").read_text().splitlines()[1:]
    row = line.split(",")
    np.testing.assert_allclose([float(side) for side in row[3:]], [30, 20, 101, 61], atol=2)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([A.CenterCrop(50, 50)], "must show images as a whole: of 90 rows or columns, CenterCrop keeps 21 to 70"),
        ([A.HorizontalFlip(p=1)], "must show images as a whole: "),
        ([A.Rotate((90, 90), p=1)], "must neither turn nor distort images: Rotate does"),
        ([A.Affine(shear=20, p=1)], "must neither turn nor distort images: Affine does"),
        ([A.SmallestMaxSize(40), A.CenterCrop(40, 40)], "SmallestMaxSize and CenterCrop keeps"),
    ],
)
def test_a_transform_that_loses_a_part_or_turns_is_refused(tmp_path, picture, steps, message):
    Image.fromarray(picture).save(tmp_path / "a.png")
    prediction = MaskPrediction(transform=A.Compose([*steps]))
    tensor = torch.zeros(3, 50, 50)
    with pytest.raises(UsageError, match=message):
        Placing(prediction.transform)(picture, tensor)


def test_what_is_not_of_albumentations_is_taken_to_resize(picture):
    assert Placing(lambda image: image)(picture, torch.zeros(3, 20, 30)) == Place(0, 0, 20, 30)


@pytest.mark.parametrize("scale", [0.5, 0.37, 1.0, 1.8])
@pytest.mark.parametrize("kind", ["png", "tif"])
def test_a_scale_goes_with_tiles_of_any_image(tmp_path, picture, scale, kind):
    Image.fromarray(picture).save(tmp_path / f"a.{kind}")
    prediction = MaskPrediction(mean=MEAN, std=STD, scale=scale, tile=32, overlap=8)
    out = run(tmp_path, prediction, f"a.{kind}", Seen(colours))
    height, width = (round(side * scale) for side in picture.shape[:2])
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    pixels = cv2.resize(picture, (width, height), interpolation=way)
    normalized = A.Compose([A.Normalize(MEAN, STD), A.ToTensorV2()])(image=pixels)["image"]
    expected = expected_mask(colours(normalized), picture.shape[:2])
    assert (read_mask(out / f"a.{kind}") == expected).mean() > 0.99


@pytest.mark.parametrize("scale", [0.5, 0.37, 0.91, 1.0, 2.3])
def test_a_window_of_a_scaled_image_is_that_of_the_whole(tmp_path, picture, scale):
    write_tiff(tmp_path / "a.tif", picture, photometric="RGB")
    height, width = (round(side * scale) for side in picture.shape[:2])
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    whole = cv2.resize(picture, (width, height), interpolation=way).astype(int)
    with open_image(tmp_path / "a.tif") as image:
        scaled = ScaledImage(image, scale)
        assert (scaled.height, scaled.width) == (height, width)
        for top, left, h, w in [(0, 0, height, width), (5, 11, 20, 17), (height - 3, width - 9, 3, 9)]:
            window = scaled.read(top, left, h, w)
            assert window.dtype == np.uint8
            assert np.abs(window - whole[top : top + h, left : left + w]).max() <= 1


@pytest.mark.parametrize("size", [(40, 50), (7, 5), (100, 33), (1, 1)])
@pytest.mark.parametrize("bands", [[20], [1] * 20, [3, 9, 8]])
def test_bands_are_interpolated_as_torch_does_the_whole(size, bands):
    values = torch.rand(2, 20, 30)
    place = Place(2, 4, 15, 25)
    found = list(resize_bands(iter(values.split(bands, dim=1)), place, size))
    inside = values[None, :, 2:17, 4:29]
    expected = nn.functional.interpolate(inside, size, mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(torch.cat(found, dim=1), expected)


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("kind", ["jpg", "tif"])
@pytest.mark.parametrize("as_transform", [False, True])
def test_a_mask_stands_as_its_image_is_shown(tmp_path, picture, orientation, kind, as_transform):
    stored = Image.fromarray(turned(picture, orientation))
    if kind == "tif":
        stored.save(tmp_path / "a.tif", tiffinfo={274: orientation})
    else:
        stored.save(tmp_path / "a.jpg", quality=100, subsampling=0, exif=exif(orientation))
    steps = A.Compose([A.Normalize(MEAN, STD), A.ToTensorV2()])
    given = {"transform": steps} if as_transform else {"mean": MEAN, "std": STD}
    out = run(tmp_path, MaskPrediction(**given), f"a.{kind}", Seen(colours))
    (path,) = out.iterdir()
    mask = read_mask(path)
    assert mask.shape == picture.shape[:2]
    expected = colours(steps(image=read_image(tmp_path / f"a.{kind}"))["image"]).argmax(dim=0).numpy()
    assert (mask == expected).mean() > 0.99  # where two classes are equal, rounding decides


def test_a_mask_that_was_predicted_is_read_as_the_truth_of_another_training(tmp_path, picture):
    for kind in ("png", "tif"):
        Image.fromarray(picture).save(tmp_path / f"a.{kind}")
        out = run(tmp_path, MaskPrediction(mean=MEAN, std=STD), f"a.{kind}", Seen(colours))
        normalized = A.Compose([A.Normalize(MEAN, STD), A.ToTensorV2()])(image=picture)["image"]
        np.testing.assert_array_equal(read_mask(out / f"a.{kind}"), colours(normalized).argmax(dim=0).numpy())


def test_twelve_bits_are_predicted_as_they_are_trained_on(tmp_path):
    deep = np.random.default_rng(0).integers(0, 4096, (40, 50, 3)).astype(np.uint16)
    write_tiff(tmp_path / "a.tif", deep, photometric="RGB")
    out = run(tmp_path, MaskPrediction(mean=MEAN, std=STD, max_value=4095), "a.tif", Seen(colours))
    trained_on = read_image(tmp_path / "a.tif", max_value=4095)
    assert trained_on.max() > 250
    normalized = A.Compose([A.Normalize(MEAN, STD), A.ToTensorV2()])(image=trained_on)["image"]
    np.testing.assert_array_equal(read_mask(out / "a.tif"), colours(normalized).argmax(dim=0).numpy())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 0}, "scale must be greater than 0, got 0"),
        ({"scale": float("nan")}, "scale must be greater than 0, got nan"),
        ({"max_value": -1}, "max_value must be greater than 0, got -1"),
        ({"transform": A.Compose([]), "scale": 0.5}, "takes a transform, or else mean, std and scale"),
        ({"transform": A.Compose([]), "mean": (0.1, 0.2, 0.3)}, "takes a transform, or else mean, std and scale"),
    ],
)
def test_wrong_fields_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        MaskPrediction(**options)


def test_the_overlap_of_images_that_are_not_cut_is_refused():
    with pytest.raises(UsageError, match="--overlap needs --tile here"):
        _select_predictor(MaskPrediction(transform=A.Compose([])), PredictOptions(input=["a"], output="b", overlap=8))
