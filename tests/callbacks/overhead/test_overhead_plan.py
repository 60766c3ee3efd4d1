"""What is thinned, and what is said of it, decided on made-up times."""

import numpy as np
import pytest

from assay.callbacks.base.diagnostic import Diagnostic
from assay.callbacks.base.meter import Meter
from assay.callbacks.measures.overhead_budget import FIXED, LATE, LOOP, PICTURES, STEPS, Label, Laps, Shares, Spent
from assay.callbacks.measures.phase_times import HostTimer
from assay.callbacks.overhead.plan import OverheadPlan
from assay.callbacks.tensorboard.writer import Writer
from assay.callbacks.training.gradient_stats import GradientStats

LOADERS = ["train"]


class Folder:
    """The event folder of the main process."""

    def flush(self):
        pass

    def close(self):
        pass


@pytest.fixture
def say():
    writer = Writer(Folder())
    yield writer
    writer.close()


def make_plan(max_overhead=0.1, epochs=20, gradients_every=10, **diagnostics):
    """Return a plan with the diagnostics ``Stats``, ``Grid`` and ``Chart``, in a run of loaders of 100 steps."""
    found = {"Stats": GradientStats(gradients_every), "Grid": Diagnostic(), "Chart": Diagnostic(), **diagnostics}
    for name, one in found.items():
        one.meter_ = Meter(name, Laps(HostTimer()), None)
    plan = OverheadPlan(max_overhead, found, epochs)
    plan.begin_training(100)
    return plan


def shares(plan, loop=1000.0, **ms):
    """Return shares of what was spent in ``NAME_KIND``; steps are as if each was observed."""
    names = list(plan.meters)
    total_ms = {Label("train", LOOP): loop}
    for key, value in ms.items():
        name, kind = key.split("_")
        total_ms[Label("train", name, kind)] = value
    state = Spent(total_ms, LOADERS, names).state
    return Shares({name: part.numpy() for name, part in state.items()}, LOADERS, names)


class Own(Diagnostic):
    """A diagnostic of a user's that can observe fewer steps."""

    def __init__(self):
        super().__init__()
        self.every_n_steps = self.interval = 1

    def observe_every(self, n_steps):
        self.interval = n_steps


def test_any_diagnostic_that_can_observe_fewer_steps_is_thinned(say):
    own = Own()
    plan = make_plan(Own=own)
    assert plan.thinned.keys() == {"Stats", "Own"}
    plan.adapt(shares(plan, Own_steps=800.0), say, "epoch 1")
    assert own.interval == plan.steps["Own"].every > 1


def drawn(plan, epochs):
    seen = []
    for epoch in range(1, epochs + 1):
        plan.begin_epoch(epoch, epochs)
        seen += [epoch] * plan.meters["Grid"].draws
    return seen


def test_while_all_fits_nothing_is_thinned_and_nothing_said(say, caplog):
    plan = make_plan()
    plan.adapt(shares(plan, Stats_steps=400, Grid_pictures=30, Chart_fixed=20), say, "epoch 2")  # 4% + 3% + 2%
    assert plan.values() == {"9_overhead/every_n_steps/Stats": 10, "9_overhead/every_n_epochs/Grid": 1}
    assert drawn(plan, 4) == [1, 2, 3, 4]
    say.drain()
    assert not caplog.messages


def test_the_first_and_the_last_epoch_are_drawn_and_each_nth(say):
    plan = make_plan()
    plan.adapt(shares(plan, Grid_pictures=350), say, "epoch 2")
    assert plan.pictures["Grid"].every == 4
    assert drawn(plan, 11) == [1, 5, 9, 11]
    assert drawn(plan, 9) == [1, 5, 9]


def test_of_a_run_with_room_for_nothing_the_first_and_the_last_picture_are_left_and_one_step_an_epoch(say, caplog):
    plan = make_plan()
    plan.adapt(shares(plan, Stats_steps=400, Grid_pictures=30, Chart_fixed=100), say, "epoch 2")
    assert plan.values() == {"9_overhead/every_n_steps/Stats": 100, "9_overhead/every_n_epochs/Grid": 20}
    assert drawn(plan, 20) == [1, 20]
    say.drain()
    assert len(caplog.messages) == 2
    assert (
        "cannot be kept: what cannot be done less often took 10.0% of the loop's time in epoch 2, most of it Chart "
        "10.0%" in (caplog.messages[1])
    )


