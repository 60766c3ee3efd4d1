"""Rules on data sets: each names its fault, and is silent on its healthy twins."""

import io
import json
from dataclasses import replace
from functools import cache
from unittest.mock import patch

import cv2
import numpy as np
import pytest
from made_probes import found, healthy, loader, make_image, make_samples, sample, with_samples
from PIL import Image, ImageFile

from assay.callbacks.findings.observe.data.jumps import flat_of
from assay.callbacks.findings.probe.finding import Finding, Labelled
from assay.callbacks.findings.probe.loader_probe import BatchProbe
from assay.callbacks.findings.probe.overlap_probe import OverlapProbe
from assay.callbacks.findings.probe.probe import Probe
from assay.callbacks.findings.rules import all_rules
from assay.callbacks.findings.rules.data.blank_images import blank_images
from assay.callbacks.findings.rules.data.broken_images import broken_images
from assay.callbacks.findings.rules.data.conflicting_labels import conflicting_labels
from assay.callbacks.findings.rules.data.near_duplicates import near_duplicates
from assay.callbacks.findings.rules.data.non_finite_images import non_finite_images
from assay.callbacks.findings.rules.data.one_item import one_item
from assay.callbacks.findings.rules.data.order.ordered_labels import ordered_labels
from assay.callbacks.findings.rules.data.order.repeated_batches import repeated_batches
from assay.callbacks.findings.rules.data.order.skipped_samples import skipped_samples
from assay.callbacks.findings.rules.data.order.small_validation import small_validation
from assay.callbacks.findings.rules.data.order.too_few_samples import too_few_samples
from assay.callbacks.findings.rules.data.order.unshuffled_training import unshuffled_training
from assay.callbacks.findings.rules.data.repeated_ids import repeated_ids
from assay.callbacks.findings.rules.data.shared_images import shared_images
from assay.callbacks.findings.rules.data.truncated_images import truncated_images

DATA_RULES = [
    rule for rule in all_rules() if ".rules.data" in rule.find.__module__ or ".transforms" in rule.find.__module__
]


def with_loader(probe, key, **changes):
    """Return a probe with other attributes of one loader."""
    return replace(probe, loaders={**probe.loaders, key: replace(probe.loaders[key], **changes)})


def shifted(samples, seed=5):
    """Return samples as an augmentation by a shift of a pixel and a little noise gives them."""
    numbers = np.random.default_rng(seed)
    moved = [np.roll(one.small, 1, axis=2) + numbers.normal(0, 0.05, one.small.shape) for one in samples]
    return [
        sample(one.index, image.astype(np.float32), one.label, name=one.name)
        for one, image in zip(samples, moved, strict=True)
    ]


def drawn_loader(key, samples):
    """Return a loader whose second reading gave other images."""
    return loader(key, samples, again={one.index: b"other" + one.digest for one in samples})


def grey_scans(count, first=0):
    """Return samples that look alike as scans do: one shape, a little noise."""
    shape = make_image(3, 0, channels=1)
    noise = [np.random.default_rng(first + index).normal(0, 0.3, shape.shape) for index in range(count)]
    return [
        sample(index, (shape + it).astype(np.float32), index % 2, name=f"{first}-{index}")
        for index, it in enumerate(noise)
    ]


@cache
def healthy_twins():
    """Return probes of healthy data of several kinds."""
    tiny = [sample(index, make_image(index % 3, index), index % 3, name=f"t{index}") for index in range(10)]
    regression = [sample(index, make_image(index % 10, index), np.float32(index / 7)) for index in range(60)]
    several = [
        sample(
            index, make_image(index % 10, index), np.array([index % 2, index % 3 == 0, index % 40 == 0], dtype=np.int64)
        )
        for index in range(80)
    ]
    bare = [sample(index, make_image(index % 10, index)) for index in range(60)]
    part = make_samples(120, first=3000)
    return {
        "made": healthy(),
        "tiny": Probe(
            loaders={"train": loader("train", tiny), "valid": loader("valid", make_samples(4, first=50, classes=3))}
        ),
        "scans": Probe(
            loaders={"train": loader("train", grey_scans(90)), "valid": loader("valid", grey_scans(60, 500))}
        ),
        "regression": Probe(loaders={"train": loader("train", regression)}),
        "several labels": Probe(loaders={"train": loader("train", several)}),
        "boxes": Probe(loaders={"train": loader("train", bare)}),
        "augmented": Probe(
            loaders={"train": drawn_loader("train", make_samples(200)), "valid": healthy().loaders["valid"]}
        ),
        "read in part": with_loader(
            with_samples(healthy(), "train", lambda _: part),
            "train",
            complete=False,
            length=50_000,
            order=range(50_000),
        ),
    }


