"""What is observed of loaders, against values computed otherwise, and that nothing shows that it was."""

import multiprocessing
import os
import random
import socket
import threading
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from catalyst.data.loader import ILoaderWrapper
from PIL import Image
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from assay.callbacks.findings.observe.data.data_sets import reading_order
from assay.callbacks.findings.observe.data.loaders import observe_data
from assay.callbacks.findings.observe.data.sample_reader import Keys
from assay.callbacks.findings.probe.loader_probe import SMALL
from assay.runner.data.sharding import shard_loader

KEYS = Keys()
SECONDS = 6.0  # more than most of them need, as reading ends when all is read


class Pictures(Dataset):
    """Dicts of an image [3, 40, 48], its class and its id; ``change`` may alter an item."""

    def __init__(self, count=40, change=None, start=0):
        self.count, self.change, self.start = count, change, start

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        chance = np.random.default_rng(index + self.start)
        item = {
            "image": torch.from_numpy(chance.normal(0, 1, (3, 40, 48)).astype(np.float32)),
            "target": (index + self.start) % 5,
            "sample_id": f"s{index + self.start:03}",
        }
        return item if self.change is None else self.change(index, item)


def see(dataset, keys=KEYS, key="train", full=False, by_chance=False, seconds=SECONDS, **options):
    options = {"batch_size": 8, **options}
    loader = DataLoader(dataset, **options)
    return observe_data({key: loader}, keys=keys, full=full, seconds=seconds, by_chance=by_chance).loaders[key]


def test_samples_are_measured_as_they_are():
    data = Pictures()
    seen = see(data, shuffle=True)
    assert seen.complete and sorted(seen.samples) == list(range(40))
    assert (seen.length, seen.epoch_length, seen.batch_size, seen.batches) == (40, 40, 8, 5)
    for index in (0, 17, 39):
        image, sample = data[index]["image"].double(), seen.samples[index]
        assert (sample.shape, sample.dtype, sample.name) == ((3, 40, 48), "float32", f"s{index:03}")
        assert sample.mean == pytest.approx(image.mean((1, 2)).tolist(), abs=1e-5)
        assert sample.std == pytest.approx(image.std((1, 2), correction=0).tolist(), abs=1e-5)
        assert (sample.low, sample.high) == pytest.approx((image.min().item(), image.max().item()))
        by_areas = torch.nn.functional.interpolate(image[None].repeat_interleave(4, 2), (160, 96)).shape
        assert by_areas == (1, 3, 160, 96) and sample.small.shape == (3, SMALL, SMALL)
        assert sample.small.mean() == pytest.approx(image.mean().item(), abs=1e-4)
        assert (sample.label, sample.image, sample.mask, sample.boxes) == (index % 5, None, None, None)
    assert len({sample.digest for sample in seen.samples.values()}) == 40
    assert not seen.augments and len(seen.again) == 24 and not seen.errors and seen.reseeds == ()
    assert list(seen.ids) == [f"s{index:03}" for index in range(40)]


def test_small_images_are_means_of_areas():
    data = TensorDataset(torch.arange(4 * 64 * 96.0).reshape(4, 1, 64, 96), torch.arange(4))
    seen = see(data, Keys(0, 1), batch_size=2)
    expected = torch.nn.functional.avg_pool2d(data.tensors[0], (2, 3)).numpy()
    for index, sample in seen.samples.items():
        np.testing.assert_allclose(sample.small, expected[index], rtol=1e-5)
    assert (seen.image_key, seen.target_key) == ("0", "1") and seen.ids == ()
    assert seen.labels.tolist() == [0, 1, 2, 3] and seen.samples[2].name == "2"


