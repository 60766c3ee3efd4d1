"""The picture of an embedding: what it is drawn from, and what it shows."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from catalyst import dl
from kit import fit
from torch import nn

from assay.callbacks import EmbeddingMap, UsageError
from assay.callbacks.drawings.canvas.palette import class_colours
from assay.callbacks.drawings.canvas.theme import INK
from assay.callbacks.drawings.embedding_map import draw_embedding_map
from assay.runner import DictRunner


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, sound):
        return {"logits": self.layer(sound), "vector": torch.where(sound > 3, torch.inf, sound)}


def train(folder, callback, *, stock=False, epochs=1, count=20, loader="valid"):
    torch.manual_seed(0)
    sounds = torch.randn(count, 5)
    sounds[4] = 9.0
    names = ("features", "targets") if stock else ("sound", "target")
    items = [dict(zip(names, (sound, index % 3), strict=True)) for index, sound in enumerate(sounds)]
    model = nn.Linear(5, 3) if stock else Net()
    fit(
        dl.SupervisedRunner(output_key="logits") if stock else DictRunner(input_key="sound"), model, {loader: items},
        [callback], batch=6, lr=0.0, epochs=epochs, tensorboard=folder,
    )  # fmt: skip
    return sounds


class Spied(EmbeddingMap):
    def _draw(self, cloud):
        self.clouds = [*getattr(self, "clouds", []), cloud]
        return super()._draw(cloud)


@pytest.mark.parametrize("stock", [True, False], ids=["stock", "ours"])
def test_it_is_drawn_every_epoch_without_an_image_in_the_batch(stock, tmp_path, read_events):
    keys = {"target_key": "targets"} if stock else {}
    train(tmp_path, EmbeddingMap("pca", **keys), stock=stock, epochs=2)
    assert [image.step for image in read_events(tmp_path / "valid").Images("5_predictions/embedding_map")] == [1, 2]


def test_it_is_drawn_of_the_samples_and_leaves_out_what_is_not_finite(tmp_path):
    spied = Spied("tsne", every_n_epochs=None, embedding_key="vector")
    sounds = train(tmp_path, spied, epochs=2)
    (cloud,) = spied.clouds
    assert cloud.epoch == 2
    np.testing.assert_array_equal([s["vector"] for s in cloud.samples][:4], sounds[:4].numpy())
    assert [s["label"] for s in cloud.samples] == [index % 3 for index in range(20)]
    assert not np.isfinite(cloud.samples[4]["vector"]).any()
    finite = np.isfinite([s["vector"][0] for s in cloud.samples])
    assert spied._count_samples(finite) == "19 samples, 1 NOT FINITE and left out"


def colour_at(picture, x, y, panel=0):
    """Return the colour of a place of a panel, from 0 to 1."""
    return tuple(int(v) for v in picture[round(122 + 332 * (1 - y)), round(12 + panel * 344 + 332 * x)])


def test_points_have_the_colours_of_their_classes_and_wrong_ones_a_ring():
    points = np.array([[-1.0, -0.5], [1.0, 0.5], [0.0, 0.0]])
    labels, predictions = np.array([0, 1, 2]), np.array([0, 2, 2])
    picture = draw_embedding_map(points, labels, predictions, ["a", "b", "c"], ["title", "count"])
    colours = [tuple(row) for row in class_colours(3).tolist()]
    places = [(0.03, 0.265), (0.97, 0.735), (0.5, 0.5)]  # both axes of one scale, 3% of a margin
    for panel, classes in enumerate((labels, predictions)):
        assert [colour_at(picture, *place, panel) for place in places] == [colours[c] for c in classes]
    ring = (picture == np.array(INK, np.uint8)).all(axis=2)[122:454]
    assert ring[:, 12:344].sum() == 0
    assert ring[:, 356:688].sum() > 100


def test_it_is_drawn_without_classes_and_with_many():
    points = np.random.default_rng(0).normal(size=(50, 2))
    plain = draw_embedding_map(points, None, None, None, ["t"])
    many, few = (
        draw_embedding_map(points, classes, None, None, ["t"]) for classes in (np.arange(50), np.arange(50) % 2)
    )
    # One panel in the whole width, and below it seven lines for 20 names and the count of the others, or one.
    assert plain.shape[1] == many.shape[1] == few.shape[1] == 700
    assert many.shape[0] - plain.shape[0] == 7 * 30 and few.shape[0] - plain.shape[0] == 30
    assert (draw_embedding_map(np.zeros((1, 2)), np.array([-1]), None, None, ["t"]) != 255).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "mds"}, "unknown method 'mds'.*There is: 'pca', 'tsne', 'umap'"),
        ({"method": "pca", "options": {"a": 1}}, "options are for the methods 'tsne' and 'umap', got .* with 'pca'"),
        ({"max_samples": 0}, "max_samples must be an integer of at least 1, got 0"),
    ],
)
def test_a_wrong_argument_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        EmbeddingMap(**options)


@pytest.mark.skipif(find_spec("umap") is not None, reason="umap-learn is installed")
def test_umap_needs_its_package():
    with pytest.raises(UsageError, match="needs the package umap-learn: pip install umap-learn"):
        EmbeddingMap("umap")


def test_it_says_who_finds_no_loader(tmp_path):
    with pytest.raises(UsageError, match="EmbeddingMap shows loaders for validation, and there is none"):
        train(tmp_path, EmbeddingMap("pca"), loader="train")
