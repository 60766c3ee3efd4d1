"""Probes of models made by hand for tests of rules: a small healthy convolutional net, to be changed."""

from dataclasses import replace

import numpy as np
from made_probes import healthy

from assay.callbacks.findings.probe.model_probe import LayerProbe, ModelProbe, OutputProbe, ParameterProbe
from assay.callbacks.findings.probe.settings_probe import CriterionProbe, SettingsProbe, TermProbe

BATCH = 16
CROSS_ENTROPY = TermProbe("loss", "logits", "target", 1.0, CriterionProbe("CrossEntropyLoss", "cross_entropy", "mean"))


def weight(name, *shape, **options):
    """Return what was observed of a weight with He's initialization."""
    std = float(np.sqrt(2 / np.prod(shape[1:])))
    norm = std * float(np.sqrt(np.prod(shape)))
    options = {"std": std, "low": -3 * std, "high": 3 * std, "norm": norm, "grad_norm": 0.1 * norm, **options}
    return ParameterProbe(name, shape, **options)


def layer(name, kind, *shape, **options):
    """Return what was observed of a layer that gave an output of this shape."""
    return LayerProbe(name, kind, out_shape=shape, **options)


def norm(name, channels, side, **options):
    """Return what was observed of a BatchNorm as torch makes it."""
    settings = {"momentum": 0.1, "eps": 1e-5, "affine": True, "track_running_stats": True, **options.pop("options", {})}
    options = {"values_per_channel": BATCH * side * side, **options}
    return layer(name, "BatchNorm2d", BATCH, channels, side, side, options=settings, **options)


def healthy_net():
    """Return a net of three convolutions with BatchNorm, and a linear head of ten classes."""
    parameters = [
        weight("conv1.weight", 16, 3, 3, 3),
        ParameterProbe("norm1.weight", (16,), mean=1, std=0, low=1, high=1),
        weight("conv2.weight", 32, 16, 3, 3),
        ParameterProbe("norm2.weight", (32,), mean=1, std=0, low=1, high=1),
        weight("conv3.weight", 64, 32, 3, 3),
        weight("fc.weight", 10, 64),
        ParameterProbe("fc.bias", (10,), std=0, low=0, high=0, norm=0),
    ]
    layers = [
        layer("conv1", "Conv2d", BATCH, 16, 32, 32),
        norm("norm1", 16, 32),
        layer("relu1", "ReLU", BATCH, 16, 32, 32, out_mean=0.4, out_std=0.6, out_zero=0.5, dead=0.1),
        layer("conv2", "Conv2d", BATCH, 32, 16, 16),
        norm("norm2", 32, 16),
        layer("relu2", "ReLU", BATCH, 32, 16, 16, out_mean=0.4, out_std=0.6, out_zero=0.5, dead=0.2),
        layer("conv3", "Conv2d", BATCH, 64, 8, 8),
        layer("drop", "Dropout", BATCH, 64, options={"p": 0.5}),
        layer("fc", "Linear", BATCH, 10),
    ]
    return ModelProbe(
        tuple(parameters),
        tuple(layers),
        {"logits": OutputProbe("logits", (BATCH, 10), low=-2, high=2)},
        leaks={"logits": 0.0},
        constant={"logits": False},
        loss=2.3,
        batch_size=BATCH,
    )


def settings_of(**options):
    """Return settings of a training with Adam and cross entropy."""
    options = {"optimizer": "Adam", "batch_size": BATCH, "terms": (CROSS_ENTROPY,), "num_classes": 10, **options}
    return SettingsProbe(**options)


def run_of(model=None, **options):
    """Return the probe of a run with a model, and settings by name."""
    return healthy(model=healthy_net() if model is None else model, settings=settings_of(**options))


def change(model, *names, **options):
    """Return a model whose parameters and layers have other values, where their names begin with one of these."""

    def changed(part):
        known = {name: value for name, value in options.items() if name in part.__dataclass_fields__}
        return replace(part, **known) if part.name.startswith(names) else part

    return replace(model, parameters=tuple(map(changed, model.parameters)), layers=tuple(map(changed, model.layers)))


def add(model, parameters=(), layers=()):
    """Return a model with further parts in front of its head."""
    return replace(
        model,
        parameters=(*model.parameters[:-2], *parameters, *model.parameters[-2:]),
        layers=(*model.layers[:-1], *layers, model.layers[-1]),
    )


def with_output(model, key="logits", **options):
    """Return a model one of whose outputs has other values."""
    return replace(model, outputs={**model.outputs, key: replace(model.outputs[key], **options)})
