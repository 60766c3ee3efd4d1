"""Components without what stands around them."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from assay.callbacks.support.unwrap import (
    detached,
    held_by,
    load_weights,
    plain_module,
    plain_modules,
    trained_parameters,
    use_plain_modules,
    weights_of,
    without_ddp,
)
from assay.runner import Engine


def make_net():
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Linear(2, 2))


def runner_of(model):
    return SimpleNamespace(engine=Engine("cpu"), model=model)


@pytest.fixture
def process_group(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_one_model_and_several_are_plain_by_name():
    net, other = make_net(), make_net()
    assert plain_modules(runner_of(net)) == {"": net}
    assert plain_modules(runner_of({"a": torch.compile(net), "b": other})) == {"a": net, "b": other}
    assert plain_modules(runner_of(None)) == {}


@pytest.mark.parametrize(
    "wrap",
    [
        torch.compile,
        DistributedDataParallel,
        lambda net: torch.compile(DistributedDataParallel(net)),
        lambda net: DistributedDataParallel(torch.compile(net)),
    ],
    ids=["compiled", "distributed", "compiled_over_distributed", "distributed_over_compiled"],
)
def test_what_is_wrapped_around_a_model_is_taken_off_and_stays_as_it_is(process_group, wrap):
    net = make_net()
    model = wrap(net)
    inner = getattr(model, "_orig_mod", None)
    runner = runner_of(model)
    assert plain_modules(runner) == {"": net}
    assert list(trained_parameters(runner)) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert getattr(model, "_orig_mod", None) is inner


def test_the_runner_uses_plain_modules_for_a_while_and_gets_its_models_back():
    net = make_net()
    for model, plain in ((torch.compile(net), net), ({"a": torch.compile(net)}, {"a": net})):
        runner = runner_of(model)
        with pytest.raises(ZeroDivisionError), use_plain_modules(runner) as modules:
            assert runner.model == plain and list(modules.values()) == [net]
            raise ZeroDivisionError
        assert runner.model is model


def test_trained_parameters_are_named_once_without_frozen_empty_and_compiled_ones():
    net = make_net()
    net[0].bias.requires_grad_(False)
    net.empty = nn.Parameter(torch.zeros(0))
    net.again = net[0]
    net[2] = torch.compile(net[2])
    assert list(trained_parameters(runner_of(net))) == ["0.weight", "2.weight", "2.bias"]
    assert list(trained_parameters(runner_of({"a": net, "b": net}))) == ["a.0.weight", "a.2.weight", "a.2.bias"]


def test_an_optimizer_holds_its_own_parameters():
    parameters = trained_parameters(runner_of(make_net()))
    optimizer = torch.optim.SGD([parameters["2.bias"], parameters["0.weight"], nn.Parameter(torch.ones(1))], lr=0.1)
    assert list(held_by(optimizer, parameters)) == ["0.weight", "2.bias"]


def test_the_boxes_of_a_detector_are_kept_without_their_graph():
    scores = torch.ones(2, requires_grad=True) * 2
    kept = detached([{"scores": scores, "sizes": (scores, 3), "name": "a"}])
    assert not kept[0]["scores"].requires_grad and not kept[0]["sizes"][0].requires_grad
    assert kept[0]["scores"].data_ptr() == scores.data_ptr()
    assert (kept[0]["sizes"][1], kept[0]["name"]) == (3, "a")


def test_ddp_is_taken_off_what_stays_compiled(process_group):
    net = make_net()
    compiled = torch.compile(net)
    over_ddp = torch.compile(DistributedDataParallel(net))
    engine = Engine("cpu")
    assert without_ddp(engine, net) is net and without_ddp(engine, DistributedDataParallel(net)) is net
    assert without_ddp(engine, compiled) is compiled
    assert without_ddp(engine, DistributedDataParallel(compiled)) is compiled
    assert without_ddp(engine, over_ddp) is net
    assert isinstance(over_ddp._orig_mod, DistributedDataParallel)  # and so its gradients are still reduced


def test_a_model_that_nothing_is_around_is_not_searched():
    class Engine:
        def unwrap_model(self, model):
            raise AssertionError("each validation step would look through all modules")

    model = nn.Sequential(nn.Linear(2, 2))
    assert without_ddp(Engine(), model) is plain_module(Engine(), model) is model


def test_weights_have_the_names_of_the_eager_model_and_fit_any():
    net, other = make_net(), make_net()
    net[2] = torch.compile(net[2])
    state = weights_of(net)
    assert list(state) == list(other.state_dict())
    for model in (other, make_net()):
        load_weights(model, net.state_dict())  # also of a checkpoint that has the names of a compiled model
        load_weights(net, weights_of(model))
        assert torch.equal(model[2].weight, net[2].weight)
    with pytest.raises(RuntimeError, match="Missing key"):
        load_weights(net, {})