@pytest.mark.parametrize(
    ("make", "shape", "dtype"),
    [
        (lambda pixels: pixels, (3, 20, 30), "uint8"),
        (lambda pixels: Image.fromarray(pixels), (3, 20, 30), "uint8"),
        (lambda pixels: torch.from_numpy(pixels).permute(2, 0, 1).bfloat16(), (3, 20, 30), "bfloat16"),
        (lambda pixels: pixels[..., 0] > 100, (20, 30), "bool"),
        (lambda pixels: pixels.astype(np.int64), (3, 20, 30), "int64"),
        (lambda pixels: pixels.reshape(-1).astype(np.float32), (1800,), "float32"),
    ],
)
def test_images_of_any_form_are_measured(make, shape, dtype):
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    data = [{"image": make(pixels), "target": 1.5}] * 4
    sample = see(data, collate_fn=lambda items: items).samples[1]
    assert (sample.shape, sample.dtype, sample.non_finite) == (shape, dtype, False)
    whole = np.asarray(make(pixels), dtype=np.float64) if dtype != "bfloat16" else make(pixels).double().numpy()
    assert np.mean(sample.mean) == pytest.approx(whole.mean(), rel=1e-5)
    assert (sample.low, sample.high) == (whole.min(), whole.max())
    assert sample.target.item() == 1.5 and sample.label is None
    assert (sample.small is None) == (len(shape) == 1)


def test_equal_images_have_equal_digests_and_others_do_not():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    images = [image, image.copy(), image.astype(np.int8), image.reshape(2, 3, 2), image + 1]
    samples = see([(one, 0) for one in images], Keys(0, 1), collate_fn=list).samples
    assert len({sample.digest for sample in samples.values()}) == 4
    assert samples[0].digest == samples[1].digest


def test_nan_and_infinity_are_told():
    values = torch.zeros(3, 1, 4, 4)
    values[1, 0, 0, 0], values[2, 0, 1, 1] = float("nan"), float("inf")
    samples = see(TensorDataset(values, torch.zeros(3)), Keys(0, 1)).samples
    assert [samples[index].non_finite for index in range(3)] == [False, True, True]


def test_orders_and_batches_are_those_of_the_loader():
    seen = see(Pictures(), batch_size=16)
    assert list(seen.order) == list(range(40)) == list(seen.later_order) and seen.shuffles is False
    assert [batch.indices for batch in seen.batches_seen] == [tuple(range(s, min(s + 16, 40))) for s in (0, 16, 32)]
    first = seen.batches_seen[0]
    assert first.shapes == {"image": (16, 3, 40, 48), "target": (16,)} and first.dtypes["target"] == "int64"
    assert first.labels == tuple(index % 5 for index in range(16)) and first.names[3] == "s003"
    assert first.digests == tuple(seen.samples[index].digest for index in range(16))


def test_a_generator_gives_the_order_that_the_run_will_have():
    loader = DataLoader(Pictures(), 8, shuffle=True, generator=torch.Generator().manual_seed(3))
    seen = observe_data({"train": loader}, keys=KEYS, seconds=SECONDS).loaders["train"]
    assert [index for batch in loader.batch_sampler for index in batch] == list(seen.order)
    assert [index for batch in loader.batch_sampler for index in batch] == list(seen.later_order)
    assert seen.shuffles is True and list(seen.order) != list(seen.later_order)


def test_the_last_batch_may_be_left_out():
    seen = see(Pictures(20), batch_size=16, drop_last=True)
    assert (seen.drop_last, seen.epoch_length, len(seen.batches_seen)) == (True, 20, 1)


class Own(Sampler):
    """A sampler of the user's."""

    def __init__(self, draw):
        self.draw = draw

    def __iter__(self):
        return iter(self.draw())

    def __len__(self):
        return len(self.draw())


@pytest.mark.parametrize(
    ("draw", "shuffles"),
    [
        (lambda: list(range(40)), False),
        (lambda: list(range(0, 40, 2)), False),
        (lambda: random.sample(range(40), 40), True),
        (lambda: random.Random(0).sample(range(40), 40), None),
        (lambda: 1 / 0, None),
        (lambda: ["a", "b"], None),
    ],
)
def test_samplers_of_users_are_asked(draw, shuffles):
    assert see(Pictures(), sampler=Own(draw)).shuffles is shuffles


