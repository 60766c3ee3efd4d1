import copy

import pytest
import torch
from kit import Keep
from torch import nn

from assay.callbacks import UsageError
from assay.runner import DictRunner, load_checkpoint
from assay.runner.recipe.weight_average import MovingAverage
from assay.runner.saving.checkpoint_files import validated_weights


def make_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)).double()


def steps(net, count):
    """Make steps; yield the state after each."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
    for _ in range(count):
        net(torch.randn(8, 4, dtype=torch.float64)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        yield {name: value.clone() for name, value in net.state_dict().items()}


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
def test_the_average_is_that_of_the_formula_weight_by_weight(decay):
    net = make_net()
    expected, average = (
        {name: value.clone() for name, value in net.state_dict().items()},
        MovingAverage({"": net}, decay),
    )
    for number, state in enumerate(steps(net, 12), start=1):
        average.update()
        keep = min(decay, (1 + number) / (10 + number))
        for name, value in state.items():
            if value.is_floating_point():
                expected[name] = keep * expected[name] + (1 - keep) * value
            else:
                expected[name] = value
    torch.testing.assert_close(average.models[""].state_dict(), expected, rtol=1e-12, atol=1e-12)
    assert not average.models[""].training
    assert not any(parameter.requires_grad for parameter in average.models[""].parameters())


def test_the_model_itself_is_left_alone():
    net, plain = make_net(), make_net()
    average = MovingAverage({"": net}, 0.9)
    torch.manual_seed(1)
    for _ in steps(net, 3):
        average.update()
    torch.manual_seed(1)
    for _ in steps(plain, 3):
        pass
    torch.testing.assert_close(net.state_dict(), plain.state_dict(), rtol=0, atol=0)
    assert net.training


def test_an_average_goes_on_from_its_state():
    net = make_net()
    average = MovingAverage({"": net}, 0.9)
    for _ in steps(net, 3):
        average.update()
    again = MovingAverage({"": copy.deepcopy(net)}, 0.9)
    again.load_state_dict(average.state_dict())
    again.sources[""].load_state_dict(net.state_dict())
    average.update()
    again.update()
    assert again.steps == average.steps == 4
    torch.testing.assert_close(again.models[""].state_dict(), average.models[""].state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.1, 1.5])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(UsageError, match=f"ema_decay must be above 0 and below 1, got {decay}"):
        MovingAverage({"": make_net()}, decay)


def test_an_update_reads_nothing_from_the_device():
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).to("meta")
    average = MovingAverage({"": net}, 0.9)
    average.update()
    assert average.models[""][0].weight.device.type == "meta"


# -- in the runner ----------------------------------------------------------------------------------------------------


def copy_weights(runner):
    return {name: value.clone() for name, value in runner.model.state_dict().items()}


def test_validation_uses_the_average_and_training_does_not(make_net, make_loader, train, tmp_path):
    kept, model, plain = Keep(copy_weights, loader="train", order=0), make_net(), make_net()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    loaders = {"train": make_loader(), "valid": make_loader(8, seed=1)}
    runner = train(model, loaders, runner=DictRunner(ema_decay=0.9), callbacks=[kept], logdir=str(tmp_path), epochs=2)
    train(plain, loaders, epochs=2)
    torch.testing.assert_close(model.state_dict(), plain.state_dict(), rtol=0, atol=0)
    average = start
    for number, weights in enumerate(kept.kept, start=1):
        keep = min(0.9, (1 + number) / (10 + number))
        average = {name: keep * average[name] + (1 - keep) * weights[name] for name in average}
    reference = make_net()
    reference.load_state_dict(average)
    (batch,) = make_loader(8, batch_size=8, seed=1)
    loss = nn.functional.cross_entropy(reference(batch["image"])["logits"], batch["target"]).item()
    assert runner.history[2]["valid"]["loss"] == pytest.approx(loss, rel=1e-9)
    assert runner.model is model
    saved = validated_weights(load_checkpoint(tmp_path))[""]
    torch.testing.assert_close(saved, average, rtol=1e-12, atol=1e-12)


def test_a_resumed_average_equals_that_of_a_straight_run(make_net, make_loader, train, tmp_path):
    def run(folder, epochs, resume=None):
        options = {"epochs": epochs, "logdir": str(tmp_path / folder), "resume": resume}
        return train(make_net(), {"train": make_loader()}, runner=DictRunner(ema_decay=0.9), **options)

    straight = run("straight", 4)
    run("halves", 2)
    resumed = run("halves", 4, resume=str(tmp_path / "halves"))
    assert resumed.ema_.steps == straight.ema_.steps
    torch.testing.assert_close(resumed.ema_.state_dict(), straight.ema_.state_dict(), rtol=0, atol=0)


def test_predictions_from_a_checkpoint_are_those_of_the_average(make_net, make_loader, train, tmp_path):
    runner = train(make_net(), {"train": make_loader()}, runner=DictRunner(ema_decay=0.99), logdir=str(tmp_path))
    fresh = make_net()
    (outputs,) = DictRunner().predict_loader(loader=make_loader(4), model=fresh, resume=str(tmp_path), cpu=True)
    expected = runner.ema_.models[""](next(iter(make_loader(4)))["image"])["logits"]
    torch.testing.assert_close(outputs["logits"], expected, rtol=0, atol=0)
