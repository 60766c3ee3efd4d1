"""Rules on the loss and what it is given: each names its fault, and none speaks on healthy twins."""

from dataclasses import replace
from math import log

import numpy as np
import pytest
from made_probes import found, healthy, healthy_loaders, loader, make_image, sample

from assay.callbacks.findings.probe.model_probe import ModelProbe, OutputProbe, ParameterProbe
from assay.callbacks.findings.probe.probe import Probe
from assay.callbacks.findings.probe.rule import examine
from assay.callbacks.findings.probe.settings_probe import CriterionProbe, MetricProbe, SettingsProbe, TermProbe
from assay.callbacks.findings.probe.trial_probe import TermTrial, TrialProbe
from assay.callbacks.findings.rules import all_rules
from assay.callbacks.findings.rules.loss.outputs.bounded_output import bounded_output
from assay.callbacks.findings.rules.loss.outputs.logits_for_probabilities import logits_for_probabilities
from assay.callbacks.findings.rules.loss.outputs.relu_before_loss import relu_before_loss
from assay.callbacks.findings.rules.loss.outputs.sigmoid_before_loss import sigmoid_before_loss
from assay.callbacks.findings.rules.loss.outputs.softmax_before_loss import softmax_before_loss
from assay.callbacks.findings.rules.loss.outputs.softmax_over_wrong_axis import softmax_over_wrong_axis
from assay.callbacks.findings.rules.loss.terms.broadcast_shapes import broadcast_shapes
from assay.callbacks.findings.rules.loss.terms.class_weights_inverted import class_weights_inverted
from assay.callbacks.findings.rules.loss.terms.cross_entropy_for_multilabel import cross_entropy_for_multilabel
from assay.callbacks.findings.rules.loss.terms.dead_term import dead_term
from assay.callbacks.findings.rules.loss.terms.dominant_term import dominant_term
from assay.callbacks.findings.rules.loss.terms.label_smoothing import label_smoothing
from assay.callbacks.findings.rules.loss.terms.loss_metric_keys import loss_metric_keys
from assay.callbacks.findings.rules.loss.terms.loss_without_gradient import loss_without_gradient
from assay.callbacks.findings.rules.loss.terms.regressed_classes import regressed_classes
from assay.callbacks.findings.rules.loss.terms.target_scale import target_scale
from assay.callbacks.findings.rules.loss.terms.target_scales_differ import target_scales_differ
from assay.callbacks.findings.rules.loss.terms.targets_beyond_one import targets_beyond_one
from assay.callbacks.findings.rules.loss.values.constant_loss import constant_loss
from assay.callbacks.findings.rules.loss.values.ignored_class import ignored_class
from assay.callbacks.findings.rules.loss.values.initial_loss import initial_loss
from assay.callbacks.findings.rules.loss.values.inverted_loss import inverted_loss
from assay.callbacks.findings.rules.loss.values.loss_not_finite import loss_not_finite
from assay.callbacks.findings.rules.loss.values.summed_loss import summed_loss

LOSS_RULES = [rule for rule in all_rules() if ".rules.loss" in rule.find.__module__]
LOGITS = np.random.default_rng(0).normal(0, 0.7, (16, 10)).astype(np.float32)
CROSS_ENTROPY = CriterionProbe("CrossEntropyLoss", "cross_entropy", "mean", ignore_index=-100)


def softmax(values, axis=1):
    """Return shares along an axis."""
    powers = np.exp(values)
    return powers / powers.sum(axis, keepdims=True)


def output(values, key="logits", **options):
    """Return what was observed of an output."""
    values = np.asarray(values, dtype=np.float32)
    sums, powers = _sums(values), _sums(np.exp(values))
    table = values if values.ndim == 2 else np.moveaxis(values, 1, -1).reshape(-1, values.shape[1])
    return OutputProbe(
        key, values.shape, values=table, low=float(values.min()), high=float(values.max()),
        sums=sums if values.min() >= 0 else {}, exp_sums=powers if values.max() <= 0 else {}, **options,
    )  # fmt: skip


def _sums(values):
    sums = {axis: values.sum(axis) for axis in range(values.ndim)}
    return {axis: (float(one.min()), float(one.max())) for axis, one in sums.items()}


