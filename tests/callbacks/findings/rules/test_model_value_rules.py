"""Rules on weights, signals and layers that normalize or drop: each names its fault, and is silent on healthy twins."""

from dataclasses import replace

import pytest
from made_models import BATCH, add, change, healthy_net, layer, norm, run_of, weight
from made_probes import found, loader, make_samples

from assay.callbacks.findings.probe.model_probe import ParameterProbe
from assay.callbacks.findings.rules.model.norms.evaluation_mode import evaluation_mode
from assay.callbacks.findings.rules.model.norms.heavy_dropout import heavy_dropout
from assay.callbacks.findings.rules.model.norms.no_running_stats import no_running_stats
from assay.callbacks.findings.rules.model.norms.norm_momentum import norm_momentum
from assay.callbacks.findings.rules.model.norms.norm_of_one import norm_of_one
from assay.callbacks.findings.rules.model.norms.small_batch_norm import small_batch_norm
from assay.callbacks.findings.rules.model.norms.training_in_validation import training_in_validation
from assay.callbacks.findings.rules.model.signals.dead_units import dead_units
from assay.callbacks.findings.rules.model.signals.exploding_signal import exploding_signal
from assay.callbacks.findings.rules.model.signals.gradients_not_finite import gradients_not_finite
from assay.callbacks.findings.rules.model.signals.saturated_units import saturated_units
from assay.callbacks.findings.rules.model.signals.vanishing_signal import vanishing_signal
from assay.callbacks.findings.rules.model.weights.large_weights import large_weights
from assay.callbacks.findings.rules.model.weights.small_weights import small_weights
from assay.callbacks.findings.rules.model.weights.symmetric_weights import symmetric_weights
from assay.callbacks.findings.rules.model.weights.weights_not_finite import weights_not_finite
from assay.callbacks.findings.rules.model.weights.zero_weights import zero_weights

ZERO = {"low": 0.0, "high": 0.0, "std": 0.0, "norm": 0.0, "alike_rows": True}


@pytest.mark.parametrize(
    "rule",
    [evaluation_mode, heavy_dropout, no_running_stats, norm_momentum, norm_of_one, small_batch_norm, dead_units,
     exploding_signal, saturated_units, vanishing_signal, large_weights, small_weights, symmetric_weights,
     weights_not_finite, zero_weights],
)  # fmt: skip
def test_a_healthy_net_gives_no_finding_of_values(rule):
    assert found(rule, run_of()) == ()


def test_weights_not_finite_names_the_parameter():
    (finding,) = found(weights_not_finite, run_of(change(healthy_net(), "conv2.weight", finite=False)))
    assert finding.severity == "error"
    assert "parameter 'conv2.weight' holds NaN or infinity" in finding.sentence
    (finding,) = found(weights_not_finite, run_of(replace(healthy_net(), buffers_finite=False)))
    assert "a buffer" in finding.sentence


def test_symmetric_weights_names_layers_and_value():
    model = change(healthy_net(), "conv", alike_rows=True, low=0.1, high=0.1, std=0.0)
    (finding,) = found(symmetric_weights, run_of(model))
    assert finding.severity == "error"
    assert "3 layers ('conv1', 'conv2' and 'conv3') begin with the same weights, 0.1 everywhere" in finding.sentence


def test_symmetric_weights_is_silent_on_heads_and_depthwise_filters():
    assert found(symmetric_weights, run_of(change(healthy_net(), "fc.weight", alike_rows=True))) == ()
    depthwise = weight("blur.weight", 64, 1, 3, 3, alike_rows=True)
    scale = ParameterProbe("scale", (64, 1, 1), low=1e-6, high=1e-6, std=0, alike_rows=True)
    assert found(symmetric_weights, run_of(add(healthy_net(), [depthwise, scale]))) == ()
    assert found(symmetric_weights, run_of(change(healthy_net(), "conv", alike_rows=True), loaded=frozenset(
        it.name for it in healthy_net().parameters))) == ()  # fmt: skip


