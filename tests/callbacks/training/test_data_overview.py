"""The sheet of the data: of the first epoch, whatever the number of processes, and without asking the device."""

import pytest
import torch
from kit import Given, Kill, Killed, fit, read_events
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import DataOverview
from assay.runner import Checkpoints, DictRunner

TAG = "8_data/statistics"


class Flat(nn.Module):
    """Images to logits that do not depend on any weight but one."""

    def __init__(self):
        super().__init__()
        self.given = Given()

    def forward(self, image):
        return self.given(image.flatten(1)[:, :3])


def train(folder, *more, epochs=2, **options):
    data = [{"image": torch.rand(1, 6, 8), "target": i * i % 3, "sample_id": f"s{i}"} for i in range(14)]
    loaders = {key: DataLoader(data, 4, shuffle=key == "train") for key in ("train", "valid")}
    return fit(
        DictRunner(), Flat(), loaders, [DataOverview(class_names=["a", "b", "c"]), *more], epochs=epochs, lr=0.0,
        logdir=str(folder), seed=1, **options,
    )  # fmt: skip


def pictures(folder):
    found = {key: read_events(folder / key).Images(TAG) for key in ("train", "valid")}
    return {key: [(image.step, image.encoded_image_string) for image in images] for key, images in found.items()}


def test_it_is_drawn_once_for_each_loader(tmp_path):
    train(tmp_path)
    assert {key: [step for step, _ in images] for key, images in pictures(tmp_path).items()} == {
        "train": [1], "valid": [1],
    }  # fmt: skip


def rank_run(folder):
    train(folder)


def test_three_processes_draw_the_same_as_one(rank_processes, tmp_path):
    train(tmp_path / "one")
    rank_processes.run(3, rank_run, tmp_path / "many")
    assert pictures(tmp_path / "many") == pictures(tmp_path / "one")


@pytest.mark.parametrize("batch", [2, 6])
def test_a_run_that_is_killed_within_the_first_epoch_counts_all_samples(batch, tmp_path):
    def saving(folder):
        return Checkpoints(folder / "checkpoints", every_n_steps=1)

    train(tmp_path / "straight", saving(tmp_path / "straight"))
    killed = tmp_path / "killed"
    with pytest.raises(Killed):
        train(killed, saving(killed), Kill(1, batch))
    train(killed, saving(killed), resume=str(killed))
    assert pictures(killed) == pictures(tmp_path / "straight")
