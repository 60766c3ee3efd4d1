"""Rules on masks: each names its fault, and is silent on its healthy twins."""

from dataclasses import replace

import numpy as np
import pytest
from made_probes import found, healthy
from made_scenes import make_scene, with_masks

from assay.callbacks.findings.probe.loader_probe import BatchProbe
from assay.callbacks.findings.probe.settings_probe import CriterionProbe, MetricProbe, SettingsProbe, TermProbe
from assay.callbacks.findings.rules.masks.empty_masks import empty_masks
from assay.callbacks.findings.rules.masks.exchanged_mask_classes import exchanged_mask_classes
from assay.callbacks.findings.rules.masks.interpolated_masks import interpolated_masks
from assay.callbacks.findings.rules.masks.inverted_masks import inverted_masks
from assay.callbacks.findings.rules.masks.mask_classes_outside import mask_classes_outside
from assay.callbacks.findings.rules.masks.mask_scale import mask_scale
from assay.callbacks.findings.rules.masks.mask_sizes import mask_sizes
from assay.callbacks.findings.rules.masks.masks_not_following import masks_not_following
from assay.callbacks.findings.rules.masks.missing_mask_classes import missing_mask_classes
from assay.callbacks.findings.rules.masks.void_as_class import void_as_class
from assay.callbacks.findings.rules.masks.void_not_ignored import void_not_ignored

ALL = [
    empty_masks, interpolated_masks, inverted_masks, mask_classes_outside, mask_scale, mask_sizes, masks_not_following,
    void_not_ignored, exchanged_mask_classes, missing_mask_classes, void_as_class,
]  # fmt: skip


def settings(ignore_index=None, kind="cross_entropy", metric=None, num_classes=None):
    term = TermProbe("loss", "logits", "target", 1.0, CriterionProbe(kind, kind, "mean", ignore_index=ignore_index))
    metrics = (MetricProbe("Metrics", num_classes=num_classes or 5, ignore_index=metric),)
    return SettingsProbe(terms=(term,), metrics=metrics, num_classes=num_classes, task="segmentation")


def told(rule, probe):
    return [finding.what for finding in found(rule, probe)]


def blurred(mask, times=3):
    """Return a mask as interpolation makes it, in fractions."""
    mask = mask.astype(np.float64)
    for _ in range(times):
        mask = (mask + np.roll(mask, 1, 0) + np.roll(mask, 1, 1) + np.roll(mask, (1, 1), (0, 1))) / 4
    return mask


@pytest.mark.parametrize(
    ("change", "move"),
    [
        (lambda image, mask, _: (image, mask[:, ::-1]), "when flipped left to right"),
        (lambda image, mask, _: (image, mask[::-1]), "when flipped top to bottom"),
        (lambda image, mask, _: (image, mask[::-1, ::-1]), "when turned by 180 degrees"),
        (lambda image, mask, _: (image, np.rot90(mask)), "when turned by 270 degrees"),
        (lambda image, mask, _: (image, mask.T), "with rows and columns exchanged"),
        (lambda image, mask, _: (image, np.roll(mask, 8, 1)), "when moved by 8 pixels to the left"),
        (lambda image, mask, _: (image, np.roll(mask, -6, 0)), "when moved by 6 pixels down"),
        (lambda image, _, index: (image, make_scene(index + 1)[1]), "they fit the image of the sample after"),
        (lambda image, _, index: (image, make_scene((7 * index + 3) % 40)[1]), "they fit those of other samples"),
        (lambda image, _, index: (image, make_scene(index + 999)[1]), "they are of other images"),
        (
            lambda image, mask, index: (image, mask[:, ::-1] if index % 2 else mask),
            "fit only when flipped left to right",
        ),
    ],
)
def test_masks_not_following_names_what_would_align_them(change, move):
    (finding,) = found(masks_not_following, with_masks(train=change))
    assert finding.severity == "error"
    assert "masks of train do not follow the images" in finding.what
    assert move in finding.what


def test_masks_not_following_names_validation_and_both():
    def flipped(image, mask, _):
        return image, mask[:, ::-1]

    assert "masks of valid do not follow" in told(masks_not_following, with_masks(valid=flipped))[0]
    assert len(told(masks_not_following, with_masks(flipped, flipped))) == 2


def test_interpolated_masks_names_fractions_and_classes_along_borders():
    fractions = with_masks(lambda image, mask, _: (image, blurred(mask)))
    assert "masks of train are interpolated" in told(interpolated_masks, fractions)[0]
    # Classes 0 and 2 alone, between which rounding puts 1.
    cut = with_masks(lambda image, mask, _: (image, blurred(2 * mask).round().astype(int)), lambda i, m, _: (i, 2 * m))
    assert "1 are classes that lie along borders of others" in told(interpolated_masks, cut)[0]
    many = with_masks(lambda image, mask, _: (image, blurred(16 * mask).round().astype(int)))
    assert "that lie" in told(interpolated_masks, many)[0]


def resized(image, mask, _):
    return image, blurred(mask, 4).round().astype(int)


