"""Rules on which parameters are trained: each names its fault, and is silent on its healthy twins."""

from dataclasses import replace

import pytest
from made_models import BATCH, add, change, healthy_net, layer, run_of, weight
from made_probes import found

from assay.callbacks.findings.probe.model_probe import OutputProbe
from assay.callbacks.findings.rules.model.training.all_frozen import all_frozen
from assay.callbacks.findings.rules.model.training.detached_branch import detached_branch
from assay.callbacks.findings.rules.model.training.frozen_at_random import frozen_at_random
from assay.callbacks.findings.rules.model.training.half_weights import half_weights
from assay.callbacks.findings.rules.model.training.head_without_loss import head_without_loss
from assay.callbacks.findings.rules.model.training.late_parameters import late_parameters
from assay.callbacks.findings.rules.model.training.no_optimizer_for import no_optimizer_for
from assay.callbacks.findings.rules.model.training.unregistered_modules import unregistered_modules
from assay.callbacks.findings.rules.model.training.unused_modules import unused_modules

BACKBONE = ("conv", "norm")


def backbone_names():
    return frozenset(it.name for it in healthy_net().parameters if it.name.startswith(BACKBONE))


@pytest.mark.parametrize(
    "rule",
    [all_frozen, detached_branch, frozen_at_random, half_weights, head_without_loss, late_parameters, no_optimizer_for,
     unregistered_modules, unused_modules],
)  # fmt: skip
def test_a_healthy_net_gives_no_finding(rule):
    assert found(rule, run_of()) == ()


def test_no_optimizer_for_names_the_module():
    (finding,) = found(no_optimizer_for, run_of(change(healthy_net(), "fc", optimized=False)))
    assert finding.severity == "warning"
    assert "no optimizer has the parameters of module 'fc' (650 numbers)" in finding.sentence


def test_no_optimizer_for_stops_a_run_that_trains_nothing():
    (finding,) = found(no_optimizer_for, run_of(change(healthy_net(), "", optimized=False)))
    assert finding.severity == "error"
    assert "none of the model's 7 trainable parameters" in finding.sentence


def test_no_optimizer_for_takes_a_loaded_backbone_for_meant():
    model = change(healthy_net(), *BACKBONE, optimized=False)
    (finding,) = found(no_optimizer_for, run_of(model, loaded=backbone_names()))
    assert finding.severity == "note"
    frozen = change(model, *BACKBONE, trains=False)
    assert found(no_optimizer_for, run_of(frozen)) == ()
    new_head = change(replace(healthy_net(), pretrained=True), "fc", optimized=False)
    assert [it.severity for it in found(no_optimizer_for, run_of(new_head))] == ["warning"]
    assert found(no_optimizer_for, run_of(model, optimizer="")) == ()


def test_unregistered_modules_names_the_container():
    model = replace(healthy_net(), plain_modules=("blocks[0]", "blocks[1]"))
    (finding,) = found(unregistered_modules, run_of(model))
    assert "2 modules ('blocks[0]' and 'blocks[1]') stand in a plain list or dict" in finding.sentence
    assert "nn.ModuleList" in finding.do


def test_late_parameters_names_the_layer():
    model = replace(healthy_net(), late_parameters=("proj.weight", "proj.bias"))
    (finding,) = found(late_parameters, run_of(model))
    assert "the first forward pass makes 2 parameters of module 'proj'" in finding.sentence
    assert found(no_optimizer_for, run_of(model)) == ()


def test_late_parameters_is_silent_where_the_optimizer_has_them():
    model = replace(healthy_net(), late_parameters=("fc.weight", "fc.bias"))
    assert found(late_parameters, run_of(model)) == ()


def test_all_frozen_tells_that_nothing_trains():
    (finding,) = found(all_frozen, run_of(change(healthy_net(), "", trains=False)))
    assert finding.severity == "error"
    assert "all 7 parameters of the model are frozen" in finding.sentence


def test_frozen_at_random_names_the_backbone():
    model = change(healthy_net(), *BACKBONE, trains=False)
    (finding,) = found(frozen_at_random, run_of(model, frozen_on_purpose=backbone_names()))
    assert finding.severity == "warning"
    assert "('conv1', 'conv2' and 'conv3') with 97% of the model's numbers are frozen at random" in finding.sentence


