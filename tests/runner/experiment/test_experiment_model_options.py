import copy
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from assay.callbacks import UsageError
from assay.runner import Experiment
from assay.runner.experiment.model_options import prepare_model

OFF = {"channels_last": False, "sync_batchnorm": False, "compile_model": False}
CPU = torch.device("cpu")


def make_net():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)]
    return nn.Sequential(*layers)


def gradients(model, image):
    model(image).square().sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def test_without_options_a_model_stays_what_it_is():
    net = make_net()
    assert prepare_model(net, CPU, 4, **OFF) is net
    several = {"a": net, "b": nn.Linear(2, 2)}
    assert prepare_model(several, CPU, 4, **OFF) == several


@pytest.mark.parametrize(
    "option", ["channels_last", pytest.param("compile_model", marks=pytest.mark.long("compiles a model"))]
)
def test_layout_and_compilation_change_neither_result_nor_names(option):
    net, image = make_net(), torch.rand(4, 3, 9, 9)
    prepared = prepare_model(copy.deepcopy(net), CPU, 1, **{**OFF, option: True})
    assert prepared.state_dict().keys() == net.state_dict().keys()
    torch.testing.assert_close(gradients(prepared, image), gradients(net, image), rtol=1e-4, atol=1e-5)
    if option == "channels_last":
        assert prepared[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_batches_are_normalized_over_ranks_where_there_are_several():
    wanted = {**OFF, "sync_batchnorm": True}
    assert isinstance(prepare_model(make_net(), torch.device("cuda"), 2, **wanted)[1], nn.SyncBatchNorm)
    assert isinstance(prepare_model(make_net(), torch.device("cuda"), 1, **wanted)[1], nn.BatchNorm2d)
    assert isinstance(prepare_model(make_net(), CPU, 1, **wanted)[1], nn.BatchNorm2d)
    with pytest.raises(UsageError, match="sync_batchnorm needs GPUs: torch's SyncBatchNorm does not run on 'cpu'"):
        prepare_model(make_net(), CPU, 2, **wanted)


@dataclass(kw_only=True)
class Toy(Experiment):
    def get_model(self):
        return nn.Linear(2, 2)


@pytest.mark.parametrize(("options", "expected"), [({}, 0.1), ({"lr_batch_size": 64}, 0.1 * 32 * 3 / 64)])
def test_the_learning_rate_is_scaled_to_the_samples_of_a_step(options, expected):
    toy = Toy(lr=0.1, batch_size=32, accumulate_steps=3, **options)
    assert toy.scaled_lr == pytest.approx(expected, rel=1e-12)
    optimizer = toy.get_optimizer(toy.get_model())
    assert optimizer.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"lr_batch_size": 0}, "lr_batch_size must be at least 1, got 0"),
        ({"ema_decay": 0.0}, "ema_decay must be greater than 0, got 0.0"),
        ({"ema_decay": 1.0}, "ema_decay must be less than 1, got 1.0"),
    ],
)
def test_fields_out_of_range_are_refused(field, message):
    with pytest.raises(UsageError, match=message):
        Toy(**field)
