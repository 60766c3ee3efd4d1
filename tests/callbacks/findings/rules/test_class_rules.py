"""Rules on classes: each names the class and its count, and is silent on healthy twins."""

from dataclasses import replace

import numpy as np
import pytest
from made_probes import found, healthy, loader, make_image, sample

from assay.callbacks.findings.probe.epoch_probe import EpochProbe
from assay.callbacks.findings.probe.model_probe import ModelProbe, OutputProbe
from assay.callbacks.findings.probe.probe import Probe
from assay.callbacks.findings.probe.rule import examine
from assay.callbacks.findings.probe.settings_probe import CriterionProbe, SettingsProbe, TermProbe
from assay.callbacks.findings.rules.data.classes.classes_apart import classes_apart
from assay.callbacks.findings.rules.data.classes.label_base import label_base
from assay.callbacks.findings.rules.data.classes.labels_beyond_outputs import labels_beyond_outputs
from assay.callbacks.findings.rules.data.classes.labels_outside import labels_outside
from assay.callbacks.findings.rules.data.classes.missing_classes import missing_classes
from assay.callbacks.findings.rules.data.classes.rare_classes import rare_classes
from assay.callbacks.findings.rules.data.classes.rarely_taught_classes import rarely_taught_classes
from assay.callbacks.findings.rules.data.classes.undrawn_classes import undrawn_classes
from assay.callbacks.findings.rules.data.classes.untaught_classes import untaught_classes
from assay.callbacks.findings.rules.model.outputs.output_count import output_count

NAMES = tuple("abcdefghij")


def of_labels(train, valid=(), settings=None, **options):
    """Return a probe whose data sets hold these labels, and one sample that was read."""
    loaders = {}
    for key, labels in (("train", train), ("valid", valid)):
        if len(labels):
            one = sample(0, make_image(0, 0), int(labels[0]))
            loaders[key] = loader(key, [one], labels=np.array(labels), length=len(labels), complete=False, order=[])
    loaders["train"] = replace(loaders["train"], **options)
    return Probe(loaders=loaders, settings=settings or SettingsProbe())


def classes(kind="cross_entropy", number=10, task="multiclass", **options):
    """Return settings of a task with classes and one term."""
    term = TermProbe("loss", "logits", "target", 1.0, CriterionProbe("Criterion", kind, **options))
    return SettingsProbe(terms=(term,), num_classes=number, task=task)


EVEN = np.arange(500) % 10


def test_missing_classes_names_what_training_lacks():
    (finding,) = found(missing_classes, of_labels(EVEN[EVEN != 3], EVEN, SettingsProbe(class_names=NAMES)))
    assert finding.severity == "warning"
    assert "train has no sample of class 3 ('d') among its 450 samples, while valid has 50" in finding.what
    assert "the model cannot learn it" in finding.what


def test_missing_classes_names_what_validation_lacks_and_what_nobody_has():
    (finding,) = found(missing_classes, of_labels(EVEN, EVEN[EVEN > 1]))
    assert "valid has no sample of classes 0, 1 among its 400 samples" in finding.what
    (finding,) = found(missing_classes, of_labels(EVEN, EVEN[EVEN == 4][:6]))
    assert "valid has no sample of classes 0, 1, 2, 3, 5 and 4 more among its 6 samples" in finding.what
    (finding,) = found(missing_classes, of_labels(EVEN % 9, EVEN % 9, classes()))
    assert "none of the 1,000 samples of train and valid is of class 9, though there are 10 classes" in finding.what


def test_missing_classes_knows_by_labels_how_many_classes_a_softmax_has():
    settings = classes(number=None, task=None)
    (finding,) = found(missing_classes, of_labels(EVEN + 1, EVEN + 1, settings))
    assert "none of the 1,000 samples of train and valid is of class 0, though labels go up to 10" in finding.what
    assert found(missing_classes, of_labels(EVEN, EVEN, settings)) == ()
    assert found(missing_classes, of_labels(EVEN + 20, EVEN + 20)) == ()  # ages, as far as one can know