def test_steps_alone_are_adapted_within_an_epoch(say):
    plan = make_plan()
    plan.adapt_steps(shares(plan, Stats_steps=3000, Grid_pictures=500), say, "epoch 1 so far")
    assert plan.steps["Stats"].every == plan.thinned["Stats"].every_n_steps_ == 30
    assert plan.pictures["Grid"].every == 1


def test_where_no_step_was_observed_the_interval_stays(say):
    plan = make_plan()
    plan.adapt_steps(shares(plan, Stats_steps=3000), say, "epoch 1 so far")
    plan.adapt_steps(shares(plan), say, "epoch 1 so far")
    assert plan.steps["Stats"].every == 30


def test_what_costs_less_than_thought_is_thinned_less(say):
    plan = make_plan()
    plan.adapt(shares(plan, Stats_steps=8000, Grid_pictures=300), say, "epoch 2")
    assert (plan.steps["Stats"].every, plan.pictures["Grid"].every) == (100, 6)
    plan.begin_epoch(7, 20)
    plan.adapt(shares(plan, Stats_steps=500, Grid_pictures=20), say, "epoch 7")
    assert (plan.steps["Stats"].every, plan.pictures["Grid"].every) == (10, 1)


def test_pictures_of_an_epoch_are_those_in_time_and_those_that_came_late(say):
    plan = make_plan()
    epochs = [(True, 100, 0), (True, 100, 200), (False, 0, 200), (False, 0, 0), (True, 50, 0), (False, 0, 10)]
    costs = []
    for draws, in_time, late in epochs:
        plan.meters["Grid"].draws = draws
        plan.adapt(shares(plan, Grid_pictures=in_time, Grid_late=late), say, "an epoch")
        costs.append(plan.pictures["Grid"].cost)
    assert costs == pytest.approx([0.1, 0.3, 0.3, 0.3, 0.05, 0.06])


def test_each_is_named_once_with_the_others_of_its_interval(say, caplog):
    plan = make_plan()
    plan.adapt(shares(plan, Grid_pictures=300, Chart_pictures=300), say, "epoch 2")
    plan.adapt(shares(plan, Grid_pictures=600, Chart_pictures=300, Stats_steps=9000), say, "epoch 3")
    plan.adapt(shares(plan, Grid_pictures=900, Chart_pictures=300, Stats_steps=9000), say, "epoch 4")
    say.drain()
    assert caplog.messages == [
        "max_overhead=0.1: the diagnostics took 60.0% of the loop's time in epoch 2. From now on every 6 epochs "
        "instead of each: pictures of Grid, pictures of Chart.",
        "max_overhead=0.1: the diagnostics took 990.0% of the loop's time in epoch 3. From now on every 100 optimizer "
        "steps instead of 10: Stats.",
    ]


def test_the_state_holds_plain_values_and_gives_the_same_decisions(say, caplog):
    plan, other = make_plan(), make_plan()
    plan.adapt(shares(plan, Stats_steps=3000, Grid_pictures=300, Chart_fixed=100), say, "epoch 2")
    say.drain()
    said, state = len(caplog.messages), plan.state_dict()
    other.load_state_dict(state)
    assert other.state_dict() == state
    assert other.values() == plan.values()
    assert other.thinned["Stats"].every_n_steps_ == plan.thinned["Stats"].every_n_steps_ == 100
    other.adapt(shares(other, Stats_steps=3000, Grid_pictures=300, Chart_fixed=100), say, "epoch 3")
    say.drain()
    assert len(caplog.messages) == said == 2


@pytest.mark.parametrize("seed", range(20))
def test_what_is_left_after_thinning_fits(say, seed):
    chance = np.random.default_rng(seed)
    plan = make_plan(max_overhead=0.1, epochs=10_000)
    plan.begin_training(10_000)
    ms = dict(zip(("Grid_fixed", "Chart_pictures", "Grid_pictures", "Stats_steps"), chance.exponential(
        [20, 200, 200, 5000]), strict=True))  # fmt: skip
    plan.adapt(shares(plan, **ms), say, "epoch 2")
    left = ms["Grid_fixed"] + ms["Stats_steps"] / plan.steps["Stats"].every
    left += sum(ms[f"{name}_pictures"] / plan.pictures[name].every for name in ("Chart", "Grid"))
    assert left <= 100 + 1e-9
    assert {FIXED, STEPS, PICTURES, LATE} == {"fixed", "steps", "pictures", "late"}
