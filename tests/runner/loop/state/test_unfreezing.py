"""A backbone that is unfrozen while the run goes on moves as in a plain loop, on any number of ranks."""

from dataclasses import dataclass

import pytest
import torch
from catalyst import dl
from kit import fit
from torch import nn
from torch.utils.data import DataLoader

from assay.runner import DictRunner, Experiment, UsageError
from assay.runner.loop.state.unfreezing import fitted_state, load_optimizer
from assay.runner.recipe.optimizers import make_optimizer

F = nn.functional


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.head_first = nn.Linear(4, 4).double()
            self.backbone = nn.Linear(4, 4).double().requires_grad_(False)
            self.head = nn.Linear(4, 3).double()

    def forward(self, image):
        return {"logits": self.head(torch.tanh(self.backbone(self.head_first(image))))}


class Unfreeze(dl.Callback):
    """Unfreezes the backbone in epoch 2, at one of three moments."""

    def __init__(self, moment="epoch"):
        super().__init__(order=dl.CallbackOrder.Internal)
        self.moment = moment

    def on_epoch_start(self, runner):
        self._at("epoch", runner)

    def on_loader_start(self, runner):
        self._at("loader", runner)

    def _at(self, moment, runner):
        if moment == self.moment and runner.epoch_step == 2:
            net = runner.engine.unwrap_model(runner.model)
            net.backbone.requires_grad_(True)


def items(count=16):
    images = torch.randn(count, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return [{"image": image, "target": i % 3} for i, image in enumerate(images)]


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.3)


def run(batch, moment="epoch", epochs=3, folder=None, resume=None, parameters=None, optimizer=None):
    net = Net()
    optimizer = optimizer or adamw(parameters(net) if parameters else net.parameters())
    runner = DictRunner()
    fit(
        runner, net, {"train": items()}, [Unfreeze(moment)], batch=batch, optimizer=optimizer, epochs=epochs,
        logdir=folder, resume=resume,
    )  # fmt: skip
    return {name: value.clone() for name, value in net.state_dict().items()}


def plain(epochs=3):
    net = Net()
    optimizer = adamw(net.parameters())
    for epoch in range(1, epochs + 1):
        net.backbone.requires_grad_(epoch > 1)
        for batch in DataLoader(items(), 8):
            optimizer.zero_grad()
            F.cross_entropy(net(batch["image"])["logits"], batch["target"]).backward()
            optimizer.step()
    return net.state_dict()


