"""Names of classes: a check that each is unique, and the name of a class by its number."""

from collections.abc import Sequence
from typing import overload

from ..errors import UsageError

# In the categories of torchvision's detectors, for labels that are never used.
_PLACEHOLDER = "N/A"


@overload
def check_names(names: None, argument: str = ...) -> None: ...
@overload
def check_names(names: Sequence[str], argument: str = ...) -> list[str]: ...
def check_names(names: Sequence[str] | None, argument: str = "class_names") -> list[str] | None:
    """Return unique names as text; if there are several placeholders ``N/A``, each gets its number, as in "N/A 12".

    Args:
        names: one per class; None is returned as it is.
        argument: the name of the argument, for the error.

    Raises:
        UsageError: it is one text and not a list of them, or two classes have one name.
    """
    if names is None:
        return None
    if isinstance(names, str):
        raise UsageError(f"{argument} must be a list of names, one per class, got the text {names!r}.")
    found = [str(name) for name in names]
    if found.count(_PLACEHOLDER) > 1:
        found = [f"{name} {number}" if name == _PLACEHOLDER else name for number, name in enumerate(found)]
    # Metrics, tags and tables are kept by name: of two classes with one name one would hide the other.
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
