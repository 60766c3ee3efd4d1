"""Name the item in errors that a user's data set or ``collate_fn`` raises."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch.utils.data import ConcatDataset, Subset

from assay.callbacks.errors import UsageError

from .files.image_errors import BadImageError

RAISED_BY = "Raised by "  # marks our note, which cli and worker_errors look for
_SHOWN = 32  # most numbers of items in a message


@contextmanager
def named_in_errors(items: Any, indices: Sequence[Any], read: Sequence[Any] = ()) -> Iterator[None]:
    """Add a note to an error that names the items of a data set that raised it.

    Args:
        items: the data set.
        indices: of the items.
        read: the items themselves, while they are collated; the note then names two that do not fit together.
    """
    try:
        yield
    except (UsageError, BadImageError):
        raise  # these name the item or the argument themselves
    except Exception as error:
        misfit = _describe_misfit(read, [_find_innermost(items, index)[1] for index in indices])
        # A note keeps the type and the traceback of the user's error, which a new error would hide.
        error.add_note(f"{RAISED_BY}{item_names(items, indices)}{misfit}.")
        raise


def item_names(items: Any, indices: Sequence[Any]) -> str:
    """Return how items are named: by their numbers in the data set inside torch's own wrappers."""
    places = [_find_innermost(items, index) for index in indices]
    kinds = " and ".join(dict.fromkeys(type(of).__name__ for of, _ in places))
    shown = ", ".join(str(number) for _, number in places[:_SHOWN])
    more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
    return f"item{'s' * (len(places) > 1)} {shown}{more} of the data set {kinds}"


def _find_innermost(items: Any, index: Any) -> tuple[Any, Any]:
    if getattr(items, "hands_on_items", False):
        return _find_innermost(items.items, index)
    # Only exactly torch's types: a subclass may map its indices otherwise.
    if type(items) is Subset:
        return _find_innermost(items.dataset, items.indices[index])
    if type(items) is ConcatDataset and 0 <= index < len(items):
        part = bisect_right(items.cumulative_sizes, index)
        return _find_innermost(items.datasets[part], index - (items.cumulative_sizes[part - 1] if part else 0))
    return items, index


def _describe_misfit(read: Sequence[Any], numbers: Sequence[Any]) -> str:
    """Return which two items cannot be in one batch, in brackets; "" where none is found."""
    pairs = list(zip(numbers, read, strict=False))
    for number, item in pairs:
        if item is None:
            return f" (item {number} is None)"
    first, *others = pairs or [(None, None)]
    for key, part in first[1].items() if isinstance(first[1], Mapping) else ():
        for number, item in others:
            if not isinstance(item, Mapping) or key not in item:
                return f" ({key!r} is in item {first[0]} and not in item {number})"
            one, other = _shape_or_type(part), _shape_or_type(item[key])
            if one != other:
                return f" ({key!r} is {one} in item {first[0]} and {other} in item {number})"
    return ""


def _shape_or_type(part: Any) -> str:
    shape = getattr(part, "shape", None)
    return type(part).__name__ if shape is None else str(list(shape))