def trial(label="loss", **options):
    """Return the trial of a cross-entropy of ten classes."""
    return TermTrial(**{
        "label": label, "actual": 2.5, "blank": log(10), "right": 0.0, "wrong": 16.0, "right_probabilities": 1.46,
        "wrong_probabilities": 2.46, "half": 2.4, "other_half": 2.6, "of_class": dict.fromkeys(range(10), log(10)),
        "shifted": 2.5, "output_shape": (16, 10), "target_shape": (16,), "target_high": 9.0, "target_std": 2.9,
        "output_std": 0.7, **options,
    })  # fmt: skip


def with_loss(values=LOGITS, criterion=CROSS_ENTROPY, weight=1.0, settings=None, **options):
    """Return the probe of a run of one term, with its output and its trial."""
    term = TermProbe("loss", "logits", "target", weight, criterion)
    options.setdefault("output_shape", np.shape(values))
    return healthy(
        settings=SettingsProbe(**{"optimizer": "SGD", "terms": (term,), "task": "multiclass", **(settings or {})}),
        model=ModelProbe(outputs={"logits": output(values)}, batch_size=16, loss=2.5),
        trial=TrialProbe({"loss": trial(**options)}, 16),
    )


def own_loss(values=LOGITS, **options):
    """Return the probe of a run that computes its loss in a ``handle_batch`` of its own."""
    probe = with_loss(values, **options)
    return replace(probe, settings=replace(probe.settings, terms=()))


def numbers(criterion="mse", **options):
    """Return the probe of a regression of one number."""
    values = LOGITS[:, :1]
    return with_loss(values, CriterionProbe("MSELoss", criterion, "mean"), settings={"task": "regression"}, **{
        "actual": 1.3, "blank": 1.0, "right": 0.0, "wrong": 4.0, "right_probabilities": None,
        "wrong_probabilities": None, "of_class": {}, "shifted": 2.0, "target_shape": (16, 1), "target_dtype": "float32",
        "target_low": -2.0, "target_high": 2.0, "target_std": 1.0, "half": 1.2, "other_half": 1.4, **options,
    })  # fmt: skip


def two_terms(grads, weights=(1.0, 1.0)):
    """Return the probe of two terms whose gradients have these norms."""
    terms = tuple(
        TermProbe(label, label, f"{label}_target", weight, CROSS_ENTROPY)
        for label, weight in zip(("kind", "colour"), weights, strict=True)
    )
    model = ModelProbe(term_grads=dict(zip(("kind", "colour"), grads, strict=True)))
    return Probe(settings=SettingsProbe(terms=terms), model=model)


def counted(parts, key="train", **options):
    """Return loaders whose class ``index`` has ``parts[index]`` samples."""
    labels = np.repeat(np.arange(len(parts)), parts)
    return {key: loader(key, [], labels=labels, **options)}


BCE = CriterionProbe("BCEWithLogitsLoss", "bce_logits", "mean")
SHARES = softmax(LOGITS)
MAPS = np.random.default_rng(1).normal(0, 1, (4, 3, 8, 8)).astype(np.float32)

