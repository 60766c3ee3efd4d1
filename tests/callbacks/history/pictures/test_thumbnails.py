"""Thumbnails against pictures that Pillow decodes and plain loops make, on any number of ranks, and their budget."""

import io
import json

import numpy as np
import polars as pl
import pytest
import torch
from catalyst import dl
from kit import SIDES, Named, fit
from PIL import Image
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Subset

from assay.callbacks import SampleHistory, UsageError
from assay.runner import Augmented, DictRunner

CLASSES = 3
KINDS = {
    "grey": ((1, 16, 24), torch.float32),
    "no channel axis": ((16, 24), torch.float32),
    "two channels": ((2, 16, 16), torch.float32),
    "four channels": ((4, 16, 16), torch.float32),
    "half": ((3, 16, 16), torch.float16),
    "bytes": ((3, 16, 16), torch.uint8),
    "16 bit": ((1, 16, 16), torch.uint16),
    "booleans": ((1, 16, 16), torch.bool),
    "large": ((3, 512, 256), torch.float32),
    "uneven": ((3, 150, 400), torch.float32),
}
MEAN, STD = 0.4, 0.25


def smooth(shape, seed):
    """Return an image of 0 to 1 that a JPEG file shows almost as it is."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, shape[0] if len(shape) == 3 else 1, 4, 4, generator=draw)
    return nn.functional.interpolate(coarse, shape[-2:], mode="bilinear")[0].reshape(shape)


def stored_in(image, dtype):
    """Return an image of 0 to 1 as a loader would give it."""
    if dtype.is_floating_point:
        return ((image - MEAN) / STD).to(dtype)
    if dtype == torch.bool:
        return image > 0.5
    top = {torch.uint8: 255, torch.uint16: 65535}[dtype]
    return torch.from_numpy((image * top).numpy().astype({255: np.uint8, 65535: np.uint16}[top]))


class Mean(nn.Module):
    """A model that takes images of any type and shape."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(1, CLASSES)

    def forward(self, image):
        return self.linear(image.float().reshape(len(image), -1).mean(dim=1, keepdim=True))


def items_of(images, names=("image", "target", "sample_id")):
    rows = enumerate(images)
    return [{names[0]: image, names[1]: i % CLASSES, names[2]: f"s{i:03}.png"} for i, image in rows]


def train(folder, data, *, epochs=2, side="ours", callbacks=(), shuffle=True, **options):
    """Train on data sets by loader; return the folder of the samples."""
    of = SIDES[side]
    keys = {"mean": MEAN, "std": STD} | of.keys_of("image", "output", "target", "sample_id") | options
    history = SampleHistory(folder=folder / "samples", **keys)
    loaders = {key: DataLoader(items, 4, shuffle=shuffle and key == "train") for key, items in data.items()}
    torch.manual_seed(0)
    fit(of.runner(), Named(Mean(), of.key), loaders, [history, *callbacks], epochs=epochs, **of.logs(folder / "run"))
    return folder / "samples"


def thumbnails(folder, loader, kind="image"):
    """Return the pictures of a loader by id, and the epochs of their files."""
    ids = dict(pl.read_parquet(folder / loader / "ids.parquet").select("index", "id").iter_rows())
    paths = sorted((folder / loader).glob("thumbnails-*.parquet"))
    rows = [row for path in paths for row in pl.read_parquet(path).iter_rows(named=True) if row["kind"] == kind]
    assert len({row["index"] for row in rows}) == len(rows), "one picture each"
    return {ids[row["index"]]: row["jpeg"] for row in rows}, [int(path.stem[-6:]) for path in paths]


def decoded(jpeg):
    with Image.open(io.BytesIO(jpeg)) as picture:
        return picture.format, np.asarray(picture.convert("RGB")).astype(int)


