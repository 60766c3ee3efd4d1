"""Telling what diagnostics cost, and what is thinned for it."""

from collections.abc import Iterable, Mapping

from .measures.overhead_budget import FIXED, Interval, Shares
from .writer import Writer

_NAMED = 3
_TOO_SMALL = "too small"


class OverheadLog:
    """Says once what is thinned, and once that a budget is too small.

    Args:
        max_overhead: the budget, as a share of the loop's time.

    Attributes:
        said: what was said already.
    """

    def __init__(self, max_overhead: float):
        self.max_overhead = max_overhead
        self.said: set[str] = set()

    def say_thinned(self, writer: Writer, place: str, share: float, intervals: Iterable[Interval]) -> None:
        """Name the intervals that are longer than asked for, for the first time."""
        new = [one for one in intervals if one.every > one.least and one.what not in self.said]
        self.said.update(one.what for one in new)
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

    def say_too_small(self, writer: Writer, place: str, shares: Shares) -> None:
        """Name what takes most of the time that cannot be thinned."""
        if _TOO_SMALL in self.said:
            return
        self.said.add(_TOO_SMALL)
        fixed = shares.of_kind(FIXED)
        costly = sorted(fixed, key=lambda name: -fixed[name])[:_NAMED]
        writer.warn(
            f"max_overhead={self.max_overhead:g} cannot be kept: what cannot be thinned took "
            f"{sum(fixed.values()):.1%} of the loop's time in {place}, most of it "
            f"{', '.join(f'{name} {fixed[name]:.1%}' for name in costly)}; leave these out (an experiment's "
            "--diagnostics light leaves out many), or raise max_overhead."
        )


def write_shares(writers: Mapping[str, Writer], shares: Shares, epoch: int) -> None:
    """Write what each diagnostic took of each loader's time."""
    for loader, by_name in shares.by_loader().items():
        values = {f"overhead/{name}": float(share) for name, share in by_name.items()}
        writers[loader].scalars({"overhead/share": sum(values.values()), **values}, epoch)
