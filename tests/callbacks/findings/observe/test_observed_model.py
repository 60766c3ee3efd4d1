"""What is observed of a model, against values worked out by plain autograd, and of models with faults."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from catalyst import dl
from made_runs import Named, batches_of, conv_net, dict_runner, image_items, look, observe_model, stacked
from torch import nn

from assay.callbacks.findings.probe.settings_probe import CriterionProbe, MetricProbe, SettingsProbe, TermProbe
from assay.runner import LossTerm

TERM = TermProbe("loss_logits", "logits", "target", 1.0, CriterionProbe("CrossEntropyLoss", "cross_entropy", "mean"))
SETTINGS = SettingsProbe(terms=(TERM,))


def observed(model, items=None, runner=None, settings=SETTINGS, batches=None, **options):
    items = image_items() if items is None else items
    batches = batches_of(items) if batches is None else batches
    return look(runner or dict_runner(), model, items, lambda run: observe_model(run, batches, settings), **options)


def parameters_of(probe):
    return {one.name: one for one in probe.parameters}


def layers_of(probe):
    return {one.name: one for one in probe.layers}


def by_hand(model, batch):
    """Return outputs, loss and gradients of a copy in training mode."""
    net = copy.deepcopy(model).train()
    output = net(batch["image"])["logits"]
    loss = F.cross_entropy(output, batch["target"])
    loss.backward()
    return output.detach(), float(loss), {name: one.grad for name, one in net.named_parameters()}


# -- a healthy model --------------------------------------------------------------------------------------------------


def test_parameters_are_as_autograd_has_them():
    model, items = Named(conv_net()), image_items()
    output, loss, grads = by_hand(model, stacked(items))
    probe = observed(model, items)
    assert probe.loss == pytest.approx(loss, rel=1e-5)
    assert probe.term_losses == {"loss_logits": pytest.approx(loss, rel=1e-5)}
    assert [one.name for one in probe.parameters] == [name for name, _ in model.named_parameters()]
    for name, parameter in model.named_parameters():
        one, values = parameters_of(probe)[name], parameter.detach().numpy()
        assert one.shape == values.shape and one.trains and one.optimized and one.finite and one.dtype == "float32"
        assert (one.mean, one.std) == pytest.approx((values.mean(), values.std()), abs=1e-6)
        assert (one.low, one.high) == pytest.approx((values.min(), values.max()))
        assert one.norm == pytest.approx(np.linalg.norm(values), rel=1e-5)
        assert one.grad_norm == pytest.approx(float(grads[name].norm()), rel=1e-4, abs=1e-7)
    total = np.sqrt(sum(float(grad.norm()) ** 2 for grad in grads.values()))
    assert probe.term_grads == {"loss_logits": pytest.approx(total, rel=1e-4)}
    assert np.allclose(probe.outputs["logits"].values, output.numpy(), atol=1e-5)


def test_layers_are_as_hooks_on_the_model_itself_see_them():
    model, items = Named(conv_net()), image_items()
    net, found = copy.deepcopy(model).train(), {}
    for name, module in net.named_modules():
        if name and not [*module.children()]:
            module.register_forward_hook(lambda _, __, output, name=name: found.update({name: output.clone()}))
    net(stacked(items)["image"])
    probe = observed(model, items)
    assert [layer.name for layer in probe.layers] == [f"net.{index}" for index in range(6)]
    for layer in probe.layers:
        values = found[layer.name].detach().numpy()
        assert layer.out_shape == values.shape and layer.training and layer.calls == 1 and layer.grad_std > 0
        assert (layer.out_mean, layer.out_std) == pytest.approx((values.mean(), values.std()), abs=1e-5)
        assert layer.out_largest == pytest.approx(np.abs(values).max(), rel=1e-5)
        assert layer.out_zero == pytest.approx((values == 0).mean(), abs=1e-6)
    assert layers_of(probe)["net.1"].options["momentum"] == 0.1 and layers_of(probe)["net.1"].values_per_channel == 288
    assert layers_of(probe)["net.2"].options == {"inplace": True}


def test_a_gradient_of_an_output_is_as_autograd_has_it():
    items = image_items()
    model, batch = Named(nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.Tanh(), nn.Linear(5, 4))), stacked(items)
    net = copy.deepcopy(model).net
    hidden = net[1](net[0](batch["image"])).detach().requires_grad_()
    F.cross_entropy(net[3](net[2](hidden)), batch["target"]).backward()
    assert layers_of(observed(model, items))["net.1"].grad_std == pytest.approx(hidden.grad.numpy().std(), rel=1e-4)


def test_a_healthy_model_shows_no_fault():
    probe = observed(Named(conv_net()))
    faults = probe.uncalled, probe.plain_modules, probe.late_parameters, probe.detached
    assert faults == ((), (), (), ()) and probe.buffers_finite and not probe.trains_in_eval and not probe.pretrained
    assert probe.leaks == {"logits": 0.0} and probe.constant == {"logits": False} and probe.batch_size == 8


def test_an_output_is_told_with_its_use():
    settings = SettingsProbe(terms=(TERM,), metrics=(MetricProbe("Metrics", "logits", "target"),))
    model = Named(nn.Sequential(conv_net(), nn.Softmax(dim=1)))
    output = observed(model, settings=settings).outputs["logits"]
    assert output.shape == (8, 4) and output.has_loss and output.measured and output.requires_grad
    assert output.sums[1] == pytest.approx((1, 1)) and output.sums[0][1] > 1
    assert 0 <= output.evaluated[0] < output.evaluated[1] <= 1


def test_biases_before_a_normalization_of_channels_are_marked():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.GroupNorm(4, 4), nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4), nn.Conv2d(4, 4, 1), nn.ReLU(),
        nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.InstanceNorm2d(4), nn.Flatten(), nn.Linear(144, 6),
        nn.BatchNorm1d(6), nn.Linear(6, 4), nn.LayerNorm(4),
    )  # fmt: skip
    marked = [one for one in observed(Named(net)).parameters if one.before_norm]
    assert [one.name for one in marked] == ["net.0.bias", "net.7.bias", "net.10.bias"]
    assert all(one.grad_norm < 1e-5 for one in marked)


# -- faults -----------------------------------------------------------------------------------------------------------


class Faulty(nn.Module):
    """A backbone and a head, and what ``fault`` does between them."""

    def __init__(self, fault=lambda hidden: hidden, head=None):
        super().__init__()
        self.backbone = nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.ReLU(), nn.Linear(6, 5))
        self.head = head or nn.Linear(5, 4)
        self.fault = fault

    def forward(self, image):
        return {"logits": self.head(self.fault(self.backbone(image)))}


@pytest.mark.parametrize("cut", [torch.Tensor.detach, lambda it: torch.from_numpy(it.detach().numpy()), torch.sign])
def test_a_detached_branch_is_found_with_its_layers(cut):
    probe = observed(Faulty(cut))
    if cut is torch.sign:  # a gradient of 0 is a gradient
        assert probe.detached == ()
        return
    assert probe.detached == ("backbone.1", "backbone.3")
    assert parameters_of(probe)["backbone.1.weight"].grad_norm is None
    assert parameters_of(probe)["head.weight"].grad_norm > 0


def test_a_head_without_a_loss_is_not_detached():
    class TwoHeads(Faulty):
        def __init__(self):
            super().__init__()
            self.other = nn.Linear(5, 2)

        def forward(self, image):
            hidden = self.backbone(image)
            return {"logits": self.head(hidden), "other": self.other(hidden)}

    probe = observed(TwoHeads())
    assert probe.detached == () and not probe.outputs["other"].has_loss and probe.outputs["logits"].has_loss
    assert parameters_of(probe)["other.weight"].grad_norm is None and probe.uncalled == ()


def test_frozen_layers_are_not_detached():
    model = Faulty()
    model.backbone.requires_grad_(False)
    probe = observed(model, optimizer=torch.optim.SGD(model.head.parameters(), lr=0.1))
    assert probe.detached == () and not parameters_of(probe)["backbone.1.weight"].trains
    assert not parameters_of(probe)["backbone.1.weight"].optimized and parameters_of(probe)["head.bias"].optimized


def test_modules_in_plain_containers_are_found():
    class Hidden(Faulty):
        def __init__(self):
            super().__init__(self.through)
            self.blocks = [nn.Linear(5, 5), nn.Linear(5, 5)]
            self.scales = {"a": nn.Parameter(torch.ones(5)), "names": ["x"]}
            self.known = [self.head]
            self.frozen = [nn.Linear(5, 5).requires_grad_(False)]

        def through(self, hidden):
            return self.blocks[1](self.blocks[0](hidden)) * self.scales["a"]

    assert observed(Hidden()).plain_modules == ("blocks[0]", "blocks[1]", "scales['a']")


def test_parameters_of_the_first_forward_pass_are_late():
    class Late(Faulty):
        def forward(self, image):
            if not hasattr(self, "extra"):
                self.extra = nn.Linear(4, 4)
            return {"logits": self.extra(super().forward(image)["logits"])}

    model = Late()
    probe = observed(model)
    assert probe.late_parameters == ("extra.weight", "extra.bias") and not hasattr(model, "extra")
    assert not parameters_of(probe)["extra.weight"].optimized


def test_lazy_parameters_are_not_late():
    items, model = image_items(), nn.Sequential(nn.Flatten(), nn.LazyLinear(4))
    pairs = [(item["image"], item["target"]) for item in items]
    probe = look(
        dl.SupervisedRunner(), model, pairs, lambda run: observe_model(run, tuple_batches(items), SettingsProbe())
    )
    weight = parameters_of(probe)["1.weight"]
    assert probe.late_parameters == () and weight.shape == (4, 192) and weight.grad_norm > 0 and weight.optimized
    assert isinstance(model[1].weight, nn.UninitializedParameter)


def test_uncalled_modules_are_told_from_containers_and_from_attention():
    class Uncalled(Faulty):
        def __init__(self):
            super().__init__()
            self.forgotten = nn.Sequential(nn.Linear(5, 5), nn.ReLU())
            self.attention = nn.MultiheadAttention(5, 1, batch_first=True)
            self.steps = nn.ModuleList([nn.Linear(5, 5)])

        def forward(self, image):
            hidden = self.steps[0](self.backbone(image)).unsqueeze(1)
            return {"logits": self.head(self.attention(hidden, hidden, hidden)[0][:, 0])}

    assert observed(Uncalled()).uncalled == ("forgotten", "forgotten.0")


@pytest.mark.parametrize(
    ("mix", "share"),
    [(lambda it: it - it.mean(0), 0.1), (lambda it: it.softmax(0), 1e-3), (lambda it: it.cumsum(0), 0.3)],
)
def test_samples_that_mix_are_seen_in_evaluation(mix, share):
    assert observed(Faulty(mix)).leaks["logits"] > share


def test_a_leak_is_the_share_of_the_squared_gradient():
    class Rolled(HeadOf):
        def forward(self, image):
            flat = image.flatten(1)
            return {"logits": self.layer(flat + 0.1 * flat.roll(1, 0))}

    assert observed(Rolled()).leaks["logits"] == pytest.approx(0.01 / 1.01, rel=1e-4)


def test_a_constant_output_is_seen():
    assert observed(Faulty(lambda it: it * 0)).constant == {"logits": True}


def test_alike_rows_and_dead_units_are_seen():
    model = Faulty()
    nn.init.constant_(model.backbone[1].weight, 0.1)
    nn.init.constant_(model.backbone[1].bias, -100.0)
    probe = observed(model)
    assert parameters_of(probe)["backbone.1.weight"].alike_rows and not parameters_of(probe)["head.weight"].alike_rows
    assert layers_of(probe)["backbone.2"].dead == 1 and layers_of(probe)["backbone.2"].out_zero == 1


def test_a_training_step_in_evaluation_mode_is_seen():
    class Stays(Faulty):
        def train(self, mode=True):
            return super().train(False)

    assert observed(Stays()).trains_in_eval


def test_non_finite_weights_and_buffers_are_seen():
    model = Named(conv_net())
    model.net[0].weight.data[0, 0, 0, 0] = float("nan")
    model.net[1].running_var[0] = float("nan")
    probe = observed(model)
    assert not parameters_of(probe)["net.0.weight"].finite and not probe.buffers_finite


def test_used_statistics_tell_of_weights_from_elsewhere():
    model = Named(conv_net())
    model(torch.randn(4, 3, 8, 8))
    assert observed(model).pretrained and not observed(Named(conv_net())).pretrained


# -- terms ------------------------------------------------------------------------------------------------------------


def test_each_term_has_its_own_gradient():
    class Two(Faulty):
        def forward(self, image):
            logits = super().forward(image)["logits"]
            return {"logits": logits, "size": logits.sum(1)}

    terms = [LossTerm("logits", "target", criterion="ce"), LossTerm("size", "area", criterion="mse", weight=100.0)]
    items = [{**item, "area": torch.tensor(float(index))} for index, item in enumerate(image_items())]
    model, batch = Two(), stacked(items)
    net = copy.deepcopy(model)
    out = net(batch["image"])
    parts = [F.cross_entropy(out["logits"], batch["target"]), 100 * F.mse_loss(out["size"], batch["area"])]
    grads = [torch.autograd.grad(part, [*net.parameters()], retain_graph=True) for part in parts]
    norms = [pytest.approx(float(torch.cat([it.flatten() for it in of]).norm()), rel=1e-4) for of in grads]
    criterion = {"ce": nn.CrossEntropyLoss(), "mse": nn.MSELoss()}
    probe = observed(model, items, dict_runner(*terms), SettingsProbe(), criterion=criterion)
    assert probe.term_grads == dict(zip(("loss_ce", "loss_mse"), norms, strict=True))
    assert probe.term_losses["loss_mse"] == pytest.approx(float(parts[1]) / 100, rel=1e-4)
    assert probe.loss == pytest.approx(float(sum(parts)), rel=1e-4)


# -- other runners ----------------------------------------------------------------------------------------------------


def tuple_batches(items):
    batch = stacked(items)
    return {key: [[batch["image"], batch["target"]]] for key in ("train", "valid")}


def test_a_supervised_runner_is_taken_by_its_own_keys():
    items, net = image_items(), conv_net()
    runner = dl.SupervisedRunner(input_key="features", output_key="scores", target_key="targets", loss_key="loss")
    _, loss, _ = by_hand(Named(net), stacked(items))
    pairs = [(item["image"], item["target"]) for item in items]
    probe = look(runner, net, pairs, lambda run: observe_model(run, tuple_batches(items), SettingsProbe()))
    assert probe.loss == pytest.approx(loss, rel=1e-5) and set(probe.outputs) == {"scores"}
    assert probe.outputs["scores"].has_loss and probe.leaks == {"scores": 0.0}
    assert probe.outputs["scores"].evaluated is not None and parameters_of(probe)["0.weight"].grad_norm > 0


class OwnRunner(dl.Runner):
    """Does it all by itself, as Catalyst's guides do."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def handle_batch(self, batch):
        image, target = batch
        logits = self.model(image)
        loss = self.criterion(logits, target)
        self.seen.append(float(loss))
        self.batch_metrics["loss"] = loss
        if self.is_train_loader:
            self.engine.backward(loss)
            self.optimizer.step()
            self.optimizer.zero_grad()


