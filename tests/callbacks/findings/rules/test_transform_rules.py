"""Rules on transforms: each names what was done to images and in which loader, and is silent on healthy twins."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from made_pictures import normalized, of_pictures, photograph, shares
from made_probes import found, healthy, loader, make_samples, sample, with_samples

from assay.callbacks.findings.observe.data.jumps import jumps_of
from assay.callbacks.findings.probe.model_probe import LayerProbe, ModelProbe
from assay.callbacks.findings.probe.probe import Probe
from assay.callbacks.findings.rules import all_rules
from assay.callbacks.findings.rules.data.blank_images import blank_images
from assay.callbacks.findings.rules.data.wrapped_values import wrapped_values
from assay.callbacks.findings.rules.transforms.alike_workers import alike_workers
from assay.callbacks.findings.rules.transforms.blank_after_augmentation import blank_after_augmentation
from assay.callbacks.findings.rules.transforms.different_orientation import different_orientation
from assay.callbacks.findings.rules.transforms.different_scale import different_scale
from assay.callbacks.findings.rules.transforms.different_size import different_size
from assay.callbacks.findings.rules.transforms.different_statistics import different_statistics
from assay.callbacks.findings.rules.transforms.grey_images import grey_images
from assay.callbacks.findings.rules.transforms.normalized_twice import normalized_twice
from assay.callbacks.findings.rules.transforms.same_draw import same_draw
from assay.callbacks.findings.rules.transforms.scale_0_255 import scale_0_255
from assay.callbacks.findings.rules.transforms.unnormalized import unnormalized
from assay.callbacks.findings.rules.transforms.validation_augmented import validation_augmented
from assay.callbacks.findings.rules.transforms.wrong_channel_order import wrong_channel_order
from assay.callbacks.findings.rules.transforms.wrong_normalization import wrong_normalization

RULES = [rule for rule in all_rules() if ".rules.transforms" in rule.find.__module__ and rule.at == "data"]


def as_bytes(image):
    return image.astype(np.float32)


def standardized(image):
    return ((image - image.mean()) / image.std()).astype(np.float32)


def cells(seed):
    """Return a picture of a narrow range, as of blood cells: nothing is black or white."""
    return photograph(seed) // np.uint8(3) + np.uint8(80 + seed % 37)


def scan(seed):
    """Return a grey scan in three channels, black around the object."""
    grey = photograph(seed)[:1].repeat(3, 0)
    grey[:, :, :8] = 0
    return grey


def noise(seed):
    return np.random.default_rng(seed).normal(0, 1, (3, 32, 32)).astype(np.float32)


def mixed(seed):
    """Return pictures of two kinds: validation has other colours and other light than training."""
    image = photograph(seed)
    return image if seed < 1000 else (255 - image[::-1] // 2).astype(np.uint8)[:, ::-1]


HEALTHY = {
    "made": healthy,
    "photographs": of_pictures,
    "standardized": lambda: of_pictures(standardized, standardized),
    "cells": lambda: of_pictures(pictures=cells),
    "scans": lambda: of_pictures(pictures=scan),
    "noise": lambda: of_pictures(lambda it: it, lambda it: it, pictures=noise),
    "other splits": lambda: of_pictures(pictures=mixed),
    "0 to 1, nobody told": lambda: of_pictures(shares, shares, told=(None, None)),
    "few": lambda: of_pictures(count=5),
}


@cache
def healthy_twin(name):
    return HEALTHY[name]()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("twin", HEALTHY)
def test_no_rule_on_transforms_speaks_of_healthy_data(rule, twin):
    assert [it for it in found(rule, healthy_twin(twin)) if it.severity != "note"] == []


def test_different_scale_names_both_ranges():
    (finding,) = found(different_scale, of_pictures(shares, as_bytes))
    assert finding.severity == "error"
    assert "images of train run from 0 to 1 and those of valid from 0 to 255: they differ 255 times" in finding.what


def test_different_statistics_names_the_loader_that_is_not_normalized():
    (finding,) = found(different_statistics, of_pictures(valid=shares))
    assert finding.severity == "warning"
    assert "images of train are normalized (mean" in finding.what
    assert "and those of valid are not (mean" in finding.what


def test_different_statistics_is_silent_on_noise_that_goes_below_black():
    numbers = np.random.default_rng(0)
    noisy = of_pictures(lambda it: shares(it) + numbers.normal(0, 0.15, it.shape).astype(np.float32), shares)
    assert found(different_statistics, noisy) == ()


def test_different_statistics_names_another_mean_and_std():
    probe = of_pictures(valid=lambda it: normalized(it, (0.5,) * 3, (0.5,) * 3))
    (finding,) = found(different_statistics, probe)
    assert (
        "images of train are normalized with mean 0.485, 0.456, 0.406 and std 0.229, 0.224, 0.225, those of valid with"
        " mean 0.5 and std 0.5" in finding.what
    )


def test_different_statistics_names_another_black_and_white_where_values_have_no_levels():
    probe = of_pictures(valid=lambda it: normalized(it, (0.5,) * 3, (0.5,) * 3))
    probe = without_levels(probe)
    (finding,) = found(different_statistics, probe)
    assert "those of valid with mean 0.5 and std 0.5, as their black and white tell" in finding.what
    probe = with_samples(probe, "train", lambda samples: [replace(it, lows=(), highs=()) for it in samples])
    (finding,) = found(different_statistics, probe)
    assert "in images of train but -1 and 1 in those of valid, so they are normalized differently" in finding.what


def without_levels(probe):
    for key in probe.loaders:
        probe = with_samples(probe, key, lambda samples: [replace(it, levels=None) for it in samples])
    return probe


def test_different_statistics_names_images_that_are_standardized_one_by_one():
    (finding,) = found(different_statistics, of_pictures(valid=standardized))
    assert "each image of valid is brought to mean 0 and deviation 1 by itself, those of train are not" in finding.what


def test_different_statistics_names_a_contrast_that_no_image_shares():
    probe = of_pictures(valid=lambda it: 3 * normalized(it), pictures=cells)
    assert "images of train (mean" in found(different_statistics, probe)[0].what


def test_wrong_channel_order_names_it_before_and_after_normalization():
    (finding,) = found(wrong_channel_order, of_pictures(valid=lambda it: normalized(it[::-1])))
    assert finding.severity == "warning"
    assert "red and blue are exchanged between train and valid: the means of the channels are" in finding.what
    assert found(wrong_channel_order, of_pictures(shares, lambda it: shares(it)[::-1]))


def test_wrong_channel_order_is_silent_on_colours_that_another_fault_changed():
    assert found(wrong_channel_order, of_pictures(train=lambda it: normalized(np.clip(it[::-1] // 4, 0, 255)))) == ()


@pytest.mark.parametrize(
    ("turn", "name"),
    [
        (lambda it: it[:, ::-1], "upside down"),
        (lambda it: it.transpose(0, 2, 1), "transposed (rows and columns exchanged)"),
        (lambda it: 255 - it, "inverted (dark and light exchanged)"),
    ],
)
def test_different_orientation_names_the_turn(turn, name):
    (finding,) = found(different_orientation, of_pictures(valid=lambda it: normalized(turn(it))))
    assert finding.severity == "warning"
    assert f"images of valid are {name}" in finding.what
    assert "against those of train" in finding.what


def test_different_orientation_is_silent_where_training_flips():
    def flip(image):
        return normalized(image[:, ::-1] if int(image.sum()) % 2 else image)

    assert found(different_orientation, of_pictures(flip)) == ()


def test_different_size_is_a_note():
    (finding,) = found(different_size, of_pictures(valid=lambda it: normalized(it[:, :16])))
    assert finding.severity == "note"
    assert "images of train have 32 x 32 pixels and those of valid 16 x 32" in finding.what


def second_reading(probe, key, part=1.0):
    """Return a probe in which a part of a loader's images are others when they are read again."""
    one = probe.loaders[key]
    again = {index: b"other" if index < part * len(one.samples) else it.digest for index, it in one.samples.items()}
    return replace(probe, loaders={**probe.loaders, key: replace(one, again=again)})


