"""Runs on a few batches: which they are, on any sampler and number of ranks, and what is said at the end."""

import copy
import math
from dataclasses import dataclass

import albumentations as A
import numpy as np
import pytest
import torch
from catalyst import dl
from kit import Named
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from assay.callbacks import Metrics
from assay.runner import Augmented, BadImageError, Experiment, UsageError
from assay.runner.commands.experiment_flags import parse_experiment
from assay.runner.commands.train import train
from assay.runner.data.sharding import shard_loader
from assay.runner.loop.batch_limits import limit_batches, overfit_batches
from assay.runner.saving.loggers import read_metrics


class Numbers(Dataset):
    """Items by number, which know the epoch that they are of."""

    def __init__(self, count):
        self.count, self.epoch = count, 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return {"number": index, "epoch": self.epoch}


class Pairs(BatchSampler):
    """A user's own batch sampler: it turns by the epoch."""

    def __init__(self, count):
        self.count, self.epoch = count, 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return self.count // 2

    def __iter__(self):
        return ([(2 * i + self.epoch) % self.count, (2 * i + 1 + self.epoch) % self.count] for i in range(len(self)))


def samplers(count):
    return {
        "in order": {"batch_size": 4},
        "shuffled": {"batch_size": 4, "shuffle": True},
        "drop_last": {"batch_size": 4, "shuffle": True, "drop_last": True},
        "subset": {"batch_size": 4, "sampler": SubsetRandomSampler(range(1, count, 2))},
        "weighted": {"batch_size": 4, "sampler": WeightedRandomSampler([1.0] * count, count)},
        "of the user": {"batch_sampler": Pairs(count)},
    }


def batches_of(loader, ranks=1, *, trains=True, epoch=1):
    """Return what each rank reads in an epoch, as lists of numbers."""
    found = []
    for rank in range(ranks):
        sharded = shard_loader(loader, rank, ranks, trains=trains)
        sharded.batch_sampler.draw_epoch(5, epoch)
        found.append([batch["number"].tolist() for batch in sharded])
    return found


def flat(lists):
    return [one for each in lists for one in each]


# -- the dry run ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("kind", samplers(8))
@pytest.mark.parametrize("trains", [True, False])
def test_a_limited_loader_begins_as_the_whole_one_in_every_epoch(kind, ranks, trains):
    loader = DataLoader(Numbers(50), **samplers(50)[kind])
    limited = limit_batches({"train": loader}, 2, ranks)["train"]
    assert len(limited) == 2 * ranks
    for epoch in (1, 2):
        whole = batches_of(loader, ranks, trains=trains, epoch=epoch)
        assert batches_of(limited, ranks, trains=trains, epoch=epoch) == [of_rank[:2] for of_rank in whole]


def test_a_loader_with_no_more_batches_is_left_as_it_is():
    loaders = {"train": DataLoader(Numbers(50), batch_size=4), "valid": DataLoader(Numbers(9), batch_size=4)}
    limited = limit_batches(loaders, 3, 1)
    assert limited["valid"] is loaders["valid"]
    assert limit_batches(loaders, 7, 2)["train"] is loaders["train"]
    assert len(loaders["train"]) == 13  # nor is the one that was cut


def test_workers_and_the_epoch_of_the_data_set_stay():
    loader = DataLoader(Numbers(50), batch_size=4, num_workers=1)
    sharded = shard_loader(limit_batches({"train": loader}, 2, 1)["train"], 0, 1, trains=True)
    sharded.batch_sampler.draw_epoch(5, 3)
    assert [batch["epoch"].tolist() for batch in sharded] == [[3] * 4] * 2


# -- the same batches -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("kind", [kind for kind in samplers(8) if kind != "weighted"])
def test_the_same_batches_come_in_every_epoch_drawn_from_all_by_the_seed(kind, ranks):
    loaders = {"train": DataLoader(Numbers(50), **samplers(50)[kind]), "valid": DataLoader(Numbers(3))}
    same = overfit_batches(loaders, 2, ranks, seed=3)
    size = 2 if kind == "of the user" else 4
    expected = sorted(flat(flat(batches_of(same["train"], ranks))))
    assert len(set(expected)) == 2 * ranks * size
    assert max(expected) > 2 * ranks * size  # not the first ones
    assert kind != "subset" or all(number % 2 for number in expected)
    assert expected == sorted(flat(flat(batches_of(overfit_batches(loaders, 2, ranks, seed=3)["train"], ranks))))
    assert expected != sorted(flat(flat(batches_of(overfit_batches(loaders, 2, ranks, seed=4)["train"], ranks))))
    for epoch in (1, 2):
        for key in ("train", "valid"):
            read = batches_of(same[key], ranks, trains=key == "train", epoch=epoch)
            assert sorted(flat(flat(read))) == expected
            assert [len(of_rank) for of_rank in read] == [2] * ranks


