import itertools
import math

import pytest
import torch
from kit import Clock

from assay.callbacks.measures.overhead_budget import (
    FIXED,
    LATE,
    LOOP,
    PICTURES,
    STEPS,
    Interval,
    Label,
    Laps,
    Shares,
    Spent,
    common_level,
    fit_all,
)
from assay.callbacks.measures.phase_times import HostTimer
from assay.callbacks.support.distributed import reduce_state


class LateTimer:
    """A device that is behind: its stamps are numbers, and it has reached those up to ``reached``."""

    def __init__(self):
        self.made, self.reached = 0, 0

    def stamp(self):
        self.made += 1
        return self.made

    def passed(self, stamp):
        return stamp <= self.reached

    def wait(self, stamp):
        raise AssertionError("nothing is to wait")

    def elapsed_ms(self, start, end):
        assert self.passed(end)
        return 10.0 * (end - start)


LOOP_OF_TRAIN, PAINTER = Label("train", LOOP), Label("train", "Painter")


def test_each_lap_belongs_to_its_label_and_none_to_nothing():
    clock = Clock(7.0)
    laps = Laps(HostTimer(clock))
    for label, ms in ((None, 1), (LOOP_OF_TRAIN, 2), (PAINTER, 4), (LOOP_OF_TRAIN, 8), (None, 16), (PAINTER, 32)):
        laps.begin(label)
        clock.ms += ms
    laps.begin(None)
    assert laps.total_ms == pytest.approx({LOOP_OF_TRAIN: 10, PAINTER: 36})


def test_what_the_device_has_not_reached_is_added_later_and_nothing_waits():
    timer = LateTimer()
    laps = Laps(timer)
    for _ in range(50):
        laps.begin(LOOP_OF_TRAIN)
        laps.begin(PAINTER)
        timer.reached = max(0, timer.made - 5)
        assert len(laps._pending) <= 8
    known = sum(laps.total_ms.values())
    timer.reached = timer.made + 1
    laps.begin(None)
    assert known < 10 * 100 == sum(laps.total_ms.values())


LOADERS, NAMES = ("train", "valid"), ("A", "B")


def shares_of(state):
    return Shares({name: part.numpy() for name, part in state.items()}, LOADERS, NAMES)


def test_times_are_told_apart_by_loader_diagnostic_and_kind():
    state = Spent(
        {
            Label("train", LOOP): 100.0,
            Label("valid", LOOP): 300.0,
            Label("train", "A"): 1.0,
            Label("valid", "A"): 6.0,
            Label("train", "B", STEPS, 10): 2.0,
            Label("train", "B", STEPS, 4): 3.0,
            Label("valid", "B", PICTURES): 9.0,
            Label("valid", "B", LATE): 1.0,
        },
        LOADERS,
        NAMES,
    ).state
    assert {part.dtype for part in state.values()} == {torch.float64}
    found = shares_of(state)
    assert found.loop_ms == 400
    assert found.by_loader() == {"train": approx(A=0.01, B=0.05), "valid": approx(A=6 / 300, B=10 / 300)}
    assert found.total() == pytest.approx(22 / 400)
    assert found.of_kind(FIXED) == approx(A=7 / 400, B=0)
    assert found.of_kind(STEPS) == approx(A=0, B=5 / 400)
    assert found.of_kind(PICTURES) == approx(A=0, B=9 / 400)
    assert found.of_kind(LATE) == approx(A=0, B=1 / 400)
    assert found.each_step() == approx(A=0, B=(2 * 10 + 3 * 4) / 400)


def approx(**values):
    return pytest.approx(values)


def test_a_loader_whose_loop_took_no_time_has_no_shares():
    assert list(shares_of(Spent({Label("valid", LOOP): 1.0}, LOADERS, NAMES).state).by_loader()) == ["valid"]


def test_without_a_diagnostic_there_is_the_time_of_the_loop_alone():
    state = Spent({Label("train", LOOP): 5.0}, LOADERS, []).state
    found = Shares({name: part.numpy() for name, part in state.items()}, LOADERS, [])
    assert (found.total(), found.by_loader(), found.of_kind(FIXED)) == (0.0, {"train": {}}, {})


def over_ranks(rank):
    """On rank 1 diagnostics take twice the time, for which the loop of rank 0 waits."""
    total_ms = {
        Label("train", LOOP): [110.0, 100.0][rank],
        Label("train", "A"): [10.0, 20.0][rank],
        Label("train", "B", STEPS, 3): [5.0, 4.0][rank],
    }
    found = shares_of(reduce_state(Spent(total_ms, LOADERS, NAMES).state, Spent.reductions))
    return found.total(), found.of_kind(FIXED)["A"], found.each_step()["B"]


def test_over_ranks_the_slowest_diagnostic_counts_and_the_loop_that_does_not_wait(ranks):
    expected = {1: (15 / 110, 10 / 110, 15 / 110), 2: (25 / 100, 20 / 100, 15 / 100)}[ranks.size]
    for answer in ranks.run(over_ranks):
        assert answer == pytest.approx(expected)


@pytest.mark.parametrize("costs", [[], [1], [5, 1, 3], [2, 2, 2], [0, 0, 7], [1, 2, 4, 8, 16]])
@pytest.mark.parametrize("room", [-1, 0, 0.5, 3, 6, 9, 40])
def test_down_to_the_common_level_all_fit_and_take_what_room_there_is(costs, room):
    level = common_level(costs, room)
    total = sum(min(cost, level) for cost in costs)
    if sum(costs) <= room or not costs:
        assert level == math.inf
    else:
        assert total == pytest.approx(max(0, room))
        assert level >= 0


@pytest.mark.parametrize(
    ("cost", "level", "least", "most"),
    list(itertools.product([0.0, 0.3, 1.0, 7.0], [0.0, 0.1, 0.5, 1.0, math.inf], [1, 3], [1, 2, 5, 50])),
)
def test_an_interval_is_the_shortest_that_keeps_to_the_level(cost, level, least, most):
    one = Interval("x", "steps", least, most, cost=cost)
    one.fit(level)
    allowed = range(least, max(least, most) + 1)
    assert one.every == next((n for n in allowed if cost / n <= level), max(allowed))


def test_only_the_costliest_are_thinned():
    intervals = [Interval("small", "epochs", most=100, cost=1.0), Interval("steps", "steps", 10, 1000, 10, cost=300.0),
                 Interval("large", "epochs", most=100, cost=7.0)]  # fmt: skip
    fit_all(intervals, room=9.0)  # 1 + 30 + 7, of which both others may have 4
    assert [one.every for one in intervals] == [1, 75, 2]
    fit_all(intervals, room=40.0)
    assert [one.every for one in intervals] == [1, 10, 1]
    fit_all(intervals, room=-1.0)
    assert [one.every for one in intervals] == [100, 1000, 100]