@pytest.mark.parametrize("moment", ["epoch", "loader"])
@pytest.mark.parametrize("ranks", [1, 2])
def test_it_moves_from_then_on_as_in_a_plain_loop(processes, ranks, moment):
    expected = plain()
    for state in processes.run(ranks, run, 8 // ranks, moment):
        for name, value in expected.items():
            torch.testing.assert_close(state[name], value, rtol=0, atol=1e-12)
    assert not torch.equal(expected["backbone.weight"], Net().backbone.weight)


def test_weight_decay_leaves_it_alone_while_it_is_frozen():
    assert torch.equal(run(8, epochs=1)["backbone.weight"], Net().backbone.weight)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_resumed_run_goes_on_with_what_was_unfrozen(processes, ranks, tmp_path):
    expected = plain(epochs=4)
    processes.run(ranks, run, 8 // ranks, "epoch", 3, str(tmp_path / "run"))
    for state in processes.run(ranks, run, 8 // ranks, "epoch", 4, str(tmp_path / "run"), str(tmp_path / "run")):
        for name, value in expected.items():
            torch.testing.assert_close(state[name], value, rtol=0, atol=1e-12)


def test_it_is_named_where_no_optimizer_has_it(caplog):
    state = run(8, parameters=lambda net: [part for part in net.parameters() if part.requires_grad])
    assert torch.equal(state["backbone.weight"], Net().backbone.weight)
    assert caplog.messages == [
        "'backbone.bias', 'backbone.weight' unfrozen, and stays as it is: no optimizer has it; give the optimizer all "
        "parameters, frozen ones too"
    ]


def test_what_is_resumed_is_trained_as_before_and_said_so(tmp_path, caplog):
    run(8, epochs=2, folder=str(tmp_path / "run"))
    caplog.clear()
    run(8, epochs=3, folder=str(tmp_path / "run"), resume=str(tmp_path / "run"))
    assert caplog.messages == ["as when the checkpoint was saved, 'backbone.bias', 'backbone.weight' is trained"]


def test_a_state_that_lacks_the_frozen_parameters_is_taken():
    net = Net()
    old = adamw([part for part in net.parameters() if part.requires_grad])
    F.cross_entropy(net(torch.randn(5, 4).double())["logits"], torch.tensor([0, 1, 2, 0, 1])).backward()
    old.step()
    new = adamw(net.parameters())
    new.load_state_dict(fitted_state(new, old.state_dict()))
    assert {id(part) for part in new.state} == {id(part) for part in old.state}
    for part, state in old.state.items():
        assert all(torch.equal(new.state[part][name], value) for name, value in state.items())
    assert fitted_state(new, new.state_dict()) == new.state_dict()


def test_a_state_of_other_parameters_is_refused():
    net = Net()
    optimizer = adamw(net.parameters())
    one = adamw([net.head.weight]).state_dict()
    with pytest.raises(UsageError, match="has 1 parameters, the run's has 6, of which 4 are trained"):
        fitted_state(optimizer, one)
    two = adamw([{"params": [net.head.weight]}, {"params": [net.head.bias]}]).state_dict()
    with pytest.raises(UsageError, match="its optimizer has 2 groups of parameters, the run's 1"):
        fitted_state(optimizer, two)


@dataclass(kw_only=True)
class Frozen(Experiment):
    """Has a frozen backbone."""

    def get_model(self):
        return Net()


@pytest.mark.parametrize("name", ["SGD", "AdamW", "Adagrad", "RMSprop", "Adafactor"])
def test_any_optimizer_has_them_and_leaves_them_alone(name):
    net = Net()
    experiment = Frozen(optimizer=name, weight_decay=0.1)
    optimizer = experiment.get_optimizer(net)
    (group,) = optimizer.param_groups
    assert group["params"] == list(net.parameters())
    F.cross_entropy(net(torch.randn(5, 4).double())["logits"], torch.tensor([0, 1, 2, 0, 1])).backward()
    optimizer.step()
    assert torch.equal(net.backbone.weight, Net().backbone.weight)
    assert not torch.equal(net.head.weight, Net().head.weight)


def test_parameters_of_whole_numbers_are_never_trained():
    net = Net()
    net.codes = nn.Parameter(torch.zeros(3, dtype=torch.int8), requires_grad=False)
    (group,) = Frozen().get_optimizer(net).param_groups
    assert len(group["params"]) == 6
    assert make_optimizer("SGD", net.head.parameters(), lr=0.1).param_groups[0]["fused"]


@pytest.mark.parametrize(
    ("kind", "missing"), [(torch.optim.SGD, "'dampening', 'momentum'"), (torch.optim.Adagrad, "lr_decay"),
                          (torch.optim.RMSprop, "'alpha'")],
)  # fmt: skip
def test_a_state_of_another_optimizer_is_refused_by_what_it_lacks(kind, missing):
    net = nn.Linear(2, 1)
    state = torch.optim.AdamW(net.parameters()).state_dict()
    with pytest.raises(UsageError, match=rf"of another kind, without the .*{missing}.* of the run's {kind.__name__}"):
        load_optimizer(kind(net.parameters(), lr=0.1), state)
    load_optimizer(torch.optim.Adam(net.parameters(), lr=0.1, amsgrad=True), state)


def test_an_optimizer_with_a_schedule_takes_a_state_without_one():
    net = nn.Linear(2, 1)
    state, optimizer = torch.optim.SGD(net.parameters(), lr=0.2).state_dict(), torch.optim.SGD(net.parameters(), lr=0.1)
    torch.optim.lr_scheduler.StepLR(optimizer, 1)
    load_optimizer(optimizer, state)
    assert optimizer.param_groups[0]["lr"] == 0.2