def test_only_samples_that_a_sampler_gives_are_read():
    data = Pictures()
    loaders = {
        "train": DataLoader(data, 8, sampler=SubsetRandomSampler(range(30))),
        "valid": DataLoader(data, 8, sampler=SubsetRandomSampler(range(30, 40))),
        "test": DataLoader(data, 8, sampler=WeightedRandomSampler([0.0] * 20 + [1.0] * 20, 40)),
    }
    seen = observe_data(loaders, keys=KEYS, seconds=SECONDS).loaders
    assert sorted(seen["train"].samples) == list(range(30)) and seen["train"].complete
    assert sorted(seen["valid"].samples) == list(range(30, 40)) and len(seen["valid"].ids) == 10
    assert sorted(seen["test"].samples) == list(range(20, 40)) and seen["train"].length == 40


def test_batches_of_a_batch_sampler_are_kept():
    seen = see(Pictures(), batch_sampler=[[0, 1, 2], [5, 4]], **{"batch_size": 1})
    assert [batch.indices for batch in seen.batches_seen] == [(0, 1, 2), (5, 4)]
    assert list(seen.order) == [0, 1, 2, 5, 4] and seen.epoch_length == 5 and seen.batch_size is None
    assert sorted(seen.samples) == [0, 1, 2, 4, 5]


def draw_globally(kind):
    draws = {"numpy": np.random.rand, "random": random.random, "torch": lambda: torch.rand(()).item()}
    return lambda index, item: item | {"image": item["image"] + draws[kind]()}


@pytest.mark.parametrize("kind", ["numpy", "random", "torch"])
def test_augmentation_shows_in_a_second_reading(kind):
    seen = see(Pictures(change=draw_globally(kind)))
    assert seen.augments and seen.reseeds == () and seen.workers_alike is None
    assert all(seen.samples[index].digest != digest for index, digest in seen.again.items())


@pytest.mark.parametrize(("kind", "seed"), [("numpy", np.random.seed), ("random", random.seed)])
def test_items_that_set_a_generator_back_are_told(kind, seed):
    def change(index, item):
        seed(7)
        return draw_globally(kind)(index, item)

    assert see(Pictures(change=change)).reseeds == (kind,)
    assert see(Pictures(change=lambda index, item: (seed(index), item)[1])).reseeds == ()


@pytest.mark.parametrize(
    ("init", "alike"),
    [(None, False), (lambda number: np.random.seed(1), True), (lambda number: np.random.seed(number), False)],
)
def test_workers_that_draw_alike_are_told(init, alike):
    data = Pictures(change=draw_globally("numpy"))
    assert see(data, num_workers=2, worker_init_fn=init).workers_alike is alike
    assert see(data, num_workers=2, worker_init_fn=init, by_chance=True).workers_alike is None
    assert see(Pictures(), num_workers=2, worker_init_fn=init).workers_alike is None


def test_a_generator_of_the_data_set_is_alike_in_all_workers():
    chance = np.random.default_rng(0)
    data = Pictures(change=lambda index, item: item | {"image": item["image"] + chance.random()})
    assert see(data, num_workers=2).workers_alike is True


def test_a_generator_of_the_data_set_is_alike_beside_others_that_are_not():
    chance = np.random.default_rng(0)
    data = Pictures(
        change=lambda index, item: item | {"image": item["image"] + chance.random() + torch.rand(()).item() + index}
    )
    assert see(data, num_workers=2).workers_alike is True


def test_generators_that_workers_make_for_themselves_are_not_alike():
    made = []

    def change(index, item):
        if not made:
            made.append(np.random.default_rng(torch.utils.data.get_worker_info().seed))
        return item | {"image": item["image"] + made[0].random() + torch.rand(()).item()}

    assert see(Pictures(change=change), num_workers=2).workers_alike is False


class ByEpoch(Pictures):
    """Draws by epoch and index."""

    epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch):
        self.epoch.fill_(epoch)

    def __getitem__(self, index):
        item = super().__getitem__(index)
        return item | {"image": item["image"] + int(self.epoch)}


def test_a_second_reading_is_of_another_epoch():
    data = ByEpoch()
    seen = see(Subset(data, range(10)), num_workers=2)
    assert seen.augments and seen.workers_alike is None
    assert int(data.epoch) == 0


def test_labels_are_found_in_wrapped_data_sets():
    one, other = Pictures(20), Pictures(10, start=20)
    one.targets, other.labels = [index % 5 for index in range(20)], np.arange(20, 30) % 5
    indices = [3, 25, 7, 28]
    seen = see(Subset(ConcatDataset([one, other]), indices))
    assert seen.labels.tolist() == [index % 5 for index in indices]
    other.labels = np.arange(10)
    assert see(Subset(ConcatDataset([one, other]), indices)).labels is None


