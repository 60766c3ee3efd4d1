"""OverheadPlan: how often the costly parts of the diagnostics run, so that they keep to a share of the loop's time."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

from ..base.diagnostic import Diagnostic
from ..base.meter import Meter
from ..measures.overhead_budget import FIXED, LATE, PICTURES, Interval, Shares, fit_all
from ..tensorboard.writer import Writer

_NAMED = 3  # of the costliest diagnostics in a warning: more of them would bury the advice
_TOO_SMALL = "too small"


@runtime_checkable
class ThinsSteps(Protocol):
    """A diagnostic that can observe fewer optimizer steps within a run, as ``GradientStats`` can.

    Attributes:
        every_n_steps: the interval that the user asked for, which is the shortest.
    """

    every_n_steps: int

    def observe_every(self, n_steps: int) -> None:
        """Observe one in so many optimizer steps from now on."""
        ...


class OverheadPlan:
    """The intervals of everything that can be thinned, adapted to the measured time; the same on every rank.

    Args:
        max_overhead: allowed time of the diagnostics, as a share of the loop's.
        diagnostics: the diagnostics by name, each with its meter.
        num_epochs: number of epochs of the run.

    Attributes:
        steps: the interval of each diagnostic that ``ThinsSteps``, in optimizer steps.
        pictures: the interval of each diagnostic's pictures, in epochs.
    """

    def __init__(self, max_overhead: float, diagnostics: Mapping[str, Diagnostic], num_epochs: int):
        self.max_overhead = max_overhead
        self.thinned: dict[str, ThinsSteps] = {
            name: one for name, one in diagnostics.items() if isinstance(one, ThinsSteps)
        }
        self.meters: dict[str, Meter] = {name: one.meter_ for name, one in diagnostics.items() if one.meter_}
        self.steps = {
            name: Interval(name, "optimizer steps", one.every_n_steps, every=one.every_n_steps)
            for name, one in self.thinned.items()
        }
        self.pictures = {name: Interval(f"pictures of {name}", "epochs", most=num_epochs) for name in self.meters}
        # The cost of each diagnostic's last pictures, as far as they were drawn within their epoch.
        self.in_time = dict.fromkeys(self.pictures, 0.0)
        self.warnings = OverheadWarnings(max_overhead)

    def begin_epoch(self, epoch: int, num_epochs: int) -> None:
        """Decide whose pictures are drawn in this epoch; in the first and the last epoch all are."""
        for name, meter in self.meters.items():
            meter.epoch = epoch
            meter.draws = epoch >= num_epochs or (epoch - 1) % self.pictures[name].every == 0

    def begin_training(self, steps: int) -> None:
        """Limit the intervals of steps to the length of a training loader."""
        # Counted from the start of the loader, so a longer interval observes the same one step.
        for one in self.steps.values():
            one.most = steps

    def adapt_steps(self, shares: Shares, writer: Writer, place: str) -> None:
        """Adapt the intervals of steps to the time spent so far; ``place`` names the epoch in warnings."""
        self._learn_steps(shares)
        self._fit(shares, self.steps.values(), writer, place)

    def adapt(self, shares: Shares, writer: Writer, place: str) -> None:
        """Adapt all intervals to the time of an epoch, and warn once if that is not enough."""
        self._learn_steps(shares)
        self._learn_pictures(shares)
        self._fit(shares, [*self.steps.values(), *self.pictures.values()], writer, place)
        if self._room(shares) <= 0:
            self.warnings.warn_too_small(writer, place, shares)

    def values(self) -> dict[str, float]:
        """Return the intervals by tag; those of pictures only once their cost is known."""
        tagged = [(f"9_overhead/every_n_steps/{name}", one) for name, one in self.steps.items()]
        tagged += [(f"9_overhead/every_n_epochs/{name}", one) for name, one in self.pictures.items() if one.cost]
        return {tag: one.every for tag, one in tagged}

    def state_dict(self) -> dict[str, Any]:
        """Return the intervals and their costs, in types that ``weights_only=True`` loads."""
        return {
            "steps": {name: [one.every, one.cost] for name, one in self.steps.items()},
            "pictures": {name: [one.every, one.cost] for name, one in self.pictures.items()},
            "said": sorted(self.warnings.logged),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned, for the diagnostics that the run still has."""
        for intervals, kept in ((self.steps, state["steps"]), (self.pictures, state["pictures"])):
            for name in intervals.keys() & kept.keys():
                intervals[name].every, intervals[name].cost = kept[name]
        self.warnings.logged = set(state["said"])
        self._apply()

    def _learn_steps(self, shares: Shares) -> None:
        each_step = shares.each_step()
        for name, one in self.steps.items():
            # 0 means that no step was observed: then the last known cost stays.
            one.cost = each_step[name] or one.cost

    def _learn_pictures(self, shares: Shares) -> None:
        # The writer's thread draws on after the epoch, so the cost of pictures comes in two parts: what was drawn in
        # the epoch, and the rest, which a later epoch paid for.
        in_time, late = shares.of_kind(PICTURES), shares.of_kind(LATE)
        for name, one in self.pictures.items():
            if self.meters[name].draws:
                self.in_time[name] = in_time[name]
                one.cost = in_time[name] + late[name]
            elif late[name]:
                one.cost = self.in_time[name] + late[name]

    def _room(self, shares: Shares) -> float:
        """Return the share that is left for everything that can be thinned."""
        return self.max_overhead - sum(shares.of_kind(FIXED).values())

    def _fit(self, shares: Shares, intervals: Iterable[Interval], writer: Writer, place: str) -> None:
        intervals = list(intervals)
        fit_all(intervals, self._room(shares))
        self._apply()
        self.warnings.warn_thinned(writer, place, shares.total(), intervals)

    def _apply(self) -> None:
        for name, one in self.thinned.items():
            one.observe_every(self.steps[name].every)