def shown(image, dtype):
    """Return an image of 0 to 1 as it is to be shown, [h, w, 3], by plain loops over the areas of pixels."""
    image = image if image.ndim == 3 else image[None]
    image = (image > 0.5).float() if dtype == torch.bool else image
    height, width = image.shape[1:]
    share = min(1.0, 128 / max(height, width))
    goal = max(1, round(height * share)), max(1, round(width * share))
    small = np.zeros((len(image), *goal))
    for row in range(goal[0]):
        for column in range(goal[1]):
            top, bottom = row * height // goal[0], -(-(row + 1) * height // goal[0])
            left, right = column * width // goal[1], -(-(column + 1) * width // goal[1])
            small[:, row, column] = image[:, top:bottom, left:right].numpy().mean(axis=(1, 2))
    planes = {1: [0, 0, 0], 2: [0, 1, None]}.get(len(small), [0, 1, 2])
    return np.stack([np.zeros(goal) if plane is None else small[plane] for plane in planes], axis=-1) * 255


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_model_saw_is_shown_without_its_normalization(kind, tmp_path):
    shape, dtype = KINDS[kind]
    images = [smooth(shape, seed) for seed in range(6)]
    data = items_of([stored_in(image, dtype) for image in images])
    folder = train(tmp_path, {"train": data, "valid": data}, epochs=2)
    for loader in ("train", "valid"):
        found, epochs = thumbnails(folder, loader)
        assert epochs == [1]
        assert sorted(found) == [item["sample_id"] for item in data]
        for item, image in zip(data, images, strict=True):
            form, picture = decoded(found[item["sample_id"]])
            expected = shown(image, dtype)
            assert (form, picture.shape) == ("JPEG", expected.shape)
            assert max(picture.shape) <= 128
            assert np.abs(picture - expected).mean() < (12 if dtype == torch.bool else 5)


class Brighter:
    """A transform of chance, as albumentations' are."""

    def set_random_seed(self, seed):
        self.draw = np.random.default_rng(seed)

    def __call__(self, image):
        bright = (image / 255 * self.draw.uniform(0, 0.3)).astype(np.float32)
        return {"image": torch.from_numpy(np.moveaxis((bright - MEAN) / STD, -1, 0))}


def stored_items(count, shape=(20, 12, 3)):
    images = [np.moveaxis((smooth((shape[2], *shape[:2]), i) * 255).byte().numpy(), 0, -1) for i in range(count)]
    return items_of(images)


def nested(items):
    return ConcatDataset([Subset(Augmented(items, Brighter()), [3, 1, 0]), Augmented(items[4:], Brighter())])


@pytest.mark.parametrize("nest", [False, True])
def test_training_shows_samples_as_they_are_stored(nest, tmp_path):
    items = stored_items(9)
    data = nested(items) if nest else Augmented(items, Brighter())
    folder = train(tmp_path, {"train": data, "valid": data})
    found, epochs = thumbnails(folder, "train")
    about = [json.loads((folder / loader / "about.json").read_text()) for loader in ("train", "valid")]
    assert [one["thumbnails"] for one in about] == ["stored", "seen"]
    assert (len(found), epochs) == (8 if nest else 9, [1])
    for item in items:
        if item["sample_id"] in found:
            _, picture = decoded(found[item["sample_id"]])
            assert np.abs(picture - item["image"].astype(int)).mean() < 5
    darker, _ = thumbnails(tmp_path / "samples", "valid")
    assert all(decoded(jpeg)[1].mean() < 90 for jpeg in darker.values())


def test_a_data_set_that_may_draw_by_chance_is_not_read_beside_the_loop(tmp_path):
    items = Subset(stored_items(5), range(5))  # may be any data set of a user's
    found, _ = thumbnails(train(tmp_path, {"train": Augmented(items, Brighter())}), "train")
    assert len(found) == 5
    assert all(decoded(jpeg)[1].mean() < 90 for jpeg in found.values()), "as the model saw them"


