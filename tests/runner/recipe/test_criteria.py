"""A criterion with tensors of its own: on the device, trained, the same on all ranks, saved and loaded."""

import copy
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from catalyst import dl
from kit import fit
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.data import DataLoader

from assay.callbacks.support.unwrap import trained_parameters
from assay.runner import DictRunner, Engine, Experiment, LossTerm, UsageError, load_checkpoint
from assay.runner.commands.evaluate import evaluate
from assay.runner.commands.train import train as train_experiment
from assay.runner.recipe.criteria import average_gradients, load_criterion_state, own_parameters, to_device, train_too

F = nn.functional


class Arc(nn.Module):
    """Logits by cosine to class vectors of its own, with a learned scale."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.vectors = nn.Parameter(torch.randn(3, 4, dtype=torch.float64, generator=generator))
        self.scale = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, output, target):
        if self.training and torch.is_grad_enabled():
            self.seen += 1
        return F.cross_entropy(self.scale * F.normalize(output) @ F.normalize(self.vectors).T, target)


class Body(nn.Module):
    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.layer = nn.Linear(5, 4).double()
        with torch.no_grad():
            self.layer.weight.copy_(torch.randn(4, 5, dtype=torch.float64, generator=generator))
            self.layer.bias.zero_()

    def forward(self, image):
        return {"logits": self.layer(image)}


def items(count=16):
    images = torch.randn(count, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return [{"image": image, "target": i % 3} for i, image in enumerate(images)]


def run(batch, accumulate_steps=1, epochs=2, folder=None, resume=None, clip=None, arc=None):
    body, arc = Body(), arc or Arc()
    optimizer = torch.optim.SGD([*body.parameters(), *arc.parameters()], lr=0.5, momentum=0.9)
    runner = DictRunner(accumulate_steps=accumulate_steps, clip_grad_norm=clip)
    fit(
        runner, body, {"train": items(), "valid": items(7)}, batch=batch, optimizer=optimizer, criterion=arc,
        epochs=epochs, logdir=folder, resume=resume,
    )  # fmt: skip
    state = {**body.state_dict(), **{f"arc.{name}": value for name, value in arc.state_dict().items()}}
    return {name: value.clone() for name, value in state.items()}, runner.history[epochs]


def plain(epochs=2, clip=None):
    body, arc = Body(), Arc()
    parameters = [*body.parameters(), *arc.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.5, momentum=0.9)
    for _ in range(epochs):
        for batch in DataLoader(items(), 8):
            optimizer.zero_grad()
            arc(body(batch["image"])["logits"], batch["target"]).backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(parameters, clip)
            optimizer.step()
    return {**body.state_dict(), **{f"arc.{name}": value for name, value in arc.state_dict().items()}}


@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize(("ranks", "batch", "accumulate_steps"), [(1, 8, 1), (1, 4, 2), (2, 4, 1), (2, 2, 2)])
def test_its_parameters_are_trained_as_in_a_plain_loop(processes, ranks, batch, accumulate_steps, clip):
    expected = plain(clip=clip)
    for state, _ in processes.run(ranks, run, batch, accumulate_steps, 2, None, None, clip):
        for name in expected.keys() - {"arc.seen"}:
            torch.testing.assert_close(state[name], expected[name], rtol=0, atol=1e-12)
    assert not torch.equal(expected["arc.vectors"], Arc().vectors)


def test_a_resumed_run_goes_on_with_them(tmp_path):
    quiet, metrics = run(4, epochs=3)
    run(4, epochs=1, folder=str(tmp_path / "run"))
    assert load_checkpoint(tmp_path / "run")["criterion"][""]["scale"] != 2.0
    resumed, again = run(4, epochs=3, folder=str(tmp_path / "run"), resume=str(tmp_path / "run"))
    assert resumed.keys() == quiet.keys()
    assert all(torch.equal(resumed[name], quiet[name]) for name in quiet)
    assert again == metrics
    assert quiet["arc.seen"] == 12  # steps in training alone: validation has it in evaluation mode


def test_what_an_older_checkpoint_lacks_stays_as_it_is():
    arc = Arc()
    load_criterion_state(arc, {})
    load_criterion_state(nn.CrossEntropyLoss(), {"": {"weight": torch.ones(3)}})
    load_criterion_state(lambda output, target: output.sum(), {"": {}})
    assert torch.equal(arc.vectors, Arc().vectors)


def test_a_state_that_does_not_fit_is_refused():
    with pytest.raises(UsageError, match=r"the checkpoint does not fit this criterion: .*size mismatch for vectors"):
        load_criterion_state(Arc(), {"": {**Arc().state_dict(), "vectors": torch.zeros(5, 4)}})


@pytest.mark.parametrize("criterion", [nn.CrossEntropyLoss, lambda weight: nn.ModuleDict({"a": nn.NLLLoss(weight)})])
def test_class_weights_that_differ_from_the_checkpoints_are_named(criterion, caplog):
    now = criterion(torch.tensor([1.0, 2.0]))
    load_criterion_state(now, {"": criterion(torch.tensor([1.0, 2.0])).state_dict()})
    assert caplog.messages == []
    load_criterion_state(now, {"": criterion(torch.tensor([1.0, 3.0])).state_dict()})
    name = "weight" if criterion is nn.CrossEntropyLoss else "a.weight"
    assert caplog.messages == [f"the criterion goes on with '{name}' of the checkpoint, not with what it was given now"]


def test_parameters_that_no_optimizer_has_are_named(caplog):
    body = Body()
    fit(DictRunner(), body, {"train": items()}, batch=8, criterion=Arc())
    assert caplog.messages == [
        "2 of the criterion's own parameters stay as they are: no optimizer has them; give it "
        "[*model.parameters(), *criterion.parameters()]"
    ]


def test_their_names_follow_those_of_the_model():
    runner = SimpleNamespace(engine=Engine("cpu"), model=Body(), criterion={"arc": Arc(), "none": F.cross_entropy})
    named = trained_parameters(runner)
    assert list(named) == ["layer.weight", "layer.bias", "criterion.arc.vectors", "criterion.arc.scale"]
    runner.criterion = runner.criterion["arc"]
    assert list(trained_parameters(runner))[2:] == ["criterion.vectors", "criterion.scale"]


# -- an experiment ----------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class WithArc(Experiment):
    """Trains a criterion's own parameters."""

    device: str = "cpu"
    lr: float = 0.5
    optimizer: str = "SGD"

    def get_loaders(self):
        return {"train": self.make_loader(items()), "valid": self.make_loader(items(7))}

    def get_model(self):
        return Body()

    def get_criterion(self):
        return Arc()


