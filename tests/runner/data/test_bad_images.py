"""Samples whose image cannot be read are left out of their batch, and known at the end, whichever rank met them."""

import pytest
import torch
from kit import Keep, Kill, Killed, fit
from torch import nn
from torch.utils.data import DataLoader

from assay.runner import DictRunner
from assay.runner.data.augmented import Augmented, Items
from assay.runner.data.bad_images import BadImages, Collate, StandIn, WithoutBadImages, collate
from assay.runner.data.files.image_errors import BadImageError
from assay.runner.data.seeding import mix
from assay.runner.saving.checkpoints import Checkpoints
from assay.runner.saving.loggers import read_metrics


class Values:
    """Makes the item of an index: its image is the index; some cannot be read."""

    def __init__(self, *bad):
        self.bad = bad

    def __call__(self, index):
        if index in self.bad:
            raise BadImageError(f"image '{index}.png' cannot be read: it is empty")
        return {"image": torch.tensor([float(index)]), "target": torch.tensor([0.0]), "sample_id": index}


def make_loader(count, *bad, batch_size=4, **options):
    return DataLoader(
        WithoutBadImages(Items(count, Values(*bad))), batch_size=batch_size, collate_fn=collate, **options
    )


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        nn.init.ones_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, image):
        return {"logits": self.layer(image)}


def train(loaders, folder=None, **options):
    model, record = Net(), Keep(lambda runner: (runner.loader_key, runner.batch["sample_id"].tolist()))
    callbacks = {"record": record, "bad": BadImages(folder / "bad_images.txt")} if folder else {"record": record}
    runner = DictRunner(**options)
    fit(
        runner, model, loaders, callbacks, lr=0.001, criterion=nn.MSELoss(),
        logdir=str(folder / "run") if folder else None,
    )  # fmt: skip
    return runner, record


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("persistent", [False, True])
def test_workers_tell_which_samples_were_bad(workers, persistent):
    loader = make_loader(10, 1, 2, 8, num_workers=workers, persistent_workers=persistent and workers > 0)
    for _ in range(2):
        assert [batch["sample_id"].tolist() for batch in loader] == [[0, 3], [4, 5, 6, 7], [9]]
    assert loader.dataset.is_bad.nonzero().flatten().tolist() == [1, 2, 8]
    assert loader.dataset.why(8) == "image '8.png' cannot be read: it is empty"


def test_where_a_whole_batch_is_bad_the_next_good_samples_stand_in():
    batches = list(make_loader(8, 0, 5, 6, 7, batch_size=2))
    assert [isinstance(batch, StandIn) for batch in batches] == [False, False, False, True]
    assert [batch["sample_id"].tolist() for batch in batches] == [[1], [2, 3], [4], [1, 1]]


def test_a_batch_that_is_bad_as_a_whole_moves_nothing_and_counts_nothing(tmp_path):
    loaders = {"train": make_loader(6, 2, 3, batch_size=2), "valid": make_loader(6, 4, 5, batch_size=2)}
    runner, record = train(loaders, tmp_path)
    assert record.kept == [("train", [0, 1]), ("train", [4, 5]), ("valid", [0, 1]), ("valid", [2, 3])]
    weight = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    for first, second in ((0.0, 1.0), (4.0, 5.0)):
        image = torch.tensor([first, second], dtype=torch.float64)
        (gradient,) = torch.autograd.grad(((weight[0] * image + weight[1]) ** 2).mean(), weight)
        weight = (weight - 0.001 * gradient).detach().requires_grad_()
    layer = runner.model.layer
    assert torch.cat([layer.weight.flatten(), layer.bias]).tolist() == pytest.approx(weight.tolist(), abs=1e-6)
    image = torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.float64)
    expected = ((weight[0] * image + weight[1]) ** 2).mean().item()
    assert read_metrics(tmp_path / "run" / "metrics.csv")[1, "valid", "loss"] == pytest.approx(expected, rel=1e-5)
    assert (tmp_path / "bad_images.txt").read_text().splitlines() == [
        f"{key}: image '{index}.png' cannot be read: it is empty"
        for key, indices in (("train", (2, 3)), ("valid", (4, 5)))
        for index in indices
    ]


def bad_of_ranks(folder):
    loaders = {"train": make_loader(12, 4, 5, 9, batch_size=2), "valid": make_loader(12, 2, 3, 11, batch_size=2)}
    runner, record = train(loaders, folder)
    callback = runner.callbacks["bad"]
    weights = torch.cat([part.detach().flatten() for part in runner.engine.unwrap_model(runner.model).parameters()])
    return callback.lines(), record.kept, weights.tolist(), runner.history[1]["valid"]["loss"]