def test_missing_classes_names_one_of_several_labels_that_no_sample_has():
    rows = [np.array([index % 2, 0, index % 3 == 0], np.float32) for index in range(100)]
    several = [sample(index, make_image(0, index), row) for index, row in enumerate(rows)]
    (finding,) = found(missing_classes, Probe(loaders={"train": loader("train", several)}))
    assert "none of the 100 samples of train is of class 1, though labels go up to 2" in finding.what


@pytest.mark.parametrize(
    ("train", "valid"),
    [
        (EVEN, EVEN[:8]),  # too small for each class
        ([*EVEN, 10, 10, 10], EVEN),  # a class too rare for a split
        (EVEN, EVEN + 20),  # other classes altogether, as for retrieval
        (EVEN, EVEN),
    ],
)
def test_missing_classes_is_silent_on_chance_and_on_other_classes(train, valid):
    assert found(missing_classes, of_labels(train, valid)) == ()


def test_missing_classes_is_silent_on_numbers_and_on_what_was_read_in_part():
    assert found(missing_classes, of_labels(EVEN % 9, EVEN, classes("mse", None, "regression"))) == ()
    probe = healthy()
    few = {index: one for index, one in probe.loaders["train"].samples.items() if one.label != 4 and index < 70}
    part = replace(probe.loaders["train"], samples=few, complete=False)
    assert found(missing_classes, replace(probe, loaders={**probe.loaders, "train": part})) == ()


def drawn(order, labels=EVEN):
    """Return the probe of a training loader whose sampler draws so from samples of these labels."""
    probe = of_labels(labels, EVEN)
    train = replace(probe.loaders["train"], labels=np.array(labels), order=order, later_order=order, sampler="Own")
    return replace(probe, loaders={**probe.loaders, "train": train})


def test_undrawn_classes_names_what_the_sampler_leaves_out():
    without = [index for index in range(500) if EVEN[index] != 3]
    (finding,) = found(undrawn_classes, drawn(without))
    assert finding.severity == "warning" and "the sampler of train (Own) never draws class 3" in finding.what
    assert "has 50 of 500 samples" in finding.what


@pytest.mark.parametrize(
    "order",
    [
        range(500),
        np.random.default_rng(0).integers(0, 500, 500).tolist(),  # with replacement
        list(range(0, 500, 3)),  # a part, as where samplers split one data set
        [],  # it does not tell
    ],
)
def test_undrawn_classes_is_silent_on_all_on_chance_and_on_parts(order):
    assert found(undrawn_classes, drawn(order)) == ()


def left_out(labels, drawn_labels, valid_labels, **options):
    """Return the probe of data without a list of labels, of which a sampler leaves some samples out."""
    train, valid = (
        loader(key, [sample(index, make_image(0, index), label) for index, label in enumerate(of)])
        for key, of in (("train", drawn_labels), ("valid", valid_labels))
    )
    options = {"length": len(drawn_labels) + len(labels), "drawable": len(drawn_labels), "sampler": "Own", **options}
    return Probe(loaders={"train": replace(train, left_out=dict(enumerate(labels, 1000)), **options), "valid": valid})


def test_undrawn_classes_reads_what_the_sampler_leaves_out_where_there_is_no_list_of_labels():
    fives = (np.arange(200) % 5).tolist()
    probe = left_out([5] * 40, fives, [*fives, 5])
    (finding,) = found(undrawn_classes, probe)
    assert "the sampler of train (Own) never draws class 5, of which the data set has 40 of 240 samples" in finding.what
    few = left_out([5] * 4, fives, [*fives, 5], length=240)
    assert "has about 40 of 240 samples" in found(undrawn_classes, few)[0].what


@pytest.mark.parametrize(
    ("labels", "valid"),
    [
        ([5] * 40, [0, 1, 2, 3, 4] * 20),  # a class that nobody needs
        ([5, 6] * 20, [5, 6] * 20),  # validated on other classes, as retrieval is
        ([0, 1, 2, 3, 4] * 8, [0, 1, 2, 3, 4] * 8),  # a split at random
        ([5], [*[0, 1, 2, 3, 4] * 8, 5]),  # one of 201
    ],
)
def test_undrawn_classes_is_silent_on_splits_by_samplers(labels, valid):
    assert found(undrawn_classes, left_out(labels, (np.arange(200) % 5).tolist(), valid)) == ()