def test_zero_weights_names_a_layer_that_stays_at_zero():
    (finding,) = found(zero_weights, run_of(change(healthy_net(), "conv2.weight", **ZERO, grad_norm=0.0)))
    assert finding.severity == "warning"
    assert "all weights of layer 'conv2' begin at 0 and get a gradient of 0" in finding.sentence


def test_zero_weights_stops_a_model_of_zeros():
    (finding,) = found(zero_weights, run_of(change(healthy_net(), "", **ZERO)))
    assert finding.severity == "error"
    assert "4 layers ('conv1', 'conv2', 'conv3' and 1 more)" in finding.sentence


def test_zero_weights_is_silent_on_zeros_that_are_meant():
    assert found(zero_weights, run_of(change(healthy_net(), "fc", **ZERO))) == ()
    assert found(zero_weights, run_of(change(healthy_net(), "norm2", **ZERO, grad_norm=0.0))) == ()
    waiting = change(change(healthy_net(), "fc", **ZERO), "conv2", **ZERO, grad_norm=0.0)
    assert found(zero_weights, run_of(waiting)) == ()
    meant = [
        weight("block.lora_B.weight", 64, 4, **ZERO, grad_norm=0.0),
        weight("zero_convs.0.weight", 64, 64, 1, 1, **ZERO, grad_norm=0.0),
        weight("pos_embed", 1, 50, 64, **ZERO, grad_norm=0.0),
    ]
    assert found(zero_weights, run_of(add(healthy_net(), meant))) == ()


def test_large_weights_names_layer_and_size():
    model = change(healthy_net(), "conv3", std=3.0, out_std=50.0)
    (finding,) = found(large_weights, run_of(model))
    assert "the weights of layer 'conv3' begin far too large" in finding.sentence
    assert "is 3 in 'conv3', where 0.083 is usual" in finding.sentence


def test_large_weights_is_silent_on_scaled_loaded_and_embedded_weights():
    equalized = change(healthy_net(), "conv3", std=1.0, out_std=1.0)
    assert found(large_weights, run_of(equalized)) == ()
    loaded = change(healthy_net(), "conv3", std=3.0, out_std=50.0)
    assert found(large_weights, run_of(loaded, loaded=frozenset({"conv3.weight"}))) == ()
    embedding = add(
        healthy_net(), [weight("tokens.weight", 100, 512, std=1.0)], [layer("tokens", "Embedding", BATCH, 9, 512)]
    )
    assert found(large_weights, run_of(embedding)) == ()


def test_small_weights_names_layers_and_size():
    model = change(healthy_net(), "conv", std=1e-4, out_std=1e-3)
    (finding,) = found(small_weights, run_of(model))
    assert "3 layers ('conv1', 'conv2' and 'conv3') begin far too small" in finding.sentence
    assert "0.0001 in 'conv1', where 0.27 is usual" in finding.sentence


def test_small_weights_is_silent_on_heads_and_on_transformers():
    assert found(small_weights, run_of(change(healthy_net(), "fc", std=2e-5, out_std=1e-4))) == ()
    assert found(small_weights, run_of(change(healthy_net(), "conv", std=0.01, out_std=0.3))) == ()


def test_dead_units_names_the_first_dead_layer():
    model = change(healthy_net(), "relu2", dead=1.0, out_zero=1.0, out_largest=0.0)
    (finding,) = found(dead_units, run_of(model))
    assert finding.severity == "error"
    assert "all of the units of layer 'relu2' are dead" in finding.sentence
    (finding,) = found(dead_units, run_of(change(healthy_net(), "relu2", dead=0.95)))
    assert finding.severity == "warning"
    assert "95% of the units of layer 'relu2'" in finding.sentence


def test_dead_units_sees_what_feeds_a_function_that_cuts():
    model = change(healthy_net(), "conv2", out_mean=-10.0, out_std=0.5, grad_std=0.0)
    (finding,) = found(dead_units, run_of(model))
    assert "the outputs of layer 'conv2' are below 0 (mean -10)" in finding.sentence


