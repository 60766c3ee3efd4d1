"""Groups of items that belong together, by a column or by a pattern of the file's name."""

import re
from collections.abc import Iterable, Sequence
from posixpath import basename

from assay.callbacks.errors import UsageError, listing
from assay.callbacks.keys import IMAGE_KEY, SAMPLE_ID_KEY

from ..readers.item_list import CLASSES_OF_MASKS, ItemList

_NO_GROUPS = (IMAGE_KEY, SAMPLE_ID_KEY, "bboxes", "labels", CLASSES_OF_MASKS, "split")
_GROUP = "group"


def groups_of(items: ItemList, group_by: str | None) -> list[str] | None:
    """Return the group of each item, or None where there are none. An item without a group is one of its own.

    Args:
        items: the data set.
        group_by: see ``split_items``.

    Raises:
        UsageError: ``group_by`` is neither a column nor a regular expression with one group, or does not match an item.
    """
    if group_by is None and _GROUP not in items.names:
        return None
    ids = items.column(SAMPLE_ID_KEY)
    column = group_by or _GROUP
    if column in items.names:
        if column in _NO_GROUPS:
            raise UsageError(f"group_by must be a column that items share values of, got {column!r}.")
        # With a mark before it: an item without a group must not join the group that is called like it.
        named = zip(items.column(column), ids, strict=True)
        return [f"i{own}" if of in (None, "") else f"g{of}" for of, own in named]
    return _by_pattern(column, ids, items)


def straddling(groups: Sequence[str], splits: Iterable[str | None]) -> list[str]:
    """Return the groups that lie in several parts, as the user knows them."""
    first: dict[str, str] = {}
    found: dict[str, None] = {}
    for group, split in zip(groups, splits, strict=True):
        if split is not None and first.setdefault(group, split) != split:
            found[group[1:]] = None
    return list(found)


def _by_pattern(pattern: str, ids: Sequence[str], items: ItemList) -> list[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"group_by {pattern!r} is neither a column nor a regular expression: {error}.") from error
    if compiled.groups != 1:
        columns = listing(set(items.names) - set(_NO_GROUPS))
        raise UsageError(
            f"group_by must be a column (there is {columns}) or a regular expression with one group in parentheses, "
            f"such as '^(part\\d+)_', got {pattern!r}."
        )
    found = [compiled.search(one if "/" in pattern else basename(one)) for one in ids]
    without = [one for one, match in zip(ids, found, strict=True) if match is None or match[1] is None]
    if without:
        raise UsageError(
            f"group_by {pattern!r} matches no part of {len(without)} of {len(ids)} images, the first is {without[0]!r}."
        )
    return [f"g{match[1]}" for match in found if match is not None]
