"""Pictures of single samples that other callbacks hand over: masks and boxes drawn, Grad-CAM, and how often."""

import io

import numpy as np
import polars as pl
import pytest
import torch
from catalyst import dl
from kit import Keep, Named, boxes, fit
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import BestWorstSamples, GradCAM, SampleHistory
from assay.callbacks.history.pictures.thumbnail_files import Thumbnail, ThumbnailFiles
from assay.callbacks.samples.sample_ranking import SamplePicture
from assay.runner import DictRunner


def rows_of(folder, kind):
    """Return (epoch, id, picture) of a kind, by ascending epoch."""
    ids = dict(pl.read_parquet(folder / "ids.parquet").select("index", "id").iter_rows())
    found = []
    for path in sorted(folder.glob("thumbnails-*.parquet")):
        for row in pl.read_parquet(path).filter(pl.col("kind") == kind).iter_rows(named=True):
            with Image.open(io.BytesIO(row["jpeg"])) as picture:
                found.append((int(path.stem[-6:]), ids[row["index"]], np.asarray(picture.convert("RGB")).astype(int)))
    return found


def items(count=6):
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, 16, 16, generator=draw)
    return [{"image": image, "target": i % 2, "sample_id": f"s{i}"} for i, image in enumerate(images)]


def net():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1)
    return Named(nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, 2)))


def test_grad_cam_is_kept_where_it_was_made(tmp_path):
    cam = GradCAM(k_samples=2)
    fit(DictRunner(), net(), {"valid": DataLoader(items(), 3)}, [cam, SampleHistory()], optimizer=None,
        logdir=str(tmp_path))  # fmt: skip
    found = rows_of(tmp_path / "samples" / "valid", "grad_cam")
    assert sorted(name for _, name, _ in found) == sorted(cam.named_samples("valid")[:2])
    assert [picture.shape for _, _, picture in found] == [(256, 256, 3)] * 2
    assert len(rows_of(tmp_path / "samples" / "valid", "image")) == 6


@pytest.mark.parametrize("history", [[], [SampleHistory(thumbnails=False)], [SampleHistory()]], ids=["no", "off", "on"])
def test_samples_are_let_go_of_with_their_loader(tmp_path, history):
    cam = GradCAM(k_samples=2)
    kept = Keep(lambda runner: dict(cam.pictures_), hook="on_epoch_end")
    fit(DictRunner(), net(), {"valid": DataLoader(items(), 3)}, [cam, *history, kept], optimizer=None,
        logdir=str(tmp_path))  # fmt: skip
    assert kept.kept == [{}]


class Pictured(dl.Callback):
    """Hands over a picture of one sample, as bright as the epoch."""

    def __init__(self):
        super().__init__(order=1)

    def on_epoch_start(self, runner):
        self.epoch = runner.epoch_step

    def sample_pictures(self, loader):
        level = self.epoch
        bright = SamplePicture("s1", "drawn", lambda: np.full((9, 9, 3), 10 * level, np.uint8))
        return [bright, SamplePicture("s2", "drawn", lambda: None), SamplePicture("unknown", "drawn", lambda: 1 / 0)]


def test_pictures_are_renewed_ever_more_seldom(tmp_path):
    fit(DictRunner(), net(), {"train": DataLoader(items(), 3)}, [Pictured(), SampleHistory()], epochs=12,
        logdir=str(tmp_path))  # fmt: skip
    found = rows_of(tmp_path / "samples" / "train", "drawn")
    assert [(epoch, name) for epoch, name, _ in found] == [(e, "s1") for e in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12)]
    assert all(abs(picture.mean() - 10 * epoch) < 3 for epoch, _, picture in found)
    newest = ThumbnailFiles(tmp_path / "samples" / "train").read([1], "drawn")[1]
    with Image.open(io.BytesIO(newest)) as picture:
        assert abs(np.asarray(picture).mean() - 120) < 3


def pictures_of(data, model, tmp_path, **options):
    """Return what ``BestWorstSamples`` hands over of a loader, by id."""
    kept = Keep(lambda runner: list(runner.callbacks["samples"].sample_pictures("valid")), hook="on_epoch_end")
    kept.takes_pictures = True
    fit(DictRunner(), model, {"valid": DataLoader(data, 2, collate_fn=options.pop("collate", None))},
        {"samples": BestWorstSamples(k_samples=2, **options.pop("samples", {})), "kept": kept}, optimizer=None,
        logdir=str(tmp_path), **options)  # fmt: skip
    return {one.name: one.draw() for one in kept.kept[0]}


def test_masks_are_drawn_beside_the_image(tmp_path):
    data = [
        {"image": torch.zeros(1, 8, 8), "target": (torch.arange(64) % 2 == i).float().reshape(1, 8, 8), "sample_id": i}
        for i in range(2)
    ]
    model = Named(nn.Conv2d(1, 1, 1))
    found = pictures_of(data, model, tmp_path, criterion=nn.BCEWithLogitsLoss())
    assert {name: picture.shape for name, picture in found.items()} == {"0": (256, 512, 3), "1": (256, 512, 3)}
    assert all(np.ptp(picture[:, :256]) == 0 < np.ptp(picture[:, 256:]) for picture in found.values())


class Detector(nn.Module):
    """Finds one box in each image."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, image):
        return {"logits": [boxes([1, 1, 5, 5], labels=[1], scores=[0.9]) for _ in image]}


def collate(batch):
    targets = [item["target"] for item in batch]
    return {"image": torch.stack([item["image"] for item in batch]), "target": targets,
            "sample_id": [item["sample_id"] for item in batch]}  # fmt: skip


def test_boxes_are_drawn_on_the_image(tmp_path):
    truth = boxes([1, 1, 5, 5], labels=[1])
    data = [{"image": torch.zeros(3, 8, 16), "target": truth, "sample_id": f"s{i}"} for i in range(2)]
    found = pictures_of(
        data, Detector(), tmp_path, collate=collate, criterion=lambda output, target: torch.zeros(()),
        samples={"score": lambda batch: torch.zeros(len(batch["image"])), "task": "detection"},
    )  # fmt: skip
    assert {name: picture.shape for name, picture in found.items()} == {"s0": (128, 256, 3), "s1": (128, 256, 3)}
    assert all((picture.max(axis=2) > 200).any() for picture in found.values())


def test_samples_that_are_classes_have_no_picture_but_the_image(tmp_path):
    assert set(pictures_of(items(), net(), tmp_path).values()) == {None}


@pytest.mark.parametrize("epochs", [(1, 2), (2, 1)])
def test_files_are_cut_by_epoch_and_hold_what_was_added_to_them(epochs, tmp_path):
    files = ThumbnailFiles(tmp_path)
    for epoch in epochs:
        files.add(epoch, [Thumbnail(epoch, "image", b"a"), Thumbnail(epoch, "drawn", b"b")], all_fit=epoch == 2)
        files.add(epoch, [Thumbnail(9, "drawn", bytes([epoch]))])
        files.add(epoch, [])
    assert files.known().tolist() == [1, 2]
    assert files.read([1, 9], "drawn") == {1: b"b", 9: bytes([2])}
    assert files.epochs("drawn") == {1: 1, 2: 2, 9: 2}
    assert files.all_fit
    files.cut(1)
    assert (files.read([2, 9], "drawn"), files.all_fit) == ({9: bytes([1])}, False)
    assert [path.name for path in tmp_path.iterdir()] == ["thumbnails-000001.parquet"]