def test_dead_units_is_silent_on_what_an_initialization_gives():
    assert found(dead_units, run_of(change(healthy_net(), "relu", dead=0.6))) == ()
    gate = [layer("gate.relu", "ReLU", BATCH, 8, 1, 1, dead=1.0)]
    assert found(dead_units, run_of(add(healthy_net(), layers=gate))) == ()
    branch = [
        norm("branch.norm", 64, 8, out_std=0.0, out_largest=0.0, dead=1.0),
        layer("branch.relu", "ReLU", BATCH, 64, 8, 8, out_std=0.0, out_largest=0.0, dead=1.0),
    ]
    assert found(dead_units, run_of(add(healthy_net(), layers=branch))) == ()
    negative = change(healthy_net(), "fc", out_mean=-4.6, out_std=0.1, grad_std=0.01)
    assert found(dead_units, run_of(negative)) == ()


def test_saturated_units_names_the_layer():
    tanh = [layer("act", "Tanh", BATCH, 64, out_mean=0.0, out_std=0.98)]
    (finding,) = found(saturated_units, run_of(add(healthy_net(), layers=tanh)))
    assert "the outputs of layer 'act' are at the ends of tanh" in finding.sentence
    sigmoid = [layer("act", "Sigmoid", BATCH, 64, out_mean=0.5, out_std=0.49)]
    assert len(found(saturated_units, run_of(add(healthy_net(), layers=sigmoid)))) == 1


def test_saturated_units_is_silent_on_gates_and_priors():
    usual = [
        layer("tanh", "Tanh", BATCH, 64, out_mean=0.0, out_std=0.63),
        layer("gate", "Sigmoid", BATCH, 64, out_mean=0.5, out_std=0.1),
        layer("prior", "Sigmoid", BATCH, 64, out_mean=0.01, out_std=0.001),
    ]
    assert found(saturated_units, run_of(add(healthy_net(), layers=usual))) == ()


def deep_net(gradients):
    """Return a net with a hidden layer for each gradient, relative to the weights."""
    names = [f"hidden{number}" for number in range(len(gradients))]
    weights = [weight(f"{name}.weight", 64, 64) for name in names]
    weights = [replace(it, grad_norm=it.norm * gradient) for it, gradient in zip(weights, gradients, strict=True)]
    model = add(healthy_net(), weights, [layer(name, "Linear", BATCH, 64) for name in names])
    kept = [it for it in model.parameters if not it.name.startswith("conv")]
    return replace(model, parameters=tuple(kept))


def test_vanishing_signal_names_the_depth_to_which_gradients_are_gone():
    (finding,) = found(vanishing_signal, run_of(deep_net([1e-9, 1e-8, 1e-7, 1e-6, 1e-3, 0.1, 1])))
    assert "in the layers up to 'hidden3' it is at most 1e-07 of the largest one" in finding.sentence


def test_vanishing_signal_names_the_layer_where_outputs_are_gone():
    model = deep_net([1.0] * 6)
    for number in range(3, 6):
        model = change(model, f"hidden{number}", out_std=1e-8)
    (finding,) = found(vanishing_signal, run_of(change(model, "fc", out_std=1e-9)))
    assert "from layer 'hidden3' on the standard deviation of outputs is 1e-08" in finding.sentence


def test_vanishing_signal_is_silent_on_branches_that_begin_small():
    assert found(vanishing_signal, run_of(deep_net([1, 1e-6, 1e-6, 1e-6, 1e-6, 1]))) == ()
    assert found(vanishing_signal, run_of(deep_net([0.0, 0.0, 0.0, 0.0, 0.0, 1]))) == ()
    assert found(vanishing_signal, run_of(deep_net([5e-3, 1e-2, 0.1, 1]))) == ()
    scaled = deep_net([1e-9] * 5 + [1])
    scale = ParameterProbe("blocks.gamma", (64,), low=1e-5, high=1e-5, std=0)
    assert found(vanishing_signal, run_of(add(scaled, [scale]))) == ()
    small_head = change(deep_net([1.0] * 5), "fc.weight", norm=1e-5)
    assert found(vanishing_signal, run_of(small_head)) == ()


