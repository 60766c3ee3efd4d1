"""The names of classes as they are given: each of its own, as metrics, tags and tables are kept by name."""

from collections.abc import Sequence
from typing import overload

from .errors import UsageError

_PLACEHOLDER = "N/A"  # in the categories of torchvision's detectors, of labels that are never used


@overload
def check_names(names: None, argument: str = ...) -> None: ...
@overload
def check_names(names: Sequence[str], argument: str = ...) -> list[str]: ...
def check_names(names: Sequence[str] | None, argument: str = "class_names") -> list[str] | None:
    """Return names as text, each of its own; of several placeholders ``N/A`` each gets its number, "N/A 12".

    Args:
        names: one a class; None is returned.
        argument: how they were handed in, for the error.

    Raises:
        UsageError: it is one text and not a list of them, or two classes have one name.
    """
    if names is None:
        return None
    if isinstance(names, str):
        raise UsageError(f"{argument} must be a list of names, one a class, got the text {names!r}.")
    found = [str(name) for name in names]
    if found.count(_PLACEHOLDER) > 1:
        found = [f"{name} {number}" if name == _PLACEHOLDER else name for number, name in enumerate(found)]
    places: dict[str, int] = {}
    for place, name in enumerate(found):
        if name in places:
            raise UsageError(
                f"{argument} must have a name of its own for each class, got {name!r} at {places[name]} and at {place} "
                "(counted from 0)."
            )
        places[name] = place
    return found


def name_of(index: int, class_names: Sequence[str] | None) -> str:
    """Return the name of a class, or its number where it has none."""
    if class_names is None or not 0 <= index < len(class_names):
        return str(index)
    return str(class_names[index])
