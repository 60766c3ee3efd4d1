"""How often the costly parts of the diagnostics run, so that all of them keep to a share of the loop's time."""

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
        every_n_steps: the interval that its user asked for, which is never undercut.
    """

    every_n_steps: int

    def observe_every(self, n_steps: int) -> None:
        """Observe the first of so many optimizer steps from now on."""
        ...


class OverheadPlan:
    """The intervals of what can be thinned, which follow the measured time; the same on every rank.

    Args:
        max_overhead: time of the diagnostics as a share of the loop's.
        diagnostics: by name, each with its meter.
        num_epochs: of the run.

    Attributes:
        steps: interval of each diagnostic that ``ThinsSteps``, in optimizer steps.
        pictures: interval of each diagnostic's pictures in epochs.
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
        self.in_time = dict.fromkeys(self.pictures, 0.0)  # share of the last pictures that were drawn in their epoch
        self.warnings = OverheadWarnings(max_overhead)

    def begin_epoch(self, epoch: int, num_epochs: int) -> None:
        """Decide whose pictures of this epoch are drawn: all those of the first and the last one."""
        for name, meter in self.meters.items():
            meter.epoch = epoch
            meter.draws = epoch >= num_epochs or (epoch - 1) % self.pictures[name].every == 0

    def begin_training(self, steps: int) -> None:
        """Take note of the length of a train loader: no interval need be longer."""
        for one in self.steps.values():
            one.most = steps

    def adapt_steps(self, shares: Shares, writer: Writer, place: str) -> None:
        """Let the intervals of steps follow what was spent so far, in the epoch that ``place`` names."""
        self._learn_steps(shares)
        self._fit(shares, self.steps.values(), writer, place)

    def adapt(self, shares: Shares, writer: Writer, place: str) -> None:
        """Let all intervals follow what an epoch has taken; warn once where that is not enough."""
        self._learn_steps(shares)
        self._learn_pictures(shares)
        self._fit(shares, [*self.steps.values(), *self.pictures.values()], writer, place)
        if self._room(shares) <= 0:
            self.warnings.warn_too_small(writer, place, shares)

    def values(self) -> dict[str, float]:
        """Return the intervals by tag; those of pictures where some were measured."""
        tagged = [(f"overhead/every_n_steps/{name}", one) for name, one in self.steps.items()]
        tagged += [(f"overhead/every_n_epochs/{name}", one) for name, one in self.pictures.items() if one.cost]
        return {tag: one.every for tag, one in tagged}

    def state_dict(self) -> dict[str, Any]:
        """Return the intervals and what they follow from, in types that ``weights_only=True`` loads."""
        return {
            "steps": {name: [one.every, one.cost] for name, one in self.steps.items()},
            "pictures": {name: [one.every, one.cost] for name, one in self.pictures.items()},
            "said": sorted(self.warnings.logged),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what ``state_dict`` returned, with the diagnostics that the run still has."""
        for intervals, kept in ((self.steps, state["steps"]), (self.pictures, state["pictures"])):
            for name in intervals.keys() & kept.keys():
                intervals[name].every, intervals[name].cost = kept[name]
        self.warnings.logged = set(state["said"])
        self._apply()

    def _learn_steps(self, shares: Shares) -> None:
        each_step = shares.each_step()
        for name, one in self.steps.items():
            one.cost = each_step[name] or one.cost  # 0: no step was observed

    def _learn_pictures(self, shares: Shares) -> None:
        # Threads draw on after their epoch, so what pictures cost is known in two parts: what was done in time, and
        # what a later epoch paid for.
        in_time, late = shares.of_kind(PICTURES), shares.of_kind(LATE)
        for name, one in self.pictures.items():
            if self.meters[name].draws:
                self.in_time[name] = in_time[name]
                one.cost = in_time[name] + late[name]
            elif late[name]:  # the rest of the last ones
                one.cost = self.in_time[name] + late[name]

    def _room(self, shares: Shares) -> float:
        """Return what is left of the budget for all that can be thinned."""
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
    """Warns once of each thinned part, and once that a budget is too small.

    Args:
        max_overhead: the budget, as a share of the loop's time.

    Attributes:
        logged: what was warned of already. Checkpoints hold it, so that a resumed run does not repeat itself.
    """

    def __init__(self, max_overhead: float):
        self.max_overhead = max_overhead
        self.logged: set[str] = set()

    def warn_thinned(self, writer: Writer, place: str, share: float, intervals: Iterable[Interval]) -> None:
        """Name the intervals that are longer than asked for, each the first time that it is."""
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
        """Name what takes most of the time that cannot be thinned."""
        if _TOO_SMALL in self.logged:
            return
        self.logged.add(_TOO_SMALL)
        fixed = shares.of_kind(FIXED)
        costly = sorted(fixed, key=lambda name: -fixed[name])[:_NAMED]
        writer.warn(
            f"max_overhead={self.max_overhead:g} cannot be kept: what cannot be thinned took "
            f"{sum(fixed.values()):.1%} of the loop's time in {place}, most of it "
            f"{', '.join(f'{name} {fixed[name]:.1%}' for name in costly)}; leave these out (an experiment's "
            "--diagnostics light leaves out many), or raise max_overhead."
        )
