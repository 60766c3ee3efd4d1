"""The diagnostics raise the peak of memory by little: two batches, twice the samples that are shown, and 64 MiB."""

import gc
import tempfile
import tracemalloc
from functools import cache

import numpy as np
import pytest
import torch
from catalyst import dl
from kit import fit
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import Dataset

from assay.callbacks import (
    AugmentationPreview,
    BestWorstBatches,
    BestWorstSamples,
    GradCAM,
    classification_diagnostics,
    segmentation_diagnostics,
)
from assay.runner import DictRunner, TensorBoardLogger

MIB = 2**20
CLASSES, K = 5, 16
STEPS = {"train": 3, "valid": 2}


class LiveTensors(TorchDispatchMode):
    """The bytes of all tensors that were made in this thread and are alive: now, and at most since ``reset``.

    Exact, other than the memory that the process has. What a kernel takes for itself is not seen.
    """

    def __init__(self):
        super().__init__()
        self.alive, self.peak = {}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self.alive:
                    self.alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.peak = max(self.peak, self.bytes())
        return result

    def bytes(self):
        self.alive = {key: entry for key, entry in self.alive.items() if not entry[0].expired()}
        return sum(size for _, size in self.alive.values())

    def reset(self):
        self.peak = self.bytes()


class Peaks(dl.Callback):
    """The most that a loader takes, from its start until what was drawn of it is written.

    Counted are tensors, objects of Python and arrays of NumPy. The peaks of tensors and of the others need not come at
    one time, so that their sum may be more than was ever held.
    """

    def __init__(self, tensors):
        super().__init__(order=-1)
        self.tensors, self.peaks, self.key, self.batch_bytes = tensors, {}, None, 0

    def on_loader_start(self, runner):
        self.close(runner)
        self.key = runner.loader_key

    def on_batch_end(self, runner):
        self.batch_bytes = sum(part.nbytes for part in runner.batch.values() if isinstance(part, torch.Tensor))

    def on_experiment_end(self, runner):
        self.close(runner)

    def close(self, runner):
        for writer in runner.loggers["tensorboard"].writers_.values():
            writer.drain()  # so that a picture counts for its own loader, however slow the thread is
        if self.key is not None:
            self.peaks[self.key] = self.tensors.peak + tracemalloc.get_traced_memory()[1]
        gc.collect()
        self.tensors.reset()
        tracemalloc.reset_peak()


class Samples(Dataset):
    """Made when they are asked for, so that the data itself takes no memory."""

    def __init__(self, count, side, masks):
        self.count, self.side, self.masks = count, side, masks

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        chance = torch.Generator().manual_seed(index)
        image = torch.rand(3, self.side, self.side, generator=chance)
        shape = (self.side, self.side) if self.masks else ()
        target = torch.randint(0, CLASSES, shape, generator=chance)
        return {"image": image, "target": target, "sample_id": f"sample-{index:05d}"}


class Net(nn.Module):
    """Logits of images, or of every pixel."""

    def __init__(self, masks):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
            nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.head, self.masks = nn.Conv2d(16, CLASSES, 1), masks

    def forward(self, image):
        logits = self.head(self.body(image))
        if self.masks:
            return {"logits": nn.functional.interpolate(logits, image.shape[2:], mode="bilinear")}
        return {"logits": logits.mean(dim=(2, 3))}


@pytest.fixture(autouse=True)
def fresh():
    gc.collect()
    yield
    tracemalloc.stop()


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory):
    """What a first run imports and keeps is no part of what is measured."""
    for case in (IMAGES, PIXELS):
        peaks(tmp_path_factory.mktemp("warm"), full_list(case), **{**case, "side": 32, "batch_size": 4})


