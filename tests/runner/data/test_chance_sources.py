"""Whatever a data set draws from follows from (seed, epoch, index), wherever it keeps that."""

import random
from functools import partial

import albumentations as A
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler, Subset

from assay.runner import Augmented
from assay.runner.data.chance_sources import seeds_of
from assay.runner.data.fetching import Batch, Fetched
from assay.runner.data.seeding import seed_order

of_the_module = np.random.default_rng(0)
PIXELS = np.random.default_rng(0).integers(0, 255, (6, 4, 4, 3), np.uint8)


def helped(image):
    return image + of_the_module.random()


class Shift:
    """A transform with a generator of its own."""

    def __init__(self):
        self.chance = np.random.RandomState(0)

    def __call__(self, image):
        return image + self.chance.normal()


class OwnImages(Dataset):
    """Reads images by a transform of its own."""

    def __init__(self, change):
        self.steps = {"first": [change]}

    def __len__(self):
        return len(PIXELS)

    def __getitem__(self, index):
        (change,) = self.steps["first"]
        return torch.from_numpy(np.ascontiguousarray(change(PIXELS[index]), np.float32))


class OfClass(OwnImages):
    chance = torch.Generator()

    def __init__(self):
        super().__init__(lambda image: image + torch.rand((), generator=self.chance).item())


def closed_over(make):
    transform = make()
    return lambda image: transform(image=image)["image"]


def brightness():
    return A.RandomBrightnessContrast(p=1.0)


KINDS = {
    "a transform": lambda: OwnImages(Shift()),
    "a transform inside another": lambda: OwnImages(partial(Shift.__call__, Shift())),
    "a bound method": lambda: OwnImages(Shift().__call__),
    "albumentations": lambda: OwnImages(closed_over(lambda: A.Compose([brightness()], seed=1))),
    "one of albumentations": lambda: OwnImages(closed_over(brightness)),
    "a module": lambda: OwnImages(lambda image: image + of_the_module.random()),
    "a function of the module": lambda: OwnImages(lambda image: helped(image)),
    "a class": OfClass,
    "a default": lambda: OwnImages(lambda image, chance=random.Random(0): image + chance.random()),  # noqa: B008
}


def read(dataset, epoch):
    return Fetched(Subset(dataset, range(6)), torch.stack).__getitems__(Batch([1, 4], 3, epoch))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_drawn_follows_from_epoch_and_index(kind):
    dataset = KINDS[kind]()
    first, second, again = (read(dataset, epoch) for epoch in (1, 2, 1))
    assert torch.equal(first, again)
    assert torch.equal(first, read(KINDS[kind](), 1))
    drawn = [(batch - torch.from_numpy(PIXELS[[1, 4]]).float()).mean(dim=(1, 2, 3)) for batch in (first, second)]
    assert len(torch.cat(drawn).unique()) == 4


def test_two_generators_draw_apart():
    class Two(Dataset):
        def __init__(self):
            self.left, self.right = np.random.default_rng(1), np.random.default_rng(2)

        def __getitem__(self, index):
            return torch.tensor([self.left.random(), self.right.random()])

    batch = Fetched(Two(), torch.stack).__getitems__(Batch([0, 1], 0, 1))
    assert len(batch.unique()) == 4


def test_the_global_generators_and_the_transform_that_is_seeded_anyway_are_no_sources():
    items = [{"image": image, "target": 0} for image in PIXELS]
    dataset = Augmented(items, A.Compose([brightness()]))
    assert seeds_of((dataset, torch.default_generator, np.random.mtrand._rand, random._inst)) == {}
    own = random.Random(0)
    (seed,) = seeds_of((dataset, [own])).values()
    seed(5)
    assert own.random() == random.Random(5).random()


def test_a_walk_ends_in_circles_and_leaves_long_lists_and_libraries_out():
    circle = [np.random.default_rng(0)]
    circle.append(circle)
    assert len(seeds_of(circle)) == 1
    assert seeds_of([random.Random(0)] * 1001) == {}
    assert seeds_of(A.Compose) == {}

    def unfilled():
        return later

    assert seeds_of(unfilled) == {}
    later = random.Random(0)
    assert len(seeds_of(unfilled)) == 1


def test_the_order_of_a_sampler_inside_others_follows_from_the_epoch():
    class Outer:
        def __init__(self):
            self.inner = RandomSampler(range(8), generator=torch.Generator())

        def __iter__(self):
            return iter(self.inner)

    class Batches:
        def __init__(self):
            self.own = {"order": Outer()}

        def __len__(self):
            return 2

        def __iter__(self):
            order = list(self.own["order"])
            return iter([order[:4], order[4:]])

    loader = DataLoader(range(8), batch_sampler=Batches())
    orders = []
    for epoch in (1, 2, 1):
        seed_order(loader, 7, epoch)
        orders.append(list(loader.batch_sampler))
    assert orders[0] == orders[2] != orders[1]
