"""Runs that start from something: loaded, frozen, unfrozen in time, with learning rates by layer."""

import json
import shutil
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import pytest
import torch
import tuned_experiment
from kit import Killed, read_events
from torch import nn
from tuned_experiment import Net, Tuned

from assay.runner import Experiment, UsageError, load_checkpoint, train
from assay.runner.commands.evaluate import evaluate
from assay.runner.experiment.ignored_fields import check_ignored
from assay.runner.loop.sanity_check import SanityCheck


def changed(before, after):
    """Return the parts of the net, of a backbone and a head, in which two states differ."""
    return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}


def rates(run):
    """Return the learning rates and names of the groups that a run ended with."""
    return {group.get("name"): group["initial_lr"] for group in load_checkpoint(run)["optimizer"][""]["param_groups"]}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Return a run to start from."""
    return train(
        Tuned(epochs=3, ema_decay=0.5), name=tuned_experiment.__file__, run_dir=tmp_path_factory.mktemp("from") / "run"
    )


@pytest.fixture
def first_metrics(monkeypatch):
    """Return what the validation before the first epoch finds, in a dict that fills."""
    found = {}
    check = SanityCheck._check_monitors
    monkeypatch.setattr(
        SanityCheck, "_check_monitors", lambda self, metrics: found.update(metrics) or check(self, metrics)
    )
    return found


def test_it_begins_with_the_metrics_of_the_run_it_came_from(source, tmp_path, first_metrics, capsys):
    expected = evaluate(source).metrics
    train(Tuned(weights=str(source), sanity_batches=99), name="tuned", run_dir=tmp_path / "run")
    assert first_metrics["valid"]["accuracy"] == expected["accuracy"]
    assert first_metrics["valid"]["loss"] == pytest.approx(expected["loss"], abs=1e-6)
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("weights: "))
    assert line.startswith(f"weights: 9 of 9 tensors of the model are those of {source}/checkpoints/")
    assert line.endswith(", moving average)")


def test_an_average_begins_from_what_is_loaded(source, tmp_path, first_metrics):
    expected = evaluate(source).metrics["loss"]
    train(Tuned(weights=str(source), sanity_batches=99, ema_decay=0.9), name="tuned", run_dir=tmp_path / "run")
    assert first_metrics["valid"]["loss"] == pytest.approx(expected, abs=1e-6)


def test_a_head_of_another_size_learns_faster_and_goes_on_so(source, tmp_path, capsys):
    run, first = tmp_path / "run", tmp_path / "from"
    shutil.copytree(source, first)
    train(Tuned(classes=4, weights=str(first), lr_head=0.5, epochs=2), name="tuned", run_dir=run)
    text = capsys.readouterr().out
    assert "  of another size, not loaded: 'head.weight' is [4, 6], and [3, 6] there, 'head.bias' is [4], and" in text
    assert rates(run) == {"body": 0.05, "head": 0.5}
    assert json.loads((run / "fine_tuning.json").read_text()) == {"fresh": ["head.weight", "head.bias"]}
    shutil.rmtree(first)  # it is no longer needed
    train(Tuned(classes=4, weights=str(first), lr_head=0.5, epochs=3), name="tuned", resume=run)
    assert rates(run) == {"body": 0.05, "head": 0.5} and load_checkpoint(run)["epoch"] == 3


def test_what_is_pretrained_is_no_head_and_a_run_that_goes_on_loads_nothing(tmp_path):
    run = tmp_path / "run"
    experiment = Tuned(pretrained=True, lr_head=0.5, freeze="backbone.0.weight", epochs=1)
    train(experiment, name="tuned", run_dir=run)
    assert torch.equal(load_checkpoint(run)["model"][""]["backbone.0.weight"], torch.full((6, 4), 0.25))
    assert rates(run) == {"body": 0.05, "head": 0.5}
    train(Tuned(pretrained=True, lr_head=0.5, freeze="backbone.0.weight", epochs=2), name="tuned", resume=run)
    assert rates(run) == {"body": 0.05, "head": 0.5}


def test_the_groups_are_shown_at_the_start_and_in_tensorboard(tmp_path, capsys):
    experiment = Tuned(epochs=2, freeze="backbone.1", unfreeze_epoch=2, lr_decay=0.5, lr_head=1.0)
    run = train(experiment, name="tuned", run_dir=tmp_path / "run")
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "group parameters lr frozen" in lines
    assert "0_backbone 42 0.025 12 until epoch 2" in lines
    assert "head 21 1 no" in lines
    assert "epoch 2: 2 frozen parameters are trained from now on" in lines
    (event,) = read_events(run / "train").Tensors("9_optimizer/groups/text_summary")
    assert event.step == 0 and b"0\\_backbone" in event.tensor_proto.string_val[0]


def test_nothing_is_shown_of_a_run_that_starts_from_nothing(tmp_path, capsys):
    run = train(Tuned(epochs=1), name="tuned", run_dir=tmp_path / "run")
    assert "frozen" not in capsys.readouterr().out
    assert "9_optimizer/groups/text_summary" not in read_events(run / "train").Tags()["tensors"]
    assert not (run / "fine_tuning.json").exists()


def tune(folder, epochs, *, resume=False, killed=None):
    """Train with a backbone that is unfrozen in epoch 3; return the state after each epoch."""
    fields = {"freeze": "^backbone", "unfreeze_epoch": 3, "scheduler": "none", "save_every_steps": 1}
    experiment = Tuned(epochs=epochs, sanity_batches=0, **fields)
    experiment.killed = killed
    with suppress(Killed):
        train(experiment, name="tuned", **{"resume" if resume else "run_dir": folder})
    return experiment.seen.kept


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_backbone_that_is_unfrozen_in_epoch_3_trains_from_epoch_3(processes, tmp_path, ranks):
    answers = processes.run(ranks, tune, str(tmp_path / "run"), 4)
    for first, second, third, fourth in answers:
        assert changed(first, second) == {"head"}
        assert changed(second, third) == changed(third, fourth) == {"backbone", "head"}
        assert torch.equal(first["backbone.1.running_mean"], torch.zeros(6))  # as it came
    for epoch in range(4):
        for other in answers[1:]:
            assert all(torch.equal(value, other[epoch][name]) for name, value in answers[0][epoch].items())


@pytest.mark.parametrize(("ranks", "killed"), [(1, (3, 2)), (2, (2, 2)), (2, (3, 2))])
def test_it_goes_on_so_within_any_epoch(processes, tmp_path, ranks, killed, caplog):
    whole = processes.run(ranks, tune, str(tmp_path / "whole"), 4)
    processes.run(ranks, partial(tune, killed=killed), str(tmp_path / "run"), 4)
    rest = processes.run(ranks, partial(tune, resume=True), str(tmp_path / "run"), 4)
    for expected, found in zip(whole, rest, strict=True):
        assert len(found) == 5 - killed[0]
        for one, other in zip(expected[killed[0] - 1 :], found, strict=True):
            assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert not any("as when the checkpoint was saved" in message for message in caplog.messages)


def test_processes_must_have_the_same_weights(processes, tmp_path):
    for rank in range(2):
        torch.save(nn.Linear(4, 3).state_dict(), tmp_path / f"{rank}.pth")
    with pytest.raises(UsageError, match=r"the processes of a run must agree, and the checksum of --weights is .* on"):
        processes.run(2, start_apart, str(tmp_path))


def test_weights_that_one_machine_lacks_end_all_processes(processes, tmp_path):
    torch.save(nn.Linear(4, 3).state_dict(), tmp_path / "0.pth")
    with pytest.raises(UsageError, match=r"weights must be a run folder or a file of weights, got .*1\.pth"):
        processes.run(2, start_apart, str(tmp_path))


def start_apart(folder):
    rank = torch.distributed.get_rank()
    train(Plain(weights=f"{folder}/{rank}.pth"), name="plain", run_dir=f"{folder}/run")


@dataclass(kw_only=True)
class Plain(Tuned):
    def get_model(self):
        return Named(nn.Linear(4, 3))


class Named(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, image):
        return {"logits": self.layer(image)}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_and_leave_no_folder(tmp_path, value):
    state = Net(3).state_dict()
    state["head.bias"][1] = value
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(UsageError, match=r"the weights of .*x\.pth are broken: 1 of the 3 values of 'head\.bias'"):
        train(Tuned(weights=str(tmp_path / "x.pth")), name="tuned", run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_optimizer_of_the_experiments_own_makes_use_of_the_groups_or_says_that_it_does_not(tmp_path):
    @dataclass(kw_only=True)
    class Own(Tuned):
        grouped: bool = False

        def get_optimizer(self, model):
            return torch.optim.SGD(self.parameter_groups(model) if self.grouped else model.parameters(), lr=self.lr)

    with pytest.raises(UsageError, match=r"^--lr-head has no use with this experiment's own get_optimizer: leave it "):
        train(Own(lr_head=0.5), name="own", run_dir=tmp_path / "run")
    run = train(Own(lr_head=0.5, grouped=True, epochs=1), name="own", run_dir=tmp_path / "run")
    assert rates(run) == {"body": 0.05, "head": 0.5}


def test_rates_are_scaled_to_the_batch_together(tmp_path):
    run = train(Tuned(lr_head=0.5, lr_batch_size=12, epochs=1), name="tuned", run_dir=tmp_path / "run")
    assert rates(run) == pytest.approx({"body": 0.025, "head": 0.25})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"unfreeze_epoch": 2}, r"--unfreeze-epoch has no use without --freeze: leave it out, or give that too\."),
        ({"freeze": "x", "unfreeze_epoch": 4, "epochs": 3}, r"--unfreeze-epoch must be at most --epochs 3, got 4: "),
    ],
)
def test_what_has_no_use_is_refused(fields, message):
    with pytest.raises(UsageError, match=f"^{message}"):
        check_ignored(Tuned(**fields), "tuned")


def test_an_experiment_without_pretrained_weights_refuses_them():
    with pytest.raises(UsageError, match=r"^--pretrained has no use in 'none', which would ignore it: leave it out\.$"):
        check_ignored(Experiment(pretrained=True), "none")
    check_ignored(Tuned(pretrained=True), "tuned")


def test_a_pattern_that_is_none_is_refused():
    with pytest.raises(UsageError, match=r"^freeze must be a regular expression, got '\(a': missing \)"):
        Tuned(freeze="(a")


def test_fields_of_an_experiments_own_of_another_kind_are_left_to_it(tmp_path):
    @dataclass(kw_only=True)
    class Own(Tuned):
        weights: list[float] | None = None
        freeze: bool = False

    train(Own(weights=[1.0, 2.0], freeze=True, epochs=1), name="own", run_dir=tmp_path / "run")
    assert "frozen" in load_checkpoint(tmp_path / "run") and load_checkpoint(tmp_path / "run")["frozen"] == []


def test_an_option_of_adagrad_may_be_called_like_a_field():
    optimizer = Tuned(optimizer="Adagrad", optimizer_options={"lr_decay": 0.25}).get_optimizer(nn.Linear(2, 2))
    assert optimizer.param_groups[0]["lr_decay"] == 0.25