@pytest.mark.parametrize("form", ["pairs", "dicts"])
def test_labels_are_found_in_lists_of_items(form):
    data = Pictures(20)
    dicts = [{"path": f"{index}.png", "target": index % 5} for index in range(20)]
    data.items = dicts if form == "dicts" else [(one["path"], one["target"]) for one in dicts]
    assert see(data).labels.tolist() == [index % 5 for index in range(20)]


def test_ids_of_a_table_are_held_against_those_of_items():
    data = Pictures(change=None)
    data.names, table = ("sample_id",), [f"s{index:03}" for index in range(40)]
    data.column = {"sample_id": table}.__getitem__
    assert see(data).ids == tuple(table)
    data.column = {"sample_id": table[::-1]}.__getitem__
    assert see(data).ids == tuple(table)


def test_paths_of_a_folder_name_samples():
    class Folder(Pictures):
        samples = [(f"cats/{index}.jpg", 0) for index in range(40)]

        def __getitem__(self, index):
            item = super().__getitem__(index)
            return item["image"], item["target"]

    seen = see(Folder())
    assert seen.ids[4] == "cats/4.jpg" == seen.samples[4].name and len(seen.ids) == 40


def test_masks_are_kept_with_their_images():
    mask = np.zeros((400, 600), dtype=np.uint8)
    mask[:100], mask[350:] = 3, 255
    image = np.random.default_rng(0).random((400, 600, 3)).astype(np.float32)
    samples = see([{"image": image, "target": mask}] * 70, batch_size=4, full=True).samples
    sample = samples[1]
    assert sample.mask_values == (0, 3, 255) and sample.mask_shares == pytest.approx((0.625, 0.25, 0.125))
    assert sample.image.shape == (3, 171, 256) and sample.mask.shape == (171, 256) and sample.target is None
    assert np.isin(sample.mask, (0, 3, 255)).all() and (sample.mask == 3).mean() == pytest.approx(0.25, abs=0.01)
    assert sum(one.image is not None for one in samples.values()) == 64
    assert all(one.mask_values == (0, 3, 255) for one in samples.values())


@pytest.mark.parametrize("form", ["1HW", "LHW", "HWL", "float"])
def test_masks_of_any_form_are_laid_over_their_images(form):
    mask = np.random.default_rng(0).integers(0, 2, (20, 24, 2)).astype(np.int64)
    forms = {
        "1HW": (mask[None, ..., 0], mask[..., 0]),
        "LHW": (torch.from_numpy(mask).permute(2, 0, 1), mask.transpose(2, 0, 1)),
        "HWL": (mask.astype(bool), mask.transpose(2, 0, 1)),
        "float": (mask[..., 0] / 2, mask[..., 0] / 2),
    }
    given, expected = forms[form]
    sample = see([(torch.rand(3, 20, 24), given)] * 3, Keys(0, 1)).samples[0]
    np.testing.assert_array_equal(sample.mask, expected)
    assert sample.mask_shares == pytest.approx(np.unique(expected, return_counts=True)[1] / expected.size)


def test_boxes_beside_the_image_or_in_the_target_are_found():
    boxes = [[1, 2, 5, 6], [0, 0, 3, 3]]
    beside = {"image": np.zeros((3, 8, 8), np.float32), "bboxes": boxes, "labels": [1, 2]}
    inside = (torch.zeros(3, 8, 8), {"boxes": torch.tensor(boxes), "labels": torch.tensor([1, 2])})
    for item, keys in ((beside, KEYS), (inside, Keys(0, 1))):
        sample = see([item] * 3, keys, collate_fn=list).samples[0]
        assert sample.boxes.tolist() == boxes and sample.box_labels.tolist() == [1, 2]
        assert sample.image.shape == (3, 8, 8) and sample.target is None
    empty = (torch.zeros(3, 8, 8), {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0)})
    assert see([empty] * 2, Keys(0, 1), collate_fn=list).samples[0].boxes.shape == (0, 4)