HEALTHY = {
    "classifier": with_loss(),
    "trained before": with_loss(10 * LOGITS, actual=0.05, settings={"loaded": frozenset({"head.weight"})}),
    "new head on features": with_loss(4 * LOGITS, actual=4.1, output_std=3.0),
    "label smoothing": with_loss(criterion=replace(CROSS_ENTROPY, label_smoothing=0.1), right=1.6, wrong=16.0),
    "log-softmax and nll": with_loss(np.log(SHARES), CriterionProbe("NLLLoss", "nll", "mean", ignore_index=-100),
                                     blank=0.0, right=-8.0, wrong=8.0, right_probabilities=-1, wrong_probabilities=0,
                                     of_class=dict.fromkeys(range(10), 0.0), shifted=1.5),
    "sigmoid and bce": with_loss(1 / (1 + np.exp(-LOGITS)), CriterionProbe("BCELoss", "bce", "mean"), right=None,
                                 wrong=None, right_probabilities=0.001, wrong_probabilities=6.9, target_high=1.0),
    "labels and logits": with_loss(LOGITS, BCE, blank=0.69, shifted=0.9, target_dtype="float32", actual=0.7,
                                   target_high=1.0),
    "focal with a prior": with_loss(LOGITS - 4.6, CriterionProbe("FocalLoss", "focal"), actual=0.02, blank=0.17,
                                    shifted=0.03, of_class={}),
    "own dice": own_loss(SHARES, blank=1.0, right=0.4, wrong=0.2, right_probabilities=0.01, wrong_probabilities=0.98,
                         actual=0.9, shifted=0.7, of_class=dict.fromkeys(range(10), 1.0)),
    "own cross-entropy": own_loss(),
    "own compute": own_loss(blank=None, right=None, wrong=None, right_probabilities=None, wrong_probabilities=None,
                            half=None, other_half=None, of_class={}, shifted=None, output_shape=(), target_shape=()),
    "contrastive": own_loss(blank=log(16), right=1.2, wrong=1.2, right_probabilities=1.5, wrong_probabilities=1.5,
                            shifted=2.4, of_class={}, half=1.9, other_half=2.0),
    "regression": numbers(),
    "regression in years": numbers(target_std=20.0, actual=1600.0, target_low=1.0, target_high=90.0),
    "heat maps": numbers(target_std=0.05, actual=0.3, output_std=0.5),
    "regression of its own scale": numbers(target_std=900.0, output_std=700.0),
    "segmentation": with_loss(MAPS, output_shape=MAPS.shape, target_shape=(4, 8, 8), blank=log(3), actual=1.3,
                              of_class=dict.fromkeys(range(3), log(3))),
    "summed by weight": with_loss(criterion=replace(CROSS_ENTROPY, reduction="sum"), weight=1 / 16, actual=40.0,
                                  half=19.0, other_half=21.0, blank=16 * log(10), shifted=40.0),
    "summed autoencoder": numbers(actual=300.0, half=140.0, other_half=160.0),
    "two terms": two_terms((1.0, 0.02)),
    "two weights": two_terms((1.0, 0.3), (1.0, 0.1)),
    "gan": own_loss(LOGITS[:, :1], blank=0.69, right=0.0003, wrong=8.0, right_probabilities=0.3,
                    wrong_probabilities=1.3, shifted=0.9, actual=0.7, of_class={0: 0.69}, target_dtype="float32"),
    "nothing seen": Probe(),
}  # fmt: skip


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_losses_are_silent(name):
    if name == "summed autoencoder":
        probe = replace(HEALTHY[name], settings=replace(HEALTHY[name].settings, optimizer="Adam"))
        assert [it.severity for it in examine(LOSS_RULES, probe).findings] == ["note"]
    else:
        examined = examine(LOSS_RULES, HEALTHY[name])
        assert [it.sentence for it in examined.findings] == []
        assert not any("failed" in why for why in examined.left_out.values()), examined.left_out


def only(rule, probe, severity, *parts):
    """Assert that a rule finds one thing, and that its sentence tells these parts."""
    findings = found(rule, probe)
    assert [it.severity for it in findings] == [severity]
    for part in parts:
        assert part in findings[0].sentence, findings[0].sentence


def test_softmax_before_a_loss_is_named():
    only(softmax_before_loss, with_loss(SHARES), "warning", "'logits' is a softmax already", "CrossEntropyLoss")
    only(softmax_before_loss, own_loss(SHARES), "warning", "'logits' is a softmax already", "cross entropy")
    only(softmax_before_loss, with_loss(softmax(MAPS)), "warning", "its classes sum to 1")


def test_logits_of_a_linear_layer_are_no_sigmoid_wherever_they_lie():
    probe = with_loss(1 / (1 + np.exp(-LOGITS)), BCE)
    output = next(iter(probe.model.outputs.values()))
    linear = replace(probe.model, outputs={output.key: replace(output, made_by="addmm")})
    assert found(sigmoid_before_loss, probe)
    assert not found(sigmoid_before_loss, replace(probe, model=linear))


def test_sigmoid_before_a_loss_is_named():
    shares = 1 / (1 + np.exp(-LOGITS))
    only(sigmoid_before_loss, with_loss(shares), "warning", "'logits' is a sigmoid already", "takes a softmax itself")
    only(sigmoid_before_loss, with_loss(shares, BCE), "warning", "takes a sigmoid itself")


