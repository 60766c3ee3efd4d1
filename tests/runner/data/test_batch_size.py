"""The size of a batch is its number of samples, whatever an item begins with, and whatever is beside the samples."""

import pytest
import torch
from catalyst import dl
from kit import Keep, fit
from torch import nn
from torch.utils.data import DataLoader, default_collate

from assay.callbacks import Metrics
from assay.callbacks.support.runner_view import batch_size as size_for_callbacks
from assay.callbacks.support.runner_view import place_in_loader
from assay.runner import DictRunner
from assay.runner.data.bad_images import WithoutBadImages, collate
from assay.runner.data.batch_size import SizedBatch, batch_size
from assay.runner.data.files.image_errors import BadImageError

COUNT = 11  # in batches of 4: the last one is smaller, so that its weight shows
FIRST = {
    "size": lambda i: (480 + i, 640),
    "int": lambda i: i,
    "float": lambda i: i / 2,
    "string": lambda i: f"name-{i}",
    "views": lambda i: [torch.full((3,), float(i)), torch.full((3,), -float(i))],
    "nested": lambda i: {"boxes": {"left": i, "top": (i, i)}},
    "three_numbers": lambda i: torch.arange(7),
}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 2).double()

    def forward(self, image):
        return {"logits": self.layer(image)}


def items(first, bad=()):
    images = torch.randn(COUNT, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return [{"first": FIRST[first](i), "image": image, "target": i % 2} for i, image in enumerate(images)]


class SomeBad(list):
    def __getitem__(self, index):
        if index in (0, 5, 6):
            raise BadImageError(f"{index} is bad")
        return super().__getitem__(index)


def sizes_of_batches():
    return Keep(lambda runner: (size_for_callbacks(runner), place_in_loader(runner).first_sample))


def validate(loader):
    model, sizes = Net(), sizes_of_batches()
    runner = DictRunner(Net())
    fit(runner, model, {"valid": loader}, [sizes, Metrics(["accuracy"], num_classes=2)], optimizer=None)
    return runner.history[1]["valid"], sizes.kept


def validate_items(first):
    return validate(DataLoader(items(first), batch_size=4))


def expected(kept):
    images = torch.stack([item["image"] for item in items("int")])[kept]
    target = torch.arange(COUNT)[kept] % 2
    logits = Net()(images)["logits"]
    accuracy = (logits.argmax(1) == target).double().mean()
    return {"loss": nn.functional.cross_entropy(logits, target).item(), "accuracy": accuracy.item()}


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("first", FIRST)
def test_an_epochs_loss_is_that_over_all_samples_whatever_an_item_begins_with(processes, first, ranks):
    results = processes.run(ranks, validate_items, first)
    for metrics, _ in results:
        assert metrics == pytest.approx(expected(slice(None)), rel=1e-12)
    seen = sorted((place, size) for _, sizes in results for size, place in sizes)
    assert seen == [(0, 4), (4, 4), (8, 3)]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("first", ["size", "nested"])
def test_samples_left_out_are_not_counted(first, workers):
    # Of the first two batches 3 and 2 are left: as many as a size has parts.
    loader = DataLoader(WithoutBadImages(SomeBad(items(first))), batch_size=4, collate_fn=collate, num_workers=workers)
    metrics, sizes = validate(loader)
    assert metrics == pytest.approx(expected([1, 2, 3, 4, 7, 8, 9, 10]), rel=1e-12)
    assert [size for size, _ in sizes] == [3, 2, 3]


def test_a_collate_fn_of_ones_own_may_leave_samples_out():
    loader = DataLoader(
        items("string"), batch_size=4, collate_fn=lambda batch: default_collate([b for b in batch if b["target"]])
    )
    metrics, sizes = validate(loader)
    assert metrics == pytest.approx(expected([1, 3, 5, 7, 9]), rel=1e-12)
    assert [size for size, _ in sizes] == [2, 2, 1]


@pytest.mark.parametrize(
    ("batch", "size"),
    [
        ({"anchors": torch.zeros(9, 4), "image": torch.zeros(5, 3)}, 5),
        ({"anchors": torch.zeros(9, 4), "image": [torch.zeros(3, 8, 8)] * 5}, 5),
        ({"epoch": 3, "rate": torch.tensor(0.1), "image": torch.zeros(5, 3)}, 5),
        ({"image": torch.zeros(10, 3), "target": torch.zeros(10)}, 10),  # two views of each, one behind the other
        ({"image": torch.zeros(4, 3), "id": ["a"] * 4}, 4),
        (SizedBatch({"size": [torch.zeros(2)] * 2, "image": torch.zeros(2, 3)}, samples=2), 2),
        ({"image": [torch.zeros(3, 8, 8), torch.zeros(3, 9, 9)]}, 5),
        ([torch.zeros(4, 3), torch.zeros(4)], 5),
    ],
)
def test_five_samples_were_asked_for(batch, size):
    assert batch_size(batch, 5) == size


@pytest.mark.parametrize("first", sorted(FIRST.keys() - {"three_numbers"}))
def test_catalysts_own_runner_may_be_given_such_items_too(first):
    class Logits(Net):
        def forward(self, image):
            return super().forward(image)["logits"]

    sizes, model = sizes_of_batches(), Logits()
    runner = dl.SupervisedRunner(input_key="image", target_key="target")
    fit(runner, model, {"valid": items(first)}, [sizes], batch=4)
    assert sizes.kept == [(4, 0), (4, 4), (3, 8)]


BESIDE = {
    "a size": lambda good: {"size": [torch.full((len(good),), 480), torch.full((len(good),), 640)]},
    "a constant": lambda good: {"prior": torch.ones(3)},
    "names of classes": lambda good: {"classes": ["a", "b", "c", "d"]},
    "a constant as long as was asked for": lambda good: {"anchors": torch.ones(4, 2), "pair": [1, 2]},
}


@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("asked", [2, 4])
def test_a_collate_function_that_drops_samples_is_seen_whatever_stands_beside_them(beside, asked):
    def dropping(given):
        good = [item for item in given if item["sample_id"] not in (0, 5, 6)]
        return default_collate(good) | BESIDE[beside](good)

    given = [{**item, "sample_id": i} for i, item in enumerate(items("int"))]
    metrics, sizes = validate(DataLoader(given, asked, collate_fn=dropping))
    good = [item for item in given if item["sample_id"] not in (0, 5, 6)]
    images, targets = torch.stack([it["image"] for it in good]), torch.tensor([it["target"] for it in good])
    assert metrics["loss"] == pytest.approx(nn.CrossEntropyLoss()(Net()(images)["logits"], targets).item())
    assert sum(size for size, _ in sizes) == len(good)


def test_parts_of_samples_tell_the_size_and_views_of_them_do_not():
    images = [torch.ones(3, 2, 2)] * 3
    assert batch_size({"image": images, "target": [{"labels": torch.ones(2)}] * 3, "classes": list("abcd")}, 4) == 3
    assert batch_size({"image": [torch.ones(5, 3), torch.ones(5, 3)]}, 5) == 5
    assert batch_size({"image": torch.ones(10, 3), "target": torch.ones(5)}, 5) == 5  # two crops of each
    assert batch_size({"left": torch.ones(3, 1), "x": torch.ones(4)}, 4, ["left"]) == 3