def test_frozen_at_random_names_a_new_head():
    model = change(healthy_net(), "fc", trains=False)
    (finding,) = found(frozen_at_random, run_of(model, loaded=backbone_names()))
    assert "module 'fc'" in finding.sentence


def test_frozen_at_random_is_silent_on_what_is_frozen_for_a_reason():
    frozen = change(healthy_net(), *BACKBONE, trains=False)
    assert found(frozen_at_random, run_of(frozen, loaded=backbone_names())) == ()
    assert found(frozen_at_random, run_of(replace(frozen, pretrained=True))) == ()
    net = healthy_net()
    teacher = [replace(it, name=f"teacher.{it.name}", trains=False) for it in net.parameters]
    assert found(frozen_at_random, run_of(add(net, teacher))) == ()
    fixed = [weight("pos_embed", 64, 512, trains=False), weight("blur.weight", 3, 1, 3, 3, trains=False)]
    assert found(frozen_at_random, run_of(add(net, fixed))) == ()


def test_detached_branch_names_the_layers_without_gradient():
    model = replace(change(healthy_net(), "conv1", "norm1", grad_norm=None), detached=("conv1", "norm1"))
    (finding,) = found(detached_branch, run_of(model))
    assert "no gradient comes back to 2 layers ('conv1' and 'norm1')" in finding.sentence
    assert "detach()" in finding.do


def test_detached_branch_is_silent_where_gradients_come_another_way():
    assert found(detached_branch, run_of(replace(healthy_net(), detached=("conv1",)))) == ()
    unknown = replace(change(healthy_net(), "conv1", grad_norm=None), detached=("conv1",), loss=None)
    assert found(detached_branch, run_of(unknown)) == ()


def second_head(**options):
    model = add(healthy_net(), [weight("depth.weight", 1, 64, **options)], [layer("depth", "Linear", BATCH, 1)])
    return replace(model, outputs={**model.outputs, "depth": OutputProbe("depth", (BATCH, 1), has_loss=False)})


def test_head_without_loss_names_output_and_head():
    (finding,) = found(head_without_loss, run_of(second_head(grad_norm=None)))
    assert "no loss takes output 'depth', so module 'depth' gets no gradient and learns nothing" in finding.sentence


def test_head_without_loss_is_silent_on_features_and_on_frozen_heads():
    assert found(head_without_loss, run_of(second_head())) == ()
    assert found(head_without_loss, run_of(second_head(grad_norm=None, trains=False))) == ()
    uncalled = replace(
        second_head(), parameters=(*second_head().parameters, weight("old.weight", 4, 4, grad_norm=None))
    )
    assert found(head_without_loss, run_of(replace(uncalled, uncalled=("old",)))) == ()


def test_unused_modules_names_what_is_never_called():
    spare = [weight("conv4.weight", 64, 64, 3, 3, grad_norm=None)]
    model = replace(add(healthy_net(), spare), uncalled=("conv4",))
    (finding,) = found(unused_modules, run_of(model))
    assert "the forward pass never calls module 'conv4', 60% of the model's numbers" in finding.sentence


def test_unused_modules_is_silent_on_weights_used_by_other_ways():
    tied = replace(add(healthy_net(), [weight("out_proj.weight", 64, 64)]), uncalled=("out_proj",))
    assert found(unused_modules, run_of(tied)) == ()
    expert = add(healthy_net(), [weight("experts.3.weight", 64, 64, grad_norm=None)])
    assert found(unused_modules, run_of(replace(expert, uncalled=("experts.3",)))) == ()
    frozen = add(healthy_net(), [weight("old.weight", 64, 64, grad_norm=None, trains=False)])
    assert found(unused_modules, run_of(replace(frozen, uncalled=("old",)))) == ()


def test_half_weights_names_type_and_place():
    (finding,) = found(half_weights, run_of(change(healthy_net(), "conv", dtype="float16")))
    assert "3 modules ('conv1', 'conv2' and 'conv3') are float16" in finding.sentence
    frozen = change(healthy_net(), *BACKBONE, dtype="bfloat16", trains=False)
    assert found(half_weights, run_of(frozen)) == ()