def test_a_weighted_sampler_draws_its_batches_once():
    loaders = {"train": DataLoader(Numbers(50), **samplers(50)["weighted"])}
    same = overfit_batches(loaders, 3, 1)["train"]
    assert batches_of(same, epoch=1) == batches_of(same, epoch=2)
    assert len(flat(flat(batches_of(same)))) == 12


def test_of_a_short_loader_all_batches_are_taken():
    same = overfit_batches({"train": DataLoader(Numbers(10), batch_size=4, shuffle=True)}, 7, 1)["train"]
    assert sorted(flat(flat(batches_of(same)))) == list(range(10))
    assert [len(batch) for batch in batches_of(same)[0]] == [4, 4, 2]
    assert sorted(set(flat(flat(batches_of(same, 2))))) == list(range(10))


def test_several_loaders_keep_their_own_and_those_for_inference_are_limited():
    names = {"train": 20, "train_more": 30, "valid": 9, "valid_more": 11, "infer": 40}
    loaders = {key: DataLoader(Numbers(count), batch_size=4) for key, count in names.items()}
    same = overfit_batches(loaders, 2, 1)
    assert list(same) == list(names)
    assert {key: len(loader.dataset) for key, loader in same.items()} == {
        "train": 8, "train_more": 8, "valid": 8, "valid_more": 8, "infer": 40,
    }  # fmt: skip
    assert len(same["infer"]) == 2
    assert len(loaders["train"].dataset) == 20


def test_what_a_data_set_draws_by_the_epoch_it_draws_once():
    same = overfit_batches({"train": DataLoader(Numbers(50), batch_size=4)}, 1, 1)["train"]
    for epoch in (1, 2):
        sharded = shard_loader(same, 0, 1, trains=True)
        sharded.batch_sampler.draw_epoch(5, epoch)
        assert [batch["epoch"].tolist() for batch in sharded] == [[0] * 4]


class Broken(Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, index):
        if index == 2:
            raise BadImageError("image 2 cannot be read")
        return {"image": np.full((4, 4, 1), index, np.uint8), "target": index % 3, "sample_id": index}


def to_tensor(*transforms):
    return A.Compose([*transforms, A.Normalize(0.0, 1.0), A.ToTensorV2()])


@pytest.mark.parametrize("workers", [0, 1])
def test_the_transform_for_validation_takes_the_place_of_the_augmentation(workers):
    toy = Toy(batch_size=3, workers=workers, on_bad_image="skip")
    noisy = to_tensor(A.RandomBrightnessContrast(p=1.0))
    loaders = {
        "train": toy.make_loader(Augmented(Broken(), noisy), shuffle=True),
        "valid": toy.make_loader(Augmented(Broken(), to_tensor())),
    }
    same = overfit_batches(loaders, 4, 1)
    for key in ("train", "valid"):
        sharded = shard_loader(same[key], 0, 1, trains=key == "train")
        for epoch in (1, 2):
            sharded.batch_sampler.draw_epoch(5, epoch)
            batches = list(sharded)
            read = flat(batch["sample_id"].tolist() for batch in batches)
            assert sorted(read) == [number for number in range(12) if number != 2]  # which is bad
            for batch in batches:
                assert torch.allclose(batch["image"][:, 0, 0, 0] * 255, batch["sample_id"].float())
    assert same["train"].dataset.is_bad.sum() == 1
    assert loaders["train"].dataset.items.transform is noisy


