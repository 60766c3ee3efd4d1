"""What the ranks must agree on beside a run's settings is told apart by name."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, SubsetRandomSampler, WeightedRandomSampler

from assay.callbacks import GradientStats
from assay.runner import DictRunner, LossTerm, UsageError
from assay.runner.loop.progress import Progress
from assay.runner.loop.state.rank_settings import rank_settings

ITEMS = [{"image": torch.zeros(2), "target": 0}] * 4


def settings_of(*, losses=None, loader=None, step=2, frozen=False, dtype=None, **changed):
    """Return them of a run that is about to start."""
    found = {}

    class Reading(DictRunner):
        def on_experiment_start(self, runner):
            found.update(rank_settings(self))
            raise UsageError("read")

    model = nn.Linear(2, 3, dtype=dtype)
    model.bias.requires_grad_(not frozen)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    options = {"criterion": nn.CrossEntropyLoss(), **changed}
    with pytest.raises(UsageError, match="read"):
        Reading(losses=losses or [LossTerm()]).train(
            model=model, optimizer=optimizer, scheduler=torch.optim.lr_scheduler.StepLR(optimizer, step), cpu=True,
            loaders={"train": DataLoader(ITEMS, 2, **(loader or {}))}, **options,
        )  # fmt: skip
    return found


@pytest.mark.parametrize(
    ("changed", "differ"),
    [
        ({}, set()),
        ({"callbacks": [Progress()]}, set()),
        ({"callbacks": [GradientStats()]}, {"callbacks of assay"}),
        ({"logdir": "never made"}, {"whether there is a logdir"}),
        ({"valid_loader": "train", "valid_metric": "loss"}, {"what is best"}),
        ({"losses": [LossTerm(count=len)]}, {"loss terms"}),
        ({"loader": {"shuffle": True}}, {"the sampler of loader 'train'"}),
        ({"step": np.int64(2)}, set()),
        ({"step": 5}, {"step_size of the scheduler"}),
        ({"frozen": True}, {"the number of frozen parameters", "the frozen parameters"}),
        ({"dtype": torch.float64}, {"the types of parameters"}),
        ({"criterion": nn.CrossEntropyLoss(ignore_index=0)}, {"ignore_index of the criterion"}),
        ({"criterion": nn.CrossEntropyLoss(label_smoothing=0.1)}, {"label_smoothing of the criterion"}),
    ],
    ids=lambda value: "-".join(sorted(value)) or "nothing",
)
def test_what_differs_is_told_apart_by_name(changed, differ):
    one, other = settings_of(), settings_of(**changed)
    assert {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)} == differ


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (WeightedRandomSampler([1.0, 2.0], 2), WeightedRandomSampler([1.0, 3.0], 2)),
        (WeightedRandomSampler([1.0, 2.0], 2), WeightedRandomSampler([1.0, 2.0], 3)),
        (SubsetRandomSampler([0, 1]), SubsetRandomSampler([0, 2])),
    ],
    ids=["weights", "count", "indices"],
)
def test_samplers_are_told_apart_by_what_they_choose_from(one, other):
    name = "the sampler of loader 'train'"
    assert settings_of(loader={"sampler": one})[name] == settings_of(loader={"sampler": one})[name]
    assert settings_of(loader={"sampler": one})[name] != settings_of(loader={"sampler": other})[name]


@pytest.mark.parametrize(
    ("criterion", "key"),
    [
        (F.cross_entropy, "the function of the criterion"),
        (partial(F.cross_entropy, ignore_index=3), "ignore_index of the criterion"),
        (nn.Sequential(nn.CrossEntropyLoss()), "0.reduction of the criterion"),
        ({"a": nn.CrossEntropyLoss()}, "reduction of the criterion of 'a'"),
    ],
)
def test_a_criterion_of_any_kind_is_described(criterion, key):
    assert key in settings_of(criterion=criterion)
