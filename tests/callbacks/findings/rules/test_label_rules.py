"""Rules on labels against images: each names its fault, and is silent on its healthy twins."""

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from made_probes import found, healthy, loader, make_image, sample, with_samples

from assay.callbacks.findings.probe.epoch_probe import FeatureProbe
from assay.callbacks.findings.probe.loader_probe import BatchProbe
from assay.callbacks.findings.probe.probe import Probe
from assay.callbacks.findings.rules.labels.by_features.exchanged_by_features import exchanged_by_features
from assay.callbacks.findings.rules.labels.by_features.noisy_by_features import noisy_by_features
from assay.callbacks.findings.rules.labels.by_features.relabelled_by_features import relabelled_by_features
from assay.callbacks.findings.rules.labels.by_features.shifted_by_features import shifted_by_features
from assay.callbacks.findings.rules.labels.by_features.unrelated_by_features import unrelated_by_features
from assay.callbacks.findings.rules.labels.exchanged_classes import exchanged_classes
from assay.callbacks.findings.rules.labels.labels_moved_in_batch import labels_moved_in_batch
from assay.callbacks.findings.rules.labels.noisy_labels import noisy_labels
from assay.callbacks.findings.rules.labels.previous_labels import previous_labels
from assay.callbacks.findings.rules.labels.relabelled_class import relabelled_class
from assay.callbacks.findings.rules.labels.shifted_labels import shifted_labels
from assay.callbacks.findings.rules.labels.unrelated_labels import unrelated_labels

BY_PIXELS = [
    unrelated_labels, previous_labels, exchanged_classes, shifted_labels, noisy_labels, labels_moved_in_batch,
    relabelled_class,
]  # fmt: skip
BY_FEATURES = [
    unrelated_by_features, exchanged_by_features, shifted_by_features, noisy_by_features, relabelled_by_features,
]  # fmt: skip


def relabelled(key, change, probe=None, seed=0):
    """Return a probe in which ``change(labels, random)`` returned the labels of a loader anew."""
    probe = probe or drawn()

    def changed(samples):
        labels = change(np.array([it.label for it in samples]), np.random.default_rng(seed))
        return [replace(it, target=np.asarray(label)) for it, label in zip(samples, labels, strict=True)]

    return with_samples(probe, key, changed)


@cache
def drawn(train=300, valid=150, classes=10, blur=0.0):
    """Return a healthy probe whose samples stand in no order of classes; ``blur`` hides what an image shows."""
    random = np.random.default_rng(3)

    def samples(count, first):
        labels = random.integers(0, classes, count)
        shown = np.where(random.random(count) < blur, random.integers(0, classes, count), labels)
        images = [make_image(label, first + index) for index, label in enumerate(shown)]
        return [sample(index, image, label) for index, (image, label) in enumerate(zip(images, labels, strict=True))]

    return healthy(
        loaders={"train": loader("train", samples(train, 0)), "valid": loader("valid", samples(valid, 9000))}
    )


def exchanged(labels, _):
    return np.where(labels == 3, 5, np.where(labels == 5, 3, labels))


def half_of_four_is_nine(labels, _):
    return np.where((labels == 4) & (np.cumsum(labels == 4) % 2 == 0), 9, labels)


def noisy(share):
    def change(labels, random):
        return np.where(random.random(len(labels)) < share, random.integers(0, 10, len(labels)), labels)

    return change


def test_unrelated_labels_names_the_loader_with_shuffled_labels():
    (finding,) = found(unrelated_labels, relabelled("train", lambda labels, random: random.permutation(labels)))
    assert finding.severity == "error"
    assert "labels of train have no relation to its images" in finding.what
    (finding,) = found(unrelated_labels, relabelled("valid", lambda labels, random: random.permutation(labels)))
    assert "labels of valid have no relation to its images" in finding.what


