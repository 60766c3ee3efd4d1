"""``Table``: the samples of a loader in one epoch, as columns."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import unknown_name

INTEGERS = (
    "index", "target", "prediction", "wrong_labels", "boxes", "found", "missed", "false", "seen", "learned",
    "forgetting", "suspect_rank", "suspect_kind", "suspect_label", "likely",
)  # fmt: skip
NUMBERS = (
    "probability", "target_probability", "margin", "el2n", "loss", "score", "aum", "mean_el2n", "confidence",
    "variability", "suspect_score",
)  # fmt: skip
GROUPS = ("suspect", "stuck", "newly_wrong", "forgotten", "unstable", "easy")
FLAGS = ("correct", *GROUPS, "pictured")
WRONG, RIGHT = 0, 1
UNKNOWN, UNKNOWN_FLAG = -1, 255

_ORDERS = 6  # that are kept of a table
_UNSORTED = np.uint32(0xFFFFFFFF)  # where unknown values are sorted: last

# Returns of a class the mean probability of each sample over the epochs, [n], and for samples whose value is not known,
# NaN there, the largest that it can be, [n].
ClassProbability = Callable[[int], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Table:
    """The samples of a loader that were seen in an epoch, by ascending index.

    Attributes:
        run: its name.
        loader: its key.
        task: as ``SampleHistory`` takes it; None: not known.
        classes: their names; None: not known.
        epoch: its number.
        epochs: all that there are.
        ids: [n] texts.
        columns: [n] each, int32 (-1: unknown), float32 (NaN: unknown) or uint8 (255: unknown), by name; see
            ``INTEGERS``, ``NUMBERS`` and ``FLAGS``. Those of the run over its epochs are the last ones of the run.
            ``suspect_kind`` is the place in ``history.suspects.SUSPECT_KINDS`` of what is wrong, by the surest suspect
            of a sample; ``suspect_label`` is the class of its label, and ``likely`` the one that is probably right.
        findings: names of rules that name a sample, by its row; None: the run has not looked for any.
        class_probability: of a class; None: it is not known of any.
    """

    run: str
    loader: str
    task: str | None
    classes: tuple[str, ...] | None
    epoch: int
    epochs: tuple[int, ...]
    ids: pa.Array
    columns: Mapping[str, np.ndarray]
    findings: Mapping[int, tuple[str, ...]] | None = None
    class_probability: ClassProbability | None = None
    _kept: dict[object, np.ndarray] = field(default_factory=dict, repr=False)
    _lowered: list[pa.Array] = field(default_factory=list, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def nbytes(self) -> int:
        """The size in bytes, with what it keeps to filter and sort."""
        columns = sum(values.nbytes for values in self.columns.values())
        return columns + 2 * int(self.ids.nbytes) + _ORDERS * 4 * len(self)

    def column(self, name: str) -> np.ndarray:
        """Return a column of numbers, [n].

        Raises:
            UsageError: there is no such column.
        """
        if name not in self.columns:
            raise unknown_name("column", name, self.columns)
        return self.columns[name]

    def is_unknown(self, name: str) -> np.ndarray:
        """Return of which samples a column of numbers says nothing, [n], bool."""
        values = self.column(name)
        if values.dtype == np.float32:
            unknown: np.ndarray = np.isnan(values)
            return unknown
        return np.asarray(values == (UNKNOWN_FLAG if values.dtype == np.uint8 else UNKNOWN))

    def lowered_ids(self) -> pa.Array:
        """Return the ids in lower case, [n]."""
        with self._lock:
            if not self._lowered:
                self._lowered.append(pc.utf8_lower(self.ids))
            return self._lowered[0]

    def has_id(self, ids: Sequence[str]) -> np.ndarray:
        """Return which samples have one of a few ids, [n], bool."""
        found: np.ndarray = among(self.ids, ids).to_numpy(zero_copy_only=False)
        return found

    def order(self, name: str, *, descending: bool) -> np.ndarray:
        """Return the rows sorted by a column or ``id``, [n], int32: equal ones by row, unknown ones last."""
        with self._lock:
            key = (name, descending)
            if key not in self._kept:
                while len(self._kept) >= _ORDERS:
                    del self._kept[next(iter(self._kept))]
                self._kept[key] = self._sorted(name, descending=descending)
            return self._kept[key]

    def _sorted(self, name: str, *, descending: bool) -> np.ndarray:
        if name == "id":
            keys = pc.rank(self.ids, tiebreaker="dense").to_numpy().astype(np.uint32)
            unknown = np.zeros(len(self), bool)
        else:
            keys, unknown = _ordered(self.column(name)), self.is_unknown(name)
        keys = np.where(unknown, _UNSORTED, ~keys if descending else keys)
        # Values above rows in one number each, as sorting these is five times as fast as a stable order of values.
        both = (keys.astype(np.uint64) << np.uint64(32)) | np.arange(len(keys), dtype=np.uint64)
        return np.sort(both).astype(np.uint32).astype(np.int32)


def _ordered(values: np.ndarray) -> np.ndarray:
    """Return numbers of the order of ``values``, [n], uint32, of which equal values have the same."""
    if values.dtype == np.uint8:
        return values.astype(np.uint32)
    if values.dtype == np.float32:
        bits = (values + np.float32(0)).view(np.uint32)  # -0 becomes 0
        negative = bits >> np.uint32(31) == 1
        return np.where(negative, ~bits, bits | np.uint32(0x80000000))
    return (values.astype(np.int64) + 2**31).astype(np.uint32)


def among(texts: pa.Array, wanted: Iterable[str]) -> pa.Array:
    """Return which texts are among a few wanted ones, [n], booleans."""
    return pc.is_in(texts, value_set=pa.array([one for one in wanted if _is_utf8(one)], texts.type))


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