def test_further_targets_are_kept():
    data = Pictures(change=lambda index, item: item | {"age": torch.tensor([float(index)])})
    assert see(data, Keys(further=("age", "none"))).samples[5].targets["age"].tolist() == [5]


def test_tuples_are_read_by_the_keys_of_a_batch():
    data = TensorDataset(torch.rand(8, 3, 8, 8), torch.arange(8))
    seen = see(data, Keys("features", "targets"))
    assert seen.samples[3].label == 3 and seen.samples[3].shape == (3, 8, 8) and seen.labels is not None


def raising(index, item):
    if index % 10 == 3:
        raise ValueError(f"broken {index}")
    return item


def test_errors_are_told_by_index():
    seen = see(Pictures(change=raising))
    assert seen.errors == {index: f"ValueError: broken {index}" for index in (3, 13, 23, 33)}
    assert sorted({*seen.samples, *seen.errors}) == list(range(40)) and seen.complete


def test_a_data_set_that_reads_nothing_is_not_blamed():
    assert see(Pictures(change=lambda index, item: 1 / 0)).errors == {}


def test_samples_that_a_data_set_leaves_out_itself_are_no_errors():
    class Tolerant(Pictures):
        def __getitems__(self, indices):
            return [self[index] for index in indices if index % 10 != 3]

    seen = see(Tolerant(change=raising))
    assert len(seen.samples) == 36 and seen.errors == {}


@pytest.mark.parametrize("end", [lambda: time.sleep(60), lambda: os.kill(os.getpid(), 9), lambda: os._exit(0)])
def test_what_was_read_before_a_child_hangs_or_dies_is_kept(end, monkeypatch):
    monkeypatch.setattr("assay.callbacks.findings.observe.data.loaders._GRACE", 0.5)
    slow = lambda index, item: (end() if index == 30 else time.sleep(0.01), item)[1]  # noqa: E731
    seen = see(Pictures(change=slow), seconds=1.0)
    assert 8 <= len(seen.samples) < 40 and not seen.complete and len(seen.order) == 40


def test_blank_images_are_read_again_by_which_it_shows_whether_they_stay_so():
    blanks = (2, 7, 12, 14)

    def change(index, item):
        grey = torch.tensor([-2.1, -2.0, -1.8])[:, None, None].expand(3, 40, 48)  # black that was normalized
        return item | {"image": grey.clone()} if index in blanks else item

    plain = see(Pictures())
    assert not {*blanks} & {*plain.again}  # as any other image
    seen = see(Pictures(change=change))
    assert {*blanks} <= {*seen.again}
    assert all(seen.again[index] == seen.samples[index].digest for index in blanks)


def test_a_data_set_that_prints_is_not_heard(capfd):
    def loud(index, item):
        print("loud")
        os.write(2, b"loud")
        return item

    assert len(see(Pictures(change=loud)).samples) == 40
    assert capfd.readouterr() == ("", "")


def test_slow_data_sets_are_read_for_the_given_time():
    # Four times slower than a second would do, as others on the machine may hold up what does not sleep.
    start, seconds = time.monotonic(), 4.0
    seen = see(Pictures(4000, change=lambda index, item: (time.sleep(0.04), item)[1]), seconds=seconds)
    assert time.monotonic() - start < seconds + 4 * 0.7
    assert 30 < len(seen.samples) < 120 and not seen.complete and len(seen.again) > 4
    assert {*range(10), *range(3990, 4000)} <= {*seen.samples} and len(seen.batches_seen) == 3


@pytest.mark.parametrize("ids", [(), tuple(f"s{index}" for index in range(6000))])
def test_parts_of_one_data_set_are_read_where_they_overlap(ids):
    data = Pictures(6000)
    parts = Subset(data, range(5000)), Subset(data, range(4000, 6000))
    first = [
        {part.indices[place] for place in reading_order(np.arange(len(part)), part, ids[: len(part)])[:400]}
        for part in parts
    ]
    if ids:
        first = [{*reading_order(np.arange(5000), None, ids)[:400]}]
        first += [{place + 4000 for place in reading_order(np.arange(2000), None, ids[4000:])[:400]}]
    # Of 1,000 samples in both, chance would read 1,000 * 0.07 * 0.17 = 11 twice.
    assert len(first[0] & first[1]) > 50


