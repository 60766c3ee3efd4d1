"""Rules on the numbers in images: which constants they were normalized with, casts to integers, scrambled axes."""

from functools import cache

import numpy as np
import pytest
from made_pictures import MEAN, STD, normalized, of_pictures, photograph, shares
from made_probes import found, loader, sample

from assay.callbacks.findings.observe.data.levels import levels_of
from assay.callbacks.findings.probe.probe import Probe
from assay.callbacks.findings.rules.recovered import recovered
from assay.callbacks.findings.rules.transforms.different_statistics import different_statistics
from assay.callbacks.findings.rules.transforms.grey_images import grey_images
from assay.callbacks.findings.rules.transforms.normalized_twice import normalized_twice
from assay.callbacks.findings.rules.transforms.values.mean_of_another_scale import mean_of_another_scale
from assay.callbacks.findings.rules.transforms.values.rounded_images import rounded_images
from assay.callbacks.findings.rules.transforms.values.scrambled_channels import scrambled_channels
from assay.callbacks.findings.rules.transforms.wrong_channel_order import wrong_channel_order

OWN = (0.45, 0.36, 0.27), (0.22, 0.2, 0.18)
NOBODY = (None, None)
KEYS = ("train", "valid")
RULES = (
    mean_of_another_scale, rounded_images, scrambled_channels, wrong_channel_order, different_statistics, grey_images,
)  # fmt: skip


def by_own(image):
    return normalized(image, *OWN)


def of_bytes(image):
    return normalized(image, 255 * np.array(MEAN), 255 * np.array(STD))


def undivided(image):
    return normalized(255 * image.astype(np.float32))


def reshaped(image):
    return shares(np.ascontiguousarray(image.transpose(1, 2, 0)).reshape(image.shape))


def probe_of(train, valid=None, **options):
    return of_pictures(train, train if valid is None else valid, told=NOBODY, **options)


def test_levels_tell_step_count_and_whole_numbers():
    image = photograph(0)
    levels = levels_of(image)
    assert levels.steps == pytest.approx((1, 1, 1))
    assert levels.whole
    assert levels.count == len(np.unique(image))
    assert levels_of(normalized(image)).steps == pytest.approx(tuple(1 / 255 / np.array(STD)), rel=1e-3)
    assert levels_of(np.random.default_rng(0).normal(size=(3, 32, 32))).steps == (0, 0, 0)
    assert levels_of(np.full((3, 8, 8), np.nan)) is None
    assert levels_of(np.zeros((3, 2, 8))) is None


def test_the_mean_and_std_are_recovered_from_values_alone():
    known = recovered(probe_of(by_own).train)
    assert known.sure
    np.testing.assert_allclose(known.mean, OWN[0], atol=2e-3)
    np.testing.assert_allclose(known.std, OWN[1], atol=2e-3)
    assert recovered(probe_of(lambda it: normalized(it).astype(np.float16), count=8).train) is None


@pytest.mark.parametrize("in_valid", [True, False])
def test_wrong_channel_order_needs_no_told_normalization(in_valid):
    def exchanged(image):
        return by_own(image[::-1])

    probe = probe_of(by_own, exchanged) if in_valid else probe_of(exchanged, by_own)
    (finding,) = found(wrong_channel_order, probe)
    assert "red and blue are exchanged between train and valid" in finding.what


def test_wrong_channel_order_names_channels_that_were_exchanged_after_the_normalization():
    (finding,) = found(wrong_channel_order, probe_of(by_own, lambda it: by_own(it)[::-1]))
    assert "mean and std by which they were normalized are exchanged as well" in finding.what


def test_wrong_channel_order_is_silent_where_validation_shows_dusk():
    def dusk(image):
        return by_own((image * np.array([0.6, 0.9, 1.1])[:, None, None]).clip(0, 255).astype(np.uint8))

    assert found(wrong_channel_order, probe_of(by_own, dusk)) == ()


def test_normalized_twice_recovers_constants_that_nobody_told():
    def twice(image):
        return normalized(255 * by_own(image), *OWN)

    (finding,) = found(normalized_twice, probe_of(by_own, twice))
    assert "images of valid are normalized twice" in finding.what


def test_normalized_twice_needs_no_second_loader():
    def twice(image):
        return normalized(255 * by_own(image), *OWN)

    findings = found(normalized_twice, probe_of(twice))
    assert [f"images of {it.where.loader} are normalized twice" in it.what for it in findings] == [True, True]


