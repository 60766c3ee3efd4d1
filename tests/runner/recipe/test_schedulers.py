"""Schedules against their formulas, warm-up over each of them, and resuming in the middle."""

import io
import math

import pytest
import torch
from torch import nn

from assay.runner import UsageError
from assay.runner.recipe.schedulers import SCHEDULERS, WarmUp, make_scheduler, steps_by

LR, EPOCHS, STEPS = 0.4, 6, 5  # the run that most tests plan: 6 epochs of 5 steps
LOSSES = [3.0, 2.0, 2.5, 2.5, 1.0, 1.5, 1.5, 1.5]  # what plateau sees, epoch by epoch


def make_sgd(*rates, momentum=0.9):
    groups = [{"params": [nn.Parameter(torch.ones(2))], "lr": rate} for rate in rates or [LR]]
    return torch.optim.SGD(groups, lr=LR, momentum=momentum)


def run(optimizer, scheduler, name, steps, start=0):
    """Step as the runner does, and return the learning rates at which each optimizer step was made."""
    rates = []
    for step in range(start, steps):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        if isinstance(scheduler, WarmUp):
            scheduler.batch_step()
        if scheduler is not None and name != "plateau" and steps_by(name) == "batch":
            scheduler.step()
        if scheduler is not None and steps_by(name) == "epoch" and (step + 1) % STEPS == 0:
            scheduler.step(*([LOSSES[step // STEPS]] if name == "plateau" else []))
    return rates


def cosine(step, *, steps=EPOCHS * STEPS, low=0.0, high=LR):
    return low + (high - low) * (1 + math.cos(math.pi * step / steps)) / 2


def between(start, end, share):
    """The half wave by which one-cycle goes from one rate to the next."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


def one_cycle(step, *, top, steps=EPOCHS * STEPS):
    if step <= top:
        return between(LR / 25, LR, step / top)
    return between(LR, LR / 25 / 1e4, (step - top) / (steps - top))


def triangle(step, *, half, low=0.0):
    return low + (LR - low) * (1 - abs(step % (2 * half) / half - 1))


def multi_step(step):
    epoch = step // STEPS
    return LR * 0.5 ** ((epoch >= 2) + (epoch >= 4))


def plateau(step):
    """Patience 0 and factor 0.5: halved after each epoch that is not better than all before."""
    best, rate = math.inf, LR
    for loss in LOSSES[: step // STEPS]:
        best, rate = (loss, rate) if loss < best else (best, rate * 0.5)
    return rate


CASES = {
    "cosine": ("cosine", {}, cosine),
    "cosine to a floor": ("cosine", {"lr_min": 0.1}, lambda step: cosine(step, low=0.1)),
    "one-cycle": ("one-cycle", {}, lambda step: one_cycle(step, top=0.3 * (EPOCHS * STEPS + 1) - 1)),
    "multi-step": ("multi-step", {"milestones": [4, 2], "gamma": 0.5}, multi_step),
    "cyclic": ("cyclic", {"cycle_epochs": 2}, lambda step: triangle(step, half=5)),
    "cyclic from a floor": ("cyclic", {"cycle_epochs": 1.6, "lr_min": 0.1}, lambda s: triangle(s, half=4, low=0.1)),
    "plateau": ("plateau", {"plateau_patience": 0, "gamma": 0.5}, plateau),
}


@pytest.mark.parametrize("case", CASES)
def test_rates_follow_the_formula(case):
    name, options, formula = CASES[case]
    optimizer = make_sgd()
    scheduler = make_scheduler(name, optimizer, epochs=EPOCHS, steps_per_epoch=STEPS, **options)
    rates = run(optimizer, scheduler, name, EPOCHS * STEPS)
    assert rates == [pytest.approx([formula(step)], abs=1e-12) for step in range(EPOCHS * STEPS)]


@pytest.mark.parametrize("case", [case for case in CASES if case != "one-cycle"])
def test_a_warm_up_multiplies_the_schedule_underneath_by_a_line_that_ends_at_one(case):
    name, options, formula = CASES[case]
    optimizer = make_sgd()
    scheduler = make_scheduler(
        name, optimizer, epochs=EPOCHS, steps_per_epoch=STEPS, warmup_epochs=2.4, **options
    )  # 12 steps, into the third epoch
    rates = run(optimizer, scheduler, name, EPOCHS * STEPS)
    expected = [formula(step) * min(1, (step + 1) / 13) for step in range(EPOCHS * STEPS)]
    assert rates == [pytest.approx([rate], abs=1e-12) for rate in expected]


def test_no_schedule_is_none_and_with_a_warm_up_a_line_to_the_constant_rate():
    optimizer = make_sgd()
    assert make_scheduler("none", optimizer, epochs=EPOCHS, steps_per_epoch=STEPS) is None
    scheduler = make_scheduler("none", optimizer, epochs=EPOCHS, steps_per_epoch=STEPS, warmup_epochs=0.8)
    rates = run(optimizer, scheduler, "none", 8)
    assert rates == [pytest.approx([LR * factor]) for factor in (0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1)]


def test_the_warm_up_of_one_cycle_is_the_length_of_its_rising_part():
    optimizer = make_sgd()
    scheduler = make_scheduler("one-cycle", optimizer, epochs=EPOCHS, steps_per_epoch=STEPS, warmup_epochs=2)
    rates = run(optimizer, scheduler, "one-cycle", EPOCHS * STEPS)
    assert rates == [pytest.approx([one_cycle(step, top=10)], abs=1e-12) for step in range(EPOCHS * STEPS)]
    assert max(rates) == rates[10] == [pytest.approx(LR)]


def test_every_parameter_group_keeps_its_own_largest_rate():
    for name in ("cosine", "one-cycle", "cyclic", "multi-step"):
        optimizer = make_sgd(LR, LR / 10)
        scheduler = make_scheduler(name, optimizer, epochs=EPOCHS, steps_per_epoch=STEPS, milestones=[1])
        for high, low in run(optimizer, scheduler, name, EPOCHS * STEPS):
            assert low == pytest.approx(high / 10)


def test_cosine_falls_to_the_same_floor_in_every_group():
    optimizer = make_sgd(LR, LR / 10)
    scheduler = make_scheduler("cosine", optimizer, epochs=EPOCHS, steps_per_epoch=STEPS, lr_min=0.01)
    run(optimizer, scheduler, "cosine", EPOCHS * STEPS)
    assert scheduler.get_last_lr() == pytest.approx([0.01, 0.01])


def test_plateau_that_maximizes_lowers_the_rate_when_the_metric_falls():
    optimizer = make_sgd()
    options = {"plateau_patience": 0, "gamma": 0.5, "minimize": False}
    scheduler = make_scheduler("plateau", optimizer, epochs=EPOCHS, steps_per_epoch=STEPS, **options)
    rates = []
    for accuracy in (0.5, 0.6, 0.55, 0.7):
        scheduler.step(accuracy)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == [LR, LR, LR / 2, LR / 2]


def test_plateau_waits_its_patience_and_stops_at_its_floor():
    optimizer = make_sgd()
    options = {"plateau_patience": 1, "gamma": 0.1, "lr_min": 0.03}
    scheduler = make_scheduler("plateau", optimizer, epochs=EPOCHS, steps_per_epoch=STEPS, **options)
    rates = []
    for _ in range(6):
        scheduler.step(1.0)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([LR, LR, 0.04, 0.04, 0.03, 0.03])


def test_a_rate_that_plateau_lowers_within_the_warm_up_stays_lowered():
    optimizer = make_sgd()
    options = {"plateau_patience": 0, "gamma": 0.5, "warmup_epochs": 0.6}
    scheduler = make_scheduler("plateau", optimizer, epochs=EPOCHS, steps_per_epoch=STEPS, **options)  # 3 steps
    scheduler.step(1.0)
    scheduler.step(2.0)
    assert scheduler.get_last_lr() == pytest.approx([LR / 2 / 4])
    for _ in range(5):
        scheduler.batch_step()
    assert scheduler.get_last_lr() == pytest.approx([LR / 2])


@pytest.mark.parametrize("name", ["one-cycle", "cyclic"])
def test_options_of_torchs_schedulers_are_handed_on(name):
    optimizer = make_sgd()
    make_scheduler(name, optimizer, epochs=EPOCHS, steps_per_epoch=STEPS)
    assert optimizer.param_groups[0]["momentum"] == 0.9
    options = {"cycle_momentum": True, "base_momentum": 0.5, "max_momentum": 0.6}
    make_scheduler(name, optimizer, epochs=EPOCHS, steps_per_epoch=STEPS, **options)
    assert optimizer.param_groups[0]["momentum"] == 0.6


@pytest.mark.parametrize("name", ["one-cycle", "cyclic"])
def test_optimizers_without_momentum_are_scheduled_too(name):
    optimizer = torch.optim.Adagrad([nn.Parameter(torch.ones(2))], lr=LR)
    scheduler = make_scheduler(name, optimizer, epochs=EPOCHS, steps_per_epoch=STEPS, cycle_epochs=2)
    assert max(run(optimizer, scheduler, name, EPOCHS * STEPS))[0] > 0.9 * LR


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("warmup_epochs", [0, 2.4])
@pytest.mark.parametrize("name", [name for name in SCHEDULERS if name != "none"])
def test_a_schedule_goes_on_after_a_file_as_if_nothing_had_happened(name, warmup_epochs):
    plan = {
        "epochs": EPOCHS,
        "steps_per_epoch": STEPS,
        "warmup_epochs": warmup_epochs,
        "milestones": [1, 3],
        "plateau_patience": 0,
        "cycle_epochs": 2,
    }
    straight = make_sgd()
    expected = run(straight, make_scheduler(name, straight, **plan), name, EPOCHS * STEPS)
    first = make_sgd()
    scheduler = make_scheduler(name, first, **plan)
    rates = run(first, scheduler, name, 10)
    states = through_a_file({"optimizer": first.state_dict(), "scheduler": scheduler.state_dict()})
    second = make_sgd()
    scheduler = make_scheduler(name, second, **plan)
    second.load_state_dict(states["optimizer"])
    scheduler.load_state_dict(states["scheduler"])
    rates += run(second, scheduler, name, EPOCHS * STEPS, start=10)
    assert rates == expected
    assert second.param_groups[0]["momentum"] == straight.param_groups[0]["momentum"]


@pytest.mark.parametrize("name", ["cosine", "one-cycle", "multi-step", "cyclic", "plateau"])
def test_a_resumed_run_may_be_made_longer(name):
    def plan(optimizer, epochs):
        options = {"milestones": [1, 4], "plateau_patience": 0, "cycle_epochs": 2}
        return make_scheduler(name, optimizer, epochs=epochs, steps_per_epoch=STEPS, **options)

    long = make_sgd()
    expected = run(long, plan(long, EPOCHS), name, EPOCHS * STEPS)
    short = make_sgd()
    scheduler = plan(short, 2)
    run(short, scheduler, name, 2 * STEPS)
    longer = make_sgd()
    resumed = plan(longer, EPOCHS)
    longer.load_state_dict(through_a_file(short.state_dict()))
    resumed.load_state_dict(through_a_file(scheduler.state_dict()))
    rates = run(longer, resumed, name, EPOCHS * STEPS, start=2 * STEPS)
    # Of one-cycle the first step after the resume is made at the rate that the shorter plan left.
    skipped = 1 if name == "one-cycle" else 0
    assert rates[skipped:] == [pytest.approx(rate, abs=1e-12) for rate in expected[2 * STEPS + skipped :]]


@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("none", "epoch"),
        ("cosine", "batch"),
        ("one-cycle", "batch"),
        ("cyclic", "batch"),
        ("multi-step", "epoch"),
        ("plateau", "epoch"),
        ("One_Cycle", "batch"),
    ],
)
def test_each_schedule_says_whether_it_steps_by_batch_or_by_epoch(name, by):
    assert steps_by(name) == by


@pytest.mark.parametrize("make", [steps_by, lambda name: make_scheduler(name, make_sgd(), epochs=1, steps_per_epoch=1)])
def test_an_unknown_name_is_refused_with_the_closest(make):
    with pytest.raises(UsageError, match=r"unknown scheduler 'cosin'; did you mean 'cosine'\? There is: "):
        make("cosin")


@pytest.mark.parametrize("warmup_epochs", [EPOCHS, EPOCHS + 1])
def test_a_warm_up_as_long_as_the_run_is_refused(warmup_epochs):
    with pytest.raises(UsageError, match=rf"warmup_epochs must be less than epochs \(6\), got {warmup_epochs}"):
        make_scheduler("cosine", make_sgd(), epochs=EPOCHS, steps_per_epoch=STEPS, warmup_epochs=warmup_epochs)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cosine", {"restarts": 2}),
        ("none", {"restarts": 2}),
        ("plateau", {"gamma": 1.5}),
        ("one-cycle", {"pct_start": 2.0}),
        ("cyclic", {"mode": "square"}),
    ],
)
def test_arguments_that_do_not_fit_are_wrong_use(name, options):
    with pytest.raises(UsageError, match=f"scheduler '{name}' refused its arguments: "):
        make_scheduler(name, make_sgd(), epochs=EPOCHS, steps_per_epoch=STEPS, **options)


@pytest.mark.parametrize("warmup_epochs", [0.0, 1.0])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_ratios_of_groups_stay_at_every_step(name, warmup_epochs):
    rates = [0.1, 0.02, 1e-7, 3.0]
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    schedule = make_scheduler(
        name, optimizer, epochs=6, steps_per_epoch=4, warmup_epochs=warmup_epochs, lr_min=0.01, milestones=[2, 4],
        cycle_epochs=2.0, plateau_patience=0, lr=0.1,
    )  # fmt: skip
    seen = []
    for step in range(24):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        if isinstance(schedule, WarmUp):
            schedule.batch_step()
        ends = step % 4 == 3
        if schedule is not None and (ends if steps_by(name) == "epoch" else True):
            schedule.step(*([1.0] if name == "plateau" else []))
    assert all(row == pytest.approx([row[0] * rate / 0.1 for rate in rates], rel=1e-9) for row in seen)
    assert len({row[0] for row in seen}) > 1 or (name == "none" and not warmup_epochs)
