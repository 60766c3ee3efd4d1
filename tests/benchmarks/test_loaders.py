from pathlib import Path

import numpy as np
import pytest
import torch

from assay.experiments.alaska2.jpeg import read_jpeg
from benchmarks import loaders, plain_loaders, results

# The plain loop of tiles opens them with nothing around it.
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

long = pytest.mark.long("makes scenes, or reads for a while in processes of their own")


@pytest.fixture(scope="module", params=[pytest.param("inria", marks=long), "alaska2", "wheat"])
def case(request, tmp_path_factory):
    """A case with its experiment and a folder of few files."""
    folder = tmp_path_factory.mktemp(request.param)
    found = loaders.CASES[request.param]
    found.make(folder, True)
    return found, found.experiment(str(folder), 0), folder


@pytest.mark.parametrize("workers", [0, 1])
def test_both_sides_give_batches_of_the_same_kind(case, workers):
    found, experiment, folder = case
    ours, plain = next(iter(experiment.get_loaders()["train"])), next(iter(found.plain(experiment, folder, workers)))
    images = ours["image"], plain[0]
    assert images[0].shape == images[1].shape
    assert images[0].dtype == images[1].dtype == torch.float32
    if isinstance(plain[1], torch.Tensor):
        assert (ours["target"].shape, ours["target"].dtype) == (plain[1].shape, plain[1].dtype)
    else:
        assert [one.keys() for one in plain[1]] == [one.keys() for one in ours["target"]]


def test_an_epoch_of_both_sides_is_as_long(case):
    found, experiment, folder = case
    ours, plain = experiment.get_loaders()["train"].dataset, found.plain(experiment, folder, 0).items
    assert len(ours) == len(plain)


def test_the_plain_decoder_finds_the_same_pixels(tmp_path):
    loaders.CASES["alaska2"].make(tmp_path, True)
    path = Path(tmp_path, "UERD", "00001.jpg")
    np.testing.assert_allclose(plain_loaders.read_unrounded(path), read_jpeg(path)[1], atol=2e-3)


@long
def test_the_benchmark_writes_a_row_for_each_case_and_number_of_workers(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "FOLDER", tmp_path / "benchmarks" / "results")
    (tmp_path / "benchmarks").mkdir()
    loaders.main(["--cases", "alaska2", "--workers", "1", "--repetitions", "1", "--seconds", "0.1", "--small"])
    row = results.read("loaders", "cpu")["rows"]["alaska2, 1 workers"]
    assert row["ratio"]["median"] == pytest.approx(row["ours"]["median"] / row["plain"]["median"])
    assert "images/s" in capsys.readouterr().out


def test_large_tiles_are_made_of_one_scene(tmp_path):
    loaders.CASES["inria-real"].make(tmp_path, True)
    experiment = loaders.CASES["inria-real"].experiment(str(tmp_path), 0)
    assert next(iter(experiment.get_loaders()["train"]))["image"].shape[1:] == (3, 512, 512)
