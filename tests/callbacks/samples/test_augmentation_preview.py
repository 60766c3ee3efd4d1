"""AugmentationPreview: the first samples as the model sees them, and warnings of what is wrong with them."""

import logging
from functools import partial

import cv2
import numpy as np
import pytest
import torch
from catalyst import dl
from kit import OURS, SIDES, fit
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import UsageError
from assay.callbacks.samples.augmentation_preview import AugmentationPreview

MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]


class Noisy(torch.utils.data.Dataset):
    """Pictures that are normalized and augmented by chance."""

    def __init__(self, labels, names, normalize=True):
        generator = torch.Generator().manual_seed(len(labels))
        mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (MEAN, STD))
        images = torch.rand(len(labels), 3, 6, 6, generator=generator)
        self.images = (images - mean) / std if normalize else images
        self.labels, self.names = labels, names

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image = self.images[index].flip(2) if torch.rand(()) < 0.5 else self.images[index].clone()
        return dict(zip(self.names, (image, self.labels[index], f"id-{index}"), strict=True))


class Linear(nn.Module):
    """Spoils its input, as a model with an operation in place may."""

    def __init__(self, key=None, classes=10):
        super().__init__()
        self.key, self.layer, self.drop = key, nn.Linear(108, classes), nn.Dropout(0.2)

    def forward(self, image):
        logits = self.layer(self.drop(image.mul_(0.5)).flatten(1))
        return logits if self.key is None else {self.key: logits}