class Around(Dataset):
    def __init__(self, inner):
        self.dataset = inner

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        return self.dataset[index]


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda data: (Subset(data, range(100)), Subset(data, range(80, 120))), 20),
        (lambda data: (Around(Subset(data, range(100))), Around(Subset(data, range(80, 120)))), 20),
        (lambda data: (ConcatDataset([data, Subset(data, range(9))]), Subset(data, range(40))), 40),
        (lambda data: (data, Subset(Subset(data, range(50, 100)), range(30))), 30),
        (lambda data: (Subset(data, range(100)), Subset(data, range(100, 120))), 0),
    ],
)
def test_samples_that_two_loaders_seem_to_share_are_counted_and_read_first_in_both(make, count):
    train, valid = make([{"image": Pictures()[index % 40]["image"] + index} for index in range(200)])
    loaders = {"train": DataLoader(train, 8, shuffle=True), "valid": DataLoader(valid, 8)}
    seen = observe_data(loaders, keys=KEYS, seconds=SECONDS).loaders
    overlap = seen["valid"].overlaps.get("train")
    assert (0 if overlap is None else overlap.count) == count
    for mine, other in () if overlap is None else overlap.pairs:
        assert seen["valid"].samples[mine].digest == seen["train"].samples[other].digest


def test_samplers_of_one_data_set_share_what_both_draw():
    data = Pictures()
    loaders = {
        "train": DataLoader(data, 8, sampler=SubsetRandomSampler(range(30))),
        "valid": DataLoader(data, 8, sampler=SubsetRandomSampler(range(25, 40))),
    }
    overlap = observe_data(loaders, keys=KEYS, seconds=SECONDS).loaders["valid"].overlaps["train"]
    assert (overlap.count, overlap.of) == (5, 15) and {*overlap.pairs} == {(it, it) for it in range(25, 30)}


class Drawn(Dataset):
    """Draws its images anew, whatever the index."""

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return {"image": torch.rand(3, 8, 8), "target": index % 4}


def test_what_is_drawn_anew_is_not_the_same_in_two_loaders():
    data = Drawn()
    seen = observe_data({key: DataLoader(data, 8) for key in ("train", "valid")}, keys=KEYS, seconds=SECONDS).loaders
    train, valid = ({it.digest for it in seen[key].samples.values()} for key in ("train", "valid"))
    assert train and valid and not train & valid


def test_everything_is_read_in_full():
    told = []
    loaders = {"train": DataLoader(Pictures(300), 8, shuffle=True), "valid": DataLoader(Pictures(50), 8)}
    seen = observe_data(loaders, keys=KEYS, full=True, seconds=0.01, on_progress=lambda *one: told.append(one)).loaders
    assert seen["train"].complete and seen["valid"].complete and told[-1] == (350, 350)


def test_small_images_are_kept_of_samples_from_all_places():
    data = TensorDataset(torch.rand(6000, 1, 4, 4), torch.arange(6000))
    seen = see(data, Keys(0, 1), full=True)
    small = [index for index, sample in seen.samples.items() if sample.small is not None]
    assert len(seen.samples) == 6000 and 4000 <= len(small) <= 4200
    assert sum(index >= 3000 for index in small) > 1800


def test_first_batches_come_as_tensors():
    loaders = {"train": DataLoader(Pictures(200), 100, shuffle=True), "valid": DataLoader(Pictures(20), 8)}
    batches = observe_data(loaders, keys=KEYS, full=True).batches  # however long it takes
    assert [len(batches[key]) for key in ("train", "valid")] == [2, 1]
    assert batches["train"][0]["image"].shape == (64, 3, 40, 48) and batches["valid"][0]["target"].tolist()[:2] == [
        0,
        1,
    ]
    assert torch.equal(batches["valid"][0]["image"][2], Pictures()[2]["image"])


def test_items_without_images_make_batches_all_the_same():
    seen = observe_data({"train": DataLoader(Pictures(), 8)}, keys=Keys(image_key="picture"), seconds=SECONDS)
    assert dict(seen.loaders["train"].samples) == {} and len(seen.loaders["train"].batches_seen) == 3
    assert seen.batches["train"][0]["image"].shape == (8, 3, 40, 48)


