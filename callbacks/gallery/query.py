"""Which samples of a table fit filters, and which of them come first."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import UsageError, described, unknown_name
from ..history.suspects import SUSPECT_KINDS
from .table import GROUPS, RIGHT, WRONG, Table

MOST_ROWS = 10_000  # of one answer

# What may have become of a sample against another run: right or wrong here and there.
CHANGES = {"better": (RIGHT, WRONG), "worse": (WRONG, RIGHT), "right": (RIGHT, RIGHT), "wrong": (WRONG, WRONG)}
_CLEARLY = 0.05  # by which a score must differ, as it hardly ever stays the same

# Id and mark of samples.
Marked = Mapping[str, str]


def query(table: Table, wanted: Mapping[str, Any], marked: Marked | None = None) -> tuple[int, np.ndarray]:
    """Return how many samples fit, and the rows of some of them in the order asked for.

    Args:
        table: of a loader in an epoch.
        wanted: ``filters``, see ``rows_that_fit``; ``sort``, a column or ``id``, and ``descending``: equal samples come
            by index, unknown ones last; ``offset``, the first row to return, and ``limit``, how many, up to 10,000.
        marked: the marks of samples by id, for the filter ``marks``.

    Returns:
        Their number and rows of the table, [up to limit], int32.

    Raises:
        UsageError: a part is unknown or not as it must be.
    """
    known = ("filters", "sort", "descending", "offset", "limit")
    for name in wanted:
        if name not in known:
            raise unknown_name("part of a query", name, known)
    fits = rows_that_fit(table, wanted.get("filters") or {}, marked)
    sort = wanted.get("sort") or "index"
    if not isinstance(sort, str):
        raise _wrong("sort", "the name of a column", sort)
    offset, limit = _whole("offset", wanted, 0, None), _whole("limit", wanted, 60, MOST_ROWS)
    order = table.order(sort, descending=bool(wanted.get("descending")))
    rows = order[fits[order]]
    return len(rows), rows[offset : offset + limit]


def usual_order(table: Table, filters: Mapping[str, Any], marked: Marked | None = None) -> tuple[str | None, bool]:
    """Return by which column samples come where nobody chose one, and whether the largest comes first.

    Of two runs those come first that got worse. Else suspects come first by rank where the filters leave one, else the
    lowest score of masks and boxes, else the largest loss.

    Raises:
        UsageError: a filter is unknown or not as it must be.
    """
    if "change" in table.columns:
        return "change", False
    suspect = table.columns.get("suspect")
    if suspect is not None and (rows_that_fit(table, filters, marked) & (suspect == 1)).any():
        return "suspect_rank", False
    name = "score" if table.task in ("segmentation", "detection") else "loss"
    return (name if name in table.columns else None), name == "loss"


def rows_that_fit(table: Table, filters: Mapping[str, Any], marked: Marked | None = None) -> np.ndarray:
    """Return which samples fit all of several filters, [n], bool. Empty lists and texts, and None, filter nothing.

    ================= ==================================================================================================
    filter            which samples fit
    ================= ==================================================================================================
    ``text``          a part of the id; upper and lower case are the same
    ``target``        one of some class numbers; ``prediction`` likewise
    ``correct``       ``right`` or ``wrong``
    ``groups``        in one of ``suspect``, ``stuck``, ``newly_wrong``, ``forgotten``, ``unstable``, ``easy``
    ``kinds``         with a surest suspect of one of some kinds, see ``history.suspects.SUSPECT_KINDS``
    ``findings``      named by one of some rules
    ``marks``         with one of some marks
    ``change``        of two runs: ``better`` (right in the first alone), ``worse``, ``right`` or ``wrong`` in both;
                      without right and wrong ``better`` or ``worse`` by a score that differs by more than 0.05
    ``ids``           one of some ids
    ``ranges``        ``{column: [low, high]}``, inclusive; None: no bound. What is unknown is in no range
    ``class_score``   ``{"class": c, "range": [low, high]}``: probability of the class, as for the curve of precision
    ================= ==================================================================================================

    Args:
        table: of a loader in an epoch.
        filters: by name.
        marked: the marks of samples by id.

    Raises:
        UsageError: a filter is unknown or not as it must be.
    """
    return _all_of(table, _by_filter(table, filters, marked or {}).values())


def facets(table: Table, filters: Mapping[str, Any], marked: Marked | None = None) -> dict[str, Any]:
    """Return for each choice of a filter how many samples it would show, given all other filters.

    Args:
        table: of a loader in an epoch.
        filters: see ``rows_that_fit``.
        marked: the marks of samples by id.

    Returns:
        ``total``, how many fit all filters; ``all``, how many there are; and for ``correct``, ``groups``, ``kinds``,
        ``target``, ``prediction``, ``findings`` and ``marks`` a list of [choice, how many]; choices without a sample
        are left out.

    Raises:
        UsageError: a filter is unknown or not as it must be.
    """
    fits_of = _by_filter(table, filters, marked or {})
    found: dict[str, Any] = {"total": int(_all_of(table, fits_of.values()).sum()), "all": len(table)}
    for name, count in _FACETS.items():
        others = _all_of(table, [fits for of, fits in fits_of.items() if of != name])
        found[name] = [[choice, number] for choice, number in count(table, others) if number]
    by_mark: dict[str, list[str]] = {}
    for sample_id, mark in (marked or {}).items():
        by_mark.setdefault(mark, []).append(sample_id)
    others = _all_of(table, [fits for of, fits in fits_of.items() if of != "marks"])
    found["marks"] = [
        [mark, number] for mark, ids in by_mark.items() if (number := int(others[table.has_id(ids)].sum()))
    ]
    return found


def _by_filter(table: Table, filters: Mapping[str, Any], marked: Marked) -> dict[str, np.ndarray]:
    """Return which samples fit each of the filters that are set, [n] each, bool."""
    found: dict[str, np.ndarray] = {}
    for name, value in filters.items():
        if name not in _FILTERS:
            raise unknown_name("filter", name, _FILTERS)
        if value in (None, "", [], {}):
            continue
        if name == "marks":
            marks = set(_texts(name, value))
            found[name] = table.has_id([of for of, mark in marked.items() if mark in marks])
        else:
            found[name] = _FILTERS[name](table, value)
    return found


def _all_of(table: Table, parts: Iterable[np.ndarray]) -> np.ndarray:
    fits = np.ones(len(table), bool)
    for part in parts:
        fits &= part
    return fits


def class_scores(table: Table, number: int) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return the probability of a class for each sample, by which a curve of precision and recall is made.

    Args:
        table: of a loader in an epoch.
        number: of the class.

    Returns:
        [n], float32, NaN where it is not known; [n], the largest it can be there; and whether it is the mean over the
        epochs, as it is but for binary tasks.

    Raises:
        UsageError: nothing is known of the class.
    """
    if isinstance(number, bool) or not isinstance(number, int):
        raise _wrong("class", "a class number", number)
    if table.task == "binary":
        if number not in (0, 1):
            raise UsageError(f"class must be 0 or 1, got {number}.")
        own, prediction = table.column("probability"), table.column("prediction")
        scores = np.where(prediction == number, own, 1 - own)
        return np.where(prediction < 0, np.float32(np.nan), scores), np.ones(len(table), np.float32), False
    if table.class_probability is None or table.task not in (None, "multiclass"):
        raise UsageError(f"class: a task {table.task!r} has no probability of one class per sample.")
    return (*table.class_probability(number), True)