def test_undrawn_classes_is_silent_on_a_class_of_few_samples():
    labels = np.array([*EVEN, 10, 10])
    assert found(undrawn_classes, drawn(range(500), labels)) == ()


def test_rare_classes_names_them_with_their_figures():
    labels = [0] * 400 + [1] * 10 + [2] * 300
    (finding,) = found(rare_classes, of_labels(labels, settings=SettingsProbe(class_names=("cat", "dog", "cow"))))
    assert finding.severity == "warning"
    assert "train has 10 of class 1 ('dog') against 400 of class 0 ('cat'), up to 40 to 1" in finding.what


@pytest.mark.parametrize(
    "probe",
    [
        of_labels([0] * 400 + [1] * 40),
        of_labels([0] * 400 + [1] * 10, settings=classes(number=2, class_weights=(1.0, 40.0))),
        of_labels([0] * 400 + [1] * 10, settings=classes("bce_logits", 2, "binary", pos_weight=(40.0,))),
        of_labels([0] * 400 + [1] * 10, settings=classes("focal", 2)),
        of_labels([0] * 400 + [1] * 10, sampler="WeightedRandomSampler"),
        of_labels([0] * 400 + [1] * 10, order=[*range(200), *[400, 401, 402, 403] * 50]),
        of_labels([0] * 400 + [1] * 10, settings=classes("l1", None, "regression")),
    ],
)
def test_rare_classes_is_silent_on_imbalance_that_is_fine(probe):
    assert found(rare_classes, probe) == ()


def test_rare_classes_waits_for_more_samples_than_a_few():
    samples = [sample(index, make_image(0, index), int(index == 7)) for index in range(60)]
    assert found(rare_classes, Probe(loaders={"train": loader("train", samples, complete=False)})) == ()


def test_label_base_names_labels_from_one_on():
    (finding,) = found(label_base, of_labels(EVEN + 1, settings=classes(number=10)))
    assert finding.severity == "error"
    assert "labels of train begin at 1 and end at 10, while the model's 10 classes are 0 to 9" in finding.what
    (finding,) = found(label_base, of_labels(EVEN + 1, settings=classes(number=11)))
    assert (finding.severity, "so class 0 is never seen" in finding.what) == ("warning", True)
    (finding,) = found(label_base, of_labels(EVEN, EVEN + 1))
    assert "labels of valid begin at 1 and end at 10, while those of train begin at 0" in finding.what


def test_label_base_is_silent_on_labels_from_zero_and_on_chance():
    assert found(label_base, of_labels(EVEN, EVEN, classes())) == ()
    assert found(label_base, of_labels([1, 2, 3, 1], settings=classes(number=6))) == ()
    assert found(label_base, of_labels(EVEN + 1, settings=classes("mse", None, "regression"))) == ()


def test_labels_outside_names_them():
    (finding,) = found(labels_outside, of_labels([*EVEN, 12, 12], settings=classes()))
    assert finding.severity == "error"
    assert "1 label of train is outside the classes: 12 on 2 samples, while the 10 classes are 0 to 9" in finding.what
    assert "-1 on 1 sample" in found(labels_outside, of_labels([*EVEN, -1], settings=classes()))[0].what


def test_labels_outside_is_silent_on_what_is_ignored_and_on_signs():
    assert found(labels_outside, of_labels([*EVEN, 255, -100], settings=classes(ignore_index=255))) == ()
    assert found(labels_outside, of_labels([-1, 1] * 30, settings=classes("", 2))) == ()
    assert found(labels_outside, of_labels(EVEN * 7)) == ()


def test_labels_beyond_outputs_reads_the_shape_of_the_output():
    def probe(outputs):
        model = ModelProbe(outputs={"logits": OutputProbe("logits", (16, outputs))})
        return replace(of_labels(EVEN, settings=classes(number=None)), model=model)

    (finding,) = found(labels_beyond_outputs, probe(8))
    assert "2 labels of train are outside the classes: 8, 9 on 100 samples" in finding.what
    assert "while the model has outputs for 0 to 7" in finding.what
    assert found(labels_beyond_outputs, probe(10)) == ()