def test_interpolated_masks_names_a_class_that_others_have_as_a_rim():
    """Class 1 is a class of its own, and lies around things of class 2 as well."""
    (what,) = told(interpolated_masks, with_masks(resized, classes=3))
    assert "masks of train are interpolated: between classes 0 and 2 lies a thin rim of class 1 on" in what
    assert "in the other loader" in what
    both = found(interpolated_masks, with_masks(resized, resized, classes=3))
    assert [it.severity for it in both] == ["warning", "warning"]


def bordered(image, mask, _):
    """Return a mask in which what lies beside another class is class 9."""
    border = (np.roll(mask, 1, 0) != mask) | (np.roll(mask, 1, 1) != mask)
    return image, np.where(border, 9, mask)


def test_void_as_class_names_a_class_that_is_a_border():
    (finding,) = found(void_as_class, with_masks(bordered, classes=3))
    assert finding.severity == "warning"
    assert "class 9 of the masks of train is nothing but a thin border on" in finding.what
    assert "the loss learns it, while valid has no such border" in finding.what
    # What both have may be drawn on purpose.
    both = found(void_as_class, with_masks(bordered, bordered, classes=3))
    assert [it.severity for it in both] == ["note", "note"]
    ignored = settings(ignore_index=9)
    assert found(void_as_class, with_masks(bordered, bordered, classes=3, settings=ignored)) == ()


def test_missing_mask_classes_names_the_class_and_the_loader():
    def without(image, mask, _):
        return image, np.where(mask == 2, 0, mask)

    (what,) = told(missing_mask_classes, with_masks(without, classes=3))
    assert "train has no pixel of class 2 in its 40 masks, while" in what
    assert "of the masks of valid hold it, so the model cannot learn it" in what
    (what,) = told(missing_mask_classes, with_masks(valid=without, classes=3))
    assert "valid has no pixel of class 2" in what

    def rare(image, mask, index):
        return image, np.where((mask == 2) & (index % 12 > 0), 0, mask)

    assert told(missing_mask_classes, with_masks(without, rare, classes=3)) == []


def test_exchanged_mask_classes_names_both_classes():
    def turned(image, mask, _):
        return image, np.where(mask > 0, 3 - mask, 0)

    (what,) = told(exchanged_mask_classes, with_masks(valid=turned, classes=3))
    assert "classes 1 and 2 of masks are exchanged between train and valid" in what
    (what,) = told(exchanged_mask_classes, with_masks(valid=lambda image, mask, _: (image, mask + 1), classes=3))
    assert "classes of masks are shifted by one between train and valid" in what
    assert "what is 1 in valid is 0 in train" in what
    # Things that look alike cannot be told apart.
    assert told(exchanged_mask_classes, with_masks(valid=turned, classes=3, contrast=0.0)) == []


def test_empty_masks_names_masks_that_are_all_alike():
    blank = with_masks(lambda image, mask, _: (image, 0 * mask))
    assert "all 40 masks of train are empty" in told(empty_masks, blank)[0]
    full = with_masks(lambda image, mask, _: (image, 0 * mask + 1))
    assert "all 40 masks of train are of one class: every pixel is 1" in told(empty_masks, full)[0]
    most = with_masks(lambda image, mask, index: (image, mask * (index % 5 == 0)))
    assert "80% of the masks of train are empty, against 0% in valid" in told(empty_masks, most)[0]


def test_inverted_masks_names_the_shares():
    (what,) = told(inverted_masks, with_masks(lambda image, mask, _: (image, 1 - mask)))
    assert "masks of train and valid are inverted against each other" in what
    assert "probably wrong in train" in what


def test_mask_scale_names_the_values():
    (what,) = told(mask_scale, with_masks(lambda image, mask, _: (image, 255 * mask)))
    assert "masks of train hold 0 and 255 instead of 0 and 1" in what
    assert "while those of valid hold 0 and 1" in what
    assert "so that only background is left" in told(
        mask_scale, with_masks(lambda i, m, _: (i, 255 * m), settings=settings(ignore_index=255))
    )[0]  # fmt: skip
    assert "divided by 255" in told(mask_scale, with_masks(lambda image, mask, _: (image, mask / 255)))[0]
    assert (
        "normalized like images" in told(mask_scale, with_masks(lambda image, mask, _: (image, mask / 0.22 - 2.1)))[0]
    )


def test_void_not_ignored_names_loss_and_metrics():
    def void(image, mask, _):
        return image, np.where(np.arange(96) < 5, 255, mask)

    probe = with_masks(void, void, classes=4, settings=settings())
    assert "of the mask pixels of train are 255, which is no class, and the loss" in told(void_not_ignored, probe)[0]
    probe = with_masks(void, void, classes=4, settings=settings(ignore_index=255))
    assert "which the loss ignores and the metrics of Metrics do not" in told(void_not_ignored, probe)[0]
    probe = with_masks(void, void, classes=4, settings=settings(ignore_index=255, metric=255))
    assert told(void_not_ignored, probe) == []