def test_without_a_transform_for_validation_each_sample_is_augmented_once_and_for_all():
    noisy = to_tensor(A.RandomBrightnessContrast(p=1.0))
    loader = DataLoader(Augmented(list(map(Broken().__getitem__, (0, 1, 3, 4))), noisy), batch_size=4)
    same = overfit_batches({"train": loader}, 1, 1)["train"]
    read = []
    for epoch in (1, 2):
        sharded = shard_loader(same, 0, 1, trains=True)
        sharded.batch_sampler.draw_epoch(5, epoch)
        read += [batch["image"] for batch in sharded]
    assert torch.equal(*read)


def test_without_a_loader_for_training_there_is_nothing_to_learn():
    with pytest.raises(UsageError, match="overfit_batches needs a loader for training; there is 'valid'"):
        overfit_batches({"valid": DataLoader(Numbers(3))}, 1, 1)


class Stream(IterableDataset):
    def __iter__(self):
        return iter([])


@pytest.mark.parametrize("take", [limit_batches, overfit_batches])
@pytest.mark.parametrize(
    ("loader", "message"),
    [
        ([1, 2], "loader 'valid' must be a torch DataLoader, got a list"),
        (DataLoader(Stream()), "loader 'valid' must have a data set with a length.*got an IterableDataset"),
        (DataLoader(Numbers(3), batch_size=None), "loader 'valid' must make batches"),
    ],
)
def test_a_loader_that_cannot_be_shared_out_is_refused_first(take, loader, message):
    with pytest.raises(UsageError, match=message):
        take({"train": DataLoader(Numbers(3)), "valid": loader}, 1, 1)


# -- runs -------------------------------------------------------------------------------------------------------------


class Recorder(dl.Callback):
    """Notes the samples and the learning rate of each batch."""

    def __init__(self):
        super().__init__(order=0)
        self.seen = {}
        self.rates = []

    def on_batch_start(self, runner):
        of_epoch = self.seen.setdefault((runner.epoch_step, runner.loader_key), [])
        of_epoch.append(list(runner.batch["sample_id"]))
        if runner.is_train_loader:
            self.rates.append(runner.optimizer.param_groups[0]["lr"])


@dataclass(kw_only=True)
class Toy(Experiment):
    epochs: int = 3
    check: str = "off"
    batch_size: int = 4
    device: str = "cpu"
    diagnostics: str = "off"

    def get_loaders(self):
        noise = torch.Generator().manual_seed(0)
        items = [
            {"image": torch.randn(4, generator=noise), "target": i % 3, "sample_id": f"id-{i:02d}"} for i in range(90)
        ]
        return {"train": self.make_loader(items[:60], shuffle=True), "valid": self.make_loader(items[60:])}

    def get_model(self):
        return Named(nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)))

    def get_callbacks(self):
        self.recorder = Recorder()
        return [Metrics(num_classes=3), self.recorder]


@pytest.mark.parametrize(("accumulate_steps", "steps"), [(1, 5), (2, 3), (9, 1)])
def test_a_dry_run_takes_so_many_batches_and_its_schedule_follows(tmp_path, capsys, accumulate_steps, steps):
    toy = Toy(limit_batches=5, accumulate_steps=accumulate_steps, lr=0.1)
    train(toy, name="toy", run_dir=tmp_path / "run")
    assert {key: len(batches) for key, batches in toy.recorder.seen.items()} == {
        (epoch, loader): 5 for epoch in (1, 2, 3) for loader in ("train", "valid")
    }
    expected = [0.05 * (1 + math.cos(math.pi * step / (3 * steps))) for step in range(3 * steps)]
    assert list(dict.fromkeys(toy.recorder.rates)) == pytest.approx(expected)
    assert toy.recorder.seen[1, "train"] != toy.recorder.seen[2, "train"]
    assert "dry run: at most 5 batches of each loader (--limit-batches)\n" in capsys.readouterr().out


@pytest.mark.parametrize("fields", [{"limit_batches": 3}, {"overfit_batches": 3}, {"limit_batches": 2, "workers": 1}])
def test_a_run_that_was_interrupted_goes_on_as_if_it_had_not_been(tmp_path, fields, fresh_accelerate):
    whole = train(Toy(epochs=4, scheduler="none", **fields), name="toy", run_dir=tmp_path / "whole")
    half = train(Toy(epochs=2, scheduler="none", **fields), name="toy", run_dir=tmp_path / "half")
    train(Toy(epochs=4, scheduler="none", **fields), name="toy", resume=half)
    assert read_metrics(half / "metrics.csv") == read_metrics(whole / "metrics.csv")