@dataclass(kw_only=True)
class WithOptimizer(WithArc):
    """Makes its optimizer by itself, of the model alone."""

    def get_optimizer(self, model):
        return torch.optim.SGD(model.parameters(), lr=self.lr, momentum=0.9)


@pytest.mark.parametrize("kind", [WithArc, WithOptimizer])
def test_an_experiment_trains_saves_and_evaluates_them(kind, tmp_path, monkeypatch):
    experiment = kind(epochs=2, batch_size=4, monitor=["valid/loss:min"])
    folder = train_experiment(experiment, name="arc", run_dir=tmp_path / "run")
    state = load_checkpoint(folder)
    assert not torch.equal(state["criterion"][""]["vectors"], Arc().vectors)
    monkeypatch.setattr("assay.runner.commands.evaluate.reopen", lambda run, **options: kind(epochs=2, batch_size=4))
    evaluated = evaluate(folder, checkpoint="last")
    assert evaluated.metrics["loss"] == pytest.approx(state["history"][2]["valid"]["loss"], rel=1e-12)


def test_an_optimizer_that_has_them_is_left_as_it_is():
    body, arc = Body(), Arc()
    optimizer = torch.optim.Adam([*body.parameters(), *arc.parameters()])
    train_too(optimizer, arc)
    assert len(optimizer.param_groups) == 1
    alone = torch.optim.Adam(body.parameters(), lr=0.3)
    train_too(alone, {"arc": arc, "same": arc})
    assert alone.param_groups[1]["params"] == own_parameters(arc)
    assert alone.param_groups[1]["lr"] == 0.3


def test_of_several_optimizers_none_is_chosen():
    optimizers = {name: torch.optim.SGD(Body().parameters(), 0.1) for name in ("a", "b")}
    with pytest.raises(UsageError, match=r"none of the optimizers \['a', 'b'\] has: give them to one in get_optimizer"):
        train_too(optimizers, Arc())


# -- devices and ranks ------------------------------------------------------------------------------------------------


WEIGHTED = nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 3.0]))


