"""Probes made by hand for tests of rules: a healthy run of ten classes, to be changed by ``dataclasses.replace``."""

import hashlib
from dataclasses import replace
from functools import cache

import numpy as np

from assay.callbacks.findings.observe.data.levels import levels_of
from assay.callbacks.findings.probe.loader_probe import SMALL, LoaderProbe, SampleProbe
from assay.callbacks.findings.probe.probe import Probe
from assay.callbacks.findings.probe.rule import examine

CLASSES = 10


def make_image(label, seed, side=SMALL, channels=3):
    """Return a normalized image [C, side, side] that shows its class by a bright bar, plus noise."""
    image = np.random.default_rng(seed).normal(0, 0.4, (channels, side, side)).astype(np.float32)
    image[:, :, 3 * label : 3 * label + 3] += 2
    return (image - image.mean()) / image.std()


def sample(index, image, target=None, **options):
    """Return what was observed of an image [C, H, W]."""
    image = np.asarray(image)
    options.setdefault("name", str(index))
    return SampleProbe(
        index=index,
        digest=hashlib.sha1(image.tobytes()).digest(),
        shape=image.shape,
        dtype=str(image.dtype),
        mean=tuple(image.mean((1, 2)).tolist()),
        std=tuple(image.std((1, 2)).tolist()),
        low=float(image.min()),
        high=float(image.max()),
        lows=tuple(image.min((1, 2)).tolist()),
        highs=tuple(image.max((1, 2)).tolist()),
        levels=levels_of(image),
        small=image.astype(np.float32) if image.shape[1:] == (SMALL, SMALL) else None,
        target=None if target is None else np.asarray(target),
        non_finite=not np.isfinite(image).all(),
        **options,
    )


def loader(key, samples, **options):
    """Return what was observed of a loader of these samples, all of which were read."""
    trains = key.startswith("train")
    order = np.random.default_rng(1).permutation(len(samples)).tolist() if trains else list(range(len(samples)))
    options = {
        "trains": trains, "length": len(samples), "epoch_length": len(samples), "batch_size": 16,
        "batches": -(-len(samples) // 16), "shuffles": trains, "complete": True, "order": order,
        "ids": [one.name for one in samples], "again": {one.index: one.digest for one in samples},
        "samples": {one.index: one for one in samples}, **options,
    }  # fmt: skip
    return LoaderProbe(key=key, **options)


def make_samples(count, first=0, classes=CLASSES):
    """Return samples of all classes in turn, whose seeds begin at ``first``."""
    return [
        sample(index, make_image(index % classes, first + index), index % classes, name=f"{first + index}")
        for index in range(count)
    ]


@cache
def healthy_samples():
    return {"train": make_samples(200), "valid": make_samples(100, first=1000)}


def healthy_loaders():
    """Return 200 samples for training and 100 others for validation."""
    return {key: loader(key, samples) for key, samples in healthy_samples().items()}


def healthy(**parts):
    """Return the probe of a healthy run before training, with other parts in it."""
    return Probe(**({} if "loaders" in parts else {"loaders": healthy_loaders()}), **parts)


def with_samples(probe, key, change):
    """Return a probe in which ``change`` returned the samples of a loader anew, from the list of them."""
    one = probe.loaders[key]
    samples = change(list(one.samples.values()))
    changed = replace(
        one,
        samples={it.index: it for it in samples},
        ids=[it.name for it in samples],
        again={it.index: it.digest for it in samples},
    )
    return replace(probe, loaders={**probe.loaders, key: changed})


def found(rule, probe):
    """Return the findings of one rule alone."""
    examined = examine([rule], probe)
    assert not examined.left_out, examined.left_out
    return examined.findings