def test_unrelated_labels_names_shuffled_numbers_of_a_regression():
    def as_number(it):
        return replace(it, target=np.asarray([float(it.label)], dtype=np.float32))

    probe = drawn()
    for key in ("train", "valid"):
        probe = with_samples(probe, key, lambda samples: [as_number(it) for it in samples])
    assert found(unrelated_labels, probe) == ()
    order = np.random.default_rng(0).permutation(300)
    mixed = with_samples(
        probe, "train", lambda its: [replace(it, target=its[i].target) for it, i in zip(its, order, strict=True)]
    )
    assert "targets of train have no relation to its images" in found(unrelated_labels, mixed)[0].what


@pytest.mark.parametrize(("move", "whose"), [(1, "the sample before it"), (-1, "the sample after it")])
def test_previous_labels_names_by_how_much_labels_are_moved(move, whose):
    probe = relabelled("train", lambda labels, _: np.roll(labels, move))
    (finding,) = found(previous_labels, probe)
    assert f"each image of train has the label of {whose}" in finding.what
    # What explains it is told alone.
    assert found(unrelated_labels, probe)


def test_exchanged_classes_names_both_classes():
    (finding,) = found(exchanged_classes, relabelled("train", exchanged))
    assert finding.severity == "error"
    assert "labels 3 and 5 are exchanged between train and valid" in finding.what
    two = relabelled("train", lambda labels, _: 1 - labels, drawn(classes=2))
    assert "labels 0 and 1 are exchanged" in found(exchanged_classes, two)[0].what


def test_exchanged_classes_needs_few_samples_of_validation():
    probe = relabelled("valid", exchanged, drawn(400, 70))
    assert 10 <= sum(it.label in (3, 5) for it in probe.loaders["valid"].samples.values()) <= 20
    assert "labels 3 and 5 are exchanged" in found(exchanged_classes, probe)[0].what


def test_shifted_labels_names_the_direction():
    (finding,) = found(shifted_labels, relabelled("train", lambda labels, _: labels + 1))
    assert "what is 1 in valid is 2 in train" in finding.what
    (finding,) = found(shifted_labels, relabelled("train", lambda labels, _: (labels - 1) % 10))
    assert "what is 1 in valid is 0 in train" in finding.what


def test_relabelled_class_names_the_class_and_its_wrong_label():
    for key, other in (("train", "valid"), ("valid", "train")):
        (finding,) = found(relabelled_class, relabelled(key, half_of_four_is_nine, drawn(400, 300)))
        assert re.search(rf"about [3-7]\d% of class 4 is labelled 9 in {key}:", finding.what)
        assert f"look like class 4 of {other}" in finding.what
        known = {it.name: it.label for it in drawn(400, 300).loaders[key].samples.values()}
        assert {known[name] for name in finding.where.samples} == {4}


def test_relabelled_class_is_silent_where_classes_are_alike_or_mixed_both_ways():
    def mixed(labels, random):
        wrong = np.isin(labels, (4, 9)) & (random.random(len(labels)) < 0.4)
        return np.where(wrong, 13 - labels, labels)

    assert found(relabelled_class, relabelled("train", mixed, drawn(400, 300))) == ()
    alike = relabelled("valid", half_of_four_is_nine, relabelled("train", half_of_four_is_nine, drawn(400, 300)))
    assert found(relabelled_class, alike) == ()
    rarer = with_samples(drawn(400, 300), "train", lambda its: [it for it in its if it.label != 4 or it.index % 2])
    assert found(relabelled_class, rarer) == ()


@pytest.mark.parametrize("wrong", [0.2, 0.4])
def test_noisy_labels_estimates_the_share_of_wrong_labels(wrong):
    (finding,) = found(noisy_labels, relabelled("train", noisy(wrong), drawn(600, 200)))
    assert finding.severity == "warning"
    assert "of the labels of train are wrong" in finding.what
    # One wrong label in ten is right by chance.
    assert finding.evidence["low"] - 0.05 < 0.9 * wrong < finding.evidence["high"] + 0.05


