"""Optimizers by name, against those of torch.optim built by hand."""

import inspect
import io

import pytest
import torch
from torch import nn

from assay.runner import UsageError
from assay.runner.recipe.optimizers import make_optimizer, optimizer_names


@pytest.fixture
def make_parameters():
    """Return a matrix, a vector and a kernel, with gradients."""

    def make():
        generator = torch.Generator().manual_seed(0)
        shapes = [(3, 2), (2,), (2, 3, 3, 3)]
        parameters = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        return parameters

    return make


def test_the_names_are_those_of_torch_that_fit():
    names = optimizer_names()
    assert {"SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam"} <= set(names)
    assert names == sorted(names)
    assert not {"Optimizer", "LBFGS", "SparseAdam", "Muon"} & set(names)


@pytest.mark.parametrize("name", optimizer_names())
def test_every_optimizer_takes_the_step_that_torchs_own_takes(make_parameters, name):
    parameters, reference, before = make_parameters(), make_parameters(), make_parameters()
    make_optimizer(name, parameters, lr=0.01).step()
    getattr(torch.optim, name)(reference, lr=0.01).step()
    for ours, theirs, start in zip(parameters, reference, before, strict=True):
        assert torch.equal(ours, theirs)
        assert not torch.equal(ours, start)


@pytest.mark.parametrize("name", optimizer_names())
def test_the_state_of_every_optimizer_survives_a_file_that_is_loaded_without_executing(make_parameters, name):
    straight, resumed = make_parameters(), make_parameters()
    first, before = make_optimizer(name, straight, lr=0.01), make_optimizer(name, resumed, lr=0.01)
    for _ in range(2):
        first.step()
        before.step()
    file = io.BytesIO()
    torch.save(before.state_dict(), file)
    file.seek(0)
    after = make_optimizer(name, resumed, lr=0.5)
    after.load_state_dict(torch.load(file, weights_only=True))
    first.step()
    after.step()
    for one, other in zip(straight, resumed, strict=True):
        assert torch.equal(one, other)


def test_a_name_may_be_written_in_any_case(make_parameters):
    assert type(make_optimizer("adamw", make_parameters(), lr=0.01)) is torch.optim.AdamW
    assert type(make_optimizer("SGD", make_parameters(), lr=0.01)) is torch.optim.SGD


@pytest.mark.parametrize("name", optimizer_names())
def test_momentum_becomes_the_optimizers_momentum_or_the_first_of_its_betas(make_parameters, name):
    known = inspect.signature(getattr(torch.optim, name)).parameters
    if "momentum" in known:
        assert make_optimizer(name, make_parameters(), lr=0.01, momentum=0.7).defaults["momentum"] == 0.7
    elif "betas" in known:
        betas = make_optimizer(name, make_parameters(), lr=0.01, momentum=0.7).defaults["betas"]
        assert betas == (0.7, known["betas"].default[1])
    else:
        with pytest.raises(UsageError, match=f"optimizer {name} takes no 'momentum'; it takes .*'lr'"):
            make_optimizer(name, make_parameters(), lr=0.01, momentum=0.7)


def test_momentum_wins_over_the_first_of_betas_that_are_given(make_parameters):
    optimizer = make_optimizer("AdamW", make_parameters(), lr=0.01, momentum=0.8, betas=(0.5, 0.9))
    assert optimizer.defaults["betas"] == (0.8, 0.9)


def test_numbers_that_are_none_stay_the_optimizers_own(make_parameters):
    ours = make_optimizer("AdamW", make_parameters(), lr=0.01, weight_decay=None, momentum=None).defaults
    theirs = torch.optim.AdamW(make_parameters(), lr=0.01).defaults
    assert ours == {**theirs, "fused": True}
    assert ours["weight_decay"] > 0


@pytest.mark.parametrize("name", optimizer_names())
def test_those_that_torch_fuses_everywhere_are_fused(make_parameters, name):
    expected = True if name in ("SGD", "Adam", "AdamW") else None
    assert make_optimizer(name, make_parameters(), lr=0.01).defaults.get("fused") is expected


@pytest.mark.parametrize("option", ["fused", "foreach", "capturable", "differentiable"])
def test_an_option_for_the_loop_decides_it(make_parameters, option):
    assert not make_optimizer("Adam", make_parameters(), lr=0.01, **{option: False}).defaults["fused"]


def test_parameters_that_cannot_be_fused_are_not():
    parameters = [nn.Parameter(torch.randn(2, dtype=torch.complex64))]
    assert make_optimizer("Adam", parameters, lr=0.01).defaults["fused"] is None


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_many_fused_steps_are_those_of_torchs_plain_loop_but_for_rounding(make_parameters, name):
    parameters, reference = make_parameters(), make_parameters()
    ours, theirs = make_optimizer(name, parameters, lr=0.01), getattr(torch.optim, name)(reference, lr=0.01)
    for _ in range(20):
        ours.step()
        theirs.step()
    for one, other in zip(parameters, reference, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


def test_weight_decay_and_options_are_handed_on(make_parameters):
    optimizer = make_optimizer("SGD", make_parameters(), lr=0.01, weight_decay=0.3, momentum=0.9, nesterov=True)
    assert optimizer.defaults["weight_decay"] == 0.3
    assert optimizer.defaults["nesterov"] is True


@pytest.mark.parametrize(
    ("name", "why"),
    [("LBFGS", "it needs a closure"), ("SparseAdam", "it takes sparse gradients only"), ("muon", "matrices only")],
)
def test_optimizers_that_do_not_fit_are_refused_with_those_that_do(make_parameters, name, why):
    with pytest.raises(UsageError, match=rf"optimizer '{name}' does not fit: .*{why}; there is .*'Adam', .*'SGD'"):
        make_optimizer(name, make_parameters(), lr=0.01)


def test_an_unknown_name_is_refused_with_the_closest(make_parameters):
    with pytest.raises(UsageError, match=r"unknown optimizer 'AdmW'; did you mean 'AdamW'\? There is: "):
        make_optimizer("AdmW", make_parameters(), lr=0.01)


def test_an_option_that_the_optimizer_lacks_is_refused_with_those_that_it_has(make_parameters):
    with pytest.raises(UsageError, match="optimizer AdamW takes no 'nesterov'; it takes 'amsgrad', 'betas'"):
        make_optimizer("AdamW", make_parameters(), lr=0.01, nesterov=True)


def test_a_weight_decay_that_the_optimizer_lacks_is_refused(make_parameters):
    with pytest.raises(UsageError, match="optimizer Rprop takes no 'weight_decay'"):
        make_optimizer("Rprop", make_parameters(), lr=0.01, weight_decay=0.1)


@pytest.mark.parametrize(
    ("options", "reason"), [({"lr": -1.0}, "Invalid learning rate"), ({"lr": 0.1, "nesterov": True}, "Nesterov")]
)
def test_values_that_torch_refuses_are_wrong_use(make_parameters, options, reason):
    with pytest.raises(UsageError, match=rf"optimizer SGD refused \{{.*\}}: {reason}"):
        make_optimizer("SGD", make_parameters(), **options)
