"""Fixed and random samples: which are chosen, and that each is drawn with its own truth and prediction."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from catalyst import dl
from kit import Kill, Killed, fit, read_events
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import FixedSamples, RandomSamples, UsageError
from assay.callbacks.measures.chosen_samples import ChosenSamples, choose_places
from assay.callbacks.samples import chosen_samples
from assay.callbacks.support.host_copy import copy_rows, read_tree
from assay.callbacks.support.host_targets import HostTargets
from assay.runner import Checkpoints, DictRunner
from benchmarks.fake_cuda import fake_cuda
from benchmarks.launches import Launches

COUNT, K = 20, 5


class Bright(nn.Module):
    """Images [N, 1, 4, 4] to logits [N, 3] that depend on nothing but the image."""

    def __init__(self, key="logits"):
        super().__init__()
        self.key, self.scale = key, nn.Parameter(torch.ones(()))

    def forward(self, image):
        logits = self.scale * image.flatten(1)[:, :3]
        return logits if self.key is None else {self.key: logits}


def items(count=COUNT, ids=True):
    """Return samples with texts as ids, with ``ids="numbers"`` with numbers, and without."""
    chance = torch.Generator().manual_seed(3)
    images = torch.randn(count, 1, 4, 4, generator=chance)
    found = [{"image": image, "target": i % 3} for i, image in enumerate(images)]
    names = [100 - i if ids == "numbers" else f"s{i}" for i in range(count)]
    return [{**item, "sample_id": name} for item, name in zip(found, names, strict=True)] if ids else found


class Seen:
    """Stands where a callback draws: keeps what it is given, and draws something small."""

    def __init__(self, callback):
        self.drawn = []
        callback.draw = self

    def __call__(self, samples, title):
        self.drawn.append((dict(samples), title))
        return np.zeros((4, 4, 3), np.uint8)


def run(callback, folder, *more, epochs=1, shuffle=False, ids=True, count=COUNT, loaders=("valid",), **options):
    """Return the ids that were drawn, by epoch and loader in their order."""
    seen = Seen(callback)
    torch.manual_seed(0)
    data = items(count, ids)
    given = {key: DataLoader(data, 4, shuffle=shuffle) for key in ("train", *loaders)}
    fit(DictRunner(), Bright(), given, [callback, *more], epochs=epochs, lr=0.0, logdir=str(folder), seed=1, **options)
    by_id = {item.get("sample_id", i): item for i, item in enumerate(data)}
    for samples, _ in seen.drawn:
        for name, image, target, output in zip(
            samples["sample_id"], samples["image"], samples["target"], samples["output"], strict=True
        ):
            assert np.array_equal(image, by_id[name]["image"].numpy())
            assert target == by_id[name]["target"]
            assert np.array_equal(output, by_id[name]["image"].numpy().reshape(-1)[:3])
    return [samples["sample_id"] for samples, _ in seen.drawn]


def test_the_places_are_different_in_range_and_all_of_them_equally_likely():
    counts = np.zeros(10)
    for seed in range(3000):
        places = choose_places(10, 3, [seed])
        assert places == sorted(set(places))
        counts[places] += 1
    # 900 expected for each, with a standard deviation of 25.
    assert counts.sum() == 9000
    assert abs(counts - 900).max() < 110
    assert choose_places(4, 9, [0]) == [0, 1, 2, 3]
    assert choose_places(0, 9, [0]) == []


@pytest.mark.parametrize("ids", [True, False], ids=["with_ids", "without_ids"])
def test_the_same_samples_are_shown_in_every_epoch(ids, tmp_path):
    first, *others = run(FixedSamples(K), tmp_path, epochs=3, ids=ids)
    assert len(first) == len(set(first)) == K
    assert others == [first] * 2


def test_the_seed_decides_which(tmp_path):
    chosen = {seed: run(FixedSamples(K, seed), tmp_path / str(seed)) for seed in (0, 1)}
    assert chosen[0] != chosen[1]
    assert run(FixedSamples(K, 0), tmp_path / "again") == chosen[0]


def shuffled(folder, ids):
    """Return what the main process has drawn of a loader that shuffles."""
    return run(FixedSamples(K), folder, epochs=3, shuffle=True, ids=ids)


@pytest.mark.parametrize("ids", ["texts", "numbers"])
@pytest.mark.parametrize("processes", [1, 2])
def test_they_stay_the_same_in_a_loader_that_shuffles(ids, processes, rank_processes, tmp_path, caplog):
    if processes == 1:
        first, *others = shuffled(tmp_path, ids)
    else:
        (first, *others), _ = rank_processes.run(processes, shuffled, tmp_path, ids)
    assert others == [first] * 2
    assert len(set(first)) == K
    assert not caplog.messages


def test_ids_that_are_sent_to_a_gpu_are_known_as_the_loader_gave_them():
    given = {"image": torch.zeros(3, 1, 4, 4), "target": torch.zeros(3), "sample_id": torch.tensor([7, 5, 9])}
    callback = FixedSamples(K)
    runner = SimpleNamespace(batch={**given, "sample_id": torch.zeros(3, device="meta")})
    runner.host_targets = HostTargets(given, runner.batch)
    assert callback._host_ids(runner, range(3)) == [7, 5, 9]
    runner.host_targets = HostTargets(runner.batch)
    assert callback._host_ids(runner, range(3)) is runner.batch["sample_id"]


def test_other_samples_are_shown_in_every_epoch_and_in_every_loader(tmp_path):
    drawn = run(RandomSamples(K, train=True), tmp_path, epochs=3)
    assert len({tuple(names) for names in drawn}) == 6  # of two loaders
    assert all(len(set(names)) == K for names in drawn)
    # Each loader has a thread that draws.
    assert sorted(run(RandomSamples(K, train=True), tmp_path / "again", epochs=3)) == sorted(drawn)


def test_loaders_for_training_are_shown_if_asked_for(tmp_path):
    for made in (FixedSamples, RandomSamples):
        assert len(run(made(K), tmp_path / made.__name__)) == 1
        assert len(run(made(K, train=True), tmp_path / f"{made.__name__}-train")) == 2


def test_a_small_loader_is_shown_whole(tmp_path):
    for callback in (FixedSamples(K), RandomSamples(K)):
        drawn = run(callback, tmp_path / callback.kind, count=3)
        assert {tuple(names) for names in drawn} == {("s0", "s1", "s2")}


def of_rank(folder, made, epochs):
    """Return what the main process has drawn."""
    return run(made(K), folder, epochs=epochs)


@pytest.mark.parametrize("made", [FixedSamples, RandomSamples])
@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_show_the_same_as_one(made, processes, rank_processes, tmp_path):
    alone = of_rank(tmp_path / "one", made, 2)
    drawn, *nothing = rank_processes.run(processes, of_rank, tmp_path / "many", made, 2)
    # A writer of another process than the main one draws nothing.
    assert nothing == [[]] * (processes - 1)
    assert drawn == alone


@pytest.mark.parametrize(("epoch", "batch"), [(1, 7), (2, 2), (2, 8)])
@pytest.mark.parametrize("made", [FixedSamples, RandomSamples])
def test_a_run_that_is_killed_and_resumed_shows_the_same(made, epoch, batch, tmp_path):
    def start(folder, *more, **options):
        torch.manual_seed(0)
        saving = Checkpoints(folder / "checkpoints", every_n_steps=1)
        data = {key: DataLoader(items(), 4, shuffle=True) for key in ("train", "valid")}
        fit(
            DictRunner(), Bright(), data, [made(K), saving, *more], epochs=3, lr=0.1, logdir=str(folder), seed=1,
            **options,
        )  # fmt: skip

    def pictures(folder):
        found = {}
        for loader in ("train", "valid"):
            events = read_events(folder / loader)
            for tag in events.Tags()["images"]:
                found[loader, tag] = [(one.step, one.encoded_image_string) for one in events.Images(tag)]
        return found

    start(tmp_path / "straight")
    killed = tmp_path / "killed"
    with pytest.raises(Killed):
        start(killed, Kill(epoch, batch))
    start(killed, resume=str(killed))
    assert pictures(killed) == pictures(tmp_path / "straight") != {}


def test_a_stock_runner_has_the_same_pictures(tmp_path):
    data = [{"features": item["image"], "targets": item["target"], "name": item["sample_id"]} for item in items()]
    keys = {"image_key": "features", "target_key": "targets", "output_key": "scores", "sample_id_key": "name"}
    shown = [FixedSamples(K, **keys), RandomSamples(K, **keys)]
    runner = dl.SupervisedRunner(input_key="features", output_key="scores", target_key="targets", loss_key="loss")
    fit(runner, Bright(None), data, shown, batch=4, epochs=2, tensorboard=tmp_path)
    events = read_events(tmp_path / "valid")
    assert {tag: len(events.Images(tag)) for tag in events.Tags()["images"]} == {
        "6_samples/fixed": 2, "6_samples/random": 2,
    }  # fmt: skip
    assert read_events(tmp_path / "train").Tags()["images"] == []


class Uneven:
    """A batch sampler whose batches are not all full, which a stock runner takes for full."""

    batch_size = 4

    def __iter__(self):
        return iter([[0, 1, 2, 3], [4, 5]])

    def __len__(self):
        return 2


def test_of_a_loader_of_an_unknown_length_no_other_samples_are_shown_than_it_has(tmp_path):
    callback = FixedSamples(9, image_key="features", target_key="targets", output_key="scores")
    seen = Seen(callback)
    data = [{"features": item["image"], "targets": item["target"], "sample_id": item["sample_id"]} for item in items()]
    runner = dl.SupervisedRunner(input_key="features", output_key="scores", target_key="targets", loss_key="loss")
    loaders = {"train": DataLoader(data, 4), "valid": DataLoader(data, batch_sampler=Uneven())}
    fit(runner, Bright(None), loaders, [callback], tensorboard=tmp_path)
    assert [samples["sample_id"] for samples, _ in seen.drawn] == [["s0", "s1", "s2", "s3", "s4", "s5"]]


def of_each(parts):
    return lambda chosen: [parts[index] for index in chosen]


def test_ids_that_are_not_known_yet_let_the_places_decide():
    measure = ChosenSamples([1, 2], ids=["b", "a"])
    measure.update([0, 1, 2], [None] * 3, of_each("xyz"))
    assert [(sample.position, sample.parts) for sample in measure.samples] == [(1, "y"), (2, "z")]
    measure = ChosenSamples([1, 2], ids=["b", "a"])
    measure.update([0, 1, 2], ["a", "c", "b"], of_each("xyz"))
    assert [sample.parts for sample in sorted(measure.samples, key=measure.rank)] == ["z", "x"]


def test_wrong_arguments_are_refused():
    with pytest.raises(UsageError, match="k_samples must be an integer of at least 1"):
        FixedSamples(0)
    with pytest.raises(UsageError, match="task"):
        RandomSamples(task="boxes")


def test_the_chosen_samples_of_a_batch_travel_together_and_a_batch_without_one_asks_for_nothing():
    with fake_cuda() as mode, mode:
        parts = {"image": torch.zeros(8, 3, 4, 4), "target": torch.zeros(8), "output": torch.zeros(8, 5)}
        take = partial(chosen_samples._copied, {name: part.to("cuda") for name, part in parts.items()}, 8)
        measure, counts = ChosenSamples([1, 2, 7, 20]), []
        for first in (8, 16, 0):
            with Launches() as counting:
                measure.update(range(first, first + 8), [None] * 8, take)
            counts.append(counting.count)
    # Of several, each part is put together on the device before its one copy.
    assert counts == [0, 3, 6]


def test_parts_that_travel_together_are_those_of_their_samples():
    rows = [torch.arange(6.0).view(2, 3) + 10 * i for i in range(3)]
    for given in (rows, rows[:1], [rows[0], rows[1].int()], [rows[0], rows[1][:1]], [{"a": row} for row in rows]):
        copies = copy_rows(given)
        found = read_tree(copies)
        assert len(found) == len(given)
        for one, row in zip(found, given, strict=True):
            one, row = (one["a"], row["a"]) if isinstance(row, dict) else (one, row)
            assert (one.dtype, one.tolist()) == (row.numpy().dtype, row.tolist())
    copies = read_tree(copy_rows(rows))
    rows[1].zero_()
    assert copies[1].min() == 10  # their own memory