def test_validation_augmented_names_the_loader():
    (finding,) = found(validation_augmented, second_reading(healthy(), "valid", 0.4))
    assert finding.severity == "warning"
    assert "valid is augmented: 40 of 100 of its images (40%) are others when they are read again" in finding.what


def test_validation_augmented_is_silent_on_training_and_without_targets():
    assert found(validation_augmented, second_reading(healthy(), "train")) == ()
    probe = second_reading(healthy(), "valid")
    views = replace(probe.loaders["valid"], target_key=None)
    assert found(validation_augmented, replace(probe, loaders={**probe.loaders, "valid": views})) == ()


def with_train(**changes):
    probe = healthy()
    return replace(probe, loaders={**probe.loaders, "train": replace(probe.loaders["train"], **changes)})


def test_same_draw_names_the_generator():
    (finding,) = found(same_draw, with_train(reseeds=("numpy",)))
    assert finding.severity == "warning"
    assert "reading an item of train sets the random numbers of numpy to the same state each time" in finding.what


def test_alike_workers_names_the_loader_and_needs_two_workers():
    (finding,) = found(alike_workers, with_train(workers=4, workers_alike=True))
    assert "the 4 workers of train draw the same random numbers" in finding.what
    assert found(alike_workers, with_train(workers=0, workers_alike=True)) == ()
    assert found(alike_workers, with_train(workers=4, workers_alike=False)) == ()


