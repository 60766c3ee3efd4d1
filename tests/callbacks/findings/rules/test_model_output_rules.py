"""Rules on what a model returns: each names its fault, and is silent on its healthy twins."""

from dataclasses import replace

import numpy as np
import pytest
from made_models import BATCH, CROSS_ENTROPY, add, change, healthy_net, layer, run_of, with_output
from made_probes import found

from assay.callbacks.findings.probe.model_probe import OutputProbe
from assay.callbacks.findings.probe.settings_probe import CriterionProbe, TermProbe
from assay.callbacks.findings.rules.model.outputs.constant_output import constant_output
from assay.callbacks.findings.rules.model.outputs.leaking_samples import leaking_samples
from assay.callbacks.findings.rules.model.outputs.output_count import output_count
from assay.callbacks.findings.rules.model.outputs.output_without_gradient import output_without_gradient
from assay.callbacks.findings.rules.model.outputs.outputs_not_finite import outputs_not_finite


@pytest.mark.parametrize(
    "rule", [constant_output, leaking_samples, output_count, output_without_gradient, outputs_not_finite]
)
def test_healthy_outputs_give_no_finding(rule):
    assert found(rule, run_of()) == ()


def test_outputs_not_finite_names_output_and_first_layer():
    model = with_output(change(healthy_net(), "conv3", "drop", out_largest=np.nan), low=np.nan, high=np.nan)
    (finding,) = found(outputs_not_finite, run_of(model))
    assert finding.severity == "error"
    assert "output 'logits' holds NaN on the first batch, first in layer 'conv3'" in finding.sentence
    (finding,) = found(outputs_not_finite, run_of(with_output(healthy_net(), low=-np.inf)))
    assert finding.severity == "warning"
    assert "holds infinity" in finding.sentence


def test_output_without_gradient_names_the_output():
    (finding,) = found(output_without_gradient, run_of(with_output(healthy_net(), requires_grad=False)))
    assert finding.severity == "error"
    assert "output 'logits' is cut off from the model" in finding.sentence
    assert found(output_without_gradient, run_of(with_output(healthy_net(), requires_grad=False, has_loss=False))) == ()


def test_constant_output_names_the_output():
    model = replace(healthy_net(), constant={"logits": True})
    (finding,) = found(constant_output, run_of(model))
    assert "output 'logits' is the same for all 16 samples" in finding.sentence


def test_constant_output_is_silent_on_heads_that_begin_at_zero():
    model = replace(healthy_net(), constant={"logits": True})
    zero_head = change(model, "fc.weight", low=0.0, high=0.0)
    assert found(constant_output, run_of(zero_head)) == ()
    assert found(constant_output, run_of(replace(model, batch_size=1))) == ()


def test_leaking_samples_names_output_and_layer():
    attention = [layer("attention", "MultiheadAttention", options={"batch_first": False})]
    model = replace(add(healthy_net(), layers=attention), leaks={"logits": 0.4})
    (finding,) = found(leaking_samples, run_of(model))
    assert finding.severity == "error"
    assert "40% of the gradient of one sample's output 'logits' goes to other samples" in finding.sentence
    assert "layer 'attention' (MultiheadAttention) takes axis 1 for the batch" in finding.sentence
    assert finding.where.layer == "attention"


def test_leaking_samples_names_a_softmax_over_the_batch():
    softmax = [layer("weigh", "Softmax", BATCH, 64, options={"dim": 0})]
    (finding,) = found(leaking_samples, run_of(replace(add(healthy_net(), layers=softmax), leaks={"logits": 0.01})))
    assert "layer 'weigh' is a Softmax over dim 0, the batch" in finding.sentence


def test_leaking_samples_is_silent_where_samples_are_compared_on_purpose():
    leaks = {"logits": 0.9}
    similarity = with_output(replace(healthy_net(), leaks=leaks), shape=(BATCH, BATCH))
    assert found(leaking_samples, run_of(similarity)) == ()
    statistics = add(replace(healthy_net(), leaks=leaks), layers=[layer("std", "MinibatchStdLayer", BATCH, 65, 4, 4)])
    assert found(leaking_samples, run_of(statistics)) == ()
    assert found(leaking_samples, run_of(replace(healthy_net(), leaks={"logits": None}))) == ()


def test_output_count_names_both_numbers():
    (finding,) = found(output_count, run_of(with_output(healthy_net(), shape=(BATCH, 1000))))
    assert finding.severity == "warning"
    assert "output 'logits' has 1,000 numbers per sample, and there are 10 classes" in finding.sentence
    (finding,) = found(output_count, run_of(with_output(healthy_net(), shape=(BATCH, 9))))
    assert "has 9 numbers per sample, and there are 10 classes" in finding.sentence
    (finding,) = found(output_count, run_of(with_output(healthy_net(), shape=(BATCH, 1))))
    assert "a softmax of one number is always 1" in finding.sentence


def test_output_count_reads_labels_where_nobody_states_a_number():
    many = with_output(healthy_net(), shape=(BATCH, 100))
    (finding,) = found(output_count, run_of(many, num_classes=None))
    assert "100 numbers per sample, and there are 10 classes" in finding.sentence
    one_more = with_output(healthy_net(), shape=(BATCH, 11))
    assert [it.severity for it in found(output_count, run_of(one_more, num_classes=None))] == ["note"]


def test_output_count_is_silent_on_outputs_that_are_no_classes():
    regression = TermProbe("loss", "logits", "target", 1.0, CriterionProbe("MSELoss", "mse"))
    assert found(output_count, run_of(with_output(healthy_net(), shape=(BATCH, 1)), terms=(regression,))) == ()
    binary = TermProbe("loss", "logits", "target", 1.0, CriterionProbe("BCEWithLogitsLoss", "bce_logits"))
    assert found(output_count, run_of(with_output(healthy_net(), shape=(BATCH, 1)), terms=(binary,))) == ()
    masks = with_output(healthy_net(), shape=(BATCH, 21, 32, 32))
    assert found(output_count, run_of(masks, num_classes=None)) == ()
    two = replace(healthy_net(), outputs={**healthy_net().outputs, "aux": OutputProbe("aux", (BATCH, 3))})
    colors = replace(CROSS_ENTROPY, output="aux", target="color")
    assert found(output_count, run_of(two, terms=(CROSS_ENTROPY, colors))) == ()
    second = replace(healthy_net(), outputs={"aux": OutputProbe("aux", (BATCH, 3))})
    other = replace(CROSS_ENTROPY, output="aux", target="color")
    assert found(output_count, run_of(second, terms=(other,), num_classes=None)) == ()