def test_a_runner_with_its_own_handle_batch_is_watched():
    items, net, runner = image_items(), conv_net(), OwnRunner()
    _, loss, grads = by_hand(Named(net), stacked(items))
    pairs = [(item["image"], item["target"]) for item in items]
    probe = look(runner, net, pairs, lambda run: observe_model(run, tuple_batches(items), SettingsProbe()))
    assert probe.loss == pytest.approx(loss, rel=1e-5) and probe.term_losses == {"loss": pytest.approx(loss, rel=1e-5)}
    assert parameters_of(probe)["0.weight"].grad_norm == pytest.approx(float(grads["net.0.weight"].norm()), rel=1e-4)
    assert probe.outputs["output"].has_loss and probe.outputs["output"].shape == (8, 4)
    assert probe.leaks == {"output": 0.0} and runner.seen == []


def test_several_models_are_named():
    items = image_items()
    models = {"body": Named(nn.Flatten(), "hidden"), "head": HeadOf()}
    runner = dict_runner(input_key={"body": "image", "head": ["hidden"]})
    probe = look(runner, models, items, lambda run: observe_model(run, batches_of(items), SETTINGS))
    assert [one.name for one in probe.parameters] == ["head.layer.weight", "head.layer.bias"]
    assert [layer.name for layer in probe.layers] == ["body.net", "head.layer"]
    assert set(probe.outputs) == {"hidden", "logits"} and probe.loss > 0