def _in_text(table: Table, value: Any) -> np.ndarray:
    if not isinstance(value, str):
        raise _wrong("text", "a text", value)
    try:
        part = pc.utf8_lower(pa.scalar(value)).as_py()
    except UnicodeEncodeError:  # no id holds half a character
        return np.zeros(len(table), bool)
    return np.asarray(pc.match_substring(table.lowered_ids(), part).to_numpy(zero_copy_only=False))


def _of_classes(name: str) -> Callable[[Table, Any], np.ndarray]:
    def fits(table: Table, value: Any) -> np.ndarray:
        if not isinstance(value, list) or any(type(one) is not int for one in value):
            raise _wrong(name, "a list of class numbers", value)
        return np.asarray(np.isin(table.column(name), [one for one in value if 0 <= one < 2**31]))

    return fits


def _is_correct(table: Table, value: Any) -> np.ndarray:
    if value not in ("right", "wrong"):
        raise _wrong("correct", "'right' or 'wrong'", value)
    return np.asarray(table.column("correct") == (RIGHT if value == "right" else WRONG))


def _in_groups(table: Table, value: Any) -> np.ndarray:
    fits = np.zeros(len(table), bool)
    for name in _texts("groups", value):
        if name not in GROUPS:
            raise unknown_name("group", name, GROUPS)
        # Of a group that the task does not have, or that is not told yet, no sample is.
        fits |= table.columns[name] == 1 if name in table.columns else False
    return fits