@pytest.mark.parametrize("wrap", [partial(shard_loader, rank=0, ranks=2, trains=True), ILoaderWrapper])
def test_the_loader_of_the_user_is_found_in_others(wrap):
    loader = DataLoader(Pictures(), 8, shuffle=True)
    seen = observe_data({"train": wrap(loader)}, keys=KEYS, seconds=SECONDS).loaders["train"]
    assert (len(seen.samples), seen.sampler, seen.epoch_length, seen.batch_size) == (40, "RandomSampler", 40, 8)


class Stream(IterableDataset):
    def __iter__(self):
        self.used = True
        return iter([(torch.full((3, 8, 8), float(index)), index) for index in range(10)])


def test_streams_are_seen_by_their_batches():
    data = Stream()
    loader = DataLoader(data, 4, num_workers=2)
    seen = observe_data({"train": loader}, keys=Keys(0, 1), seconds=SECONDS)
    assert [batch.labels for batch in seen.loaders["train"].batches_seen] == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)]
    assert seen.batches["train"][0][0].shape == (4, 3, 8, 8) and not hasattr(data, "used")


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(Pictures(), 8, num_workers=1, multiprocessing_context="spawn"),
        SimpleNamespace(),
        [],
        DataLoader(Pictures(0), 8),
        DataLoader(Pictures(), batch_size=None),
    ],
)
def test_what_cannot_be_seen_is_left_empty(loader):
    seen = observe_data({"train": loader}, keys=KEYS, seconds=SECONDS).loaders["train"]
    assert (seen.key, seen.trains, dict(seen.samples)) == ("train", True, {})


class Traces(Pictures):
    """Leaves traces of each reading in all that a data set may hold."""

    def __init__(self, folder):
        super().__init__(40)
        self.read, self.cache = 0, {}
        self.shared = torch.zeros(40, dtype=torch.bool).share_memory_()
        path = folder / "data.bin"
        path.write_bytes(bytes(4000))
        self.file = path.open("rb", buffering=0)
        self.map = np.memmap(path, np.uint8, "r+")
        self.chance = np.random.default_rng(0)
        self.torch_chance = torch.Generator().manual_seed(0)

    def __getitem__(self, index):
        self.read += 1
        self.cache[index] = self.chance.random()
        self.shared[index] = True
        self.map[index] = 1
        self.file.seek(100 * index)
        self.file.read(50)
        torch.rand(1, generator=self.torch_chance)
        random.random(), np.random.rand(), torch.rand(1)
        return super().__getitem__(index)

    def state(self):
        return (
            self.read, dict(self.cache), self.shared.tolist(), self.map.tolist(), self.file.tell(),
            self.chance.bit_generator.state, self.torch_chance.get_state().tolist(), sorted(vars(self)),
        )  # fmt: skip


def global_state():
    _, keys, *rest = np.random.get_state()
    return random.getstate(), keys.tolist(), rest, torch.get_rng_state().tolist(), torch.get_num_threads()


@pytest.mark.parametrize("full", [False, True])
def test_nothing_shows_that_a_loader_was_observed(tmp_path, full):
    data = Traces(tmp_path)
    data.file.seek(77)
    sampler = RandomSampler(data, generator=torch.Generator().manual_seed(5))
    loader = DataLoader(data, batch_sampler=BatchSampler(sampler, 8, False), num_workers=2, pin_memory=False)
    held = sorted(vars(loader))
    before = data.state(), global_state(), sampler.generator.get_state().tolist(), os.listdir("/proc/self/fd")
    seen = observe_data({"train": loader}, keys=KEYS, full=full, seconds=SECONDS).loaders["train"]
    after = data.state(), global_state(), sampler.generator.get_state().tolist(), os.listdir("/proc/self/fd")
    assert before == after and sorted(vars(loader)) == held
    assert len(seen.samples) == 40
    data.file.close()


def test_neighbouring_pixels_are_compared_in_the_first_images():
    seen = see(Pictures(), shuffle=True)
    assert all(0 <= it.jumps.large <= it.jumps.middle + 1 and 0 <= it.jumps.grey <= 1 for it in seen.samples.values())