def test_mask_classes_outside_names_the_values():
    probe = with_masks(lambda image, mask, _: (image, mask + 1), classes=5, settings=settings(num_classes=5))
    assert "masks of train hold 5 on" in told(mask_classes_outside, probe)[0]


def sized(image, mask):
    batch = BatchProbe(shapes={"image": (8, 3, *image), "target": (8, *mask)})
    probe = with_masks(counts=(8, 8))
    train = replace(probe.loaders["train"], batches_seen=(batch,))
    return replace(probe, loaders={**probe.loaders, "train": train})


def test_mask_sizes_names_both_sizes():
    assert (
        "images of train have 96 x 64 pixels and their masks 64 x 96" in told(mask_sizes, sized((96, 64), (64, 96)))[0]
    )
    assert "their masks 90 x 96" in told(mask_sizes, sized((96, 96), (90, 96)))[0]
    assert told(mask_sizes, sized((96, 96), (96, 96))) == told(mask_sizes, sized((96, 96), (24, 24))) == []


def noisy(image, mask, index):
    return image + np.random.default_rng(index).normal(0, 1, image.shape).astype(np.float32), mask


def ringed(image, mask, _):
    """Return a mask that is drawn two pixels wider than the thing."""
    wide = mask.copy()
    for rows in range(-2, 3):
        for columns in range(-2, 3):
            wide = np.maximum(wide, np.roll(mask, (rows, columns), (0, 1)))
    return image, wide


def framed(image, mask, _):
    """Return a mask with a class for the borders of things, as some draw it."""
    inside = np.minimum.reduce([np.roll(mask, move, (0, 1)) for move in ((2, 0), (-2, 0), (0, 2), (0, -2))])
    return image, mask + (inside > 0)


def nested(image, mask, _):
    """Return a mask with a class inside another one, as a tumour lies in an organ."""
    inside = np.minimum.reduce([np.roll(mask, move, (0, 1)) for move in ((5, 0), (-5, 0), (0, 5), (0, -5))])
    return image, mask + (inside > 0)


def poles(image, mask, index):
    """Return a mask of two classes with thin things of a third one in front of them."""
    mask = mask.copy()
    mask[:, 10 + index % 40 :: 31] = 3
    return image, mask


def heat(image, mask, _):
    return image, np.exp(-((np.mgrid[:96, :96] - 40) ** 2).sum(0) / 200)


def with_void(image, mask, _):
    return image, np.where(np.arange(96) < 5, 255, mask)


def sparse(image, mask, index):
    return image, mask * (index % 10 == 0)


# Healthy probes, by what makes them unlike each other; a test makes its own.
STRANGERS = {
    "easy": with_masks,
    "few": lambda: with_masks(counts=(5, 4)),
    "many classes": lambda: with_masks(classes=19, things=12, settings=settings(num_classes=19)),
    "many classes and void": lambda: with_masks(
        with_void, with_void, classes=19, things=12, settings=settings(255, metric=255, num_classes=19)
    ),
    "faint": lambda: with_masks(contrast=0.15),
    "fine": lambda: with_masks(height=192, width=128, things=30, least=4),
    "small": lambda: with_masks(height=32, width=32, least=6),
    "noise in training": lambda: with_masks(noisy),
    "noise in faint training": lambda: with_masks(noisy, contrast=0.3),
    "rough masks": lambda: with_masks(ringed, ringed),
    "rough masks in training": lambda: with_masks(ringed),
    "borders on purpose": lambda: with_masks(framed, framed),
    "a class in another": lambda: with_masks(nested, nested),
    "a class in another in training": lambda: with_masks(nested, nested, counts=(60, 10)),
    "thin things": lambda: with_masks(poles, poles, classes=3),
    "classes alike": lambda: with_masks(classes=3, contrast=0.1),
    "sparse": lambda: with_masks(sparse, sparse),
    "sparse validation": lambda: with_masks(valid=sparse),
    "all empty of many": lambda: with_masks(lambda i, m, _: (i, 0 * m), lambda i, m, _: (i, 0 * m), counts=(10, 10)),
    "heat": lambda: with_masks(heat, heat),
    "labels": lambda: with_masks(*[lambda i, m, _: (i, np.stack([m == 1, m == 2]).astype(np.float32))] * 2, classes=3),
    "both flipped": lambda: with_masks(lambda image, mask, index: (image[:, :, ::-1], mask[:, ::-1])),
    "moved a little": lambda: with_masks(lambda image, mask, _: (image, np.roll(mask, 1, 1))),
    "large things": lambda: with_masks(things=1, least=44),
    "no masks": healthy,
}


@pytest.mark.parametrize("name", STRANGERS)
def test_rules_on_masks_are_silent_on_healthy_data(name):
    probe = STRANGERS[name]()
    if name == "all empty of many":
        probe = replace(probe, loaders={key: replace(it, complete=False) for key, it in probe.loaders.items()})
    assert [finding.sentence for rule in ALL for finding in found(rule, probe)] == []
