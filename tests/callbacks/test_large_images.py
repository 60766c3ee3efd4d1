"""Of a large image no more is kept than is drawn, and what is drawn of it stays the same, in its place."""

import numpy as np
import pytest
import torch
from kit import fit
from torch import nn
from torch.utils._pytree import tree_map

from assay.callbacks import AugmentationPreview, BestWorstBatches, BestWorstSamples, GradCAM
from assay.callbacks.drawings.samples import draw_samples
from assay.callbacks.measures.best_worst_samples import BestWorstSamples as Measure
from assay.callbacks.measures.reduced_image import reduced, sizes
from assay.callbacks.samples.best_worst_samples import draw_ranking
from assay.callbacks.samples.sample_ranking import _drawn, _over_ranks, without_input
from assay.runner import DictRunner

HEIGHT, WIDTH = 1000, 900
COARSE = (10, 9)


def blocks(*shape, seed):
    """Random numbers in blocks, [*shape, HEIGHT, WIDTH]."""
    coarse = torch.rand(*shape, *COARSE, generator=torch.Generator().manual_seed(seed))
    return coarse.repeat_interleave(HEIGHT // COARSE[0], -2).repeat_interleave(WIDTH // COARSE[1], -1)


def boxes(seed, **more):
    corner = torch.rand(3, 2, generator=torch.Generator().manual_seed(seed)) * 300
    sides = torch.tensor([[200.0, 500.0], [90.0, 90.0], [560.0, 300.0]])
    return {"boxes": torch.cat([corner, corner + sides], dim=1), "labels": torch.tensor([0, 1, 1]), **more}


def part(task, index):
    """Return a target and an output of one sample of a task."""
    if task == "detection":
        return boxes(index), boxes(index, scores=torch.tensor([0.9, 0.8, 0.7]))
    if task == "binary":
        return (blocks(seed=index) > 0.6).long(), blocks(seed=index + 9) - 0.5
    if task == "regression":
        return blocks(seed=index), blocks(seed=index + 9)
    return (blocks(seed=index) * 4).long(), blocks(4, seed=index + 9)


@pytest.mark.parametrize("task", ["multiclass", "binary", "regression", "detection"])
def test_masks_and_boxes_lie_on_a_reduced_image_where_they_lie_on_the_image(task):
    targets, outputs = zip(*(part(task, index) for index in range(2)), strict=True)
    images = [blocks(3, seed=index + 5) for index in range(2)]
    numpy = tree_map(lambda leaf: leaf.numpy(), {"target": targets, "output": outputs})
    samples = {name: list(parts) for name, parts in numpy.items()}
    samples |= {"sample_id": ["a", "b"], "heat": [np.eye(4, dtype=np.float32)] * 2}
    draw = [{"image": [image.numpy() for image in images]}]
    draw += [{"image": [image.numpy() for image in reduced(images)], "image_size": sizes(images)}]
    whole, small = (draw_samples({**samples, **one}, ["title"], task=task).astype(int) for one in draw)
    assert draw[1]["image"][0].shape == (3, HEIGHT // 2, WIDTH // 2)
    assert whole.shape == small.shape
    assert np.abs(whole - small).max() <= 2


class Data:
    def __init__(self, task):
        self.task = task

    def __len__(self):
        return 4

    def __getitem__(self, index):
        target = part(self.task, index)[0] if self.task == "multiclass" else index % 4
        return {"image": blocks(3, seed=index), "target": target, "sample_id": f"id-{index}"}


class Net(nn.Module):
    """Logits of images, or of every pixel; keeps the sizes of what it is given in eval mode."""

    def __init__(self, task):
        super().__init__()
        self.conv, self.head, self.task, self.given = nn.Conv2d(3, 4, 9, stride=50), nn.Conv2d(4, 4, 1), task, []

    def forward(self, image):
        if not self.training:
            self.given.append(tuple(image.shape[1:]))
        logits = self.head(self.conv(image).relu())
        if self.task == "multiclass":
            return {"logits": nn.functional.interpolate(logits, image.shape[2:])}
        return {"logits": logits.mean(dim=(2, 3))}


def draws_of(callback):
    """Have a callback keep what it draws."""
    drawn, draw = [], callback.draw

    def keep(samples, title):
        drawn.append(samples)
        return draw(samples, title)

    callback.draw = keep
    return drawn


@pytest.mark.parametrize("task", ["multiclass", None], ids=["masks", "classes"])
def test_every_diagnostic_of_images_keeps_what_is_drawn_and_grad_cam_explains_the_whole(task, tmp_path):
    callbacks = [BestWorstBatches(k_images=2), BestWorstSamples(k_samples=2), GradCAM(k_samples=2, layer="conv")]
    callbacks += [AugmentationPreview(2)]
    drawn, model = [draws_of(callback) for callback in callbacks], Net(task)
    fit(DictRunner(), model, {"train": Data(task)}, callbacks, batch=2, lr=0.0, tensorboard=tmp_path)
    assert set(model.given) == {(3, HEIGHT, WIDTH)}
    for samples in (samples for of_one in drawn for samples in of_one):
        assert "input" not in samples
        for name, image, size in zip(samples["sample_id"], samples["image"], samples["image_size"], strict=True):
            expected = blocks(3, seed=int(name.removeprefix("id-")))
            assert tuple(size) == (HEIGHT, WIDTH)
            assert np.allclose(image, reduced(expected).numpy(), atol=1e-6)
    assert [len(of_one) for of_one in drawn] == [2, 2, 1, 1]


def test_samples_of_an_older_checkpoint_which_are_whole_are_drawn_beside_reduced_ones():
    measure = Measure(2)
    kept = [{"image": blocks(3, seed=i), "target": torch.tensor(0), "output": torch.zeros(2)} for i in range(2)]
    measure.update([2.0], [0], ["old"], lambda _: {name: value.numpy() for name, value in kept[0].items()})
    measure.update([1.0], [1], ["new"], lambda _: _drawn(kept[1]))
    worst = [without_input(sample) for sample in _over_ranks(measure, 2).worst]
    assert [sample.parts["image_size"] for sample in worst] == [[HEIGHT, WIDTH]] * 2
    found = draw_ranking(draw_samples, "loss", worst, ["title"]).astype(int)
    whole = Measure(2)
    for index, name in enumerate(("old", "new")):
        parts = {part: value.numpy() for part, value in kept[index].items()}
        whole.update([2.0 - index], [index], [name], lambda _, parts=parts: parts)
    expected = draw_ranking(draw_samples, "loss", whole.worst, ["title"]).astype(int)
    assert np.abs(found - expected).max() <= 2


def test_a_preview_goes_on_from_an_older_checkpoint():
    callback, images = AugmentationPreview(2), blocks(2, 3, seed=0) * 1.5
    drawn = draws_of(callback)
    new = callback._as_drawn({"image": images[1:], "sample_id": ["new"]})
    new["extremes"] = [one.numpy() for one in new["extremes"]]
    old = {"image": images[:1].numpy(), "sample_id": ["old"]}
    picture = callback._draw([old, {**new, "image": new["image"].numpy()}], ["title", "epoch"], "train")
    assert [tuple(size) for size in drawn[0]["image_size"]] == [(HEIGHT, WIDTH)] * 2
    assert picture.ndim == 3
