"""The guard against NaN on ranks of which one has no batch in a round, and only stands in."""

import logging
import math

import numpy as np
import pytest
import torch
from catalyst import dl
from kit import Named, read_events
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import OptimizerMonitor
from assay.callbacks.non_finite.guard import NonFiniteGuard
from assay.callbacks.non_finite.report import NonFiniteError
from assay.runner import DictRunner, Engine

# Samples that all ranks have batches for, and those of the last round, by number of ranks and batches a step. In that
# round the last rank has none: of 2 ranks the first takes 3 samples, of 3 ranks the first two take 2 each.
SHARES = {(2, 1): (16, 3), (3, 1): (12, 4), (2, 2): (24, 3), (3, 2): (36, 4)}


class Kept(dl.Callback):
    """Keeps what the model was at the start of each loader."""

    def __init__(self):
        super().__init__(order=0)
        self.states = []

    def on_loader_start(self, runner):
        self.model = runner.engine.unwrap_model(runner.model)
        self.states.append({name: value.clone() for name, value in self.model.state_dict().items()})


class Messages(logging.Handler):
    def __init__(self):
        super().__init__()
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


def make_items(count, poisoned=()):
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32))
    items = [{"image": images[i], "target": i % 3, "sample_id": f"s{i}"} for i in range(count)]
    for index in poisoned:
        items[index]["image"][1] = math.nan
    return items


def train(folder, items, callbacks, *, accumulate_steps=1, fused=True, epochs=2):
    torch.manual_seed(0)
    model = Named(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6, momentum=0.5), nn.Linear(6, 3)))
    DictRunner(model, accumulate_steps=accumulate_steps).train(
        engine=Engine("cpu"),
        criterion=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=fused),
        loaders={"train": DataLoader(items, 4), "valid": DataLoader(items[:3], 4)},
        callbacks=callbacks,
        num_epochs=epochs,
        logdir=folder,
    )


def guarded(folder, choice, items, accumulate_steps=1, fused=True):
    """Return the weights at the start of each loader and behind the last, and what was said or stopped the run."""
    kept, messages = Kept(), Messages()
    logging.getLogger("assay").addHandler(messages)
    try:
        callbacks = [NonFiniteGuard(choice), OptimizerMonitor(), kept]
        train(folder, items, callbacks, accumulate_steps=accumulate_steps, fused=fused)
    except NonFiniteError as error:
        messages.messages.append(str(error))
    finally:
        logging.getLogger("assay").removeHandler(messages)
    return [*kept.states, kept.model.state_dict()], messages.messages


def assert_same(first, second, *, without=("none",)):
    assert len(first) == len(second)
    for mine, other in zip(first, second, strict=True):
        for name in other:
            assert name.endswith(without) or torch.equal(mine[name], other[name]), name


def read_scalars(folder):
    events = read_events(folder / "train")
    return {
        tag: [event.value for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
        if tag.startswith("9_optimizer/")
    }


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_last_step_with_nan_stops_all_ranks_though_one_only_stands_in(processes, tmp_path, ranks):
    count = sum(SHARES[ranks, 1])
    answers = processes.run(ranks, guarded, str(tmp_path), "stop", make_items(count, [count - 1]))
    states, messages = answers[0]
    assert len(messages) == 1
    step = {2: 3, 3: 2}[ranks]
    assert messages[0].startswith(f"epoch 1, step {step} of train on rank {ranks - 2}: loss term 'loss' is NaN")
    assert f"sample s{count - 1}; saved to" in messages[0]
    for mine, said in answers:
        assert said == messages
        # Within an epoch each rank has running means of its own.
        assert_same(mine, states, without=("running_mean", "running_var"))
        assert all(value.isfinite().all() for value in mine[-1].values())
    assert len(list((tmp_path / "non_finite").iterdir())) == 1


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(("ranks", "accumulate_steps"), SHARES)
def test_a_last_step_with_nan_is_skipped_by_all_ranks_though_one_only_stands_in(
    processes, tmp_path, ranks, accumulate_steps, fused
):
    whole, rest = SHARES[ranks, accumulate_steps]
    kept = whole - 4 * ranks * (accumulate_steps - 1)
    runs = {"nan": make_items(whole + rest, [whole + rest - 1]), "without": make_items(kept)}
    answers = {
        name: processes.run(ranks, guarded, str(tmp_path / name), "skip", items, accumulate_steps, fused)
        for name, items in runs.items()
    }
    for (states, said), (expected, _) in zip(answers["nan"], answers["without"], strict=True):
        assert_same(states, expected)
        assert len(said) == (2 if said is answers["nan"][0][1] else 0)
    scalars, reference = (read_scalars(tmp_path / name) for name in runs)
    assert scalars.pop("9_optimizer/non_finite_steps") == [1.0, 1.0]
    assert reference.pop("9_optimizer/non_finite_steps") == [0.0, 0.0]
    assert scalars == reference
    assert len(list((tmp_path / "nan" / "non_finite").iterdir())) == 2


class Norms(dl.Callback):
    """Keeps the norm of the gradient at every step."""

    def __init__(self):
        super().__init__(order=0)
        self.norms = []

    def on_experiment_start(self, runner):
        runner.register_gradient_hook(lambda: self.norms.append(norm_of(runner.model)))


def norm_of(model):
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).norm().item()


def monitored(folder, count):
    norms = Norms()
    train(folder, make_items(count), [OptimizerMonitor(), norms], epochs=1)
    return norms.norms


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_mean_norm_counts_the_last_step_on_ranks_that_only_stand_in(processes, tmp_path, ranks):
    (norms, *_) = processes.run(ranks, monitored, str(tmp_path), sum(SHARES[ranks, 1]))
    assert len(norms) >= 2
    assert read_scalars(tmp_path)["9_optimizer/grad_norm"] == [pytest.approx(np.mean(norms), rel=1e-6)]
