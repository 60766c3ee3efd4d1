"""States of a checkpoint that cannot be taken are refused by what they are of."""

import copy

import pytest
import torch
from torch import nn

from assay.runner import DictRunner, UsageError
from assay.runner.loop.state.taken_states import check_shapes, naming_state
from assay.runner.loop.state.unfreezing import load_optimizer


@pytest.fixture
def stepped():
    """An optimizer, and its state after a step."""
    net = nn.Linear(2, 3)
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return optimizer, copy.deepcopy(optimizer.state_dict())


def test_what_is_kept_of_elements_must_have_the_shape_of_the_parameter(stepped):
    optimizer, state = stepped
    load_optimizer(optimizer, state)
    state["state"][1]["exp_avg_sq"] = torch.ones(2)
    with pytest.raises(UsageError, match=r"keeps exp_avg_sq of shape \[2\] for parameter 1, which has the shape \[3\]"):
        load_optimizer(optimizer, state)


def test_parameters_in_another_order_are_refused(stepped):
    _, state = stepped
    other = nn.Linear(2, 3)
    with pytest.raises(UsageError, match="give the optimizer the same parameters in the same order"):
        load_optimizer(torch.optim.AdamW([other.bias, other.weight]), state)


def test_what_an_optimizer_keeps_in_other_shapes_is_its_own():
    check_shapes({0: nn.Parameter(torch.ones(3, 4))}, {0: {"row_var": torch.ones(3, 1), "step": torch.tensor(1.0)}})


@pytest.mark.parametrize(
    "state",
    [{}, {"param_groups": 5, "state": {}}, {"param_groups": [], "state": {}}, {"param_groups": [{}], "state": {}},
     {"param_groups": [{"params": [0, 1]}], "state": [1]}, [1]],
)  # fmt: skip
def test_what_is_no_state_of_an_optimizer_is_refused(stepped, state):
    with pytest.raises(UsageError, match="the state of an optimizer must hold 'param_groups'"):
        load_optimizer(stepped[0], state)


@pytest.mark.parametrize("error", [KeyError("best"), TypeError("no\nnumber"), AttributeError("x"), RuntimeError("y")])
def test_a_part_that_cannot_take_its_state_is_named(error):
    said = rf"the state of the clock cannot be taken \({type(error).__name__}: [^\n]+\)"
    with pytest.raises(UsageError, match=said), naming_state("the clock"):
        raise error


def test_a_part_that_says_itself_what_does_not_fit_is_heard():
    with pytest.raises(UsageError, match=r"^mine$"), naming_state("the clock"):
        raise UsageError("mine")


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("optimizer", {"": {}}, "the state of an optimizer must hold"),
        ("scheduler", {"": {}}, "the state of the scheduler cannot be taken"),
        ("rng", [{"python": (1,), "numpy": [1], "torch": torch.ones(1)}], "the state of the random generators cannot"),
        ("loggers", {"csv": 5}, "the state of the logger 'csv' cannot be taken"),
    ],
)
def test_a_resumed_run_names_the_part_that_does_not_fit(make_items, tmp_path, part, value, said):
    run = tmp_path / "run"

    def train(**more):
        net = nn.Linear(4, 3)
        model = nn.Sequential(net)
        model.forward = lambda image: {"logits": net(image.float())}
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1.0)
        DictRunner().train(
            model=model, criterion=nn.CrossEntropyLoss(), optimizer=optimizer, scheduler=scheduler,
            loaders={"train": torch.utils.data.DataLoader(make_items(4), 4)}, logdir=str(run), cpu=True, **more,
        )  # fmt: skip

    train(num_epochs=1)
    (run / "checkpoints/index.json").unlink()
    for file in (run / "checkpoints").glob("*.pt"):
        state = torch.load(file, weights_only=True) | {part: value}
        file.unlink()
        torch.save(state, file)
    with pytest.raises(UsageError, match=f"the checkpoint does not fit: {said}"):
        train(num_epochs=2, resume=str(run))