def test_exploding_signal_names_the_layer():
    (finding,) = found(exploding_signal, run_of(change(healthy_net(), "conv3", out_std=4e5)))
    assert "grows from 1 in the first layers to 4e+05 in 'conv3'" in finding.sentence


def test_exploding_signal_is_silent_on_deep_residual_nets_and_on_large_inputs():
    assert found(exploding_signal, run_of(change(healthy_net(), "conv3", out_std=200.0))) == ()
    large_input = change(change(healthy_net(), "conv", out_std=90.0), "conv3", out_std=5000.0)
    assert found(exploding_signal, run_of(large_input)) == ()


@pytest.mark.parametrize(
    ("momentum", "effect"), [(0.99, "evaluation is noise"), (1.0, "evaluation is noise"), (0.0, "100% of the initial")]
)
def test_norm_momentum_names_layers_and_effect(momentum, effect):
    model = change(healthy_net(), "norm", options={"momentum": momentum, "track_running_stats": True})
    (finding,) = found(norm_momentum, run_of(model))
    assert f"2 BatchNorm layers ('norm1' and 'norm2') have momentum {momentum:g}" in finding.sentence
    assert effect in finding.sentence


@pytest.mark.parametrize("momentum", [0.1, 0.01, 3e-4, None])
def test_norm_momentum_is_silent_on_published_values(momentum):
    assert found(norm_momentum, run_of(change(healthy_net(), "norm", options={"momentum": momentum}))) == ()


def test_norm_momentum_is_silent_on_frozen_statistics():
    model = change(healthy_net(), "norm", options={"momentum": 0.0}, training=False)
    assert found(norm_momentum, run_of(model)) == ()
    kept = change(healthy_net(), "norm", options={"momentum": 0.0})
    assert found(norm_momentum, run_of(kept, loaded=frozenset({"norm1.weight", "norm2.weight"}))) == ()


def test_norm_of_one_names_the_layer():
    (finding,) = found(norm_of_one, run_of(change(healthy_net(), "norm2", values_per_channel=1)))
    assert "BatchNorm2d 'norm2' cannot work: normalizing by one value per channel" in finding.sentence
    (finding,) = found(norm_of_one, run_of(replace(healthy_net(), batch_size=1), batch_size=1))
    assert "batches have one sample" in finding.sentence


def test_norm_of_one_foresees_a_last_batch_of_one():
    model = change(healthy_net(), "norm2", values_per_channel=BATCH)
    run = run_of(model)
    odd = {"train": loader("train", make_samples(33)), "valid": run.loaders["valid"]}
    (finding,) = found(norm_of_one, replace(run, loaders=odd))
    assert "the last batch of an epoch has one sample, which torch refuses" in finding.sentence
    assert "drop_last" in finding.do
    odd["train"] = replace(odd["train"], drop_last=True)
    assert found(norm_of_one, replace(run, loaders=odd)) == ()


def test_norm_of_one_is_silent_in_evaluation_mode_and_on_other_norms():
    model = replace(change(healthy_net(), "norm", training=False), batch_size=1)
    assert found(norm_of_one, run_of(model, batch_size=1)) == ()
    assert found(norm_of_one, run_of(change(model, "norm", kind="GroupNorm", training=True), batch_size=1)) == ()


def test_small_batch_norm_is_a_note():
    (finding,) = found(small_batch_norm, run_of(batch_size=2))
    assert finding.severity == "note"
    assert "2 BatchNorm layers take their statistics of 2 samples each" in finding.sentence
    assert found(small_batch_norm, run_of(change(healthy_net(), "norm", training=False), batch_size=2)) == ()


def test_no_running_stats_names_the_layers():
    model = change(healthy_net(), "norm1", options={"track_running_stats": False})
    (finding,) = found(no_running_stats, run_of(model))
    assert "BatchNorm layer 'norm1' keeps no running statistics" in finding.sentence
    instance = change(model, "norm1", kind="InstanceNorm2d")
    assert found(no_running_stats, run_of(instance)) == ()