def test_relu_before_a_loss_is_named():
    only(relu_before_loss, with_loss(LOGITS.clip(0)), "warning", "'logits' ends in a ReLU", "% of its values")
    assert not found(sigmoid_before_loss, with_loss(LOGITS.clip(0, 1)))


def test_logits_for_probabilities_are_named():
    nll = CriterionProbe("NLLLoss", "nll", "mean")
    only(logits_for_probabilities, with_loss(LOGITS, nll), "error", "'logits'", "falls without end", "CrossEntropyLoss")
    only(logits_for_probabilities, with_loss(SHARES, nll), "warning", "not these themselves", "log_softmax")
    only(logits_for_probabilities, with_loss(LOGITS, CriterionProbe("BCELoss", "bce")), "error", "BCEWithLogitsLoss")


def test_a_softmax_over_another_axis_is_named():
    nll = CriterionProbe("NLLLoss", "nll", "mean")
    over_samples = softmax(LOGITS, axis=0)
    only(softmax_over_wrong_axis, with_loss(over_samples), "error", "'logits'", "samples of the batch (axis 0)")
    only(softmax_over_wrong_axis, with_loss(np.log(over_samples), nll), "error", "axis 0", "dim=1")
    only(softmax_over_wrong_axis, with_loss(softmax(MAPS, axis=2)), "error", "the height (axis 2)")
    only(softmax_over_wrong_axis, with_loss(np.log(softmax(MAPS, axis=3)), nll), "error", "'logits'", "width (axis 3)")
    only(softmax_over_wrong_axis, own_loss(blank=log(16)), "error", "term 'loss'", "16 samples of the batch")
    maps = {"output_shape": (4, 3, 8, 8), "target_shape": (4, 8, 8), "softmax_axes": (3,)}
    only(softmax_over_wrong_axis, own_loss(**maps), "error", "term 'loss'", "the width (axis 3)")
    # Over the classes, of a table of samples by samples, and where nobody says what is right.
    assert not found(softmax_over_wrong_axis, own_loss(**{**maps, "softmax_axes": (1, 0)}))
    assert not found(softmax_over_wrong_axis, own_loss(output_shape=(10, 10), softmax_axes=(0,)))
    assert not found(softmax_over_wrong_axis, own_loss(**maps, right=None))


def test_a_loss_that_rewards_wrong_answers_is_named():
    only(inverted_loss, with_loss(right=0.0, wrong=-16.0), "error", "term 'loss'", "larger for right answers")
    dice = own_loss(SHARES, right_probabilities=0.99, wrong_probabilities=0.01)
    only(inverted_loss, dice, "error", "(0.99) than for wrong ones (0.01)")
    only(inverted_loss, with_loss(weight=-1.0), "error", "the weight -1")
    only(inverted_loss, own_loss(right=0.0, wrong=-9.0), "error", "larger for right answers")
    # An output that is the logarithm of a count.
    assert not found(inverted_loss, numbers("", right=113.0, wrong=13.5))


def test_a_loss_without_influence_of_the_outputs_is_named():
    same = {"actual": 1.2, "blank": 1.2, "right": 1.2, "wrong": 1.2}
    only(constant_loss, own_loss(**same), "error", "term 'loss' of the loss is 1.2 whatever")


def test_a_loss_that_is_no_number_is_named():
    only(loss_not_finite, own_loss(actual=float("nan")), "error", "term 'loss' of the loss is nan")


def test_a_summed_loss_is_named():
    sums = {"actual": 40.0, "half": 19.0, "other_half": 21.0}
    only(summed_loss, with_loss(**sums), "warning", "term 'loss' sums over the 16 samples", 'reduction="mean"')
    only(summed_loss, own_loss(**sums), "warning", "40, 2.5 per sample")
    only(summed_loss, numbers(**sums), "warning", "sums over the 16 samples")


def test_a_loss_that_begins_far_from_chance_is_named():
    only(initial_loss, with_loss(30 * LOGITS, actual=31.0, output_std=21.0), "warning", "begins at 31", "2.3", "21")
    only(initial_loss, with_loss(actual=0.1), "note", "before any step")
    # A margin within the model, which is given the target.
    assert not found(initial_loss, with_loss(actual=15.0, settings={"input_keys": ("image", "target")}))
    assert not found(initial_loss, with_loss(actual=0.1, settings={"loaded": frozenset({"a"})}))


