"""Samples that hold NaN or infinity are named, in batches of any form."""

import math

import pytest
import torch
from catalyst import dl
from kit import Named, fit, make_stock_runner
from torch import nn
from torch.utils.data import DataLoader, Dataset

from assay.callbacks import Findings
from assay.callbacks.findings.findings import FindingsError
from assay.callbacks.findings.observe.training.broken_inputs import BrokenInputs
from assay.runner import DictRunner


def images(count=6, **broken):
    found = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for place, value in broken.items():
        found[int(place[1:]), 1, 2, 3] = value
    return found


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_broken_samples_have_the_names_of_their_ids(value):
    batch = {"image": images(_2=value, _5=value), "target": torch.arange(6), "sample_id": list("abcdef")}
    assert BrokenInputs(batch, "sample_id").read() == {"image": ("c", "f")}


def test_numbers_are_ids_too():
    batch = {"image": images(_1=math.nan), "sample_id": torch.arange(10, 16)}
    assert BrokenInputs(batch, "sample_id").read() == {"image": ("11",)}


def test_parts_of_tuples_have_numbers_and_samples_places():
    batch = (images(), torch.tensor([0.1, 0.2, math.nan, 0.3, 0.4, 0.5]))
    assert BrokenInputs(batch, "sample_id").read() == {"1": ("sample 2 of the batch",)}


def test_images_of_a_detector_stand_in_a_list():
    batch = {"image": [*images(2), torch.full((3, 5, 9), math.nan)], "target": [{"boxes": torch.ones(1, 4)}] * 3}
    assert BrokenInputs(batch, "sample_id").read() == {"image": ("sample 2 of the batch",)}


@pytest.mark.parametrize("batch", [
    {"image": images(), "target": torch.arange(6)}, {"image": images().half() * 6e4}, [], {}, None, torch.ones(3),
    {"image": torch.zeros(4, 0)}, {"text": ["a", "b"], "weight": torch.tensor(math.nan)}, images().double() * 1e30,
])  # fmt: skip
def test_whole_batches_have_none(batch):
    assert BrokenInputs(batch, "sample_id").read() == {}


class BreaksInTraining(Dataset):
    """48 items, of which one is NaN as soon as training has begun: what looks before sees nothing."""

    def __init__(self, image, target):
        self.image, self.target, self.breaks = image, target, False

    def __len__(self):
        return 48

    def __getitem__(self, index):
        image = torch.rand(3, 8, 8) + index % 2
        if self.breaks and index == 21:
            image[0, 0, 0] = math.nan
        return {self.image: image, self.target: index % 2, "sample_id": f"item-{index}"}


class Begin(dl.Callback):
    """Has the data set break."""

    def __init__(self, dataset):
        super().__init__(order=1)
        self.dataset = dataset

    def on_loader_start(self, runner):
        self.dataset.breaks = True


@pytest.mark.parametrize("stock", [False, True])
def test_a_run_that_breaks_at_a_sample_names_it(stock):
    keys = ("features", "targets") if stock else ("image", "target")
    dataset = BreaksInTraining(*keys)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    model = net if stock else Named(net)
    runner = make_stock_runner() if stock else DictRunner()
    sentence = f"{keys[0]!r} of samples of the training batch of step 6 holds NaN"
    with pytest.raises(FindingsError, match=sentence) as found:
        fit(
            runner, model, {"train": DataLoader(dataset, 4)}, [Begin(dataset), Findings()],
            optimizer=torch.optim.SGD(model.parameters(), lr=0.01),
        )  # fmt: skip
    assert "'item-21'" in str(found.value)
