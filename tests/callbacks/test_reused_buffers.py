"""What diagnostics keep of a batch is that batch, also where the loader writes the next one over it."""

import numpy as np
import pytest
import torch
from catalyst import dl
from kit import fit
from torch import nn

from assay.callbacks import BestWorstBatches, Embeddings, GradCAM, NonFiniteGuard, RecallAtK
from assay.callbacks.non_finite.report import NonFiniteError
from assay.callbacks.samples.best_worst_samples import BestWorstSamples
from assay.callbacks.support.host_copy import copy_tree, kept_from_loader, read_tree
from assay.runner import DictRunner

COUNT, BATCH, SIZE = 12, 3, 8


def image_of(index):
    """One that shows its number everywhere."""
    return np.full((1, SIZE, SIZE), (index + 1) / 16, np.float32)


class OneBuffer:
    """A collate function that writes every batch into the same memory."""

    def __init__(self, memory):
        self.memory = memory
        self.target = torch.zeros(BATCH, dtype=torch.int64)
        self.id = torch.zeros(BATCH, dtype=torch.int64)
        self.names = [""] * BATCH
        self.extra = np.zeros(BATCH)

    def __call__(self, items):
        for row, index in enumerate(items):
            self.memory[row] = torch.from_numpy(image_of(index))
            self.target[row], self.id[row] = index % 2, index
            self.names[row], self.extra[row] = str(index), index
        parts = {"image": self.memory, "target": self.target, "sample_id": self.id}
        return {**parts, "names": self.names, "extra": self.extra}


class Net(nn.Module):
    """Is the more wrong, the brighter an image of an odd number is; writes its output into one buffer too."""

    def __init__(self, broken_above=None):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        nn.init.ones_(self.conv.weight)
        self.broken_above = broken_above

    def forward(self, image):
        score = self.conv(image).mean(dim=(1, 2, 3))
        logits = torch.stack([score, -score], dim=1)
        if self.broken_above is not None:
            logits = torch.where(image.amax(dim=(1, 2, 3))[:, None] > self.broken_above, torch.nan, logits)
        return {"logits": logits}


def run(tmp_path, callbacks, memory=None, net=None, loaders=("valid",)):
    memory = torch.zeros(BATCH, 1, SIZE, SIZE) if memory is None else memory
    model = net or Net()
    fit(
        DictRunner(), model, {key: range(COUNT) for key in ("train", *loaders)}, callbacks, batch=BATCH,
        collate=OneBuffer(memory), lr=0.0, logdir=str(tmp_path),
    )  # fmt: skip


class Shown:
    """Keeps what a ranking shows."""

    def show(self, runner, writer, ranking):
        if runner.loader_key == "valid":
            self.shown = ranking


class Samples(Shown, BestWorstSamples):
    pass


class Maps(Shown, GradCAM):
    pass


@pytest.fixture(params=["memory", "file"])
def memory(request, tmp_path):
    if request.param == "memory":
        return torch.zeros(BATCH, 1, SIZE, SIZE)
    file = np.memmap(tmp_path / "images", np.float32, "w+", shape=(BATCH, 1, SIZE, SIZE))
    return torch.from_numpy(file)


def test_samples_and_maps_are_of_the_images_that_their_ids_name(tmp_path, memory):
    samples, maps = Samples(k_samples=4), Maps(k_samples=3)
    run(tmp_path / "run", [samples, maps], memory)
    for shown, count in ((samples.shown, 4), (maps.source_.shown if maps.source_ is not maps else maps.shown, 3)):
        assert [sample.sample_id for sample in shown.worst[:3]] == [11, 9, 7]
        for sample in shown.worst[:count] + shown.best[:count]:
            np.testing.assert_array_equal(sample.parts["image"], image_of(sample.sample_id))
            assert sample.parts["target"] == sample.sample_id % 2


