"""A field that others leave without a use is refused where the user gave it, and only there."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from toy_experiment import Toy

from assay.runner import UsageError, train
from assay.runner.commands.experiment_flags import parse_experiment
from assay.runner.experiment.catalog import experiment_names, find_experiment
from assay.runner.experiment.ignored_fields import check_ignored
from assay.runner.experiment.source_fields import fields_class
from assay.runner.recipe.schedulers import SCHEDULERS, make_scheduler

VALUES = {
    "lr_min": 0.01, "milestones": [1, 2], "gamma": 0.5, "cycle_epochs": 2.0, "plateau_patience": 1,
}  # fmt: skip
LOSSES = [3.0, 2.0, 2.5, 2.6, 2.7, 2.8, 2.9, 3.0]


def rates(scheduler, **options):
    """Return the learning rates of eight epochs of five steps."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = make_scheduler(scheduler, optimizer, epochs=8, steps_per_epoch=5, **options)
    seen = []
    for loss in LOSSES:
        for _ in range(5):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if schedule is not None and scheduler in ("cosine", "one-cycle", "cyclic"):
                schedule.step()
        if schedule is not None and scheduler == "plateau":
            schedule.step(loss)
        elif schedule is not None and scheduler == "multi-step":
            schedule.step()
    return seen


def refusal(experiment, name="toy"):
    try:
        check_ignored(experiment, name)
    except UsageError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_field_of_a_schedule_is_refused_exactly_where_it_changes_nothing(scheduler, name):
    # Where both the schedules with and without it run, so that it can show.
    others = {"milestones": [3, 5]} if scheduler == "multi-step" else {}
    others |= {"plateau_patience": 0} if name == "gamma" else {}
    if scheduler == "plateau" and name == "lr_min":
        others |= {"gamma": 0.01, "plateau_patience": 0}
    changes = rates(scheduler, **others) != rates(scheduler, **others | {name: VALUES[name]})
    toy = {"milestones": [3, 5]} if scheduler == "multi-step" else {}
    message = refusal(Toy(scheduler=scheduler, **toy | {name: VALUES[name]}))
    assert (message is None) == changes
    if message is not None:
        flag = f"--{name.replace('_', '-')}"
        assert message.startswith(f"{flag} has no use with --scheduler {scheduler}, only with ")
        assert message.endswith(": leave it out, or change one.")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scheduler_options": {"pct_start": 0.1}}, "--scheduler-options has no use with --scheduler cosine, only with "
         "one-cycle, cyclic, plateau: leave it out, or change one."),
        ({"scheduler": "multi_step"}, "--scheduler multi-step needs --milestones, the epochs to drop the learning rate "
         "after, such as '[30, 60]': without them it would never drop."),
        ({"scheduler": "one-cycle", "momentum": 0.8, "scheduler_options": {"cycle_momentum": True}},
         "--momentum has no use with cycle_momentum in --scheduler-options, which moves the momentum by itself: leave "
         "one of them out, or give base_momentum and max_momentum there."),
    ],
)  # fmt: skip
def test_others_say_what_to_do(fields, message):
    assert refusal(Toy(**fields)) == message


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("digits", {"data_dir": "x"}, "--data-dir has no use in 'digits', which would ignore it: leave it out."),
        ("wheat", {"pretrained": True}, "--pretrained has no use with --backbone light, which has no such weights: "),
        ("digits", {"pretrained": True}, "--pretrained has no use in 'digits', which would ignore it: leave it out."),
        ("embedding", {"momentum": 0.8}, "--momentum has no use with cycle_momentum in "),
        ("alaska2", {"pretrained": True}, "--pretrained has no use with --encoder coefficients, which has no such "),
        ("alaska2", {"encoder": "resnet18", "width": 8}, "--width has no use with --encoder resnet18, only with "),
        ("inria", {"pseudo_confidence": 0.9}, "--pseudo-confidence has no use without --pseudo-labels: leave it out, "),
        ("wheat", {"gamma": 0.5}, "--gamma has no use with --scheduler one-cycle, only with multi-step, plateau: "),
    ],
)
def test_built_in_experiments_refuse_them_with_and_without_their_imports(name, fields, message):
    with fields_class(name) as read:
        for one in (read, find_experiment(name)):
            assert refusal(one(**fields), name).startswith(message)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("alaska2", {"width": 8}),
        ("alaska2", {"encoder": "resnet18", "pretrained": True}),
        ("inria", {"pseudo_labels": 2, "pseudo_confidence": 0.9}),
        ("embedding", {"momentum": 0.8, "scheduler_options": {}}),
        ("embedding", {"scheduler": "cosine"}),
        ("embedding", {"scheduler": "cosine", "scheduler_options": {}}),
        *((name, {}) for name in experiment_names()),
    ],
)
def test_what_has_a_use_is_taken_and_so_are_all_defaults(name, fields):
    with fields_class(name) as read:
        assert refusal(read(**fields), name) is None


def test_a_schedule_of_the_experiments_own_may_use_any_field():
    class Own(Toy):
        def get_scheduler(self, optimizer, steps_per_epoch):
            return None

    assert refusal(Own(milestones=[1])) is None


def test_options_of_an_experiments_own_schedule_do_not_reach_another_one():
    experiment = find_experiment("embedding")(scheduler="cosine")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    assert experiment.get_scheduler(optimizer, steps_per_epoch=2).get_last_lr() == [0.1]


def test_a_default_of_the_experiments_own_is_none_that_the_user_gave():
    @dataclass(kw_only=True)
    class Own(Toy):
        milestones: list[int] = field(default_factory=lambda: [3])

    assert refusal(Own()) is None
    assert refusal(Own(milestones=[4])) is not None
    assert refusal(Own(milestones=[])) is None  # takes it back


def test_a_new_run_is_refused_and_leaves_no_folder(tmp_path):
    with pytest.raises(UsageError, match=r"^--milestones has no use with --scheduler cosine, only with multi-step: "):
        train(Toy(milestones=[1]), name="toy", run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_of_before_loads_and_goes_on_with_a_field_that_it_ignored(tmp_path):
    @dataclass(kw_only=True)
    class Before(Toy):
        milestones: list[int] = field(default_factory=lambda: [1])  # as if there had been no check

    run = train(Before(), name="toy", run_dir=tmp_path / "run")
    config: Any = str(run / "config.yaml")
    experiment, _ = parse_experiment(Toy, "toy", ["--config", config])  # as an evaluation does
    assert experiment.milestones == [1]
    experiment, _ = parse_experiment(Toy, "toy", ["--resume", str(run), "--epochs", "3"])
    assert train(experiment, name="toy", resume=run) == run


@pytest.mark.parametrize("level", ["full", "light", "off"])
def test_a_history_of_samples_has_no_use_below_the_full_diagnostics(level):
    message = refusal(Toy(diagnostics=level, sample_history="on"))
    expected = f"--sample-history has no use with --diagnostics {level}, only with full: leave it out, or change one."
    assert message == (None if level == "full" else expected)
    assert refusal(Toy(diagnostics=level, sample_history="off")) is None
