"""What the diagnostics hold within an epoch does not grow with the number of its samples."""

import gc
import tracemalloc

import pytest
import torch
from catalyst import dl
from kit import Keep, fit
from torch import nn
from torch.utils.data import DataLoader, Dataset

from assay.callbacks import (
    AugmentationPreview,
    BestWorstBatches,
    BoxMetrics,
    Embeddings,
    GradientStats,
    HParams,
    NonFiniteGuard,
    classification_diagnostics,
    detection_diagnostics,
    segmentation_diagnostics,
)
from assay.callbacks.base.diagnostic import Diagnostic
from assay.callbacks.measures import kept_scores
from assay.runner import DictRunner, Progress, TensorBoardLogger

CLASSES = ["cat", "dog", "owl"]
SIDE, BATCH, K = 8, 50, 8
# Each with a margin: a sample among the best and the worst is held once, and Python fills its own free lists, by up to
# 45 kB in these runs. Traced are all objects of Python and the arrays of NumPy.
KINDS = {"tensors": 30, "tensor_bytes": 2_000, "traced_bytes": 100_000}


class Samples(Dataset):
    """Made when they are asked for, so that the data itself takes no memory."""

    def __init__(self, count, make_target):
        self.count, self.make_target = count, make_target

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        chance = torch.Generator().manual_seed(index)
        image = torch.rand(1, SIDE, SIDE, generator=chance)
        return {"image": image, "target": self.make_target(chance), "sample_id": f"sample-{index:05d}"}


class HeldMemory(dl.Callback):
    """The most that is held within a loader, above what was held before it: see ``KINDS``."""

    def __init__(self):
        super().__init__(order=-1)  # first: neither what a loader nor what a batch leaves behind is gone yet
        self.before, self.peaks = {}, {}

    def on_loader_start(self, runner):
        self.before = self._held(runner)
        self.peaks[runner.loader_key] = dict.fromkeys(KINDS, 0)

    def on_batch_end(self, runner):
        # Both runs come by the most that waits, as small batches wait for an eighth, and by the last sample by chance.
        if runner.loader_batch_step % 4 == 0 or runner.loader_batch_step == runner.loader_batch_len:
            peaks = self.peaks[runner.loader_key]
            for kind, amount in self._held(runner).items():
                peaks[kind] = max(peaks[kind], amount - self.before[kind])

    def _held(self, runner):
        for callback in runner.callbacks.values():
            for writer in callback.writers_.values() if isinstance(callback, Diagnostic) else ():
                writer.drain()  # what is drawn is on its way out in a thread
        gc.collect()
        storages = [one.untyped_storage() for one in gc.get_objects() if issubclass(type(one), torch.Tensor)]
        tensor_bytes = sum({one.data_ptr(): one.nbytes() for one in storages}.values())
        traced_bytes = tracemalloc.get_traced_memory()[0]
        return {"tensors": len(storages), "tensor_bytes": tensor_bytes, "traced_bytes": traced_bytes}


@pytest.fixture(autouse=True)
def only_what_a_run_makes_is_counted():
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
    tracemalloc.stop()


class Net(nn.Module):
    """Logits of 3 classes: of images, or of every pixel."""

    def __init__(self, pixels=False):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.head, self.pixels = nn.Conv2d(4, 3, 1), pixels

    def forward(self, image):
        logits = self.head(self.body(image))
        return {"logits": logits if self.pixels else logits.mean(dim=(2, 3))}


