"""Which item of a data set an error is of: whatever a data set or a ``collate_fn`` of the user's raises is named."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch.utils.data import ConcatDataset, Subset

from assay.callbacks.errors import UsageError

from .images import BadImageError

RAISED_BY = "Raised by "
_SHOWN = 32  # numbers of items in an error


@contextmanager
def named_in_errors(items: Any, indices: Sequence[Any], read: Sequence[Any] = ()) -> Iterator[None]:
    """Note on an error which items of a data set it is of; one that names its image, or is ours, says so itself.

    Args:
        items: the data set.
        indices: of the items.
        read: the items themselves, where a batch is to be made of them: those that do not fit together are named.
    """
    try:
        yield
    except (UsageError, BadImageError):
        raise
    except Exception as error:
        misfit = _misfit(read, [_innermost(items, index)[1] for index in indices])
        error.add_note(f"{RAISED_BY}{item_names(items, indices)}{misfit}.")
        raise


def item_names(items: Any, indices: Sequence[Any]) -> str:
    """Return how items of a data set are named, each by its number in what stands in torch's own wrappers."""
    places = [_innermost(items, index) for index in indices]
    kinds = " and ".join(dict.fromkeys(type(of).__name__ for of, _ in places))
    shown = ", ".join(str(number) for _, number in places[:_SHOWN])
    more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
    return f"item{'s' * (len(places) > 1)} {shown}{more} of the data set {kinds}"


def _innermost(items: Any, index: Any) -> tuple[Any, Any]:
    if getattr(items, "hands_on", False):
        return _innermost(items.items, index)
    if type(items) is Subset:
        return _innermost(items.dataset, items.indices[index])
    if type(items) is ConcatDataset and 0 <= index < len(items):
        part = bisect_right(items.cumulative_sizes, index)
        return _innermost(items.datasets[part], index - (items.cumulative_sizes[part - 1] if part else 0))
    return items, index


def _misfit(read: Sequence[Any], numbers: Sequence[Any]) -> str:
    """Return which two items cannot be in one batch, in brackets; nothing where that is not plain."""
    pairs = list(zip(numbers, read, strict=False))
    for number, item in pairs:
        if item is None:
            return f" (item {number} is None)"
    first, *others = pairs or [(None, None)]
    for key, part in first[1].items() if isinstance(first[1], Mapping) else ():
        for number, item in others:
            if not isinstance(item, Mapping) or key not in item:
                return f" ({key!r} is in item {first[0]} and not in item {number})"
            one, other = _form(part), _form(item[key])
            if one != other:
                return f" ({key!r} is {one} in item {first[0]} and {other} in item {number})"
    return ""


def _form(part: Any) -> str:
    shape = getattr(part, "shape", None)
    return type(part).__name__ if shape is None else str(list(shape))
