"""``load_model`` gives a trained model that predicts in Python as ``assay predict`` does on the command line."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from predicted import read_table
from torch import nn

from assay.runner import BadImageError, UsageError, load_checkpoint, load_model
from assay.runner.commands.main import main


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Write images of two sizes, work in their folder, and return their paths."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    Path("in").mkdir()
    for index in range(5):
        Image.fromarray(rng.integers(0, 256, (9, 12 + index // 2, 3), dtype=np.uint8)).save(f"in/{index}.png")
    return sorted(Path("in").iterdir())


def test_classes_have_their_probabilities_by_name(run_of, pictures):
    run = run_of("labels")
    model = load_model(run)
    assert (model.task, model.class_names, model.epoch) == (
        "classification", ["red", "green", "blue"], load_checkpoint(run, "best")["epoch"],
    )  # fmt: skip
    main(["predict", str(run), "--input", "in", "--output", "out"])
    found = model(pictures)
    for row, one in zip(read_table(), found, strict=True):
        assert list(one) == model.class_names
        assert row["prediction"] == max(one, key=one.get)
        assert [float(row[f"probability/{name}"]) for name in one] == pytest.approx(list(one.values()), abs=1e-6)
    arrays = [np.asarray(Image.open(path)) for path in pictures]
    assert model(arrays) == found and model(arrays[3]) == pytest.approx(found[3]) == model(str(pictures[3]))


def test_the_module_is_torchs_own_in_evaluation_with_the_weights_of_the_checkpoint(run_of, pictures):
    model = load_model(run_of("labels"), "last", device="cpu")
    assert isinstance(model.module, nn.Module) and not model.module.training
    weights = load_checkpoint(run_of("labels"), "last")["model"][""]
    assert torch.equal(model.module.state_dict()["layer.weight"], weights["layer.weight"])
    image = model.transform(np.asarray(Image.open(pictures[0])))
    assert image.shape == (3, 8, 8) and image.dtype == torch.float32
    logits = model.module(image[None])["logits"][0]
    torch.testing.assert_close(torch.tensor(list(model(pictures[0]).values())), logits.softmax(dim=0))


@pytest.mark.parametrize("classes", ["1", "3"])
def test_a_mask_is_what_is_written(run_of, pictures, classes):
    run = run_of("masks", "--classes", classes)
    model = load_model(run)
    main(["predict", str(run), "--input", "in", "--output", "out"])
    for path, mask in zip(pictures, model(pictures), strict=True):
        np.testing.assert_array_equal(mask, np.asarray(Image.open(f"out/{path.stem}.png")))
    picture = np.asarray(Image.open(pictures[0]))
    expected = (picture.transpose(2, 0, 1) / 255 - np.array([[[0.4]], [[0.5]], [[0.6]]])) / np.array(
        [[[0.2]], [[0.25]], [[0.3]]]
    )
    np.testing.assert_allclose(model.transform(picture), expected, atol=1e-5)


def test_boxes_are_in_pixels_of_the_image(run_of, tmp_path):
    picture = np.zeros((20, 40, 3), dtype=np.uint8)
    picture[4:10, 8:24] = 255
    model = load_model(run_of("boxes"))
    found = model(picture)
    assert found["boxes"].tolist() == [[8, 4, 24, 10]]
    assert (model.class_names[found["labels"][0]], found["scores"].tolist()) == (
        "thing",
        [pytest.approx(0.9, abs=1e-3)],
    )
    assert model([]) == []


def test_what_is_no_image_is_refused(run_of, tmp_path):
    model = load_model(run_of("labels"))
    with pytest.raises(UsageError, match=r"an image must be a path or an array .*, got float64 \[8, 8\]"):
        model(np.zeros((8, 8)))
    (tmp_path / "x.png").write_bytes(b"broken")
    with pytest.raises(BadImageError, match=r"x\.png"):
        model(tmp_path / "x.png")
    with pytest.raises(UsageError, match="run folder"):
        load_model(tmp_path)