class Detector(nn.Module):
    """One box an image, of any place."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, 5))

    def forward(self, image):
        parts = self.layers(image).sigmoid()
        corners = torch.cat([parts[:, :2] * 4, 4 + parts[:, 2:4] * 4], dim=1).unsqueeze(1)
        label = torch.ones(1, dtype=torch.int64)
        rows = zip(corners, parts[:, 4:], strict=True)
        return {"logits": [{"boxes": boxes, "scores": scores, "labels": label} for boxes, scores in rows]}


def box_loss(found, true):
    return torch.stack(
        [(one["boxes"] - other["boxes"]).abs().mean() for one, other in zip(found, true, strict=True)]
    ).mean()


def a_box(chance):
    low = torch.rand(1, 2, generator=chance) * 4
    return {"boxes": torch.cat([low, low + 3], dim=1), "labels": torch.ones(1, dtype=torch.int64)}


def stack_images(items):
    whole = {name: [item[name] for item in items] for name in items[0]}
    return {**whole, "image": torch.stack(whole["image"])}


def everything(task, folder):
    """Return all diagnostics that fit a task."""
    options = {"class_names": CLASSES, "k_samples": K, "gradients_every_n_steps": 1}
    build = {"images": classification_diagnostics, "pixels": segmentation_diagnostics, "boxes": detection_diagnostics}
    bounded = [one for one in build[task](**options) if not isinstance(one, BoxMetrics)]  # that one keeps every box
    callbacks = [*bounded, NonFiniteGuard(folder=folder), HParams(), Progress(show_bar=False)]
    if task == "images":
        callbacks += [
            GradientStats(per_parameter=True, update_ratio=True, prefix="more"),
            BestWorstBatches("accuracy", False, k_images=K),
            Embeddings(max_samples=2 * K),
            AugmentationPreview(K, prefix="more"),
        ]
    return callbacks


def peaks(task, folder, count, *more):
    """Return the most that is held within the training and the validation of one epoch."""
    torch.manual_seed(0)
    held, callbacks = HeldMemory(), [*everything(task, folder), *more]
    model = Detector() if task == "boxes" else Net(pixels=task == "pixels")
    shape = (SIDE, SIDE) if task == "pixels" else ()
    samples = Samples(count, a_box if task == "boxes" else lambda chance: torch.randint(0, 3, shape, generator=chance))
    batches = DataLoader(samples, batch_size=BATCH, collate_fn=stack_images if task == "boxes" else None)
    tracemalloc.start()
    fit(
        DictRunner(), model, {"train": batches, "valid": batches},
        {"held": held, **{f"{i:02d}": callback for i, callback in enumerate(callbacks)}},
        optimizer=torch.optim.SGD(model.parameters(), lr=0.01, fused=True),
        criterion=box_loss if task == "boxes" else nn.CrossEntropyLoss(),
        loggers={"tensorboard": TensorBoardLogger(folder, log_every_steps=0)}, hparams={"lr": 0.01},
    )  # fmt: skip
    tracemalloc.stop()
    return held.peaks


def growth(task, folder, *more, samples=5000):
    """Return by how much the peaks of so many samples are above those of 500, the larger of both loaders."""
    small = peaks(task, folder / "small", 500, *more)
    large = peaks(task, folder / "large", samples, *more)
    print(task, small, large)
    return {kind: max(large[key][kind] - small[key][kind] for key in large) for kind in KINDS}


pytestmark = pytest.mark.long("trains on 4,000 samples and more, and looks at all objects of Python in many steps")


@pytest.mark.parametrize("task", ["images", "pixels", "boxes"])
def test_no_diagnostic_holds_more_of_an_epoch_of_more_samples(tmp_path, task, monkeypatch):
    # Scores are kept up to a limit; both runs are to be beyond it.
    monkeypatch.setattr(kept_scores, "MOST_ROWS", 300)
    grown = growth(task, tmp_path)
    assert all(grown[kind] <= margin for kind, margin in KINDS.items()), grown


@pytest.mark.parametrize(
    ("kind", "pick"),
    [
        ("tensors", lambda batch: batch["image"].new_zeros(1)),
        ("tensor_bytes", lambda batch: batch["target"].clone()),
        ("traced_bytes", lambda batch: batch["image"].numpy().copy()),
        ("traced_bytes", lambda batch: batch["image"][:8].double().flatten().tolist()),
    ],
    ids=["a tensor of one number per batch", "targets", "images as an array", "some images as numbers"],
)
def test_the_measurement_sees_a_callback_that_keeps_something_of_every_batch(tmp_path, kind, pick, monkeypatch):
    monkeypatch.setitem(globals(), "everything", lambda task, folder: [])
    grown = growth("images", tmp_path, Keep(lambda runner: pick(runner.batch)), samples=4000)
    assert grown[kind] > 1.5 * KINDS[kind]
