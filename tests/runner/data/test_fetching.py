"""What a data set draws follows from (seed, epoch, index), however deep it stands and whichever process reads it."""

import random
from collections import Counter

import albumentations as A
import numpy as np
import pytest
import torch
from catalyst import dl
from kit import Keep, Kill, Killed
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Sampler, StackDataset, Subset, random_split

from assay.runner import Augmented, current_epoch
from assay.runner.data.augmented import Items
from assay.runner.data.fetching import Batch, Fetched
from assay.runner.data.seeding import mix
from assay.runner.loop.batch_limits import overfit_batches
from assay.runner.saving.checkpoints import Checkpoints

COUNT = 8


class Seeded:
    """A transform whose outcome is the seed that it is given."""

    def set_random_seed(self, seed):
        self.seed = seed

    def __call__(self, image):
        return {"image": np.float32([image, *np.random.default_rng(self.seed).normal(size=3)])}


def augmented(count=COUNT, seed=3):
    items = [{"image": float(i), "target": i % 3, "sample_id": i} for i in range(count)]
    return Augmented(items, Seeded(), seed=seed)


def right(epoch, index, seed=3):
    """What ``augmented`` draws."""
    return [index, *np.random.default_rng(mix(seed, epoch, index)).normal(size=3)]


class Own(Dataset):
    """A wrapper whose inside has a name that nobody knows."""

    def __init__(self, inner):
        self._geheim = {"what": [inner]}

    def __len__(self):
        return len(self._geheim["what"][0])

    def __getitem__(self, index):
        return {**self._geheim["what"][0][index], "weight": 1.0}


class Hidden(Own):
    """One that is no Dataset to any walk: it closes over what it reads."""

    def __init__(self, inner):
        self.read, self.length = inner.__getitem__, inner.__len__

    def __len__(self):
        return self.length()

    def __getitem__(self, index):
        return self.read(index)


class Batches(Own):
    """One that reads whole batches."""

    def __getitems__(self, indices):
        return [self[index] for index in indices]


class Net(nn.Module):
    def __init__(self, inputs=4):
        super().__init__()
        self.net = nn.Sequential(nn.Dropout(0.2), nn.Linear(inputs, 3))

    def forward(self, image):
        return {"logits": self.net(image.float())}


class Look(dl.Callback):
    """Keeps the images of each epoch by id."""

    def __init__(self):
        super().__init__(order=0)
        self.seen = {}

    def on_batch_end(self, runner):
        images = runner.batch["image"].tolist()
        self.seen.setdefault((runner.loader_key, runner.epoch_step), {}).update(
            zip(runner.batch["sample_id"].tolist(), images, strict=True)
        )