class HeadOf(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(192, 4)

    def forward(self, hidden):
        return {"logits": self.layer(hidden)}


# -- what cannot be seen ----------------------------------------------------------------------------------------------


def test_a_model_that_cannot_be_copied_or_run_is_left_out():
    model = Named(conv_net())
    model.lock = (it for it in ())  # generators cannot be copied
    assert observed(model) is None
    assert observed(Faulty(lambda it: it[:, :3])) is None
    assert observed(Named(conv_net()), batches={"valid": [stacked(image_items())]}) is None


# -- no trace ---------------------------------------------------------------------------------------------------------


def state_of(run, items):
    import random

    models = run.model.values() if isinstance(run.model, dict) else [run.model]
    tensors = [it.detach().clone() for model in models for it in model.state_dict().values()]
    modules = [module for model in models for module in model.modules()]
    return (
        [(it.dtype, it.numpy().tobytes()) for it in tensors],
        [it.grad for model in models for it in model.parameters()],
        [(module.training, [*map(len, hooks_of(module))]) for module in modules],
        random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes(),
        [(key, value.numpy().tobytes()) for key, value in stacked(items).items()],
        {key: id(value) for key, value in vars(run).items()},
    )  # fmt: skip


def hooks_of(module):
    return [value for name, value in vars(module).items() if name.endswith("_hooks") and value is not None]


@pytest.mark.parametrize("kind", ["ours", "stock", "own"])
def test_nothing_is_left_behind(kind):
    items = image_items()
    net = nn.Sequential(conv_net(), nn.Dropout(0.5))
    pairs = [(item["image"], item["target"]) for item in items]
    states = []

    def see(run):
        batches = batches_of(items) if kind == "ours" else tuple_batches(items)
        first = state_of(run, items)
        probe = observe_model(run, batches, SettingsProbe())
        states.extend([first, state_of(run, items)])
        return probe

    runner = {"ours": dict_runner, "stock": dl.SupervisedRunner, "own": OwnRunner}[kind]()
    model = Named(net) if kind == "ours" else net
    assert look(runner, model, items if kind == "ours" else pairs, see).loss > 0
    assert states[0] == states[1]


def test_code_that_uses_the_model_by_another_name_leaves_no_trace_either():
    items, net = image_items(), conv_net()
    optimizer = torch.optim.Adam(net.parameters())

    class Careless(dl.Runner):
        def handle_batch(self, batch):
            loss = F.cross_entropy(net(batch[0]), batch[1]) + 0 * self.model(batch[0]).sum()
            loss.backward()
            optimizer.step()

    before = copy.deepcopy(net.state_dict())
    pairs = [(item["image"], item["target"]) for item in items]
    see = lambda run: observe_model(run, tuple_batches(items), SettingsProbe())  # noqa: E731
    assert look(Careless(), net, pairs, see, optimizer=optimizer) is not None
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(one.grad is None for one in net.parameters()) and not optimizer.state


def test_a_runner_that_makes_its_meters_when_a_loader_starts_is_watched():
    class Metered(OwnRunner):
        def on_loader_start(self, runner):
            super().on_loader_start(runner)
            self.meters = {"loss": []}

        def handle_batch(self, batch):
            super().handle_batch(batch)
            self.meters["loss"].append(self.batch_metrics["loss"].item() * self.batch_size)
            self.batch = {"image": batch[0], "scores": self.model(batch[0]).detach()}

    items, runner = image_items(), Metered()
    pairs = [(item["image"], item["target"]) for item in items]
    see = lambda run: observe_model(run, tuple_batches(items), SettingsProbe())  # noqa: E731
    probe = look(runner, conv_net(), pairs, see)
    assert probe.loss > 0 and not hasattr(runner, "meters")
    # The second call of the model is the one that the batch holds.
    assert set(probe.outputs) == {"output", "scores"} and probe.outputs["output"].has_loss