def test_classes_that_are_not_taught_are_named():
    zero = replace(CROSS_ENTROPY, class_weights=(1.0,) * 3 + (0.0,) + (1.0,) * 6)
    only(ignored_class, with_loss(criterion=zero), "warning", "class 3 of 'target'", "its weight is 0")
    only(ignored_class, with_loss(criterion=replace(CROSS_ENTROPY, ignore_index=0)), "warning", "the ignore_index 0")
    costs = {**dict.fromkeys(range(10), 2.3), 7: 0.0}
    only(ignored_class, own_loss(of_class=costs), "warning", "class 7", "it costs nothing")


def test_classes_that_are_left_out_on_purpose_are_silent():
    ignores = replace(CROSS_ENTROPY, ignore_index=0)
    names = ("void", *"abcdefghi")
    assert not found(ignored_class, with_loss(criterion=ignores, settings={"class_names": names}))
    metrics = (MetricProbe("IoU", "logits", "target", ignore_index=0),)
    assert not found(ignored_class, with_loss(criterion=ignores, settings={"metrics": metrics}))
    assert not found(ignored_class, with_loss(criterion=replace(CROSS_ENTROPY, ignore_index=255)))
    # An output of 0 is the right answer to a label of 0 where a sigmoid comes before the loss.
    answered = {"of_class": {0: 0.0, 1: 100.0}, "output_shape": (16,), "target_shape": (16,)}
    assert not found(ignored_class, with_loss(criterion=CriterionProbe("BCELoss", "bce", "mean"), **answered))
    assert not found(ignored_class, own_loss(**answered))


def test_weights_the_wrong_way_round_are_named():
    parts = (800, 150, 50)
    wrong = replace(CROSS_ENTROPY, class_weights=tuple(part / 1000 for part in parts))
    probe = replace(with_loss(criterion=wrong), loaders=counted(parts))
    only(class_weights_inverted, probe, "warning", "term 'loss'", "class 0, the most frequent (80%), has 0.8")
    right = replace(CROSS_ENTROPY, class_weights=tuple(1 / part for part in parts))
    assert not found(class_weights_inverted, replace(with_loss(criterion=right), loaders=counted(parts)))
    even = replace(with_loss(criterion=wrong), loaders=counted((100, 100, 100)))
    assert not found(class_weights_inverted, even)


def test_a_pos_weight_the_wrong_way_round_is_named():
    def probe(weight):
        criterion = replace(BCE, pos_weight=(weight,))
        return replace(with_loss(LOGITS[:, :1], criterion), loaders=counted((900, 100)))

    only(class_weights_inverted, probe(1 / 9), "warning", "pos_weight", "class 1 is rare (10.0%)", "here 9")
    assert not found(class_weights_inverted, probe(9.0))


def test_smoothing_that_leaves_no_label_is_named():
    probe = with_loss(criterion=replace(CROSS_ENTROPY, label_smoothing=0.9))
    only(label_smoothing, probe, "warning", "smooths labels by 0.9", "10%")


def test_a_softmax_over_several_labels_is_named():
    rows = np.random.default_rng(2).integers(0, 2, (40, 10)).astype(np.float32)
    samples = [sample(index, make_image(0, index), row) for index, row in enumerate(rows)]
    probe = replace(with_loss(target_shape=(16, 10)), loaders={"train": loader("train", samples)})
    only(cross_entropy_for_multilabel, probe, "warning", "term 'loss'", "several labels at once", "binary cross")


def test_shapes_that_spread_over_each_other_are_named():
    only(broadcast_shapes, numbers(target_shape=(16,)), "error", "'logits'", "[16, 1]", "'target' [16]", "squeeze")
    only(broadcast_shapes, numbers("", target_shape=(16,), right=2.0), "error", "compares every output")
    assert not found(broadcast_shapes, numbers("", target_shape=(16,)))


def test_targets_of_another_scale_are_named():
    only(target_scale, numbers(target_std=5000.0, actual=2.5e7), "warning", "'target'", "far too large", "5e+03")
    only(target_scale, numbers(target_std=1e-4), "warning", "far too small")