def test_different_statistics_compares_levels_with_values_that_were_cut_off():
    draw = np.random.default_rng(0)

    def by_half(image):
        jitter = (image / 255 - 0.5) * draw.uniform(0.8, 1.4) + draw.uniform(0.4, 0.6)
        return normalized(255 * jitter.clip(0, 1), (0.5,) * 3, (0.5,) * 3)

    (finding,) = found(different_statistics, probe_of(by_half, lambda it: normalized(it // 2 + 60)))
    assert "images of train are normalized with mean 0.5 and std 0.5, those of valid with mean about" in finding.what
    assert found(different_statistics, probe_of(by_half, lambda it: normalized(it // 2 + 60, (0.5,), (0.5,)))) == ()


def test_different_statistics_is_silent_at_night():
    assert found(different_statistics, probe_of(normalized, lambda it: normalized(it // 6))) == ()


@pytest.mark.parametrize("valid", [of_bytes, normalized])
def test_mean_of_another_scale_names_constants_of_bytes(valid):
    (finding,) = found(mean_of_another_scale, probe_of(of_bytes, valid))
    assert f"images of train{' and valid' if valid is of_bytes else ''} hardly vary" in finding.what
    assert "a mean and std of bytes, 0 to 255 (here std 58.4, 57.1, 57.4), were taken from images" in finding.what


def test_mean_of_another_scale_names_constants_of_0_to_1_on_bytes():
    (finding,) = found(mean_of_another_scale, probe_of(normalized, undivided))
    assert "images of valid run from -2.12 to 1.14e+03: a mean and std of images of 0 to 1" in finding.what
    assert "(here 0.485, 0.456, 0.406 and 0.229, 0.224, 0.225) were taken from images of 0 to 255" in finding.what


@pytest.mark.parametrize("cast", [lambda it: it.astype(np.int8), np.rint])
def test_rounded_images_names_what_a_cast_left_of_a_normalization(cast):
    (finding,) = found(rounded_images, probe_of(lambda it: cast(normalized(it))))
    assert "images of train and valid have nothing but whole numbers, from -2 to" in finding.what
    (finding,) = found(rounded_images, probe_of(normalized, lambda it: cast(normalized(it))))
    assert "images of valid have nothing but whole numbers, from -2 to" in finding.what
    assert ", while those of train run from" in finding.what


def test_rounded_images_names_a_cast_of_0_to_1():
    for cast in (lambda it: shares(it).astype(np.uint8), lambda it: shares(it // 2 + rarely(it)).astype(np.uint8)):
        (finding,) = found(rounded_images, probe_of(cast))
        assert "images of train and valid have nothing but whole numbers, from 0 to 1" in finding.what


def rarely(image):
    """Return what makes a corner of some pictures white."""
    white = np.zeros_like(image)
    if image[0, 0, 0] % 4 == 0:
        white[:, :8, :8] = 255 - image[:, :8, :8] // 2
    return white


@pytest.mark.parametrize("valid", [reshaped, shares])
def test_scrambled_channels_names_the_loader(valid):
    (finding,) = found(scrambled_channels, probe_of(reshaped, valid, pictures=smooth))
    assert f"in the rows of images of train{' and valid' if valid is reshaped else ''}, instead of in" in finding.what


def test_scrambled_channels_names_grey_images_by_their_rows():
    probe = probe_of(lambda it: reshaped(it[:1].repeat(3, 0)), pictures=lambda seed: photograph(seed, side=48))
    (finding,) = found(scrambled_channels, probe)
    assert "images of train and valid" in finding.what


def smooth(seed):
    tint = np.random.default_rng(seed).permutation([60, 0, -60])[:, None, None]
    return np.clip(photograph(seed, side=48).astype(np.int64) // 2 + 60 + tint, 0, 255).astype(np.uint8)


def binary(image):
    return np.repeat(image[:1] > 128, 3, 0).astype(np.float32)


def one_hot(image):
    return np.stack([image[0] // 86 == kind for kind in range(3)]).astype(np.float32)


def board(seed):
    return np.random.default_rng(seed).integers(-1, 2, (1, 19, 19)).astype(np.float32)


def red_drawing(seed):
    image = np.zeros((3, 32, 32), np.uint8)
    image[0, 8:24, 10 + seed % 9 : 16 + seed % 9] = np.random.default_rng(seed).integers(90, 255, (16, 6))
    return image


def coloured_drawing(seed):
    colour = np.random.default_rng(seed).uniform(0.2, 1, (3, 1, 1))
    return (red_drawing(seed)[:1] * colour).astype(np.uint8)


def shifted_hue(image):
    return shares(image // 2 + np.roll(image, 3, 2) // 3)


def grey_scan(seed):
    return photograph(seed)[:1].repeat(3, 0)


def padded(image):
    """Return it with a border of the mean, which was put around it after the normalization."""
    image = by_own(image)
    image[:, :6] = image[:, -4:] = 0
    return image


HEALTHY = {
    "grey, padded in training": lambda: probe_of(padded, by_own, pictures=grey_scan),
    "coloured drawings, augmented": lambda: probe_of(shifted_hue, shares, pictures=coloured_drawing),
    "binary": lambda: probe_of(binary),
    "one-hot": lambda: probe_of(one_hot),
    "boards": lambda: Probe(loaders={key: loader(key, [sample(n, board(n), 0) for n in range(40)]) for key in KEYS}),
    "red drawings": lambda: probe_of(shares, pictures=red_drawing),
    "bytes, normalized": lambda: probe_of(lambda it: of_bytes(255.0 * it)),
    "bytes": lambda: probe_of(lambda it: it),
    "less a mean": lambda: probe_of(lambda it: it - np.float32(120)),
    "half precision": lambda: probe_of(lambda it: normalized(it).astype(np.float16)),
    "times 10": lambda: probe_of(lambda it: 10 * shares(it) - 5),
    "night": lambda: probe_of(normalized, lambda it: normalized(it // 5)),
    "16 levels": lambda: probe_of(normalized, lambda it: normalized(it // 16 * 16)),
    "another camera": lambda: probe_of(normalized, lambda it: normalized((16 + it * 0.86).astype(np.uint8))),
}


@cache
def healthy_twin(name):
    return HEALTHY[name]()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("twin", HEALTHY)
def test_no_rule_on_values_speaks_of_healthy_images(rule, twin):
    assert [it for it in found(rule, healthy_twin(twin)) if it.severity != "note"] == []