def after_epoch(**counts):
    """Return a healthy run of partly read samples, with these counts of an epoch."""
    probe = healthy()
    loaders = {key: replace(one, complete=False) for key, one in probe.loaders.items()}
    counts = {key: np.array(numbers) for key, numbers in counts.items()}
    return replace(probe, loaders=loaders, epochs=(EpochProbe(1, {}, counts),))


def test_an_epoch_tells_of_classes_that_were_not_read_before():
    probe = after_epoch(train=[500, 0, 400], valid=[50, 40, 40])
    (finding,) = found(untaught_classes, probe)
    assert "train has no sample of class 1 among its 900 samples, while valid has 40" in finding.what
    (finding,) = found(rarely_taught_classes, after_epoch(train=[900, 12, 300]))
    assert "train has 12 of class 1 against 900 of class 0, up to 75 to 1" in finding.what


def test_classes_of_few_pixels_are_silent():
    probe = after_epoch(train=[280_000, 4_000, 3_000])
    mask = sample(0, make_image(0, 0), mask_values=(0.0, 1.0, 2.0), mask_shares=(0.976, 0.014, 0.01))
    train = replace(probe.loaders["train"], samples={0: mask}, labels=None)
    assert found(rarely_taught_classes, replace(probe, loaders={**probe.loaders, "train": train})) == ()


def test_an_epoch_of_all_classes_is_silent():
    probe = after_epoch(train=[500, 60, 400], valid=[50, 7, 40])
    assert (found(untaught_classes, probe), found(rarely_taught_classes, probe)) == ((), ())
    known = replace(probe, loaders=healthy().loaders, epochs=after_epoch(train=[900, 1]).epochs)
    assert found(rarely_taught_classes, known) == ()


def with_outputs(probe, *shape):
    """Return the probe with a model of such outputs."""
    return replace(probe, model=ModelProbe(outputs={"logits": OutputProbe("logits", shape)}))


def test_classes_apart_names_the_classes_of_each_side():
    probe = with_outputs(of_labels(EVEN[EVEN < 7], EVEN[EVEN >= 7], classes(number=None, task=None)), 16, 10)
    (finding,) = found(classes_apart, probe)
    assert finding.severity == "error"
    assert "train and valid have no class in common: classes 0 to 6 are in train and classes 7 to 9 in valid" in (
        finding.what
    )
    assert {finding.rule for finding in examine([classes_apart, output_count], probe).findings} == {"classes-apart"}
    odd = with_outputs(of_labels(EVEN[EVEN % 2 == 1], EVEN[EVEN % 2 == 0], classes()), 16, 10)
    (finding,) = found(classes_apart, odd)
    assert "5 classes (1, 3, 5, ...) are in train and 5 classes (0, 2, 4, ...) in valid" in finding.what


@pytest.mark.parametrize("probe", [
    with_outputs(of_labels(EVEN, EVEN, classes()), 16, 10),
    with_outputs(of_labels(EVEN[EVEN < 7], EVEN[EVEN >= 6], classes()), 16, 10),
    with_outputs(of_labels(EVEN[EVEN < 7], EVEN[EVEN >= 7], classes(number=None, task=None)), 16, 7),  # retrieval
    with_outputs(of_labels(EVEN[EVEN < 7], EVEN[EVEN >= 7], classes("")), 16, 64),  # metric learning
    with_outputs(of_labels(EVEN[EVEN < 7], EVEN[EVEN == 9], classes()), 16, 10),  # of one class there is another rule
    with_outputs(of_labels(EVEN[EVEN < 7], [7, 8, 9], classes()), 16, 10),
    with_outputs(of_labels(EVEN[EVEN < 7], (), classes()), 16, 10),
])  # fmt: skip
def test_classes_apart_is_silent_on_common_classes_retrieval_and_few_samples(probe):
    assert found(classes_apart, probe) == ()
