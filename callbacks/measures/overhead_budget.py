"""The time that diagnostics take beside the loop, and how often each may run to fit a budget."""

import math
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from .measure import Reductions
from .phase_times import Timer

LOOP = ""
"""The name under which the loop's own time is added up."""
KINDS = ("fixed", "steps", "pictures", "late")
"""Work that always runs, work at observed optimizer steps, and drawing, in time or an epoch late."""
FIXED, STEPS, PICTURES, LATE = KINDS


class Label(NamedTuple):
    """The owner of a lap.

    Attributes:
        loader: the loader that runs.
        name: of the diagnostic, or ``LOOP``.
        kind: one of ``KINDS``.
        every: number of steps that a lap of the kind ``steps`` stands for.
    """

    loader: str
    name: str
    kind: str = FIXED
    every: int = 1


class Laps:
    """Adds up time by label: each call of ``begin`` ends a lap and begins the next.

    Args:
        timer: gives the stamps.
    """

    def __init__(self, timer: Timer):
        self.timer = timer
        self.label: Label | None = None
        self.total_ms: defaultdict[Label, float] = defaultdict(float)
        self._start: Any = None
        self._pending: deque[tuple[Label, Any, Any]] = deque()

    def begin(self, label: Label | None) -> None:
        """Add the time from here on to ``label``; None: to nothing."""
        stamp = self.timer.stamp()
        if self.label is not None:
            self._pending.append((self.label, self._start, stamp))
        self.label, self._start = label, stamp
        # Laps whose end the device has not reached yet stay in the queue: nothing waits for it.
        while self._pending and self.timer.passed(self._pending[0][2]):
            lap, start, end = self._pending.popleft()
            self.total_ms[lap] += self.timer.elapsed_ms(start, end)


class Spent:
    """The time of the loop and of each diagnostic beside it, in ms.

    Args:
        total_ms: the sums of ``Laps``.
        loaders: names of the L loaders.
        names: of the D diagnostics.

    Attributes:
        state: ``loop`` [L]; ``spent`` [L, D, 4] by kind; ``each_step`` [L, D], what the kind ``steps`` would have taken
            if every step had been observed. All are float64, on the host.
    """

    # Ranks step together: where the diagnostics of one take longer, the loops of the others wait for it. So the longest
    # time of a diagnostic counts, and the shortest one of the loop.
    reductions: ClassVar[Reductions] = {"loop": "min", "spent": "max", "each_step": "max"}

    def __init__(self, total_ms: Mapping[Label, float], loaders: Sequence[str], names: Sequence[str]):
        loop = [0.0] * len(loaders)
        spent = [[[0.0] * len(KINDS) for _ in names] for _ in loaders]
        each_step = [[0.0] * len(names) for _ in loaders]
        for label, ms in total_ms.items():
            loader = loaders.index(label.loader)
            if label.name == LOOP:
                loop[loader] += ms
                continue
            name = names.index(label.name)
            spent[loader][name][KINDS.index(label.kind)] += ms
            if label.kind == STEPS:
                each_step[loader][name] += ms * label.every
        self.state = {
            "loop": torch.tensor(loop, dtype=torch.float64),
            "spent": torch.tensor(spent, dtype=torch.float64).reshape(len(loaders), len(names), len(KINDS)),
            "each_step": torch.tensor(each_step, dtype=torch.float64).reshape(len(loaders), len(names)),
        }


class Shares:
    """The time of the diagnostics, as shares of the loop's time.

    Args:
        state: of ``Spent``, as arrays.
        loaders: names of the L loaders.
        names: of the D diagnostics.

    Attributes:
        loop_ms: time of the loop, of all loaders; where it is 0, there are no shares.
    """

    def __init__(self, state: Mapping[str, np.ndarray], loaders: Sequence[str], names: Sequence[str]):
        self.state = state
        self.loaders, self.names = loaders, names
        self.loop_ms = float(state["loop"].sum())

    def by_loader(self) -> dict[str, dict[str, float]]:
        """Return the share of each diagnostic by loader, for loaders whose loop took some time."""
        rows = zip(self.loaders, self.state["loop"], self.state["spent"].sum(axis=2), strict=True)
        return {loader: dict(zip(self.names, row / loop, strict=True)) for loader, loop, row in rows if loop > 0}

    def total(self) -> float:
        """Return the share of all diagnostics together."""
        return float(self.state["spent"].sum()) / self.loop_ms

    def of_kind(self, kind: str) -> dict[str, float]:
        """Return the share of each diagnostic for one of ``KINDS``."""
        return self._by_name(self.state["spent"][..., KINDS.index(kind)])

    def each_step(self) -> dict[str, float]:
        """Return the share that each diagnostic would have taken by observing every step."""
        return self._by_name(self.state["each_step"])

    def _by_name(self, ms: np.ndarray) -> dict[str, float]:
        return dict(zip(self.names, (ms.sum(axis=0) / self.loop_ms).tolist(), strict=True))


def common_level(costs: Sequence[float], room: float) -> float:
    """Return the largest cost that each may have, so that all fit: the sum of ``min(cost, level)`` is ``room``.

    Args:
        costs: at least 0 each.
        room: what all may have together; below 0 there is none.

    Returns:
        Infinity where all fit as they are, 0 where there is no room.
    """
    # From the cheapest on: each takes what it needs, until those that are left have to share the rest.
    for left, cost in zip(range(len(costs), 0, -1), sorted(costs), strict=True):
        if cost * left > room:
            return max(0.0, room / left)
        room -= cost
    return math.inf


@dataclass
class Interval:
    """How often something is done.

    Attributes:
        what: the work in words, with the name of the diagnostic.
        unit: of the interval, in words.
        least: the interval that the user asked for.
        most: the longest one that makes a difference.
        every: the interval as it is.
        cost: of doing it each time, as a share of the loop's time.
    """

    what: str
    unit: str
    least: int = 1
    most: int = 1
    every: int = 1
    cost: float = 0.0

    def fit(self, level: float) -> None:
        """Set the shortest interval, from ``least`` to ``most``, at which the cost is at most ``level``."""
        if self.cost <= level * self.least:
            self.every = self.least
        else:
            # Rounded up, as the share must not exceed the level.
            self.every = self.most if self.cost >= level * self.most else math.ceil(self.cost / level)
            self.every = max(self.least, self.every)


def fit_all(intervals: Sequence[Interval], room: float) -> None:
    """Thin the costliest, down to one common level, so that all together cost at most ``room``."""
    level = common_level([one.cost / one.least for one in intervals], room)
    for one in intervals:
        one.fit(level)
