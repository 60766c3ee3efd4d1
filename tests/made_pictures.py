"""Pictures made by hand for tests of rules on transforms, and probes of what loaders make of them."""

import numpy as np
from made_probes import loader, sample

from assay.callbacks.findings.probe.probe import Probe
from assay.callbacks.findings.probe.settings_probe import MetricProbe, SettingsProbe

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def photograph(seed, side=32):
    """Return a picture of 8 bits as a camera takes it: smooth, reddish, lit from above, some black and white."""
    numbers = np.random.default_rng(seed)
    waves = np.cumsum(np.cumsum(numbers.normal(0, 1, (side, side)), 0), 1)
    waves = (waves - waves.mean()) / waves.std()
    light = np.linspace(1.5, -1.5, side)[:, None] + waves
    colour = np.array([30, 0, -30])[:, None, None] + numbers.normal(0, 5, (3, 1, 1))
    return np.clip(128 + 70 * light + colour + numbers.normal(0, 3, (3, side, side)), 0, 255).astype(np.uint8)


def normalized(image, mean=MEAN, std=STD):
    """Return the picture from 0 to 1, less the mean, by the deviation."""
    return ((image / np.float32(255) - np.reshape(mean, (-1, 1, 1))) / np.reshape(std, (-1, 1, 1))).astype(np.float32)


def of_pictures(train=normalized, valid=normalized, *, told=(MEAN, STD), pictures=photograph, count=60):
    """Return a probe of pictures that the loaders make something of; ``told``: mean and std that a callback knows."""
    loaders = {}
    for key, make, first in (("train", train, 0), ("valid", valid, 1000)):
        numbers = range(count)
        images = [np.ascontiguousarray(make(pictures(first + number))) for number in numbers]
        loaders[key] = loader(
            key, [sample(n, image, n % 2, name=f"{key}-{n}") for n, image in zip(numbers, images, strict=True)]
        )
    metric = MetricProbe("ConfusionMatrix", mean=told[0], std=told[1])
    return Probe(loaders=loaders, settings=SettingsProbe(metrics=(metric,), task="multiclass"))


def shares(image):
    return image.astype(np.float32) / 255