def test_heavy_dropout_names_layer_and_share():
    (finding,) = found(heavy_dropout, run_of(change(healthy_net(), "drop", options={"p": 0.9})))
    assert finding.severity == "warning"
    assert "Dropout 'drop' sets 90% of the values to 0 in training (p=0.9)" in finding.sentence
    (finding,) = found(heavy_dropout, run_of(change(healthy_net(), "drop", options={"p": 1.0})))
    assert finding.severity == "error"
    assert found(heavy_dropout, run_of(change(healthy_net(), "drop", options={"p": 0.8}))) == ()


def test_evaluation_mode_names_what_stands_still():
    (finding,) = found(evaluation_mode, run_of(replace(healthy_net(), trains_in_eval=True)))
    assert "the whole model is left in evaluation mode" in finding.sentence
    (finding,) = found(evaluation_mode, run_of(change(healthy_net(), "norm1", training=False)))
    assert "layer 'norm1' is in evaluation mode in training steps: running statistics never move" in finding.sentence


def test_evaluation_mode_is_silent_where_it_is_meant_or_does_nothing():
    frozen = change(healthy_net(), "norm", training=False, trains=False)
    assert found(evaluation_mode, run_of(frozen)) == ()
    still = change(healthy_net(), "norm", training=False)
    assert found(evaluation_mode, run_of(replace(still, pretrained=True))) == ()
    plain = [it for it in healthy_net().layers if it.kind in ("Conv2d", "ReLU", "Linear")]
    assert found(evaluation_mode, run_of(replace(healthy_net(), layers=tuple(plain), trains_in_eval=True))) == ()


def test_training_in_validation_names_the_layers():
    (finding,) = found(training_in_validation, run_of(replace(healthy_net(), trains_in_valid=True)))
    assert finding.severity == "warning"
    assert "training mode on batches of validation" in finding.sentence
    assert "'norm1'" in finding.sentence


def test_training_in_validation_is_silent_where_modes_do_the_same_and_where_nobody_trains():
    bare = replace(healthy_net(), layers=(), trains_in_valid=True)
    assert found(training_in_validation, run_of(bare)) == ()
    assert found(training_in_validation, run_of(healthy_net())) == ()


def test_gradients_not_finite_names_the_modules_and_the_operation():
    net = healthy_net()
    first, *others = net.parameters
    broken = replace(first, grad_norm=float("nan"))
    model = replace(net, parameters=(broken, *others), loss=1.79, broken_by="sqrt in forward (net.py, line 12)")
    (finding,) = found(gradients_not_finite, run_of(model))
    assert "(1.79)" in finding.sentence
    assert f"'{first.name.rpartition('.')[0]}" in finding.sentence
    assert "by sqrt in forward (net.py, line 12)" in finding.sentence


def test_gradients_not_finite_is_silent_where_the_loss_is_broken_too_or_nothing_is():
    first, *others = healthy_net().parameters
    broken = (replace(first, grad_norm=float("inf")), *others)
    assert found(gradients_not_finite, run_of(replace(healthy_net(), parameters=broken, loss=float("nan")))) == ()
    assert found(gradients_not_finite, run_of(replace(healthy_net(), loss=1.0))) == ()


def test_dropout_by_a_function_is_named_by_its_place():
    place = "features (net.py, line 7)"
    (finding,) = found(training_in_validation, run_of(replace(healthy_net(), valid_dropouts={place: 0.5})))
    assert f"dropout in {place} drops 50% of the values in evaluation mode too" in finding.sentence
    (heavy,) = found(heavy_dropout, run_of(replace(healthy_net(), dropouts={place: 0.9})))
    assert f"dropout in {place} sets 90%" in heavy.sentence
    assert found(heavy_dropout, run_of(replace(healthy_net(), dropouts={place: 0.5}))) == ()