def test_targets_scaled_in_one_loader_are_named():
    def samples(scale, first):
        drawn = np.random.default_rng(first).normal(0, scale, 60)
        return [sample(index, make_image(0, first + index), np.float32(one)) for index, one in enumerate(drawn)]

    def probe(scale):
        return Probe(loaders={"train": loader("train", samples(1, 0)), "valid": loader("valid", samples(scale, 100))})

    only(target_scales_differ, probe(100), "warning", "'target'", "valid than in train")
    assert not found(target_scales_differ, probe(1.5))
    assert not found(target_scales_differ, Probe(loaders=healthy_loaders()))


def test_a_term_without_a_say_is_named():
    only(dead_term, two_terms((1.0, 1e-6), (1.0, 1e-6)), "warning", "term 'colour'", "its weight is 1e-06")
    assert not found(dominant_term, two_terms((1.0, 1e-6), (1.0, 1e-6)))


def test_a_term_that_drowns_the_others_is_named():
    only(dominant_term, two_terms((1e5, 1.0), (1e5, 1.0)), "warning", "term 'kind'", "(weight 100000)", "'colour'")
    only(dominant_term, two_terms((1e5, 1.0)), "warning", "100,000 times as large")
    assert not found(dead_term, two_terms((1e5, 1.0), (1e5, 1.0)))


def test_a_loss_that_cuts_the_gradient_off_is_named():
    def probe(norm, *, trains=True):
        parameters = (ParameterProbe("fc.weight", (10, 5), grad_norm=norm),)
        outputs = {"logits": output(LOGITS, requires_grad=trains)}
        return Probe(model=ModelProbe(parameters, outputs=outputs, loss=2.3))

    only(loss_without_gradient, probe(None), "error", "the criterion cuts it off")
    assert not found(loss_without_gradient, probe(0.1))
    assert not found(loss_without_gradient, probe(None, trains=False))


def test_a_metric_of_another_target_is_named():
    samples = [sample(index, make_image(0, index), index % 10, targets={"coarse": np.array(index % 3)})
               for index in range(60)]  # fmt: skip
    metrics = (MetricProbe("Accuracy", "logits", "coarse"),)
    probe = replace(with_loss(settings={"metrics": metrics}), loaders={"train": loader("train", samples)})
    only(loss_metric_keys, probe, "warning", "'logits' with 'target'", "Accuracy with 'coarse'")
    same = replace(probe, settings=replace(probe.settings, metrics=(MetricProbe("Accuracy", "logits", "target"),)))
    assert not found(loss_metric_keys, same)
    mixed = replace(probe, settings=replace(probe.settings, metrics=(MetricProbe("Accuracy", "logits", "hard"),)))
    assert not found(loss_metric_keys, mixed)


def test_a_metric_of_an_untrained_output_is_named():
    metrics = (MetricProbe("Accuracy", "other", "target"),)
    probe = with_loss(settings={"metrics": metrics})

    def with_other(values):
        other = output(values, "other", has_loss=False, measured=True)
        return replace(probe, model=replace(probe.model, outputs={**probe.model.outputs, "other": other}))

    only(loss_metric_keys, with_other(LOGITS[::-1]), "warning", "trains output 'logits'", "reads output 'other'")
    assert not found(loss_metric_keys, with_other(SHARES))


@pytest.mark.parametrize(
    ("made_by", "low", "high", "reach"),
    [("tanh", -5.0, 5.0, "from -1 to 1"), ("sigmoid", 10.0, 90.0, "from 0 to 1"), ("relu", -2.0, 2.0, "from 0 up")],
)
def test_an_activation_that_cannot_reach_the_targets_is_named(made_by, low, high, reach):
    probe = numbers(made_by=made_by, target_low=low, target_high=high, target_std=(high - low) / 4)
    only(bounded_output, probe, "warning", "'logits'", f"only reach numbers {reach}", "term 'loss'", f"to {high:.3g}")