def _of_kinds(table: Table, value: Any) -> np.ndarray:
    codes = []
    for name in _texts("kinds", value):
        if name not in SUSPECT_KINDS:
            raise unknown_name("kind of suspects", name, SUSPECT_KINDS)
        codes.append(SUSPECT_KINDS.index(name))
    return np.asarray(np.isin(table.columns.get("suspect_kind", np.full(len(table), -1)), codes))


def _has_findings(table: Table, value: Any) -> np.ndarray:
    fits, wanted = np.zeros(len(table), bool), set(_texts("findings", value))
    fits[[row for row, rules in (table.findings or {}).items() if wanted & set(rules)]] = True
    return fits


def _is_changed(table: Table, value: Any) -> np.ndarray:
    fits = np.zeros(len(table), bool)
    for name in _texts("change", value):
        if name not in CHANGES:
            raise unknown_name("change", name, CHANGES)
        fits |= _of_change(table, name)
    return fits


def _of_change(table: Table, name: str) -> np.ndarray:
    """Return of which samples that is so, [n], bool; of none where the table is not of two runs."""
    here, there = table.columns.get("correct"), table.columns.get("correct.other")
    if here is not None and there is not None:
        mine, theirs = CHANGES[name]
        return np.asarray((here == mine) & (there == theirs))
    score, other = table.columns.get("score"), table.columns.get("score.other")
    if score is None or other is None or name not in ("better", "worse"):
        return np.zeros(len(table), bool)
    # In float64, as in a browser.
    more = score.astype(np.float64) - other if name == "better" else other.astype(np.float64) - score
    return np.asarray(more > _CLEARLY)


def _has_ids(table: Table, value: Any) -> np.ndarray:
    return table.has_id(_texts("ids", value))


def _in_ranges(table: Table, value: Any) -> np.ndarray:
    if not isinstance(value, Mapping):
        raise _wrong("ranges", "an object of columns and bounds", value)
    fits = np.ones(len(table), bool)
    for name, bounds in value.items():
        values = table.column(name)
        fits &= _within(f"ranges.{name}", values, bounds) & ~table.is_unknown(name) if bounds else True
    return fits


def _in_class_score(table: Table, value: Any) -> np.ndarray:
    if not isinstance(value, Mapping) or value.keys() != {"class", "range"}:
        raise _wrong("class_score", "an object with 'class' and 'range'", value)
    scores, _, _ = class_scores(table, value["class"])
    return np.asarray(_within("class_score.range", scores, value["range"]) & ~np.isnan(scores))