@pytest.mark.parametrize("count", [1, 2])
def test_the_bad_images_of_all_ranks_are_listed_once_and_no_rank_hangs(processes, tmp_path, count):
    answers = processes.run(count, bad_of_ranks, tmp_path)
    lines = [f"{key}: image '{i}.png' cannot be read: it is empty" for key in ("train", "valid") for i in (4, 5, 9)]
    lines[3:] = [f"valid: image '{i}.png' cannot be read: it is empty" for i in (2, 3, 11)]
    assert all(answer[0] == lines for answer in answers)
    assert (tmp_path / "bad_images.txt").read_text().splitlines() == lines
    seen = [i for _, of, _, _ in answers for key, ids in of if key == "valid" for i in ids]
    assert sorted(seen) == [0, 1, 4, 5, 6, 7, 8, 9, 10]
    assert all(answer[2] == answers[0][2] for answer in answers)
    weight, bias = answers[0][2]
    expected = sum((weight * i + bias) ** 2 for i in seen) / len(seen)
    assert all(answer[3] == pytest.approx(expected, rel=1e-5) for answer in answers)


def test_the_summary_is_empty_where_nothing_was_bad(tmp_path):
    runner, _ = train({"train": make_loader(4)}, tmp_path)
    assert runner.callbacks["bad"].summary() == []
    assert not (tmp_path / "bad_images.txt").exists()


def test_a_sample_that_can_be_read_later_is_listed_all_the_same():
    make = Values(3)
    dataset = WithoutBadImages(Items(4, make))
    assert len(dataset.__getitems__([2, 3])) == 1
    make.bad = ()
    assert dataset.why(3) == "item 3 could not be read at first, and now it can"


def test_the_epoch_is_told_to_the_data_set():
    class Transform:
        def set_random_seed(self, seed):
            self.seed = seed

        def __call__(self, image):
            return {"image": self.seed}

    dataset = WithoutBadImages(Augmented(Items(2, Values()), Transform()))
    first = dataset[0]["image"]
    dataset.set_epoch(2)
    assert dataset[0]["image"] != first
    WithoutBadImages([1, 2]).set_epoch(3)  # nobody asks for it


class Picky:
    """A transform that fails by what it draws."""

    def set_random_seed(self, seed):
        self.fails = seed % 4 == 0

    def __call__(self, image):
        if self.fails:
            raise ValueError("not this time")
        return {"image": image}


def test_a_sample_that_the_transform_fails_on_is_left_out_and_its_own_reason_is_listed(tmp_path):
    dataset = WithoutBadImages(Augmented(Items(30, Values()), Picky(), seed=3))
    _, record = train({"train": DataLoader(dataset, 30, collate_fn=collate)}, tmp_path)
    bad = [index for index in range(30) if mix(3, 1, index) % 4 == 0]
    assert bad
    assert record.kept == [("train", [index for index in range(30) if index not in bad])]
    assert (tmp_path / "bad_images.txt").read_text().splitlines() == [
        f"train: sample_id {index}: the transform cannot take it: ValueError: not this time" for index in bad
    ]


def run_with_bad_images(folder, workers, killed_at=None):
    options = {"num_workers": workers, "persistent_workers": workers > 0}
    loaders = {
        "train": make_loader(24, 1, 2, 13, 22, **options),
        "valid": make_loader(12, 0, 5, 11, **options),
    }
    model = Net()
    resumes = folder.exists()
    fit(
        DictRunner(),
        model,
        loaders,
        [
            BadImages(folder / "bad_images.txt"),
            Checkpoints(folder / "checkpoints", every_n_steps=1),
            *([Kill(*killed_at)] if killed_at else []),
        ],
        lr=0.001,
        criterion=nn.MSELoss(),
        epochs=2,
        logdir=str(folder),
        resume=str(folder) if resumes else None,
    )
    return (folder / "bad_images.txt").read_text()


@pytest.mark.parametrize(("workers", "killed_at"), [(0, (1, 5)), (0, (1, 8)), (2, (1, 6)), (0, (2, 3))])
def test_a_resumed_run_lists_the_bad_images_of_the_whole_epoch(tmp_path, workers, killed_at):
    quiet = run_with_bad_images(tmp_path / "quiet", 0)
    assert len(quiet.splitlines()) == 7
    with pytest.raises(Killed):
        run_with_bad_images(tmp_path / "run", workers, killed_at)
    assert run_with_bad_images(tmp_path / "run", workers) == quiet


def test_a_collate_function_of_the_users_makes_the_batches_and_the_stand_ins():
    def join(items):
        return {"sample_id": [item["sample_id"] for item in items]}

    loader = DataLoader(WithoutBadImages(Items(6, Values(2, 4, 5))), 2, collate_fn=Collate(join))
    batches = list(loader)
    assert [batch["sample_id"] for batch in batches] == [[0, 1], [3], [0, 0]]
    assert [isinstance(batch, StandIn) for batch in batches] == [False, False, True]