@pytest.mark.parametrize(("stock", "criterion"), [(True, WEIGHTED), (False, WEIGHTED), (False, {"a": WEIGHTED})])
def test_the_engine_places_it_before_callbacks_start(criterion, stock, monkeypatch):
    placed = []
    monkeypatch.setattr("assay.runner.engine.engine.to_device", lambda of, device: placed.append((of, device)) or of)

    class Logits(Body):
        def forward(self, image):
            return super().forward(image)["logits"]

    class Stop(dl.Callback):
        def on_experiment_start(self, runner):
            raise KeyError("stop")

    if stock:
        runner, model = dl.SupervisedRunner(input_key="image", target_key="target"), Logits()
    else:
        runner, model = DictRunner(losses=[LossTerm(criterion="a" if isinstance(criterion, dict) else None)]), Body()
    callbacks = [Stop(order=dl.CallbackOrder.Internal)]
    with pytest.raises(KeyError):
        fit(runner, model, {"train": items()}, callbacks, batch=8, criterion=criterion)
    assert placed == [(criterion, torch.device("cpu"))]


def test_class_weights_follow_to_a_gpu():
    with FakeTensorMode(allow_non_fake_inputs=True):
        output, target = torch.randn(4, 3, device="cuda"), torch.zeros(4, dtype=torch.int64, device="cuda")
        criteria = {
            "module": nn.CrossEntropyLoss(torch.ones(3)),
            "partial": partial(F.cross_entropy, weight=torch.ones(3)),
            "function": F.cross_entropy,
        }
        for criterion in to_device(criteria, torch.device("cuda")).values():
            assert criterion(output, target).device.type == "cuda"


def test_a_stock_runner_does_not_train_them_apart(processes):
    message = (
        "the criterion has parameters of its own, and on several processes a SupervisedRunner trains them apart: use "
        "a DictRunner, or make them a part of the model."
    )
    assert processes.run(2, stock_on_two) == [message, message]


def stock_on_two():
    class Logits(Body):
        def forward(self, image):
            return super().forward(image)["logits"]

    model = Logits()
    runner = dl.SupervisedRunner(input_key="image", target_key="target")
    try:
        fit(runner, model, {"train": items()}, batch=8, criterion=Arc())
    except UsageError as error:
        return str(error)


def test_a_rank_without_a_gradient_counts_as_one_of_zero(processes):
    assert processes.run(2, gradient_of_one_rank) == [[1.5, 1.5], [1.5, 1.5]]


def gradient_of_one_rank():
    import torch.distributed as dist

    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1), requires_grad=False)]
    if dist.get_rank() == 0:
        parameters[0].grad = torch.full((2,), 3.0)
    average_gradients(parameters)
    return parameters[0].grad.tolist()


def test_a_module_stays_the_one_that_the_optimizer_knows():
    arc = Arc()
    before = copy.copy(own_parameters(arc))
    assert to_device(arc, torch.device("cpu")) is arc
    assert all(one is other for one, other in zip(before, own_parameters(arc), strict=True))


class WithPlainTensors(nn.Module):
    """Holds weights as many repositories do: as a tensor that is no buffer, and in a list that torch does not know."""

    def __init__(self):
        super().__init__()
        self.alpha, self.parts = (
            torch.tensor([1.0, 2.0, 3.0]),
            [nn.CrossEntropyLoss(torch.ones(3)), {"by": torch.ones(3)}],
        )

    def forward(self, output, target):
        weights = self.alpha[target] * self.parts[1]["by"][target]
        return self.parts[0](output, target) + (weights * F.cross_entropy(output, target, reduction="none")).mean()


class Plain:
    def __init__(self):
        self.weight = torch.tensor([1.0, 2.0, 3.0])

    def __call__(self, output, target):
        return F.cross_entropy(output, target, weight=self.weight)

    def loss(self, output, target):
        return self(output, target)


@pytest.mark.parametrize("make", [WithPlainTensors, Plain, lambda: Plain().loss, lambda: partial(Plain())])
def test_tensors_that_are_plain_attributes_go_to_the_device_too(make):
    with FakeTensorMode(allow_non_fake_inputs=True):
        (criterion,) = to_device({"own": make()}, torch.device("cuda")).values()
        loss = criterion(torch.randn(4, 3, device="cuda"), torch.zeros(4, dtype=torch.int64, device="cuda"))
        assert loss.device.type == "cuda"