def test_an_activation_that_suits_the_targets_is_no_fault():
    for made_by, low, high in [
        ("tanh", -1.0, 1.0), ("tanh", -1.05, 1.05), ("sigmoid", 0.0, 1.0), ("relu", 0.0, 90.0), ("mul", 10.0, 90.0),
        ("addmm", -50.0, 50.0), ("", -50.0, 50.0),
    ]:  # fmt: skip
        assert not found(
            bounded_output, numbers(made_by=made_by, target_low=low, target_high=high, target_std=(high - low) / 4)
        )
    # A cross-entropy compares no numbers.
    assert not found(bounded_output, with_loss(made_by="sigmoid", target_low=0.0, target_high=9.0, target_std=3.0))


def test_classes_that_are_learned_as_numbers_are_named():
    metric = MetricProbe("Metrics", "scores", "target", num_classes=10, task="multiclass")
    probe = numbers(target_low=0.0, target_high=9.0)
    told = replace(probe, settings=replace(probe.settings, metrics=(metric,)))
    only(regressed_classes, told, "warning", "'logits' as a number", "'target'", "10 classes by Metrics", "Cross")
    named = replace(probe, settings=replace(probe.settings, class_names=tuple("abcdefghij")))
    only(regressed_classes, named, "warning", "that have names")
    only(regressed_classes, probe, "note", "one of 10 classes")


def test_numbers_and_many_outputs_are_no_classes_that_are_learned_as_numbers():
    def with_targets(change):
        train = [sample(i, make_image(i % 10, i), change(i), name=str(i)) for i in range(200)]
        return replace(numbers(target_low=0.0, target_high=4.0), loaders={"train": loader("train", train)})

    for change in (
        lambda i: np.float32(i / 7), lambda i: np.float32(i % 10 + 3), lambda i: np.float32(i),
        lambda i: np.float32(i % 2), lambda i: np.float32(i % 5 - 2),
    ):  # fmt: skip
        assert not found(regressed_classes, with_targets(change))
    assert not found(regressed_classes, with_loss(criterion=CriterionProbe("MSELoss", "mse")))
    assert not found(regressed_classes, with_loss())


def test_shapes_that_were_seen_to_broadcast_in_an_own_loss_are_named():
    shapes = ((8, 1, 32, 32), (8, 32, 32))
    only(broadcast_shapes, own_loss(spread=shapes, target="mask"), "error", "[8, 1, 32, 32]", "'mask'", "[8, 32, 32]")


def test_the_function_in_an_own_loss_tells_what_its_output_is_to_be():
    only(softmax_before_loss, own_loss(SHARES, blank=1.0, takes="cross_entropy"), "warning", "is a softmax already")
    seen = CriterionProbe("cross_entropy", "cross_entropy", "mean", ignore_index=3)
    probe = own_loss()
    ignores = replace(probe, trial=TrialProbe({"loss": trial(criterion=seen)}, 16))
    only(ignored_class, ignores, "warning", "class 3", "ignore_index 3")
    # The factor of a loss in a ``handle_batch``.
    negative = replace(probe, trial=TrialProbe({"loss": trial(weight=-1.0)}, 16))
    only(inverted_loss, negative, "error", "has the weight -1")


@pytest.mark.parametrize(("low", "high"), [(0.0, 5.0), (-1.0, 1.0), (0.0, 255.0)])
def test_a_binary_loss_with_targets_that_are_no_probabilities_is_named(low, high):
    probe = with_loss(criterion=BCE, target_low=low, target_high=high, target_shape=np.shape(LOGITS))
    only(targets_beyond_one, probe, "error", "term 'loss'", "'target'", f"to {high:.3g}", "falls without end")


def test_targets_from_0_to_1_and_those_that_do_not_count_are_no_fault():
    ignores = CriterionProbe("SoftBCEWithLogitsLoss", "bce_logits", "mean", ignore_index=-100)
    assert not found(targets_beyond_one, with_loss(criterion=BCE, target_low=0.05, target_high=0.95))
    assert not found(targets_beyond_one, with_loss(criterion=ignores, target_low=-100.0, target_high=1.0))
    assert not found(targets_beyond_one, with_loss())
    # Of class numbers it makes zeros and ones itself.
    one_hot = with_loss(criterion=BCE, target_high=2.0, output_shape=(8, 3), target_shape=(8,))
    assert not found(targets_beyond_one, one_hot)