def test_batches_are_those_of_their_scores(tmp_path, memory):
    kept = {}

    class Batches(BestWorstBatches):
        def _draw(self, samples, title, **others):
            kept[title[0].split()[0]] = measures_read(samples)
            return np.zeros((4, 4, 3), np.uint8)

    from assay.callbacks.measures.best_worst_batches import read_samples as measures_read

    run(tmp_path / "run", [Batches()], memory)
    for samples in kept.values():
        assert len(samples["image"]) == BATCH
        for index, image in zip(samples["sample_id"], samples["image"], strict=True):
            np.testing.assert_array_equal(image, image_of(index))
    # The brighter, the more wrong are images of odd numbers, and the last batch has two of them.
    assert {kind: {index // BATCH for index in samples["sample_id"]} for kind, samples in kept.items()} == {
        "best": {0}, "worst": {3},
    }  # fmt: skip


def test_the_file_of_a_broken_batch_holds_that_batch(tmp_path, memory):
    net = Net(broken_above=5.5 / 16)  # from sample 5 on, of the second batch
    with pytest.raises(NonFiniteError):
        run(tmp_path / "run", [NonFiniteGuard("stop", folder=tmp_path / "broken")], memory, net, loaders=())
    (path,) = (tmp_path / "broken").glob("**/*.pt")
    record = torch.load(path, weights_only=True)
    assert record["sample_ids"] == record["batch"]["sample_id"].tolist() == [3, 4, 5]
    assert record["batch"]["extra"].tolist() == [3, 4, 5]
    assert record["batch"]["names"] == ["3", "4", "5"]
    np.testing.assert_array_equal(record["batch"]["image"].numpy(), [image_of(index) for index in (3, 4, 5)])
    assert record["outputs"]["logits"].isnan().any(dim=1).tolist() == [False, False, True]


def test_a_projection_and_recall_keep_the_samples_that_they_chose(tmp_path, memory):
    class Kept(dl.Callback):
        def on_loader_end(self, runner):
            if runner.is_valid_loader:
                choice = embeddings.choice_ or choices[-1]
                choices.append(choice)

    choices = []
    embeddings = Embeddings(max_samples=7)
    recall = RecallAtK([1], max_samples=7)
    order = recall.order
    run(tmp_path / "run", [embeddings, recall, Kept(order=order - 1)], memory)
    kept = choices[-1].kept
    assert len(kept) == 7
    for position, sample in kept.items():
        if sample is not None:
            np.testing.assert_array_equal(sample["image"], image_of(position))
            assert (sample["id"], sample["label"]) == (position, position % 2)


def memory_of(part):
    return part.untyped_storage()._cdata


def test_what_a_loader_has_put_on_a_device_is_copied_with_its_views_and_what_was_sent_there_is_not():
    buffer, sent = torch.zeros(4, 2, device="meta"), torch.zeros(3, device="meta")
    given = {"image": buffer, "names": ["a", "b"], "boxes": [{"boxes": buffer[1:]}]}
    part = {"view": buffer[:2].detach(), "sent": [sent], "boxes": ({"boxes": given["boxes"][0]["boxes"]}, "x")}
    kept = kept_from_loader(part, given)
    assert memory_of(kept["view"]) != memory_of(buffer) != memory_of(kept["boxes"][0]["boxes"])
    assert kept["sent"][0] is sent and kept["boxes"][1] == "x"
    assert kept_from_loader(part)["view"] is part["view"]


def test_what_a_loader_may_use_again_is_copied_and_the_rest_is_not():
    array, tensor = np.zeros(3), torch.zeros(3)
    part = {"a": array, "b": [tensor, (array, "x", 5)], "c": torch.zeros(2, device="meta")}
    kept = kept_from_loader(part)
    copied = copy_tree({"a": array, "b": [tensor]})
    array += 1
    tensor += 1
    assert kept["a"].tolist() == kept["b"][0].tolist() == kept["b"][1][0].tolist() == [0, 0, 0]
    assert kept["b"][1][1:] == ("x", 5)
    assert kept["c"] is part["c"]
    assert [read_tree(copied)["a"].tolist(), read_tree(copied)["b"][0].tolist()] == [[0, 0, 0]] * 2