class Broken:
    """Samples of which the first cannot be read as it is stored."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return {**self.items[index], "image": torch.zeros(3, 8, 8)}

    def stored_sample(self, index):
        if index == 0:
            raise OSError("no such file")
        return self.items[index]


def test_a_sample_that_cannot_be_read_has_no_thumbnail(tmp_path):
    found, _ = thumbnails(train(tmp_path, {"train": Broken(stored_items(5))}), "train")
    assert sorted(found) == [f"s{index:03}.png" for index in range(1, 5)]


def weights_after(folder, thumbnails):
    seen = []

    class Weights(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean, self.dropout = Mean(), nn.Dropout(0.5)

        def forward(self, image):
            seen.append(image.clone())
            return self.dropout(self.mean(image))

    torch.manual_seed(0)
    model = Named(Weights())
    history = SampleHistory(folder=folder / "samples", thumbnails=thumbnails)
    data = {key: DataLoader(Augmented(stored_items(12), Brighter()), 4, shuffle=True) for key in ("train", "valid")}
    fit(DictRunner(), model, data, [history], epochs=3, seed=3, logdir=str(folder / "run"))
    return torch.cat(seen), torch.cat([weight.reshape(-1) for weight in model.parameters()])


def test_a_run_trains_bit_by_bit_as_without(tmp_path):
    runs = [weights_after(tmp_path / str(on), on) for on in (True, False)]
    for with_them, without in zip(*runs, strict=True):
        assert torch.equal(with_them, without)
    assert len(thumbnails(tmp_path / "True" / "samples", "train")[0]) == 12
    assert not [*(tmp_path / "False").rglob("thumbnails-*")]


def of_rank(folder):
    images = [stored_in(smooth((3, 16, 16), seed), torch.float32) for seed in range(11)]
    folder = train(folder, {"train": Augmented(stored_items(11), Brighter()), "valid": items_of(images)})
    return {loader: thumbnails(folder, loader) for loader in ("train", "valid")}


@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_take_the_same_pictures_as_one(processes, rank_processes, tmp_path):
    alone = of_rank(tmp_path / "one")
    assert [len(found) for found, _ in alone.values()] == [11, 11]
    assert rank_processes.run(processes, of_rank, tmp_path / "many")[0] == alone


class Naming(dl.Callback):
    """Names samples, as callbacks with lists do."""

    def __init__(self, names):
        super().__init__(order=1)
        self.names = names

    def named_samples(self, loader):
        return self.names


@pytest.mark.parametrize("stored", [True, False])
def test_of_too_many_samples_those_that_are_named_have_one(stored, tmp_path, monkeypatch):
    monkeypatch.setattr("assay.callbacks.history.sample_history.named_samples", lambda folder: ())
    items = stored_items(40, (64, 64, 3))
    plain = [{**item, "image": torch.from_numpy(np.moveaxis(item["image"], -1, 0))} for item in items]
    data = Augmented(items, Brighter()) if stored else plain
    names = ["s007.png", "s031.png", "none"]
    found, epochs = thumbnails(
        train(tmp_path, {"train": data}, callbacks=[Naming(names)], thumbnail_bytes=20_000, epochs=3), "train"
    )
    assert sorted(found) == ["s007.png", "s031.png"]
    assert epochs == [1 if stored else 2]


def test_samples_that_are_no_images_have_none_unless_they_are_asked_for(tmp_path):
    data = items_of([torch.rand(5) for _ in range(6)])
    folder = train(tmp_path, {"train": data, "valid": data})
    assert (folder / "train" / "ids.parquet").exists()
    assert not [*folder.rglob("thumbnails-*")]
    with pytest.raises(UsageError, match="image_key='image' must be"):
        train(tmp_path / "other", {"train": data}, thumbnails=True)


def test_a_stock_runner_has_thumbnails_too(tmp_path):
    of = SIDES["stock"]
    data = items_of([stored_in(smooth((3, 16, 16), seed), torch.float32) for seed in range(6)], of.names)
    folder = train(tmp_path, {"train": data, "valid": data}, side="stock")
    assert [len(thumbnails(folder, loader)[0]) for loader in ("train", "valid")] == [6, 6]


@pytest.mark.parametrize("wrong", [{"thumbnails": "yes"}, {"thumbnail_bytes": 0}])
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        SampleHistory(**wrong)