def test_noisy_labels_names_both_loaders_where_both_are_noisy():
    probe = relabelled("valid", noisy(0.25), relabelled("train", noisy(0.25), drawn(600, 400)), seed=1)
    assert {it.where.loader for it in found(noisy_labels, probe)} == {"train", "valid"}


def batched(images, targets, items=16):
    """Return a healthy probe with a batch of training whose images and targets stand in these orders."""
    digests, labels = ([b"%d" % index for index in range(items)], [b"%d" % (index % 10) for index in range(items)])
    batch = BatchProbe(
        digests=tuple(digests[it] for it in images), targets=tuple(labels[it] for it in targets),
        item_digests=tuple(digests), item_targets=tuple(labels),
    )  # fmt: skip
    probe = healthy()
    return replace(probe, loaders={"train": replace(probe.loaders["train"], batches_seen=(batch,))})


def test_labels_moved_in_batch_names_a_collate_that_sorts_one_part_alone():
    kept, turned = list(range(16)), [*range(1, 16), 0]
    (finding,) = found(labels_moved_in_batch, batched(kept, turned))
    assert "batches of train give 16 of 16 samples the label of another sample" in finding.what
    assert "puts labels in another order" in finding.what
    (finding,) = found(labels_moved_in_batch, batched(turned, kept))
    assert "puts images in another order" in finding.what
    assert found(labels_moved_in_batch, batched(kept, kept)) == ()


def test_labels_moved_in_batch_is_silent_on_batches_that_are_sorted_alike_or_changed():
    turned = [*range(1, 16), 0]
    assert found(labels_moved_in_batch, batched(turned, turned)) == ()
    probe = batched(list(range(16)), turned)
    (batch,) = probe.loaders["train"].batches_seen
    for changed in (replace(batch, digests=(b"mixed",) * 16), replace(batch, targets=(b"soft",) * 16), BatchProbe()):
        one = replace(probe.loaders["train"], batches_seen=(changed,))
        assert found(labels_moved_in_batch, replace(probe, loaders={"train": one})) == ()


def noise_images(labels):
    """Return images in which nothing can be seen."""
    return [sample(index, make_image(0, 7 + index), label) for index, label in enumerate(labels)]


def nothing_to_see():
    random = np.random.default_rng(0)
    counts = {"train": 200, "valid": 100}
    return healthy(loaders={key: loader(key, noise_images(random.integers(0, 10, n))) for key, n in counts.items()})


def to_class(number, probe=None, keys=("train", "valid")):
    """Return a probe in which loaders have labels of one class."""
    for key in keys:
        probe = relabelled(key, lambda labels, _: labels * 0 + number, probe)
    return probe


# Healthy probes, by what makes them unlike each other; a test makes its own.
STRANGERS = {
    "easy": drawn,
    "large": lambda: drawn(2000, 1000),
    "few": lambda: drawn(60, 60),
    "three": lambda: drawn(9, 3),
    "nothing to see": nothing_to_see,
    "hardly anything to see": lambda: drawn(600, 300, blur=0.85),
    "half to see": lambda: drawn(600, 300, blur=0.5),
    "two classes": lambda: drawn(classes=2),
    "one class": lambda: to_class(0),
    "one class in valid": lambda: to_class(4, keys=["valid"]),
    "a hundred classes": lambda: healthy(loaders={"train": loader("train", noise_images(np.arange(300) % 100))}),
    "no labels": lambda: relabelled("train", lambda labels, _: [None] * len(labels)),
    "sorted": healthy,
}


@pytest.mark.parametrize("name", STRANGERS)
def test_rules_on_labels_are_silent_on_healthy_data(name):
    probe = STRANGERS[name]()
    assert [finding.sentence for rule in BY_PIXELS for finding in found(rule, probe)] == []


