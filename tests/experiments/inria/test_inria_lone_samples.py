"""DeepLab normalizes over a map of one place, and so cannot train on a batch of one crop; the others can."""

import pytest
import torch
from kit import fit
from torch.utils.data import DataLoader

from assay.experiments.inria import Inria
from assay.runner import DictRunner, UsageError


def train(decoder, **options):
    experiment = Inria(decoder=decoder, device="cpu", width=16)
    model = experiment.get_model()
    crop = {"image": torch.rand(3, 64, 64), "target": torch.zeros(64, 64, dtype=torch.uint8)}
    crop["labels"] = crop["target"]
    fit(
        DictRunner(input_key=experiment.input_key, losses=experiment.get_losses()), model,
        {"train": DataLoader([crop] * 3, 2, **options)}, optimizer=experiment.get_optimizer(model),
        criterion=experiment.get_criterion(),
    )  # fmt: skip


def test_another_decoder_trains_on_a_batch_of_one_crop():
    train("unet")


def test_deeplab_refuses_it_before_the_first_step_unless_it_is_dropped():
    with pytest.raises(UsageError, match=r"a batch of one sample \(3 samples in batches of 2\).*drop_last=True"):
        train("deeplab")
    train("deeplab", drop_last=True)