def test_batches_that_can_be_learned_are_said_to_be(tmp_path, capsys):
    toy = Toy(overfit_batches=2, epochs=25, lr=0.1, monitor=["valid/accuracy:max"])
    train(toy, name="toy", run_dir=tmp_path / "run")
    ids = toy.recorder.seen[1, "train"]
    assert len({*flat(ids)}) == 8
    assert all(batches == ids for batches in toy.recorder.seen.values())
    assert len(toy.recorder.seen) == 50
    printed = capsys.readouterr().out
    assert "training and validating on the same 2 batches, drawn by the seed and not augmented\n" in printed
    verdict = next(line for line in printed.splitlines() if line.startswith("overfits"))
    assert verdict.startswith("overfits 2 batches: yes: ")
    assert "at least 0.95 is wanted" in verdict
    assert "; train/loss " in verdict or "; valid/accuracy " in verdict


def test_batches_that_cannot_be_learned_are_said_not_to_be(tmp_path, capsys):
    class Random(Toy):
        def get_loaders(self):
            loaders = super().get_loaders()
            for loader in loaders.values():
                for item in loader.dataset:
                    item["image"] = torch.ones(4)  # nothing to tell them apart by
            return loaders

    train(Random(overfit_batches=2, epochs=3), name="toy", run_dir=tmp_path / "run")
    verdict = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("overfits"))
    assert verdict.startswith("overfits 2 batches: no: train/loss ")
    assert verdict.endswith("; try more --epochs or another --lr, then look at targets, loss and model")


def run_as_rank(folder, fields):
    toy = Toy(epochs=2, **fields)
    train(toy, name="toy", run_dir=folder)
    return toy.recorder.seen


@pytest.mark.parametrize("field", ["limit_batches", "overfit_batches"])
def test_on_two_ranks_each_takes_so_many_batches_and_the_numbers_are_those_of_one(processes, tmp_path, field):
    answers = processes.run(2, run_as_rank, str(tmp_path / "two"), {field: 2})
    processes.run(1, run_as_rank, str(tmp_path / "one"), {field: 2, "batch_size": 8})
    for key in ((1, "train"), (2, "train"), (1, "valid")):
        first, second = ([*flat(answer[key])] for answer in answers)
        assert (len(answers[0][key]), len(answers[1][key])) == (2, 2)
        assert len(set(first + second)) == 16
        if field == "overfit_batches":
            assert sorted(first + second) == sorted(flat(answers[0][2, key[1]]) + flat(answers[1][2, key[1]]))
    one, two = (read_metrics(tmp_path / name / "metrics.csv") for name in ("one", "two"))
    losses = [key for key in one if key[2] == "loss"]
    assert [two[key] for key in losses] == pytest.approx([one[key] for key in losses], rel=1e-5)


# -- wrong use --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["overfit_batches", "limit_batches"])
def test_a_number_below_one_is_refused(field):
    with pytest.raises(UsageError, match=f"{field} must be at least 1, got 0"):
        Toy(**{field: 0})


def test_both_together_are_refused():
    with pytest.raises(UsageError, match="overfit_batches and limit_batches do not go together: give one of"):
        Toy(overfit_batches=1, limit_batches=1)


@pytest.mark.parametrize("flag", ["--overfit-batches", "--limit-batches"])
def test_a_whole_run_cannot_go_on_with_a_few_batches(tmp_path, flag):
    folder = train(Toy(epochs=1), name="toy", run_dir=tmp_path / "run")
    with pytest.raises(UsageError, match=f"{flag} cannot change in a resumed run: it was None, got 2"):
        parse_experiment(Toy, "toy", ["--resume", str(folder), flag, "2"])


def test_the_data_sets_and_samplers_of_the_experiment_are_left_alone():
    loaders = {"train": DataLoader(Numbers(20), batch_size=4, shuffle=True), "valid": DataLoader(Numbers(9))}
    before = {key: copy.copy(loader.__dict__) for key, loader in loaders.items()}
    overfit_batches(loaders, 2, 1)
    limit_batches(loaders, 2, 1)
    assert {key: loader.__dict__ for key, loader in loaders.items()} == before
    assert isinstance(loaders["train"].sampler, RandomSampler)
