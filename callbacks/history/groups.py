"""Groups of samples by what became of them in training, and the file that names them with the suspects."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..support.atomic_files import replacing
from .duplicates import Label, find_duplicates, find_duplicates_of_labels
from .files import CLASSES, IDS, LABELS, MEANS, RUNNING, SampleFiles, kind_of
from .pictures.suspect_picture import SuspectRow
from .running import ONE_CLASS, UNKNOWN_LABEL, running_columns
from .suspect_boxes import find_box_suspects
from .suspect_labels import find_label_suspects, rank_label_sets
from .suspect_regions import find_region_suspects
from .suspects import FROM_EPOCH, SUSPECT_KINDS, Suspects, find_suspects, rank_labels

FILE = "groups.parquet"
GROUPS = ("stuck", "newly_wrong", "forgotten", "unstable", "easy")
SUSPECTS_TAG = "9_history/suspects"

_LEAST_EPOCHS = 3  # in which a sample was seen, before one can tell that it is stuck or easy
_EPOCHS_OF_EVENT = 10  # an unstable sample is forgotten at least once in so many epochs
_RECENT = 3  # epochs whose columns tell where masks and boxes are wrong


@dataclass(frozen=True)
class FoundGroups:
    """What is known of the samples of a loader after an epoch.

    Attributes:
        epoch: the last one in it.
        counts: number of samples of each group.
        suspects: what is probably wrong with labels; None before the third epoch, and where nothing tells.
        ids: [n], of the sample of each suspect.
        epochs: [n], in how many epochs it counted.
    """

    epoch: int
    counts: Mapping[str, int]
    suspects: Suspects | None
    ids: list[str]
    epochs: np.ndarray

    def rows(self) -> list[SuspectRow]:
        """Return the suspects, the surest first."""
        of = self.suspects
        if of is None:
            return []
        numbers, targets, likely, scores = (part.tolist() for part in (of.index, of.target, of.likely, of.score))
        columns = (numbers, self.ids, of.kinds, targets, likely, scores, self.epochs.tolist(), of.places)
        return [SuspectRow(*row) for row in zip(*columns, strict=True)]

    def scalars(self) -> dict[str, float]:
        """Return the counts by tag: of suspects that of their samples."""
        of_groups = {f"9_history/{name}": float(count) for name, count in self.counts.items()}
        if self.suspects is None:
            return of_groups
        return {SUSPECTS_TAG: float(self.suspects.is_first.sum()), **of_groups}


def find_groups(running: Mapping[str, np.ndarray], epoch: int) -> dict[str, np.ndarray]:
    """Return which samples are in each group, [n] bool, by the epochs in which they counted.

    A forgetting event is an epoch in which a sample is wrong that was right in the epoch before in which it counted; a
    sample is learned when it is right for the first time (Toneva et al., "An Empirical Study of Example Forgetting
    during Deep Neural Network Learning", 2019, section 3). Confidence is the mean probability of the target over the
    epochs (Swayamdipta et al., "Dataset Cartography", 2020, section 2). ``RunningValues`` says when a sample is right.

    ================ ===============================================================================================
    group            samples
    ================ ===============================================================================================
    ``stuck``        never learned, in three epochs or more
    ``newly_wrong``  with a forgetting event in this very epoch
    ``forgotten``    learned, and wrong when they were last seen: newly or for longer
    ``unstable``     with two forgetting events or more, and at least one in ten epochs
    ``easy``         learned by the third epoch and without a forgetting event, in three epochs or more, at a confidence
                     of 0.5 or more: the unforgettable ones of Toneva et al., whose removal costs least. In the place of
                     the confidence of masks and boxes is their mean score, where they have one, and of several labels
                     a mean margin of 0 or more
    ================ ===============================================================================================

    Groups may share samples, as all that are newly wrong are forgotten too, and those of none are many.

    Args:
        running: columns of ``RunningValues``; an epoch that never came is 0, and a mean of nothing NaN.
        epoch: number of the last one.
    """
    epochs, learned, events = running["epochs"], running["learned"], running["forgotten"]
    is_learned, is_long = learned > 0, epochs >= _LEAST_EPOCHS
    if "target_probability" in running:
        is_sure = running["target_probability"] >= 0.5
    else:
        is_sure = ~(running["score"] < 0.5) if "score" in running else running["aum"] >= 0
    return {
        "stuck": ~is_learned & is_long,
        "newly_wrong": (running["last_forgotten"] == epoch) & (epochs > 0),
        "forgotten": is_learned & ~running["correct"],
        "unstable": (events >= 2) & (events * _EPOCHS_OF_EVENT >= epochs),
        "easy": is_learned & (learned <= _LEAST_EPOCHS) & (events == 0) & is_long & is_sure,
    }


def write_groups(files: SampleFiles, duplicates: Mapping[str, list[Label]] | None = None) -> FoundGroups | None:
    """Write the groups of all samples of a loader by their running values, and return what was found.

    The file has one row per sample: ``index``; of the surest suspect of the sample ``suspect_rank``, from 1 for the
    surest sample, ``suspect_kind``, one of ``SUSPECT_KINDS``, ``suspect_label``, the class of the label, ``likely``,
    the class that is probably right, and ``suspect_score``, 0 to 1, null where there is none; and a boolean per group.
    Of samples of classes or labels that are no suspects, ``suspect_score`` is what it would be of their least likely
    label, -1 to 1, and ``likely`` the class or the missing label in its place, where the means are known; of masks it
    is how surely the model contradicted them in the last epochs, 0 to 1.

    Args:
        files: of the loader.
        duplicates: labels of the duplicates of samples, by id, see ``read_duplicates``.

    Returns:
        What was found; None where there are no running values, and then there is no file.
    """
    path, epoch = files.folder / FILE, files.epoch
    if epoch == 0:
        path.unlink(missing_ok=True)
        return None
    table = pq.read_table(files.folder / RUNNING).combine_chunks()
    kind = kind_of(files.folder / RUNNING)
    running = {name: _array(table[name]) for name in running_columns(kind)}
    groups = find_groups(running, epoch)
    suspects, likely, score = _nothing(len(table))
    if epoch >= FROM_EPOCH:
        suspects, likely, score = _find(kind, table, files)
        twins = _find_duplicates(kind, table, running, files, duplicates or {})
        suspects = Suspects.joined([*([] if suspects is None else [suspects]), twins]) if len(twins) else suspects
    columns = {
        "index": table["index"],
        **_of_suspects(suspects, likely, score),
        **{name: pa.array(of) for name, of in groups.items()},
    }
    written = pa.table(columns).replace_schema_metadata({"epoch": str(epoch)})
    with replacing(path) as temporary:
        pq.write_table(written, temporary, compression="zstd", use_dictionary=["likely", "suspect_kind"])
    chosen = np.zeros(0, np.int64) if suspects is None else suspects.index
    ids = pq.read_table(files.folder / IDS, columns=["id"])["id"].take(pa.array(chosen)).to_pylist()
    counts = {name: int(of.sum()) for name, of in groups.items()}
    return FoundGroups(epoch, counts, suspects, ids, running["epochs"][chosen])


def _array(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column, [n], with 0 for null, and NaN where it is of fractions."""
    fill = pa.scalar(np.nan if pa.types.is_floating(column.type) else 0).cast(column.type)
    return np.asarray(column.fill_null(fill))


_Found = tuple[Suspects | None, np.ndarray, np.ndarray]  # suspects; likely classes and scores of all samples


def _nothing(count: int) -> _Found:
    return None, np.full(count, -1, np.int32), np.full(count, np.nan, np.float32)


def _find(kind: str, table: pa.Table, files: SampleFiles) -> _Found:
    """Return the suspects, and of all samples the likely class, -1: none, and its score, NaN: unknown."""
    suspects, likely, score = _nothing(len(table))
    if kind in ONE_CLASS:
        known, target, shares, classes = _known_means(table)
        if len(known):
            suspects = find_suspects(target, shares, classes)
            suspects = replace(suspects, index=known[suspects.index])
            score[known], likely[known] = rank_labels(target, shares, classes)
    elif kind == "multilabel":
        known, labels, shares = _known_labels(table)
        if len(known):
            suspects = find_label_suspects(labels, shares)
            suspects = replace(suspects, index=known[suspects.index])
            score[known], which = rank_label_sets(labels, shares)
            is_missing = labels[np.arange(len(known)), which] == 0
            likely[known] = np.where(is_missing, which, -1)
    elif kind == "segmentation":
        # Only samples that are not augmented show the same region at the same place.
        same_place = not str(files.about.get("loader", "")).startswith("train")
        recent = files.recent(_RECENT)[::-1]
        suspects, score = find_region_suspects(len(table), recent, files.recognized(), same_place=same_place)
    elif kind == "detection":
        suspects = find_box_suspects(files.recent(_RECENT))
    return suspects, likely, score


def _find_duplicates(
    kind: str,
    table: pa.Table,
    running: Mapping[str, np.ndarray],
    files: SampleFiles,
    duplicates: Mapping[str, list[Label]],
) -> Suspects:
    """Return the samples whose duplicates have another label, of those that counted."""
    if not duplicates or kind not in (*ONE_CLASS, "multilabel"):
        return Suspects.joined([])
    names = [*duplicates]
    found = pc.index_in(pa.array(names, pa.string()), pq.read_table(files.folder / IDS, columns=["id"])["id"])
    place_of = {number: at for at, number in enumerate(found.to_pylist()) if number is not None}
    index = np.array(sorted(number for number in place_of if running["epochs"][number]), np.int64)
    others = [duplicates[names[place_of[number]]] for number in index.tolist()]
    rows = table.take(pa.array(index))
    if kind == "multilabel":
        _, labels, shares = _known_labels(rows)
        return (
            find_duplicates_of_labels(index, others, labels, shares)
            if len(labels) == len(index)
            else Suspects.joined([])
        )
    known, _, means, classes = _known_means(rows)
    shares_of = {
        int(index[row]): dict(zip(range(len(share)) if classes is None else classes[at].tolist(), share, strict=True))
        for at, (row, share) in enumerate(zip(known.tolist(), means.tolist(), strict=True))
    }
    return find_duplicates(index, others, running["target"][index], shares_of)


def _of_suspects(suspects: Suspects | None, likely: np.ndarray, score: np.ndarray) -> dict[str, pa.Array]:
    """Return the columns about suspects, of all samples."""
    count = len(likely)
    rank, kinds, labels = np.zeros(count, np.int32), np.full(count, -1, np.int8), np.full(count, -1, np.int32)
    if suspects is not None:
        first = suspects.is_first
        where = suspects.index[first]
        rank[where] = np.arange(1, len(where) + 1)
        kinds[where], labels[where] = suspects.kind[first], suspects.target[first]
        likely[where], score[where] = suspects.likely[first], suspects.score[first]
    codes = pa.array(kinds, mask=kinds < 0)
    return {
        "suspect_rank": pa.array(rank, mask=rank == 0),
        "suspect_kind": pa.DictionaryArray.from_arrays(codes, pa.array(SUSPECT_KINDS)).cast(pa.string()),
        "suspect_label": pa.array(labels, mask=labels < 0),
        "likely": pa.array(likely, mask=likely < 0),
        "suspect_score": pa.array(score, mask=np.isnan(score)),
    }


def _known_means(table: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Return the samples with mean probabilities, [m], their targets, the means, and of which classes; None: of all."""
    told = table[MEANS].is_valid().combine_chunks()
    known = np.flatnonzero(told)
    target = np.asarray(table["target"].filter(told)).astype(np.int64)
    means = _padded(table[MEANS].filter(told).combine_chunks())
    is_of_some = CLASSES in table.column_names and table[CLASSES].null_count < len(table)
    return known, target, means, _padded(table[CLASSES].filter(told).combine_chunks()) if is_of_some else None


def _known_labels(table: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the samples with mean probabilities, [m], whether their labels are there, [m, C] int8, and the means."""
    told = table[MEANS].is_valid().combine_chunks()
    means = _padded(table[MEANS].filter(told).combine_chunks())
    lists = table[LABELS].filter(told).combine_chunks()
    flat = lists.flatten().cast(pa.int8()).fill_null(UNKNOWN_LABEL)
    return np.flatnonzero(told), np.asarray(flat).reshape(means.shape), means


def _padded(lists: pa.ListArray) -> np.ndarray:
    """Return lists as rows; where they differ in length, with -1, which is no class and no probability, at the end."""
    lengths = np.diff(np.asarray(lists.offsets))
    values = np.asarray(lists.flatten())
    widest = int(lengths.max(initial=0))
    if (lengths == widest).all():
        return values.reshape(len(lists), widest)
    rows = np.full((len(lists), widest), -1, values.dtype)
    rows[np.arange(widest) < lengths[:, None]] = values
    return rows