def test_large_shared_memory_cannot_be_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr("assay.callbacks.findings.observe.data.cut_off._MOST_COPIED", 0)
    data = Traces(tmp_path)
    before = data.state()
    seen = see(data)
    assert data.state() == before and len(seen.order) == 40 and not seen.samples
    data.file.close()


def test_a_connection_is_not_used_beside_the_run():
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    seen = see(Pictures(change=lambda index, item: (ours.send(b"ask"), item)[1]))
    with pytest.raises(BlockingIOError):
        theirs.recv(1)
    assert seen.errors == {} and not seen.samples
    ours.close(), theirs.close()


def test_images_that_differ_when_they_are_read_again_are_kept_small():
    def lit(index, item):
        return {**item, "image": item["image"] + torch.rand(())}

    seen = see(Pictures(change=lit))
    assert seen.augments and set(seen.again_small) == set(seen.again)
    for index, image in seen.again_small.items():
        change = image - seen.samples[index].small
        assert image.shape == (3, SMALL, SMALL)
        assert np.ptp(change) == pytest.approx(0, abs=1e-4) and abs(change.mean()) > 1e-6
    assert see(Pictures()).again_small == {}


def pairs_of(batch):
    return dict(zip(batch.digests, batch.targets, strict=True)), dict(
        zip(batch.item_digests, batch.item_targets, strict=True)
    )


@pytest.mark.parametrize("form", ["dict", "tuple", "boxes"])
def test_a_batch_tells_whether_its_images_have_the_targets_of_their_items(form):
    def change(index, item):
        boxes = {"boxes": torch.full((1, 4), float(index)), "labels": torch.ones(1)}
        return item if form == "dict" else (item["image"], boxes if form == "boxes" else np.float64(index / 7))

    def collate(items, mixed):
        if form == "boxes":
            images, targets = zip(*items, strict=True)
            return (images[::-1] if mixed else images), targets
        batch = torch.utils.data.default_collate(items)
        if not mixed:
            return batch
        return {**batch, "image": batch["image"].flip(0)} if form == "dict" else [batch[0].flip(0), batch[1]]

    for mixed in (False, True):
        data = Pictures(change=change)
        batch = see(data, collate_fn=partial(collate, mixed=mixed), seconds=20.0).batches_seen[0]
        told, right = pairs_of(batch)
        assert set(told) == set(right) and len(told) == 8
        assert (told == right) is not mixed


def test_samples_are_read_while_the_first_batches_are_tried_out():
    told, progress = [], [(0, 0)]

    def try_out(batches):
        told.append({key: len(of) for key, of in batches.items()})
        until = time.monotonic() + 60
        while progress[-1][0] < 800 and time.monotonic() < until:
            time.sleep(0.01)
        told.append(progress[-1][0])

    loaders = {"train": DataLoader(Pictures(600), 8), "valid": DataLoader(Pictures(300), 8)}
    follow = lambda *numbers: progress.append(numbers)  # noqa: E731
    seen = observe_data(loaders, keys=KEYS, full=True, on_progress=follow, meanwhile=try_out)
    assert told[0] == {"train": 1, "valid": 1} and told[1] >= 800
    assert seen.loaders["train"].complete and len(seen.batches["train"]) == 2


@pytest.mark.parametrize("loaders", [{"train": []}, {"train": DataLoader(Pictures(0), 8)}, {}])
def test_what_goes_on_meanwhile_is_called_where_nothing_can_be_read(loaders):
    told = []
    observe_data(loaders, keys=KEYS, seconds=SECONDS, meanwhile=told.append)
    assert told == [dict.fromkeys(loaders, ())]


def test_what_fails_meanwhile_ends_the_reading():
    slow = Pictures(4000, change=lambda index, item: (time.sleep(0.002), item)[1])
    before, children, start = threading.active_count(), multiprocessing.active_children(), time.monotonic()
    with pytest.raises(ZeroDivisionError):
        observe_data({"train": DataLoader(slow, 8)}, keys=KEYS, full=True, meanwhile=lambda batches: 1 / 0)
    assert threading.active_count() == before and {*multiprocessing.active_children()} <= {*children}
    assert time.monotonic() - start < 8
