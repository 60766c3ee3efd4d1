"""Whether the regions of two loaders have their classes by other numbers, in words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...probe.finding import Finding, Where
from ...probe.probe import Probe
from ...probe.wording import class_name
from ..labels.alike.compared import Compared
from ..labels.alike.numbering import Exchange, exchanges, shift
from .regions import Cut, compared_regions

_SHOWN = 3
_MOVED = 0.5  # share of the regions that fit another numbering


@dataclass(frozen=True)
class Renumbered:
    """What is said of it, and what shows it."""

    what: str
    evidence: Mapping[str, object]


def find_renumbered(probe: Probe, cut: Cut, things: str, *, do: str, key: str | None = None) -> Iterator[Finding]:
    """Yield an error where validation numbers the classes of its regions otherwise than training.

    Args:
        probe: what was observed.
        cut: see ``compared_regions``.
        things: ``masks`` or ``boxes``.
        do: what to do.
        key: of the numbers in a batch; None: that of the targets of training.
    """
    told = renumbered(compared_regions(probe, cut), probe.settings.class_names, things)
    if told is not None and probe.train is not None and probe.valid is not None:
        loaders = f"{probe.train.key}, {probe.valid.key}"
        where = Where(loader=loaders, key=key or probe.train.target_key)
        yield Finding("error", told.what, do, where, told.evidence)


def renumbered(pairs: Sequence[Compared], names: Sequence[str], things: str) -> Renumbered | None:
    """Return how classes are numbered otherwise in validation; None where they are not, or where it cannot be told.

    Args:
        pairs: training and validation, in each view of their regions.
        names: of the classes.
        things: ``masks`` or ``boxes``.
    """
    for pair in pairs:
        told = shift(pair)
        if told is not None and told[1] >= _MOVED * len(pair.valid.names) and pair.classes > 2:
            return _shifted(pair, told, things)
    found = [(pair, exchanged) for pair in pairs if (exchanged := exchanges(pair))]
    if not found:
        return None
    return _exchanged(*max(found, key=lambda it: sum(one.crossed for one in it[1])), names, things)


def _shifted(pair: Compared, told: tuple[int, int, int], things: str) -> Renumbered:
    places, moved, straight = told
    one, other = (1, 2) if places > 0 else (1, 0)
    train, valid, side = pair.train.loader, pair.valid.loader, "higher" if places > 0 else "lower"
    what = (
        f"classes of {things} are shifted by one between {train} and {valid}: {moved} of {len(pair.valid.names)} "
        f"regions of {valid} look like the class that is one {side} in {train}, {straight} like their own, so what is "
        f"{one} in {valid} is {other} in {train}"
    )
    return Renumbered(what, {"places": places, "shifted": moved, "straight": straight})


def _exchanged(pair: Compared, exchanged: Sequence[Exchange], names: Sequence[str], things: str) -> Renumbered:
    told = [f"{class_name(it.one, names)} and {class_name(it.other, names)}" for it in exchanged]
    more = f" and {len(told) - _SHOWN} more pairs" if len(told) > _SHOWN else ""
    crossed, straight = sum(it.crossed for it in exchanged), sum(it.straight for it in exchanged)
    train, valid = pair.train.loader, pair.valid.loader
    what = (
        f"classes {', '.join(told[:_SHOWN])}{more} of {things} are exchanged between {train} and {valid}: {crossed} of "
        f"{crossed + straight} regions of these classes in {valid} look like the other class in {train}"
    )
    return Renumbered(
        what, {"classes": [[it.one, it.other] for it in exchanged], "crossed": crossed, "straight": straight}
    )