def test_unnormalized_names_the_loaders_and_who_was_told():
    (finding,) = found(unnormalized, of_pictures(shares, shares))
    assert finding.severity == "warning"
    assert "images of train and valid are not normalized: they run from 0 to 1, while ConfusionMatrix" in finding.what
    assert "they run from 0 to 255" in found(unnormalized, of_pictures(as_bytes, as_bytes))[0].what
    assert found(unnormalized, of_pictures(shares, shares, told=((0.0,), (1.0,)))) == ()


def test_normalized_twice_names_each_loader():
    def twice(image):
        return normalized(255 * normalized(image))

    assert [it.where.loader for it in found(normalized_twice, of_pictures(twice, twice))] == ["train", "valid"]
    (finding,) = found(normalized_twice, of_pictures(valid=twice, pictures=cells))
    assert "images of valid are normalized twice: they run from" in finding.what


def dim(seed):
    return (photograph(seed) // 2 + 60).astype(np.uint8)


def test_normalized_twice_compares_loaders_whose_images_reach_no_end_and_of_which_nothing_was_told():
    def twice(image):
        return normalized(255 * normalized(image))

    (finding,) = found(normalized_twice, of_pictures(twice, told=(None, None), pictures=dim))
    assert "images of train are normalized" in finding.what
    probe = without_levels(of_pictures(twice, told=(None, None), pictures=dim))
    (finding,) = found(normalized_twice, probe)
    assert "images of train are normalized once more than those of valid: they run from" in finding.what
    assert found(normalized_twice, of_pictures(told=(None, None), pictures=dim)) == ()
    assert found(normalized_twice, of_pictures(shares, told=(None, None), pictures=dim)) == ()


def test_normalized_twice_names_a_second_division_by_255():
    (finding,) = found(normalized_twice, of_pictures(train=lambda it: normalized(it / 255)))
    assert "images of train are divided by 255 twice" in finding.what


def test_wrong_normalization_names_black_and_white():
    def by_half(image):
        return normalized(image, (0.5,), (0.5,))

    findings = found(wrong_normalization, of_pictures(by_half, by_half))
    assert [it.where.loader for it in findings] == ["train", "valid"]
    assert "black and white are -1 and 1 in images of train, but -2.12 and 2.64 by the mean and std" in findings[0].what


def test_a_small_deviation_is_none_of_two_normalizations():
    """All values are as far outside of 0 to 1, by ImageNet's constants, as after two of these."""

    def narrow(image):
        return normalized(image, (0.2,), (0.12,))

    probe = of_pictures(narrow, narrow, told=((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    assert found(normalized_twice, probe) == ()
    assert [it.where.loader for it in found(wrong_normalization, probe)] == ["train", "valid"]


def test_wrong_normalization_knows_the_deviation_by_the_steps_between_levels():
    """No image is black or white."""

    def narrow(image):
        return normalized(image, (0.2,), (0.12,))

    told = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    first, second = found(wrong_normalization, of_pictures(narrow, narrow, told=told, pictures=dim))
    assert (first.where.loader, second.where.loader) == ("train", "valid")
    assert "std 0.12, as the steps between their levels tell, and" in first.what
    assert "was told mean 0.485, 0.456, 0.406 and std 0.229, 0.224, 0.225" in first.what
    assert found(normalized_twice, of_pictures(narrow, narrow, told=told, pictures=dim)) == ()

    def of_every_second_level(image):
        return normalized(image // 2 * 2)

    def of_17_levels(image):
        return normalized(np.round(np.round(image / 255 * 16) * 255 / 16))

    for few in (of_every_second_level, of_17_levels):
        assert found(wrong_normalization, of_pictures(few, few, pictures=dim)) == ()


def test_blank_after_augmentation_needs_a_validation_without_blanks():
    black = np.zeros((3, 32, 32), np.float32)

    def change(samples):
        return [sample(it.index, black, it.label) if it.index < 30 else it for it in samples]

    probe = second_reading(with_samples(healthy(), "train", change), "train")
    (finding,) = found(blank_after_augmentation, probe)
    assert "30 of 200 images of train (15%) are blank after augmentation" in finding.what
    assert found(blank_after_augmentation, with_samples(probe, "valid", change)) == ()


def test_blank_after_augmentation_leaves_images_that_are_always_blank_to_another_rule():
    black = np.zeros((3, 32, 32), np.float32)

    def change(samples):
        return [sample(it.index, black, it.label) if it.index < 30 else it for it in samples]

    probe = with_samples(healthy(), "train", change)
    others = {index: bytes(20) for index in range(30, 200)}
    train = replace(probe.loaders["train"], again={**probe.loaders["train"].again, **others})
    probe = replace(probe, loaders={**probe.loaders, "train": train})
    assert probe.train.augments and found(blank_after_augmentation, probe) == ()
    (finding,) = found(blank_images, probe)
    assert "30 of 200 images of train (15%) are blank" in finding.what


def with_first_layer(probe, out_std, kind="Conv2d", **options):
    layers = (LayerProbe("stem", kind, out_std=out_std), LayerProbe("act", "ReLU"))
    return replace(probe, model=ModelProbe(layers=layers, **options))


def test_scale_0_255_names_the_first_layer():
    probe = of_pictures(as_bytes, as_bytes, told=(None, None))
    (finding,) = found(scale_0_255, with_first_layer(probe, 71.0))
    assert finding.severity == "warning"
    assert (
        "images of train run from 0 to 255 and reach the model as they are: its first layer, stem, gives"
        in finding.what
    )


def test_scale_0_255_is_silent_on_models_that_scale_by_themselves():
    probe = of_pictures(as_bytes, as_bytes, told=(None, None))
    assert found(scale_0_255, with_first_layer(probe, 0.6)) == ()
    assert found(scale_0_255, with_first_layer(probe, 80.0, "BatchNorm2d")) == ()
    assert found(scale_0_255, with_first_layer(healthy(), 80.0)) == ()


def with_jumps(make):
    """Return a probe of pictures whose neighbours were compared."""
    images = [make(photograph(number, side=64)) for number in range(40)]
    samples = [replace(sample(n, image, 0), jumps=jumps_of(image)) for n, image in enumerate(images)]
    return Probe(loaders={"train": loader("train", samples)})


@pytest.mark.parametrize(
    "wrap",
    [
        lambda it: it + np.uint8(60),
        lambda it: (it * 1.5).astype(np.int64).astype(np.uint8),
        lambda it: it.astype(np.int8),
    ],
)
def test_wrapped_values_names_photographs_that_went_over_the_top(wrap):
    (finding,) = found(wrapped_values, with_jumps(lambda it: normalized(wrap(it // 2 + 100))))
    assert finding.severity in ("note", "warning")
    assert "values of the images of train wrapped around: it looks as if they had gone over the top" in finding.what


def test_wrapped_values_warns_where_all_levels_are_there():
    smooth = np.add.outer(np.linspace(0, 170, 64), np.linspace(0, 170, 64))[None].repeat(3, 0)
    numbers = np.random.default_rng(0)
    probe = with_jumps(lambda _: (smooth + numbers.normal(0, 2, smooth.shape) + 5).astype(np.int64).astype(np.uint8))
    assert [it.severity for it in found(wrapped_values, probe)] == ["warning"]


def test_wrapped_values_knows_dark_specks_in_small_bright_strokes():
    def stroke(image):
        levels = np.zeros((1, 8, 8), np.int64)
        levels[0, :, 2:6] = 12 + np.random.default_rng(int(image.sum())).integers(0, 5, (8, 4))
        return (16 * levels).astype(np.uint8)

    assert found(wrapped_values, with_jumps(stroke))


def drawn_text(image):
    page = np.full_like(image, 255)
    for row in range(4, 60, 8):
        page[:, row : row + 5, row % 7 :: 3] = 10
    return page


@pytest.mark.parametrize(
    "make",
    [
        normalized,
        lambda it: (it > 128) * np.uint8(255),
        drawn_text,
        lambda it: noise(int(it.sum())),
        lambda it: it // 128 * 200,
    ],
)
def test_wrapped_values_is_silent_on_photographs_masks_text_and_noise(make):
    assert found(wrapped_values, with_jumps(make)) == ()


def drawn_rectangles(seed, noise, colours):
    numbers = np.random.default_rng(seed)
    page = np.zeros((3, 32, 32)) + colours(numbers)[:, None, None]
    for _ in range(3):
        top, left, height, width = *numbers.integers(0, 24, 2), *numbers.integers(5, 16, 2)
        page[:, top : top + height, left : left + width] = colours(numbers)[:, None, None]
    return (page + numbers.normal(0, noise, page.shape)).clip(0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("noise", [0, 3, 8, 20])
@pytest.mark.parametrize(
    "colours",
    [
        lambda it: it.integers(0, 2, 3) * 255.0,
        lambda it: it.integers(0, 2, 3) * 230.0 + 12,
        lambda it: it.uniform(0, 255, 3),
    ],
    ids=["saturated", "nearly saturated", "any"],
)
def test_wrapped_values_is_silent_on_drawings(colours, noise):
    images = [normalized(drawn_rectangles(seed, noise, colours)) for seed in range(40)]
    samples = [replace(sample(n, image, 0), jumps=jumps_of(image)) for n, image in enumerate(images)]
    assert found(wrapped_values, Probe(loaders={"train": loader("train", samples)})) == ()


@pytest.mark.parametrize("wrap", [lambda it: it + np.uint8(90), lambda it: (it * 1.7).astype(int).astype(np.uint8)])
def test_wrapped_values_names_both_loaders_of_small_noisy_pictures_at_once(wrap):
    def small(seed):
        noisy = photograph(seed, side=24) + np.random.default_rng(seed).normal(0, 10, (3, 24, 24))
        return wrap(noisy.clip(0, 255).astype(np.uint8))

    loaders = {
        key: loader(key, [replace(sample(n, small(first + n), 0), jumps=jumps_of(small(first + n))) for n in range(40)])
        for key, first in (("train", 0), ("valid", 100))
    }
    (finding,) = found(wrapped_values, Probe(loaders=loaders))
    assert "values of the images of train and valid wrapped around" in finding.what
    assert finding.where.loader == "train, valid"


def test_jumps_of_images_without_a_range_are_not_measured():
    assert jumps_of(np.zeros((3, 8, 8))) is None
    assert jumps_of(np.zeros((3, 2, 8))) is None
    assert make_samples(1)[0].jumps is None


def grey(image):
    return normalized(np.repeat(image.mean(0, keepdims=True), 3, 0))


def without_channels(image):
    image = normalized(image)
    image[1:] = 0
    return image


def opaque(image):
    return np.concatenate([normalized(image), np.ones((1, *image.shape[1:]), np.float32)])


def test_grey_images_names_the_loader_without_colours():
    (finding,) = found(grey_images, of_pictures(valid=grey))
    assert finding.severity == "warning"
    assert "all images of valid are grey (their channels are the same), those of train are coloured" in finding.what
    (finding,) = found(grey_images, of_pictures(train=grey))
    assert "all images of train are grey" in finding.what


def test_grey_images_names_channels_without_content():
    (finding,) = found(grey_images, of_pictures(without_channels, without_channels))
    assert "2 channels of the images of train (1, 2, counted from 0) hold one value" in finding.what


def test_grey_images_is_silent_on_grey_in_both_on_opacity_and_on_some_grey_images():
    draw = np.random.default_rng(0)
    assert found(grey_images, of_pictures(grey, grey)) == ()
    assert found(grey_images, of_pictures(opaque, opaque)) == ()
    assert found(grey_images, of_pictures(lambda it: grey(it) if draw.random() < 0.2 else normalized(it))) == ()
    assert found(grey_images, healthy()) == ()
