"""CIFAR-10 on a tiny archive in the true format."""

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from assay.callbacks import UsageError
from assay.experiments import cifar10
from assay.runner.commands.main import main

IMAGES_A_FILE = 10


def write_batch(folder: Path, name: str, seed: int) -> np.ndarray:
    """Write a file as the data set has it: one row of 3072 bytes an image, all red, then green, then blue."""
    rows = np.random.default_rng(seed).integers(0, 256, (IMAGES_A_FILE, 3072), dtype=np.uint8)
    content = {
        "batch_label": name,
        "labels": [index % 10 for index in range(IMAGES_A_FILE)],
        "data": rows,
        "filenames": [f"{name}_{index}.png" for index in range(IMAGES_A_FILE)],
    }
    with open(folder / name, "wb") as file:
        pickle.dump(content, file, protocol=2)
    return rows


@pytest.fixture
def data_dir(tmp_path):
    folder = tmp_path / "data" / cifar10.FOLDER
    folder.mkdir(parents=True)
    for seed, name in enumerate([*cifar10.TRAIN_FILES, *cifar10.VALID_FILES]):
        write_batch(folder, name, seed)
    return tmp_path / "data"


def pack(data_dir: Path, target: Path) -> Path:
    target.mkdir()
    with tarfile.open(target / cifar10.ARCHIVE, "w:gz") as tar:
        tar.add(data_dir / cifar10.FOLDER, arcname=cifar10.FOLDER)
    return target


def test_images_have_their_channels_rows_and_columns_in_place(data_dir):
    rows = np.random.default_rng(1).integers(0, 256, (IMAGES_A_FILE, 3072), dtype=np.uint8)
    items = cifar10.read_items(data_dir, ["data_batch_2"])
    assert len(items) == IMAGES_A_FILE
    for channel, row, column in [(0, 0, 0), (1, 5, 7), (2, 31, 31)]:
        assert items[3]["image"][row, column, channel] == rows[3, channel * 1024 + row * 32 + column]
    assert items[3]["target"] == 3
    assert items[3]["sample_id"] == "data_batch_2_3.png"


def test_images_equal_those_that_torchvision_reads(data_dir, monkeypatch):
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "_load_meta", lambda self: None)
    reference = torchvision.datasets.CIFAR10(str(data_dir), train=True)
    items = cifar10.read_items(data_dir, cifar10.TRAIN_FILES)
    assert np.array_equal(np.stack([item["image"] for item in items]), reference.data)
    assert [item["target"] for item in items] == reference.targets


def test_the_archive_reads_like_the_folder_it_unpacks_to(data_dir, tmp_path):
    packed = pack(data_dir, tmp_path / "packed")
    for unpacked, archived in zip(
        cifar10.read_items(data_dir, cifar10.VALID_FILES),
        cifar10.read_items(packed, cifar10.VALID_FILES),
        strict=True,
    ):
        assert np.array_equal(unpacked["image"], archived["image"])
        assert unpacked["sample_id"] == archived["sample_id"]


def test_a_run_trains_and_draws(data_dir, tmp_path, capsys):
    run = tmp_path / "run"
    arguments = ["train", "cifar10", "--data-dir", str(data_dir), "--epochs", "1", "--batch-size", "10"]
    assert main([*arguments, "--workers", "0", "--run-dir", str(run)]) == 0
    assert "best epoch: 1 by valid/accuracy" in capsys.readouterr().out
    assert (run / "checkpoints" / "best.pt").exists()


def test_the_net_keeps_32_pixel_images_large():
    net = cifar10.Cifar10Net(18, num_classes=10).net
    features = net.maxpool(net.relu(net.bn1(net.conv1(torch.zeros(1, 3, 32, 32)))))
    assert features.shape == (1, 64, 32, 32)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()], ids=["missing", "empty"])
def test_a_data_folder_without_the_data_set_says_what_to_put_where(tmp_path, capsys, make):
    folder = tmp_path / "nowhere"
    make(folder)
    run = tmp_path / "run"
    assert main(["train", "cifar10", "--data-dir", str(folder), "--run-dir", str(run)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(folder) in error
    assert cifar10.ARCHIVE in error
    assert not run.exists()


def test_a_failed_download_gives_the_same_error(tmp_path, monkeypatch, capsys):
    # A closed port of this machine: the real download code fails without asking the network.
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    monkeypatch.chdir(tmp_path)
    assert main(["train", "cifar10"]) == 2
    error = capsys.readouterr().err
    assert "download failed" in error
    assert cifar10.ARCHIVE in error
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs" / "cifar10").iterdir())


def test_a_truncated_archive_is_named(data_dir, tmp_path):
    packed = pack(data_dir, tmp_path / "packed")
    archive = packed / cifar10.ARCHIVE
    archive.write_bytes(archive.read_bytes()[:5000])
    with pytest.raises(UsageError, match=cifar10.ARCHIVE):
        cifar10.read_items(packed, cifar10.VALID_FILES)


def test_a_broken_file_is_named(data_dir):
    path = data_dir / cifar10.FOLDER / "test_batch"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UsageError, match="test_batch"):
        cifar10.read_items(data_dir, cifar10.VALID_FILES)


def test_a_pickle_that_would_run_code_is_refused(data_dir, tmp_path):
    class Touch:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    buffer = io.BytesIO()
    pickle.dump({"data": Touch()}, buffer, protocol=2)
    (data_dir / cifar10.FOLDER / "test_batch").write_bytes(buffer.getvalue())
    with pytest.raises(UsageError, match="is not part of this data set"):
        cifar10.read_items(data_dir, cifar10.VALID_FILES)
    assert not (tmp_path / "ran").exists()


def test_an_unknown_depth_is_refused():
    with pytest.raises(UsageError, match="depth must be 18, 34 or 50, got 20"):
        cifar10.Cifar10(depth=20)
