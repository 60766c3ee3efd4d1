"""Words and numbers in the sentences of findings."""

from collections.abc import Iterable, Sequence

SHOWN = 3


def some(names: Iterable[str], shown: int = SHOWN) -> str:
    """Return the first names, and how many more there are, such as ``'a', 'b' and 7 more``."""
    names = list(names)
    quoted = [f"{name!r}" for name in names[:shown]]
    more = len(names) - len(quoted)
    if more:
        return f"{', '.join(quoted)} and {more:,} more"
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def share(part: float, whole: float) -> str:
    """Return a share in percent, such as ``12%``, without showing 0% of what is there."""
    percent = 100 * part / whole
    return f"{percent:.0f}%" if percent >= 1 or part == 0 else f"{percent:.2g}%"


def count(number: int, thing: str, things: str | None = None) -> str:
    """Return a number with its noun, such as ``1 sample`` and ``1,200 samples``."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def class_name(index: int, names: Sequence[str]) -> str:
    """Return a class as ``3 ('cat')``, or by its number alone."""
    return f"{index} ({names[index]!r})" if 0 <= index < len(names) else str(index)