class Spied(AugmentationPreview):
    """Keeps what each picture is drawn from, and the number of the batch that the runner was at."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.drawn, self.shown_at, draw = [], [], self.draw
        self.draw = lambda samples, title: (self.drawn.append((samples, title)), draw(samples, title))[1]

    def _write_picture(self, runner, writer):
        self.shown_at.append((runner.epoch_step, runner.loader_batch_step))
        super()._write_picture(runner, writer)


class Recorder(dl.Callback):
    """Keeps what the model is given, before it gets it."""

    def __init__(self, image_key):
        super().__init__(order=0)
        self.image_key, self.images = image_key, []

    def on_batch_start(self, runner):
        if runner.is_train_loader and runner.epoch_step == 1:
            self.images.extend(runner.batch[self.image_key].clone())


def run_of(
    side, folder, callbacks, labels, *, epochs=1, shuffle=True, batch_size=4, normalize=True, **options
):  # fmt: skip
    torch.manual_seed(0)
    model, runner = Linear(side.key), side.runner()
    torch.manual_seed(1)
    data = {"train": Noisy(labels, side.names, normalize), "valid": Noisy([0, 1], side.names)}
    loaders = {k: DataLoader(d, batch_size=batch_size, shuffle=shuffle and k == "train") for k, d in data.items()}
    fit(runner, model, loaders, callbacks, epochs=epochs, **side.logs(folder), **options)
    return model


run_ours = partial(run_of, OURS)
RUNNERS = {
    name: (partial(run_of, side), side.keys_of("image", "target", "sample_id"), side.names[0])
    for name, side in SIDES.items()
}
MIXED = [i * 7 % 10 for i in range(18)]


@pytest.fixture(params=RUNNERS)
def kit(request):
    return RUNNERS[request.param]


@pytest.fixture
def said(caplog):
    """Return a function that gives the warnings so far."""
    caplog.set_level(logging.WARNING, logger="assay")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "assay"]


def test_the_picture_shows_the_first_samples_that_the_model_gets_and_is_written_once(kit, tmp_path, read_events, said):
    run, keys, image_key = kit
    callback, recorder = Spied(6, mean=MEAN, std=STD, **keys), Recorder(image_key)
    run(tmp_path, [callback, recorder], MIXED, epochs=2)
    [event] = read_events(tmp_path / "train").Images("8_data/augmentations")
    assert event.step == 1
    [(samples, title)] = callback.drawn
    assert all(np.array_equal(a, b) for a, b in zip(samples["image"], recorder.images[:6], strict=True))
    for name, label in zip(samples["sample_id"], samples["target"], strict=True):
        assert MIXED[int(name.split("-")[1])] == label
    shown = cv2.imdecode(np.frombuffer(event.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    assert np.array_equal(shown, AugmentationPreview(6, mean=MEAN, std=STD).draw(samples, title))
    assert read_events(tmp_path / "valid").Tags()["images"] == []
    assert said() == []


def test_with_enough_samples_in_the_first_batch_it_is_drawn_before_the_first_step(kit, tmp_path):
    run, keys, _ = kit
    callback = Spied(4, mean=MEAN, std=STD, **keys)
    run(tmp_path, [callback], MIXED)
    assert callback.shown_at == [(1, 1)]


def test_a_loader_with_fewer_samples_shows_all_it_has(kit, tmp_path):
    run, keys, _ = kit
    callback = Spied(50, mean=MEAN, std=STD, **keys)
    run(tmp_path, [callback], MIXED)
    [(samples, _)] = callback.drawn
    assert sorted(samples["sample_id"]) == sorted(f"id-{index}" for index in range(18))


def test_the_weights_are_bit_identical_with_and_without(kit, tmp_path):
    run, keys, _ = kit
    with_it = run(tmp_path / "with", [AugmentationPreview(50, **keys)], MIXED, epochs=2)
    without = run(tmp_path / "without", [], MIXED, epochs=2)
    assert all(torch.equal(a, b) for a, b in zip(with_it.parameters(), without.parameters(), strict=True))


def test_a_resumed_run_draws_no_other(tmp_path, read_events):
    run_ours(tmp_path, [AugmentationPreview(mean=MEAN, std=STD)], MIXED)
    again = Spied(mean=MEAN, std=STD)
    run_ours(tmp_path, [again], MIXED, epochs=2, resume=str(tmp_path))
    assert again.drawn == []
    assert len(read_events(tmp_path / "train").Images("8_data/augmentations")) == 1


def test_without_ids_and_targets_the_images_are_shown_with_their_position(tmp_path):
    callback = Spied(3, sample_id_key="none", target_key="none", mean=MEAN, std=STD)
    run_ours(tmp_path, [callback], MIXED)
    [(samples, _)] = callback.drawn
    assert samples["sample_id"] == [0, 1, 2]
    assert "target" not in samples


def test_ids_may_be_integers_that_the_loader_makes_a_tensor_of(tmp_path):
    callback = Spied(6, sample_id_key="target", mean=MEAN, std=STD)
    run_ours(tmp_path, [callback], MIXED)
    [(samples, _)] = callback.drawn
    assert [int(name) for name in samples["sample_id"]] == [int(label) for label in samples["target"]]
    assert len(samples["image"]) == 6


# -- warnings ---------------------------------------------------------------------------------------------------------


def test_a_normalization_that_is_not_undone_is_said_with_the_range(kit, tmp_path, said):
    run, keys, _ = kit
    run(tmp_path, [AugmentationPreview(**keys)], MIXED)
    [message] = said()
    assert message.startswith("images of train leave 0 to 1 with mean=0.0, std=1.0: they range from -")
    assert message.endswith("mean and std must be those of the data's normalization")


def test_images_that_were_not_normalized_are_said(kit, tmp_path, said):
    run, keys, _ = kit
    run(tmp_path, [AugmentationPreview(mean=MEAN, std=STD, **keys)], MIXED, normalize=False)
    [message] = said()
    assert message.startswith("images of train look as if they were not normalized: they range from 0.0")


def test_without_mean_images_of_0_to_1_are_right(kit, tmp_path, said):
    run, keys, _ = kit
    run(tmp_path, [AugmentationPreview(**keys)], MIXED, normalize=False)
    assert said() == []


def test_sorted_labels_are_said_once_with_the_sampler(kit, tmp_path, said):
    run, keys, _ = kit
    labels = [index // 4 for index in range(40)]
    run(tmp_path, [AugmentationPreview(mean=MEAN, std=STD, **keys)], labels, shuffle=False, epochs=2, batch_size=8)
    [message] = said()
    assert message == (
        "train seems not to be shuffled; its sampler is a SequentialSampler: over its first 3 batches the labels never "
        "go down, through 6 classes; pass the loader shuffle=True"
    )


def test_batches_of_one_class_are_said(kit, tmp_path, said):
    run, keys, _ = kit
    labels = [label for label in (2, 0, 1, 0, 2) for _ in range(8)]
    run(tmp_path, [AugmentationPreview(mean=MEAN, std=STD, **keys)], labels, shuffle=False, batch_size=8)
    [message] = said()
    assert "each of its first 3 batches holds one class only, of 3 in all" in message


@pytest.mark.parametrize("batch_size", [1, 4])
def test_labels_that_are_shuffled_are_not_said(kit, batch_size, tmp_path, said):
    run, keys, _ = kit
    run(tmp_path, [AugmentationPreview(mean=MEAN, std=STD, **keys)], sorted(MIXED), batch_size=batch_size)
    assert said() == []


# -- wrong use --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_key": "picture"}, "AugmentationPreview asks for key 'picture', which the batch lacks"),
        ({"image_key": "target"}, r"image_key='target' must be \[N, C, H, W\] .* got \(4,\)"),
        ({"image_key": "sample_id"}, "image_key='sample_id' must be .*, got a list with str"),
        ({"mean": [0.5, 0.5]}, r"mean must be one number or one per channel, 3 here, got \[0.5, 0.5\]"),
        ({"std": [0.5, 0.5]}, "std must be one number or one per channel, 3 here"),
    ],
)
def test_what_does_not_fit_the_batch_is_an_error(options, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        run_ours(tmp_path, [AugmentationPreview(**options)], MIXED)


def test_a_wrong_argument_is_an_error():
    with pytest.raises(UsageError, match="k_images must be an integer of at least 1, got 0"):
        AugmentationPreview(0)
    with pytest.raises(UsageError, match="unknown task 'boxes'"):
        AugmentationPreview(task="boxes")
