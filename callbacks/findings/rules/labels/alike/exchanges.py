"""Finds classes that training and validation number differently; four rules ask it, by pixels and by features."""

from collections.abc import Iterator, Sequence

from ....probe.finding import Finding, Where
from ....probe.wording import class_name
from .compared import Compared
from .numbering import Exchange, exchanges, shift

_SHOWN = 3
_ENOUGH = 0.4  # share of validation that fits a shift, far above what one class of ten or of three is by chance


def find_exchanged(pairs: Sequence[Compared], class_names: Sequence[str]) -> Iterator[Finding]:
    """Yield the classes that are exchanged between training and validation, in the view that shows most of them."""
    for train in dict.fromkeys(pair.train.loader for pair in pairs):
        views = [pair for pair in pairs if pair.train.loader == train and pair.classes > 1]
        if any(shift(pair) for pair in views):
            continue
        found = [(pair, exchanges(pair)) for pair in views]
        pair, exchanged = max(found, key=lambda it: sum(one.crossed for one in it[1]), default=(None, []))
        if pair is not None and exchanged:
            yield _exchanged(pair, exchanged, class_names)


def _exchanged(pair: Compared, exchanged: Sequence[Exchange], names: Sequence[str]) -> Finding:
    told = [f"{class_name(it.one, names)} and {class_name(it.other, names)}" for it in exchanged]
    more = f" and {len(told) - _SHOWN} more pairs" if len(told) > _SHOWN else ""
    crossed, straight = sum(it.crossed for it in exchanged), sum(it.straight for it in exchanged)
    train, valid = pair.train.loader, pair.valid.loader
    return Finding(
        "error",
        f"labels {', '.join(told[:_SHOWN])}{more} are exchanged between {train} and {valid}: {crossed} of "
        f"{crossed + straight} images of these classes in {valid} look like those of the other class in {train}",
        "number the classes of both from one list, and look at a few images of these to see which loader is right",
        Where(loader=f"{train}, {valid}"),
        {"classes": [[it.one, it.other] for it in exchanged], "crossed": crossed, "straight": straight},
    )


def find_shifted(pairs: Sequence[Compared]) -> Iterator[Finding]:
    """Yield training loaders whose classes are all numbered one higher or lower than those of validation."""
    for train in dict.fromkeys(pair.train.loader for pair in pairs):
        views = [pair for pair in pairs if pair.train.loader == train and pair.classes > 2]
        found = [(pair, told) for pair in views if (told := shift(pair)) and told[1] >= _share_needed(pair)]
        if found:
            yield _shifted(*max(found, key=lambda it: it[1][1]))


def _share_needed(pair: Compared) -> float:
    # Of many classes even a tenth of the samples is far above chance.
    return min(_ENOUGH, max(0.1, 4 / pair.classes)) * len(pair.valid.names)


def _shifted(pair: Compared, told: tuple[int, int, int]) -> Finding:
    places, moved, straight = told
    train, valid = pair.train.loader, pair.valid.loader
    count, side = len(pair.valid.names), "higher" if places > 0 else "lower"
    one, other = (1, 2) if places > 0 else (1, 0)
    return Finding(
        "error",
        f"labels of {train} are shifted by one against {valid}: {moved} of {count} images of {valid} look like those "
        f"of the class that is one {side} in {train}, {straight} like those of their own, so what is {one} in {valid} "
        f"is {other} in {train}",
        "let both count the classes from 0, from one list of their names",
        Where(loader=f"{train}, {valid}"),
        {"places": places, "shifted": moved, "straight": straight, "samples": count},
    )