def peaks(folder, callbacks, *, masks, side, batch_size):
    """Return the peak of each loader in bytes, and the bytes of a batch with what the model made of it."""
    torch.manual_seed(0)
    tracemalloc.start()
    with LiveTensors() as tensors:
        held, model = Peaks(tensors), Net(masks)
        fit(
            DictRunner(), model, {key: Samples(steps * batch_size, side, masks) for key, steps in STEPS.items()},
            {"held": held, **{f"{i:02d}": callback for i, callback in enumerate(callbacks)}}, batch=batch_size,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.01, fused=True),
            loggers={"tensorboard": TensorBoardLogger(folder)},
        )  # fmt: skip
    tracemalloc.stop()
    return held.peaks, held.batch_bytes


@cache
def bare_peaks(**case):
    with tempfile.TemporaryDirectory() as folder:
        return peaks(folder, [], **case)


def extra(folder, callbacks, case):
    """Return what callbacks add to the peak of each loader and what they may add, in MiB."""
    bare, batch_bytes = bare_peaks(**case)
    full, _ = peaks(folder, callbacks, **case)
    bar = 2 * batch_bytes + 2 * K * batch_bytes / case["batch_size"]
    added = {key: round((full[key] - bare[key]) / MIB, 1) for key in bare}
    print(case, added, bar / MIB + 64)
    return added, bar / MIB + 64


IMAGES = {"masks": False, "side": 224, "batch_size": 32}
PIXELS = {"masks": True, "side": 256, "batch_size": 8}


def full_list(case):
    build = segmentation_diagnostics if case["masks"] else classification_diagnostics
    return build("full", num_classes=CLASSES, k_samples=K, gradients_every_n_steps=1)


pytestmark = pytest.mark.long("trains on large images, under a mode that looks at each operation")


@pytest.mark.parametrize("case", [IMAGES, PIXELS], ids=["images", "pixels"])
def test_full_diagnostics_take_no_more_than_two_batches_twice_the_samples_and_64_mib(tmp_path, case):
    callbacks = [callback for callback in full_list(case) if not isinstance(callback, AugmentationPreview)]
    added, bar = extra(tmp_path, callbacks, case)
    assert all(added[key] <= bar for key in STEPS), (added, bar)


def test_the_preview_takes_no_more_than_two_batches_twice_the_samples_and_64_mib(tmp_path):
    added, bar = extra(tmp_path, [AugmentationPreview(K)], IMAGES)
    assert all(added[key] <= bar for key in STEPS), (added, bar)


@pytest.mark.parametrize("k", [1])
def test_of_a_large_image_that_is_shown_no_more_is_kept_than_three_times_its_decoded_bytes(tmp_path, k):
    """Among the diagnostics of images; of the k best and k worst samples Grad-CAM needs the worst as they were."""
    side = 2000
    case = {"masks": False, "side": side, "batch_size": 1}
    callbacks = [
        BestWorstBatches(k_images=k),
        BestWorstSamples(k_samples=k),
        GradCAM(k_samples=k),
        AugmentationPreview(k),
    ]
    bare, _ = bare_peaks(**case)
    full, _ = peaks(tmp_path, callbacks, **case)
    bar = 2 * k * 3 * 3 * side**2 + 16 * MIB
    assert all(full[key] - bare[key] <= bar for key in STEPS), (full, bare, bar)


class Takes(dl.Callback):
    """Has 200 MiB at one moment."""

    def __init__(self, event, take):
        super().__init__(order=dl.CallbackOrder.External)
        setattr(self, event, lambda runner: take(200 * MIB) is None)


@pytest.mark.parametrize(
    ("event", "take"),
    [
        ("on_batch_end", lambda count: torch.empty(count, dtype=torch.uint8)),
        ("on_loader_end", lambda count: np.empty(count, dtype=np.uint8)),
    ],
    ids=["a tensor in a step", "an array at the end"],
)
def test_the_measurement_sees_what_is_held_for_a_moment(tmp_path, event, take):
    added, bar = extra(tmp_path, [Takes(event, take)], IMAGES)
    assert all(added[key] > bar for key in STEPS), (added, bar)