def look_at(train, dataset, workers=0, epochs=3, **options):
    look = Look()
    loader = DataLoader(dataset, 3, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
    train(Net(), {"train": loader}, epochs=epochs, callbacks=[look], **options)
    return {epoch: seen for (_, epoch), seen in look.seen.items()}


WRAPPED = {
    "plain": augmented,
    "Subset": lambda: Subset(augmented(), range(COUNT)),
    "backwards": lambda: Subset(augmented(), range(COUNT)[::-1]),
    "random_split": lambda: random_split(augmented(), [5, 3])[0],
    "Subset of Subset": lambda: Subset(Subset(augmented(), range(2, COUNT)), range(4)),
    "own": lambda: Own(Subset(augmented(), range(COUNT))),
    "hidden": lambda: Hidden(augmented()),
    "batches": lambda: Subset(Batches(augmented()), range(COUNT)),
}


@pytest.mark.parametrize("wrapped", WRAPPED)
def test_the_epoch_reaches_an_augmented_data_set_however_it_is_wrapped(train, wrapped):
    seen = look_at(train, WRAPPED[wrapped]())
    assert list(seen) == [1, 2, 3]
    for epoch, images in seen.items():
        assert images == {i: pytest.approx(right(epoch, i)) for i in images}
        assert len(images) >= 4


@pytest.mark.parametrize("wrapped", ["Subset", "hidden", "batches"])
def test_it_reaches_persistent_workers(train, wrapped):
    seen = look_at(train, WRAPPED[wrapped](), workers=2)
    for epoch in (1, 2, 3):
        assert seen[epoch] == {i: pytest.approx(right(epoch, i)) for i in range(COUNT)}


@pytest.mark.parametrize("limit", [lambda data: data, lambda data: Subset(data, range(1, 2 * COUNT - 1))])
def test_parts_of_a_concatenation_draw_differently_and_the_first_as_alone(train, limit):
    parts = [augmented(), augmented()]
    for number, item in enumerate(parts[1].items):
        item["sample_id"] = COUNT + number
    seen = look_at(train, limit(ConcatDataset(parts)))
    for epoch, images in seen.items():
        assert all(images[i] == pytest.approx(right(epoch, i)) for i in range(1, COUNT))
        drawn = [tuple(image[1:]) for image in images.values()]
        assert len(set(drawn)) == len(drawn) >= 2 * COUNT - 2
    assert seen[1] != seen[2] != seen[3]


def test_two_of_one_seed_draw_alike_side_by_side_as_an_image_and_its_mask_need_it(train):
    class Pair(StackDataset):
        def __getitem__(self, index):
            first, second = super().__getitem__(index)
            assert first["image"].tolist() == second["image"].tolist()
            return {**first, "image": first["image"] + second["image"]}

        def __getitems__(self, indices):
            return [self[index] for index in indices]

    seen = look_at(train, Pair(augmented(), augmented()))
    for epoch, images in seen.items():
        assert images == {i: pytest.approx(2 * np.array(right(epoch, i))) for i in range(COUNT)}


def test_one_inside_another_draws_by_the_epoch_too(train):
    class Twice(Seeded):
        def __call__(self, image):
            return {"image": image + super().__call__(0.0)["image"]}

    seen = look_at(train, Augmented(Subset(augmented(), range(COUNT)), Twice(), seed=4))
    for epoch, images in seen.items():
        assert images[2] == pytest.approx(np.array(right(epoch, 2)) + right(epoch, 2, seed=4) - [2, 0, 0, 0])


def test_outside_of_a_runner_the_epoch_is_the_one_that_is_set():
    dataset = augmented()
    assert dataset[1]["image"].tolist() == pytest.approx(right(0, 1))
    dataset.set_epoch(5)
    assert dataset[1]["image"].tolist() == pytest.approx(right(5, 1))
    assert current_epoch() is None


def test_frozen_batches_repeat_their_chance(train):
    class Draws(Own):
        def __getitem__(self, index):
            item = super().__getitem__(index)
            return {**item, "image": item["image"] + random.random()}

    look = Look()
    loaders = {"train": DataLoader(Subset(Draws(augmented()), range(COUNT)), 3, shuffle=True)}
    train(Net(), overfit_batches(loaders, 2, 1), epochs=3, callbacks=[look])
    seen = [look.seen["train", epoch] for epoch in (1, 2, 3)]
    assert seen[0] == seen[1] == seen[2]
    assert len(seen[0]) == 6


def test_frozen_batches_are_not_augmented_however_the_data_set_is_wrapped(train):
    class Plain(Seeded):
        def __call__(self, image):
            return {"image": np.float32([image, 0, 0, 0])}

    look = Look()
    dataset = augmented()
    loaders = {
        "train": DataLoader(ConcatDataset([Subset(dataset, range(COUNT))]), 3, shuffle=True),
        "valid": DataLoader(Subset(Augmented(dataset.items, Plain()), range(4)), 3),
    }
    train(Net(), overfit_batches(loaders, 2, 1), callbacks=[look])
    for images in look.seen.values():
        assert images == {index: [index, 0, 0, 0] for index in images}
    assert type(dataset.transform) is Seeded


@pytest.mark.parametrize("workers", [0, 2])
def test_set_epoch_reaches_data_sets_inside_others_and_in_persistent_workers(train, workers):
    class Told(Own):
        epoch = None

        def set_epoch(self, epoch):
            self.epoch = epoch

        def __getitem__(self, index):
            return {**super().__getitem__(index), "image": np.float32([self.epoch, current_epoch(), 0, 0])}

    seen = look_at(train, Subset(ConcatDataset([Told(augmented())]), range(COUNT)), workers)
    assert seen == {epoch: {i: [epoch, epoch, 0, 0] for i in range(COUNT)} for epoch in (1, 2, 3)}


def test_indices_of_any_kind_are_read(train):
    class Named(dict):
        def __getitem__(self, key):
            return {**super().__getitem__(key), "image": np.float32([random.random(), 0, 0, 0])}

    items = Named({f"k{i}": {"target": 0, "sample_id": i} for i in range(4)})
    for dataset, sampler in ((items, list(items)), (list(items.values()), torch.arange(4))):
        if dataset is not items:
            dataset = Items(4, lambda i: {**list(items.values())[i], "image": np.float32([random.random(), 0, 0, 0])})
        look = Look()
        train(Net(), {"train": DataLoader(dataset, 2, sampler=sampler)}, callbacks=[look])
        assert len({image[0] for image in look.seen["train", 1].values()}) == 4


# -- data sets that draw from generators that are not Augmented's ------------------------------------------------------


class Draws(Dataset):
    """Draws from the generators of Python, NumPy and torch, and from one of its own."""

    def __init__(self, count=13):
        self.count = count
        self.rng = np.random.default_rng(0)

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        drawn = [random.random(), np.random.normal(), torch.rand(()).item(), self.rng.random()]
        return {"image": np.float32(drawn), "target": index % 3, "sample_id": index}


class DrawsBatches(Draws):
    def __getitems__(self, indices):
        return [self[index] for index in indices]


def noisy(items):
    """A collate function that draws."""
    batch = torch.utils.data.default_collate(items)
    batch["image"] = batch["image"] + torch.randn(len(items), 1) + random.gauss(0, 1) + np.random.normal()
    return batch


class OwnOrder(Sampler):
    """A batch sampler with a generator of its own."""

    def __init__(self, count):
        self.count, self.rng = count, random.Random(0)

    def __len__(self):
        return -(-self.count // 4)

    def __iter__(self):
        order = self.rng.sample(range(self.count), self.count)
        return iter([order[first : first + 4] for first in range(0, self.count, 4)])


def run(train, folder, workers, killed_at=None, persistent=True, dataset=Draws, own_order=False, resume=False):
    dataset = dataset()
    order = {"batch_sampler": OwnOrder(len(dataset))} if own_order else {"batch_size": 4, "shuffle": True}
    options = {"num_workers": workers, "persistent_workers": persistent and workers > 0, "collate_fn": noisy}
    loaders = {"train": DataLoader(dataset, **order, **options), "valid": DataLoader(dataset, 4, **options)}
    look = Look()
    callbacks = [look, Checkpoints(folder / "checkpoints", every_n_steps=1)]
    callbacks += [Kill(*killed_at)] if killed_at else []
    torch.manual_seed(0)
    model = Net()
    where = {"resume": str(folder)} if resume else {}
    try:
        train(model, loaders, epochs=3, callbacks=callbacks, logdir=str(folder), **where)
    except Killed:
        return None
    return look.seen, {name: value.tolist() for name, value in model.state_dict().items()}


LONG = pytest.mark.long("trains to the end, is killed at another place and goes on")


@pytest.mark.parametrize(
    ("workers", "killed_at", "options"),
    [
        (0, (2, 3), {}),
        pytest.param(2, (1, 2), {}, marks=LONG),
        (2, (2, 3), {"dataset": DrawsBatches}),
        pytest.param(2, (2, 6), {"persistent": False}, marks=LONG),  # in validation
        (2, (3, 1), {"own_order": True}),  # at an epoch's end
        pytest.param(0, (2, 1), {"own_order": True}, marks=LONG),
    ],
)
def test_a_run_whose_data_set_and_collate_function_draw_is_resumed_exactly(
    train, tmp_path, workers, killed_at, options
):
    seen, weights = run(train, tmp_path / "quiet", 0, **options)
    assert run(train, tmp_path / "run", workers, killed_at, **options) is None
    resumed, resumed_weights = run(train, tmp_path / "run", workers, resume=True, **options)
    assert resumed_weights == weights
    for place, images in resumed.items():
        assert images == {index: seen[place][index] for index in images}
    of_training = [images for (key, _), images in seen.items() if key == "train"]
    drawn = Counter(value for images in of_training for image in images.values() for value in image)
    assert drawn.most_common(1)[0][1] == 1  # never the same


def test_samples_of_one_epoch_draw_each_for_itself_whatever_their_batch(train):
    class Shuffled(Draws):
        pass

    looks = []
    for batch_size in (3, 5):
        look = Look()
        train(Net(), {"train": DataLoader(Shuffled(), batch_size, shuffle=True)}, callbacks=[look])
        looks.append(look.seen["train", 1])
    assert looks[0] == looks[1]


@pytest.mark.parametrize("fails", [False, True])
def test_the_main_process_has_its_generators_back_after_a_fetch(train, fails):
    def drawn(dataset):
        values = Keep(
            lambda runner: (random.random(), np.random.normal(), torch.rand(()).item()), hook="on_batch_start", order=0
        )
        train(Net(), {"train": DataLoader(dataset, 4)}, callbacks=[values])
        return values.kept

    class Fails(Draws):
        def __getitem__(self, index):
            if index == 9:
                raise KeyError(super().__getitem__(index)["image"][0])
            return super().__getitem__(index)

    quiet = drawn(Items(13, lambda i: {"image": np.zeros(4, np.float32), "target": 0, "sample_id": i}))
    assert drawn(Draws()) == quiet
    if fails:
        state = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
        with pytest.raises(KeyError):
            Fetched(Fails(), noisy).__getitems__(Batch([8, 9], 0, 1))
        assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == state


def test_callbacks_and_workers_find_the_users_own_data_set(train):
    class Reads(Draws):
        def __getitem__(self, index):
            info = torch.utils.data.get_worker_info()
            return {**super().__getitem__(index), "same": info.dataset is self, "scale": self.scale}

    def begin(number):
        torch.utils.data.get_worker_info().dataset.scale = 7

    def look(runner):
        return runner.loader.dataset, runner.batch["same"].tolist(), runner.batch["scale"].tolist()

    dataset = Reads(4)
    loader = DataLoader(dataset, 4, num_workers=1, worker_init_fn=begin)
    train(Net(), {"train": loader}, callbacks=[seen := Keep(look, order=0)])
    assert seen.kept == [(dataset, [True] * 4, [7] * 4)]


def test_a_callback_may_change_what_a_loader_does(train):
    class Change(dl.Callback):
        def on_loader_start(self, runner):
            runner.loader.collate_fn = lambda items: {**noisy(items), "changed": torch.ones(len(items))}

        def on_batch_end(self, runner):
            assert runner.batch["changed"].sum() > 0

    train(Net(), {"train": DataLoader(Draws(), 4)}, callbacks=[Change(order=0)])


def test_the_images_of_albumentations_in_a_subset_are_new_in_each_epoch(train):
    rng = np.random.default_rng(0)
    items = [{"image": rng.integers(0, 255, (1, 4, 3), np.uint8), "target": 0, "sample_id": i} for i in range(COUNT)]
    transform = A.Compose([A.RandomBrightnessContrast(p=1.0)])

    class Flat(Own):
        def __getitem__(self, index):
            item = super().__getitem__(index)
            return {**item, "image": item["image"].reshape(-1)[:4] / np.float32(255)}

    seen = look_at(train, Flat(Subset(Augmented(items, transform, seed=1), range(COUNT))))
    assert all(seen[1][i] != seen[2][i] != seen[3][i] for i in range(COUNT))