class OverheadWarnings:
    """Logs each thinned part once, and once that the budget is too small.

    Args:
        max_overhead: the budget, as a share of the loop's time.

    Attributes:
        logged: what was logged before. Checkpoints hold it, so that a resumed run does not log it again.
    """

    def __init__(self, max_overhead: float):
        self.max_overhead = max_overhead
        self.logged: set[str] = set()

    def warn_thinned(self, writer: Writer, place: str, share: float, intervals: Iterable[Interval]) -> None:
        """Log the intervals that are longer than the user asked for, each of them once."""
        # In one line, grouped by interval: many diagnostics are thinned alike.
        new = [one for one in intervals if one.every > one.least and one.what not in self.logged]
        self.logged.update(one.what for one in new)
        groups: dict[str, list[str]] = {}
        for one in new:
            before = "each" if one.least == 1 else one.least
            groups.setdefault(f"every {one.every} {one.unit} instead of {before}", []).append(one.what)
        if groups:
            changes = "; ".join(f"{pace}: {', '.join(names)}" for pace, names in groups.items())
            writer.warn(
                f"max_overhead={self.max_overhead:g}: the diagnostics took {share:.1%} of the loop's time in {place}. "
                f"From now on {changes}."
            )

    def warn_too_small(self, writer: Writer, place: str, shares: Shares) -> None:
        """Log which diagnostics take most of the time that cannot be thinned."""
        if _TOO_SMALL in self.logged:
            return
        self.logged.add(_TOO_SMALL)
        fixed = shares.of_kind(FIXED)
        costly = sorted(fixed, key=lambda name: -fixed[name])[:_NAMED]
        writer.warn(
            f"max_overhead={self.max_overhead:g} cannot be kept: what cannot be done less often took "
            f"{sum(fixed.values()):.1%} of the loop's time in {place}, most of it "
            f"{', '.join(f'{name} {fixed[name]:.1%}' for name in costly)}; leave these out (an experiment's "
            "--diagnostics light leaves out many), or raise max_overhead."
        )