def _within(name: str, values: np.ndarray, bounds: Any) -> np.ndarray:
    is_pair = isinstance(bounds, list) and len(bounds) == 2
    if not is_pair or any(one is not None and not _is_number(one) for one in bounds):
        raise _wrong(name, "a list of a low and a high number, or null for no bound", bounds)
    try:
        # In float64, as in a browser: a float32 would round the bound.
        low, high = (None if one is None else np.float64(one) for one in bounds)
    except OverflowError as error:
        raise _wrong(name, "of numbers that are at most 1.8e308", "a larger one") from error
    fits: np.ndarray = np.ones(len(values), bool)
    if low is not None:
        fits = fits & (values >= low)
    if high is not None:
        fits = fits & (values <= high)
    return fits


_FILTERS: dict[str, Callable[[Table, Any], np.ndarray]] = {
    "text": _in_text, "target": _of_classes("target"), "prediction": _of_classes("prediction"), "correct": _is_correct,
    "groups": _in_groups, "kinds": _of_kinds, "findings": _has_findings, "marks": _has_ids, "ids": _has_ids,
    "change": _is_changed, "ranges": _in_ranges, "class_score": _in_class_score,
}  # fmt: skip


def _count_classes(name: str) -> Callable[[Table, np.ndarray], list[tuple[Any, int]]]:
    def count(table: Table, fits: np.ndarray) -> list[tuple[Any, int]]:
        values = table.columns.get(name, np.zeros(0, np.int32))
        counts = np.bincount(values[fits & (values >= 0)] if len(values) else values)
        return list(enumerate(counts.tolist()))

    return count


def _count_correct(table: Table, fits: np.ndarray) -> list[tuple[Any, int]]:
    correct = table.columns.get("correct")
    choices = (("right", RIGHT), ("wrong", WRONG))
    return [] if correct is None else [(name, int((fits & (correct == value)).sum())) for name, value in choices]


def _count_groups(table: Table, fits: np.ndarray) -> list[tuple[Any, int]]:
    there = (name for name in GROUPS if name in table.columns)
    return [(name, int((fits & (table.columns[name] == 1)).sum())) for name in there]


def _count_kinds(table: Table, fits: np.ndarray) -> list[tuple[Any, int]]:
    codes = table.columns.get("suspect_kind", np.zeros(0, np.int32))
    counts = np.bincount(codes[fits & (codes >= 0)] if len(codes) else codes, minlength=len(SUSPECT_KINDS))
    return list(zip(SUSPECT_KINDS, counts.tolist(), strict=True))


def _count_findings(table: Table, fits: np.ndarray) -> list[tuple[Any, int]]:
    counts = Counter(rule for row, rules in (table.findings or {}).items() if fits[row] for rule in rules)
    return sorted(counts.items())


def _count_changes(table: Table, fits: np.ndarray) -> list[tuple[Any, int]]:
    return [(name, int((fits & _of_change(table, name)).sum())) for name in CHANGES]


_FACETS: dict[str, Callable[[Table, np.ndarray], list[tuple[Any, int]]]] = {
    "correct": _count_correct, "groups": _count_groups, "kinds": _count_kinds, "target": _count_classes("target"),
    "change": _count_changes, "prediction": _count_classes("prediction"), "findings": _count_findings,
}  # fmt: skip


def _texts(name: str, value: Any) -> list[str]:
    if not isinstance(value, list) or any(not isinstance(one, str) for one in value):
        raise _wrong(name, "a list of texts", value)
    return list(value)


def _whole(name: str, wanted: Mapping[str, Any], default: int, most: int | None) -> int:
    value = wanted.get(name, default)
    if type(value) is not int or value < 0 or (most is not None and value > most):
        raise _wrong(name, "a whole number of at least 0" if most is None else f"a whole number of 0 to {most}", value)
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _wrong(name: str, rule: str, value: Any) -> UsageError:
    got = repr(value)[:100] if isinstance(value, str | int | float | bool | None) else described(value)
    return UsageError(f"{name} must be {rule}, got {got}.")
