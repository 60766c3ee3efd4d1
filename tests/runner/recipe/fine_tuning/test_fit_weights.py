"""What fits a model is loaded to the bit, and all else is named."""

import pytest
import torch
from torch import nn

from assay.runner import UsageError
from assay.runner.recipe.fine_tuning.fit_weights import fit_weights
from assay.runner.recipe.fine_tuning.loaded import fresh_names


class Net(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))
        self.head = nn.Linear(6, classes)


class Wrapped(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.net = Net(classes)


def drawn(model, seed=1):
    """Return a state for a model with other numbers."""
    chance = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(value.shape, generator=chance) if value.is_floating_point() else value + 7
        for name, value in model.state_dict().items()
    }


PLACES = {
    "as it is": lambda state: state,
    "of DDP": lambda state: {f"module.{name}": value for name, value in state.items()},
    "compiled": lambda state: {f"_orig_mod.{name}": value for name, value in state.items()},
    "of DDP, compiled": lambda state: {f"_orig_mod.module.{name}": value for name, value in state.items()},
    "in a wrapper": lambda state: {f"model.backbone.{name}": value for name, value in state.items()},
    "beside others": lambda state: {f"model.{name}": it for name, it in state.items()} | {"loss.weight": torch.ones(3)},
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("make", [Net, Wrapped])
def test_names_fit_without_what_was_put_around_the_model(make, place):
    state, model = drawn(Net()), make()
    fit = fit_weights({"": model}, PLACES[place](state), "a file")
    inner = getattr(model, "net", model)
    assert all(torch.equal(value, state[name]) for name, value in inner.state_dict().items())
    assert not fit.missing and not fit.other_size and len(fit.loaded) == len(state)
    assert fit.unused == (["loss.weight"] if place == "beside others" else [])


def test_a_wrapped_state_fits_the_net_within():
    state, model = drawn(Wrapped()), Net()
    fit_weights({"": model}, state, "a file")
    assert all(torch.equal(value, state[f"net.{name}"]) for name, value in model.state_dict().items())


def test_a_head_of_another_size_is_listed_and_starts_anew():
    state, model = drawn(Net(5)), Net(3)
    before = model.head.weight.clone()
    fit = fit_weights({"": model}, {**state, "neck.weight": torch.ones(2)}, "old.pt (epoch 4)")
    assert torch.equal(model.head.weight, before) and torch.equal(model.body[0].weight, state["body.0.weight"])
    assert fit.lines() == [
        "weights: 7 of 9 tensors of the model are those of old.pt (epoch 4)",
        "  of another size, not loaded: 'head.weight' is [3, 6], and [5, 6] there, 'head.bias' is [3], and [5] there",
        "  there alone, left out: 'neck.weight'",
    ]
    assert fresh_names({"": model}) == ["head.weight", "head.bias"]


def test_what_is_missing_is_listed_shortly():
    state = {name: value for name, value in drawn(Net()).items() if name.startswith("head.")}
    lines = fit_weights({"": Net()}, state, "head.pt").lines()
    assert lines[1:] == ["  not there, not loaded: 'body.0.weight', 'body.0.bias', 'body.1.weight', and 4 more"]


def test_several_models_are_loaded_by_their_names():
    models = {"a": Net(), "b": nn.Linear(2, 1)}
    state = {f"{key}.{name}": value for key, model in models.items() for name, value in drawn(model).items()}
    fit_weights(models, state, "run")
    for key, model in models.items():
        assert all(torch.equal(value, state[f"{key}.{name}"]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("state", [{"x.weight": torch.ones(9, 9)}, {"body.1.num_batches_tracked": torch.tensor(3)}])
def test_a_state_that_fits_nothing_is_refused_and_changes_nothing(state):
    model = Net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UsageError, match=r"^weights: nothing of other.pt fits the model: the model has 'body.0"):
        fit_weights({"": model}, state, "other.pt")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_half_precision_is_taken_and_real_numbers_are_not_for_complex_ones():
    model = nn.Linear(2, 2)
    fit_weights({"": model}, {"weight": torch.full((2, 2), 0.5, dtype=torch.float16)}, "half.pt")
    assert model.weight.dtype == torch.float32 and torch.equal(model.weight, torch.full((2, 2), 0.5))
    with pytest.raises(UsageError, match=r"nothing of z\.pt fits"):
        fit_weights({"": model}, {"weight": torch.ones(2, 2, dtype=torch.complex64)}, "z.pt")