@pytest.mark.parametrize("rule", DATA_RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("twin", healthy_twins())
def test_no_rule_on_data_speaks_of_healthy_data(rule, twin):
    if rule.at != "data":
        pytest.skip("looks at another moment")
    findings = [it for it in found(rule, healthy_twins()[twin]) if it.severity != "note"]
    assert findings == []


def test_shared_images_names_validation_that_is_training():
    probe = with_samples(healthy(), "valid", lambda _: [replace(it, name=f"v{it.name}") for it in make_samples(100)])
    (finding,) = found(shared_images, probe)
    assert finding.severity == "error"
    assert "train and valid share 100 of 100 images (0 = v0, 1 = v1)" in finding.sentence


def test_shared_images_knows_augmented_images_by_their_ids():
    blocks = [np.random.default_rng(index).normal(0, 1, (3, 4, 4)) for index in range(100)]
    raw = [sample(index, image.repeat(8, 1).repeat(8, 2), index % 5) for index, image in enumerate(blocks)]
    probe = Probe(loaders={"train": drawn_loader("train", shifted(raw)), "valid": loader("valid", raw)})
    (finding,) = found(shared_images, probe)
    assert finding.severity == "error"
    assert "train and valid share 100 of 100 images (0 = 0, 1 = 1)" in finding.what


def test_shared_images_does_not_believe_ids_of_other_images():
    # Two folders of sorted files: the same numbers, the same classes, other images.
    others = [replace(it, name=str(it.index)) for it in make_samples(100, first=1000)]
    probe = Probe(loaders={"train": drawn_loader("train", make_samples(100)), "valid": loader("valid", others)})
    assert found(shared_images, probe) == ()


def test_shared_images_is_silent_on_separate_images_and_on_blank_ones():
    blank = [sample(index, np.zeros((3, 32, 32), np.float32), 0) for index in range(40)]
    assert found(shared_images, healthy()) == ()
    assert found(shared_images, Probe(loaders={"train": loader("train", blank), "valid": loader("valid", blank)})) == ()


def test_shared_images_is_silent_on_rows_of_a_table_that_are_alike():
    rows = [sample(index, np.stack([np.full((1, 4), index % 3, np.float32)]), 0) for index in range(60)]
    assert found(shared_images, Probe(loaders={"train": loader("train", rows), "valid": loader("valid", rows)})) == ()


def test_one_item_names_a_loader_that_returns_one_image_or_few():
    one = make_samples(1)[0]
    probe = with_samples(healthy(), "train", lambda them: [replace(one, index=it.index) for it in them])
    (finding,) = found(one_item, probe)
    assert finding.severity == "error"
    assert "train returns the same image for every index: all 200 samples were compared" in finding.what
    few = with_samples(healthy(), "valid", lambda them: [replace(them[it.index % 4], index=it.index) for it in them])
    assert "valid returns one of only 4 images for every index" in found(one_item, few)[0].what


def test_one_item_knows_it_by_the_id_where_images_are_augmented():
    samples = [sample(index, make_image(3, index), 3, name="cat-7") for index in range(30)]
    (finding,) = found(one_item, Probe(loaders={"train": drawn_loader("train", samples)}))
    assert finding.severity == "error"
    assert "train returns the same image" in finding.what


def test_repeated_ids_names_samples_that_are_listed_twice():
    probe = with_samples(
        healthy(), "train", lambda them: [*them, *(replace(it, index=200 + it.index) for it in them[:40])]
    )
    (finding,) = found(repeated_ids, probe)
    assert finding.severity == "warning"
    assert "train has 40 of its 200 ids more than once ('0', '1', '2' and 37 more): 40 of its 240" in finding.what


def test_repeated_ids_only_notes_other_images_of_one_name_and_whole_repeats_and_oversampling():
    names = with_samples(healthy(), "train", lambda them: [replace(it, name=str(it.index // 2)) for it in them])
    (finding,) = found(repeated_ids, names)
    assert (finding.severity, "for different images" in finding.what) == ("note", True)
    twice = with_samples(healthy(), "train", lambda them: [*them, *(replace(it, index=200 + it.index) for it in them)])
    assert [it.severity for it in found(repeated_ids, twice)] == ["note"]
    ids, labels = [*map(str, range(110)), *["3"] * 90], np.array([0] * 3 + [1] + [0] * 106 + [1] * 90)
    assert [it.severity for it in found(repeated_ids, with_loader(healthy(), "train", ids=ids, labels=labels))] == [
        "note"
    ]


def test_conflicting_labels_names_an_image_with_two_labels():
    def change(samples):
        return [*samples, replace(samples[3], index=200, name="copy", target=np.asarray(7))]

    (finding,) = found(conflicting_labels, with_samples(healthy(), "train", change))
    assert finding.severity == "warning"
    assert "1 image of train has several labels for the same pixels (3 is 3 but copy is 7)" in finding.what
    assert finding.groups == ((Labelled("train", "3", (3,)), Labelled("train", "copy", (7,))),)
    assert Finding.from_dict(json.loads(json.dumps(finding.as_dict()))) == finding


def test_conflicting_labels_knows_yes_and_no_as_fractions():
    def change(samples):
        rows = [replace(one, target=np.array([1.0, 0.0], np.float32)) for one in samples]
        return [*rows, replace(rows[3], index=200, name="copy", target=np.array([1.0, 1.0], np.float32))]

    probe = with_samples(healthy(), "train", change)
    assert found(conflicting_labels, probe) == ()
    probe = replace(probe, settings=replace(probe.settings, task="multilabel"))
    (finding,) = found(conflicting_labels, probe)
    assert finding.groups == ((Labelled("train", "3", (1, 0)), Labelled("train", "copy", (1, 1))),)


def test_conflicting_labels_is_silent_on_duplicates_that_agree_and_on_numbers():
    twice = with_samples(healthy(), "train", lambda them: [*them, replace(them[3], index=200, name="copy")])
    assert found(conflicting_labels, twice) == ()
    numbers = with_samples(
        healthy(), "train", lambda them: [replace(them[0], index=it.index, target=np.float32(it.index)) for it in them]
    )
    assert found(conflicting_labels, numbers) == ()


def test_near_duplicates_names_second_jpegs_of_training_images():
    numbers = np.random.default_rng(3)
    copies = [one.small + numbers.normal(0, 0.01, one.small.shape).astype(np.float32) for one in make_samples(30)]
    valid = [*make_samples(70, first=1000), *(sample(70 + n, it, n % 10, name=f"c{n}") for n, it in enumerate(copies))]
    (finding,) = found(near_duplicates, with_samples(healthy(), "valid", lambda _: valid))
    assert finding.severity == "warning"
    assert "30 of 100 images of valid (30%) are almost copies of images of train (c0 is near 0" in finding.what
    train = {one.name: int(one.target) for one in healthy().train.samples.values()}
    expected = [n for n in range(30) if train[str(n)] != n % 10]
    assert [group[0].sample_id for group in finding.groups] == [f"c{n}" for n in expected]
    for group in finding.groups:
        assert group[1] == Labelled("train", group[0].sample_id[1:], (train[group[0].sample_id[1:]],))


def test_near_duplicates_is_silent_on_images_that_look_alike():
    close = [np.float32(0.97) * make_image(2, 0) + np.float32(0.03) * make_image(2, seed) for seed in range(120)]
    samples = [sample(index, image, 2, name=f"s{index}") for index, image in enumerate(close)]
    probe = Probe(loaders={"train": loader("train", samples[:60]), "valid": loader("valid", samples[60:])})
    assert found(near_duplicates, probe) == ()


def drawn(count, seed, *, hues, channels=3):
    """Return samples of one square each, at one of some places, on a ground with noise."""
    numbers, samples = np.random.default_rng(seed), []
    for index in range(count):
        image = numbers.normal(0, 0.02, (channels, 32, 32)).astype(np.float32)
        top, left = numbers.integers(0, 24, 2) // 2 * 2
        image[:, top : top + 8, left : left + 8] += numbers.uniform(0.1, 1.0, (channels, 1, 1)) if hues else 1.0
        samples.append(sample(index, image, int(top > 11), name=f"{seed}-{index}"))
    return samples


def drawn_probe(**options):
    train, valid = drawn(120, 0, **options), drawn(60, 1, **options)
    return Probe(loaders={"train": loader("train", train), "valid": loader("valid", valid)})


@pytest.mark.parametrize(("hues", "most"), [(True, 3), (False, 27)], ids=["in other colours", "in grey"])
def test_near_duplicates_does_not_warn_of_drawings_that_come_again_by_chance(hues, most):
    notes = found(near_duplicates, drawn_probe(hues=hues))
    assert all(finding.severity == "note" and finding.evidence["near"] <= most for finding in notes)


@pytest.mark.parametrize(("part", "severity"), [(1, "note"), (20, "warning"), (150, "error")])
def test_blank_images_names_their_share(part, severity):
    black = np.zeros((3, 32, 32), np.float32)

    def change(samples):
        return [sample(it.index, black, it.label) if it.index < part else it for it in samples]

    (finding,) = found(blank_images, with_samples(healthy(), "train", change))
    assert finding.severity == severity
    assert f"{part} of 200 images of train" in finding.what
    assert "are blank" in finding.what


def test_blank_images_does_not_warn_of_a_class_that_shows_nothing():
    def change(samples):
        return [replace(it, low=0.0, high=0.0, std=(0.0,) * 3) if it.label == 3 else it for it in samples]

    (finding,) = found(blank_images, with_samples(healthy(), "train", change))
    assert finding.severity == "note"


def test_broken_images_names_the_file_and_the_message():
    samples = dict(list(healthy().loaders["train"].samples.items())[:199])
    probe = with_loader(healthy(), "train", samples=samples, errors={199: "cannot identify\nimage file"})
    (finding,) = found(broken_images, probe)
    assert finding.severity == "error"
    assert "1 sample of 200 of train cannot be read (199: cannot identify image file)" in finding.what


def test_broken_images_leaves_a_data_set_alone_that_cannot_be_read_at_all():
    probe = with_loader(healthy(), "train", samples={}, errors={0: "needs its worker"})
    assert found(broken_images, probe) == ()


def test_non_finite_images_names_them():
    def change(samples):
        return [replace(it, non_finite=it.index in (3, 8)) for it in samples]

    (finding,) = found(non_finite_images, with_samples(healthy(), "train", change))
    assert finding.severity == "error"
    assert "2 of 200 images of train (1%) hold NaN or infinity ('3' and '8')" in finding.what
    assert found(non_finite_images, healthy()) == ()


def in_order(labels, **options):
    """Return a training loader that gives samples with these labels one after the other."""
    samples = [sample(index, make_image(label, index), label) for index, label in enumerate(labels)]
    order = list(range(len(samples)))
    return Probe(
        loaders={
            "train": loader("train", samples, **{"shuffles": False, "order": order, "later_order": order, **options})
        }
    )


def test_ordered_labels_names_batches_of_one_class():
    (finding,) = found(ordered_labels, in_order(np.repeat(np.arange(10), 20)))
    assert finding.severity == "warning"
    assert "train is not shuffled and its labels are in an order: a batch holds 1." in finding.what
    assert "at random would hold 8." in finding.what


def test_ordered_labels_reads_first_batches_where_the_order_is_not_known():
    batches = tuple(BatchProbe(labels=(label,) * 16) for label in (0, 0, 1, 1, 2))
    labels = np.repeat(np.arange(10), 20)
    assert found(ordered_labels, in_order(labels, order=[], later_order=[], batches_seen=batches))


def test_ordered_labels_is_silent_on_mixed_rare_and_drawn_labels():
    numbers = np.random.default_rng(0)
    assert found(ordered_labels, in_order(numbers.integers(0, 10, 200))) == ()
    assert found(ordered_labels, in_order(numbers.random(400) < 0.02)) == ()
    # Batches of four classes with four samples each, as metric losses want them.
    drawn = {"shuffles": None, "later_order": numbers.permutation(200).tolist()}
    assert found(ordered_labels, in_order(np.repeat(np.arange(50), 4), **drawn)) == ()


def test_unshuffled_training_is_a_note_and_silent_on_a_drawn_order():
    order = list(range(200))
    probe = with_loader(healthy(), "train", shuffles=False, order=order, later_order=order)
    (finding,) = found(unshuffled_training, probe)
    assert (finding.severity, "train gives its 200 samples in the same order" in finding.what) == ("note", True)
    assert found(unshuffled_training, healthy()) == ()


def test_repeated_batches_names_a_sampler_that_begins_anew():
    probe = with_loader(healthy(), "train", order=[*range(16)] * 12)
    (finding,) = found(repeated_batches, probe)
    assert finding.severity == "warning"
    assert "train gives the same batch several times in an epoch: 11 of 12 batches" in finding.what


def test_repeated_batches_names_batches_whose_images_are_alike():
    batch = BatchProbe(digests=tuple(it.digest for it in make_samples(8)))
    probe = with_loader(healthy(), "train", order=[], batches_seen=(batch, batch))
    assert (
        "1 of 2 batches that were compared repeat an earlier one, and 1 batch differs"
        in found(repeated_batches, probe)[0].what
    )


def test_repeated_batches_is_silent_on_drawing_with_replacement_and_on_repeated_augmentation():
    numbers = np.random.default_rng(0)
    drawn = with_loader(healthy(), "train", order=numbers.integers(0, 200, 200).tolist())
    assert found(repeated_batches, drawn) == ()
    thrice = with_loader(healthy(), "train", order=numbers.permutation(np.repeat(np.arange(60), 3)).tolist())
    assert found(repeated_batches, thrice) == ()


def test_skipped_samples_names_drop_last_and_a_sampler_that_leaves_out_most():
    none = with_loader(healthy(), "train", drop_last=True, batch_size=256)
    (finding,) = found(skipped_samples, none)
    assert finding.severity == "error"
    assert "train has no batch at all: drop_last leaves out its only one, 200 samples of 256" in finding.what
    last = with_loader(healthy(), "valid", drop_last=True, batch_size=64, shuffles=False)
    assert (
        "the last 36 of 100 samples of valid (36%) are never scored: drop_last" in found(skipped_samples, last)[0].what
    )
    few = with_loader(healthy(), "train", order=range(20), drawable=20, epoch_length=20, sampler="Mine")
    assert "train takes the same 20 of its 200 samples in each epoch, as Mine" in found(skipped_samples, few)[0].what


def test_skipped_samples_is_silent_on_subsets_and_short_epochs():
    half = loader("valid", make_samples(20), length=200, drawable=20, sampler="SubsetRandomSampler")
    split = with_loader(healthy(), "train", drawable=20, sampler="SubsetRandomSampler")
    assert found(skipped_samples, replace(split, loaders={**split.loaders, "valid": half})) == ()
    assert found(skipped_samples, with_loader(healthy(), "train", order=range(20), drawable=0)) == ()
    assert found(skipped_samples, with_loader(healthy(), "train", drawable=190, sampler="WeightedRandomSampler")) == ()
    assert found(skipped_samples, with_loader(healthy(), "train", drop_last=True)) == ()


def test_skipped_samples_notes_subsets_that_nobody_else_draws_from_and_weights_of_0():
    for sampler, taken in (("SubsetRandomSampler", 20), ("WeightedRandomSampler", 150)):
        (finding,) = found(skipped_samples, with_loader(healthy(), "train", drawable=taken, sampler=sampler))
        assert finding.severity == "note" and f"the same {taken} of its 200 samples in each epoch" in finding.what


def test_repeated_batches_tells_of_what_the_sampler_leaves_out_and_skipped_samples_does_not_then():
    probe = with_loader(healthy(), "train", order=[*range(16)] * 12, drawable=16, sampler="Mine")
    assert "; Mine never draws but the same 16 of its 200 samples" in found(repeated_batches, probe)[0].what
    assert found(skipped_samples, probe) == ()


def test_few_samples_are_notes():
    few = Probe(loaders={"train": loader("train", make_samples(20)), "valid": loader("valid", make_samples(10))})
    assert "train has only 20 samples" in found(too_few_samples, few)[0].what
    assert "one of them moves an accuracy by 10 points" in found(small_validation, few)[0].what
    assert (found(too_few_samples, healthy()), found(small_validation, healthy())) == ((), ())


def seemingly_shared(train, valid, count=40, **options):
    """Return the probe of two loaders that seem to share 40 of 100 samples, of which these 12 were read."""
    overlap = OverlapProbe(count, 100, tuple((index, index) for index in range(12)))
    valid = loader("valid", valid, length=100, complete=False, overlaps={"train": overlap}, **options)
    return Probe(loaders={"train": loader("train", train, complete=False), "valid": valid})


def test_shared_images_counts_what_seems_to_be_shared_once_images_prove_it():
    train = make_samples(60)
    (finding,) = found(shared_images, seemingly_shared(train, [*train[:12], *make_samples(50, first=900)[12:]]))
    assert finding.severity == "warning" and "train and valid share 40 of 100 images (0 = 0, 1 = 1)" in finding.what


def test_shared_images_does_not_believe_that_samples_are_the_same_without_their_images():
    train, others = make_samples(60), make_samples(50, first=900)
    assert found(shared_images, seemingly_shared(train, others)) == ()
    # Drawn anew each time: other images of the same classes.
    drawn = seemingly_shared(train, others, again={it.index: it.digest for it in make_samples(50, first=2000)})
    assert drawn.loaders["valid"].augments and found(shared_images, drawn) == ()


def pictured(change, count=60, channels=3, labels=lambda index: index % 5):
    """Return the probe of training on changed pictures of noise on soft waves, [C, 48, 48] uint8."""
    samples = []
    for index in range(count):
        chance = np.random.default_rng(index)
        waves = np.cumsum(np.cumsum(chance.normal(0, 1, (channels, 48, 48)), 1), 2)
        waves = 128 + 40 * (waves - waves.mean()) / waves.std() + chance.normal(0, 4, waves.shape)
        image = change(index, waves.clip(0, 255).astype(np.uint8).copy())
        flat = flat_of(image, float(image.max()) - float(image.min()))
        small = np.stack([cv2.resize(it, (32, 32), interpolation=cv2.INTER_AREA) for it in image.astype(np.float32)])
        samples.append(replace(sample(index, image, labels(index)), flat=flat, small=small))
    return Probe(loaders={"train": loader("train", samples)})


def filled(index, image, value=128, rows=slice(20, None), columns=slice(None), every=4):
    if index % every == 0:
        image[:, rows, columns] = value
    return image


def of_a_broken_file(index, image):
    """Return an image as Pillow reads its JPEG, of which every third has lost its end."""
    held = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(held, "JPEG", quality=90)
    content = held.getvalue()
    picture = Image.open(io.BytesIO(content[: len(content) * 3 // 4] if index % 3 == 0 else content))
    with patch.object(ImageFile, "LOAD_TRUNCATED_IMAGES", True):
        return np.asarray(picture.convert("RGB")).transpose(2, 0, 1)


@pytest.mark.parametrize(
    ("change", "severity"),
    [
        (filled, "warning"),
        (of_a_broken_file, "warning"),
        (lambda n, it: filled(n, it, value=128, rows=slice(8 + n % 30, None), every=7), "warning"),
        (lambda n, it: filled(n, it, value=0), "note"),
    ],
    ids=["grey", "as Pillow reads it", "at any row", "black"],
)
def test_truncated_images_names_what_was_cut_off(change, severity):
    (finding,) = found(truncated_images, pictured(change))
    assert finding.severity == severity
    assert "the lower part of" in finding.what and "of 60 images of train" in finding.what
    assert "as of files that were cut off" in finding.what


def letterboxed(index, image):
    if index % 3 == 0:
        image[:, :8] = image[:, -8:] = 114
    return image


def drawn_on_a_ground(index, image):
    page = np.full_like(image, 200)
    page[:, 5 + index % 9 : 20 + index % 9, 10:30] = image[:, :15, :20]
    return page


def moved(index, image):
    down, right = np.random.default_rng(index).integers(0, 17, 2)
    return np.pad(image, ((0, 0), (8, 8), (8, 8)), constant_values=128)[:, down : down + 48, right : right + 48]


def erased(index, image):
    top, left, height, width = np.random.default_rng(index).integers((0, 0, 8, 8), (30, 30, 30, 30))
    image[:, top : top + height, left : left + width] = 128
    return image


def padded(index, image):
    """Pad pictures in landscape at the bottom, and those upright at the right."""
    upright = index % 3 == 0
    rows, columns = (slice(None), slice(32, None)) if upright else (slice(32, None), slice(None))
    return filled(index, image, rows=rows, columns=columns, every=1 if upright else 2)


@pytest.mark.parametrize(
    "change",
    [
        lambda _, it: it,
        letterboxed,
        drawn_on_a_ground,
        moved,
        erased,
        padded,
        lambda n, it: filled(n, it, rows=slice(36, None), every=1),  # all of them: a frame that is put round them
        lambda n, it: filled(n, it, rows=slice(45, None)),  # a thin border
        lambda n, it: filled(n, it, every=40),  # two
        lambda n, it: filled(n, it, every=5),  # the pictures of one class
        lambda n, it: np.full_like(it, 7),
    ],
)
def test_truncated_images_is_silent_on_padding_grounds_and_erasing(change):
    assert found(truncated_images, pictured(change)) == ()


def test_truncated_images_only_notes_it_of_grey_images():
    assert [it.severity for it in found(truncated_images, pictured(filled, channels=1))] == ["note"]