def test_rules_on_labels_are_silent_on_augmented_training():
    random = np.random.default_rng(0)

    def augmented(it):
        moved = np.roll(it.small[:, :, :: random.choice([-1, 1])], random.integers(-3, 4, 2), (1, 2))
        return sample(it.index, np.ascontiguousarray(moved * random.uniform(0.6, 1.4) + 0.3), it.target)

    probe = with_samples(drawn(), "train", lambda samples: [augmented(it) for it in samples])
    assert [finding.sentence for rule in BY_PIXELS for finding in found(rule, probe)] == []


def test_rules_on_labels_are_silent_where_augmentation_leaves_nothing_of_images():
    random = np.random.default_rng(0)

    def hidden(it):
        return sample(it.index, random.normal(0, 1, it.small.shape).astype(np.float32), it.target)

    probe = with_samples(drawn(), "train", lambda samples: [hidden(it) for it in samples])
    # As if they were so each time, the images have nothing to do with the labels.
    assert found(unrelated_labels, probe) != ()
    train = probe.loaders["train"]
    again = {index: hidden(it).small for index, it in list(train.samples.items())[:24]}
    probe = replace(probe, loaders={**probe.loaders, "train": replace(train, again_small=again)})
    assert [finding.sentence for rule in BY_PIXELS for finding in found(rule, probe)] == []


def test_unrelated_labels_are_named_in_augmented_training():
    probe = relabelled("train", lambda labels, random: random.permutation(labels))
    train = probe.loaders["train"]
    again = {index: np.roll(1.2 * it.small, 1, 2) for index, it in list(train.samples.items())[:24]}
    probe = replace(probe, loaders={**probe.loaders, "train": replace(train, again_small=again)})
    assert "labels of train have no relation to its images" in found(unrelated_labels, probe)[0].what


def featured(change=None, train=400, valid=200, spread=0.8, classes=10):
    """Return a probe with features that show the class, and labels of train that ``change`` returned."""
    random = np.random.default_rng(5)
    centres = random.normal(0, 1, (classes, 16))

    def features(count, changed):
        labels = random.integers(0, classes, count)
        vectors = (centres[labels] + random.normal(0, spread, (count, 16))).astype(np.float32)
        labels = changed(labels, random) if changed else labels
        names = tuple(map(str, range(count)))
        return FeatureProbe(vectors, labels, labels, np.ones(count, dtype=np.float32), names)

    return Probe(loaders=healthy().loaders, features={"train": features(train, change), "valid": features(valid, None)})


@pytest.mark.parametrize(
    ("rule", "change", "told"),
    [
        (unrelated_by_features, lambda labels, random: random.permutation(labels), "labels of train have no relation"),
        (exchanged_by_features, exchanged, "labels 3 and 5 are exchanged between train and valid"),
        (shifted_by_features, lambda labels, _: labels + 1, "labels of train are shifted by one against valid"),
        (noisy_by_features, noisy(0.3), "of the labels of train are wrong"),
        (relabelled_by_features, half_of_four_is_nine, "of class 4 is labelled 9 in train"),
    ],
)
def test_rules_by_features_name_the_fault(rule, change, told):
    (finding,) = found(rule, featured(change))
    assert told in finding.what


@pytest.mark.parametrize("spread", [0.3, 0.8, 1.5, 3.0, 10.0])
def test_rules_by_features_are_silent_on_healthy_features(spread):
    probe = featured(spread=spread)
    assert [finding.sentence for rule in BY_FEATURES for finding in found(rule, probe)] == []


def test_rules_by_features_are_silent_where_training_was_learned_by_heart():
    probe = featured(spread=1.5)
    sharp = featured(spread=0.1).features["train"]
    mixed = replace(probe, features={"train": sharp, "valid": probe.features["valid"]})
    assert [finding.sentence for rule in BY_FEATURES for finding in found(rule, mixed)] == []
