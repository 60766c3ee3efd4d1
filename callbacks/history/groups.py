"""Groups of samples by what became of them in training, and the file that names them with the suspects."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..support.atomic_files import replacing
from .files import IDS, RUNNING, SampleFiles
from .suspects import FROM_EPOCH, Suspects, find_suspects, rank_labels

FILE = "groups.parquet"
GROUPS = ("stuck", "newly_wrong", "forgotten", "unstable", "easy")
SUSPECTS_TAG = "9_history/suspects"

_LEAST_EPOCHS = 3  # in which a sample was seen, before one can tell that it is stuck or easy
_EPOCHS_OF_EVENT = 10  # an unstable sample is forgotten at least once in so many epochs
_READ = ("epochs", "learned", "forgotten", "last_forgotten", "correct", "target_probability", "target")
_MEANS, _CLASSES = "mean_probability", "mean_classes"


@dataclass(frozen=True)
class FoundGroups:
    """What is known of the samples of a loader after an epoch.

    Attributes:
        epoch: the last one in it.
        counts: number of samples of each group.
        suspects: samples whose label is probably wrong; None before the third epoch, and where the mean probabilities
            of classes are not known.
        ids: of the suspects.
        epochs: [n], in how many epochs each suspect was seen.
    """

    epoch: int
    counts: Mapping[str, int]
    suspects: Suspects | None
    ids: list[str]
    epochs: np.ndarray

    def rows(self) -> list[tuple[int, str, int, int, float]]:
        """Return number, id, class, likely class and score of each suspect, the surest first."""
        of = self.suspects
        if of is None:
            return []
        numbers, labels, likely, scores = (part.tolist() for part in (of.index, of.target, of.likely, of.score))
        return list(zip(numbers, self.ids, labels, likely, scores, strict=True))

    def scalars(self) -> dict[str, float]:
        """Return the counts by tag."""
        of_groups = {f"9_history/{name}": float(count) for name, count in self.counts.items()}
        return of_groups if self.suspects is None else {SUSPECTS_TAG: float(len(self.suspects)), **of_groups}


def find_groups(running: Mapping[str, np.ndarray], epoch: int) -> dict[str, np.ndarray]:
    """Return which samples are in each group, [n] bool, by the epochs in which they were seen with a class.

    A forgetting event is an epoch in which a sample is predicted wrong that was right in the epoch before in which it
    was seen; a sample is learned when it is right for the first time (Toneva et al., "An Empirical Study of Example
    Forgetting during Deep Neural Network Learning", 2019, section 3). Confidence is the mean probability of the target
    over the epochs (Swayamdipta et al., "Dataset Cartography", 2020, section 2).

    ================ ===============================================================================================
    group            samples
    ================ ===============================================================================================
    ``stuck``        never learned, in three epochs or more
    ``newly_wrong``  with a forgetting event in this very epoch
    ``forgotten``    learned, and wrong when they were last seen: newly or for longer
    ``unstable``     with two forgetting events or more, and at least one in ten epochs
    ``easy``         learned by the third epoch and without a forgetting event, in three epochs or more, at a confidence
                     of 0.5 or more: the unforgettable ones of Toneva et al., whose removal costs least
    ================ ===============================================================================================

    Groups may share samples, as all that are newly wrong are forgotten too, and those of none are many.

    Args:
        running: columns of ``RunningValues``; an epoch that never came is 0.
        epoch: number of the last one.
    """
    epochs, learned, events = running["epochs"], running["learned"], running["forgotten"]
    is_learned, is_long = learned > 0, epochs >= _LEAST_EPOCHS
    return {
        "stuck": ~is_learned & is_long,
        "newly_wrong": (running["last_forgotten"] == epoch) & (epochs > 0),
        "forgotten": is_learned & ~running["correct"],
        "unstable": (events >= 2) & (events * _EPOCHS_OF_EVENT >= epochs),
        "easy": is_learned
        & (learned <= _LEAST_EPOCHS)
        & (events == 0)
        & is_long
        & (running["target_probability"] >= 0.5),
    }


def write_groups(files: SampleFiles) -> FoundGroups | None:
    """Write the groups of all samples of a loader by their running values, and return what was found.

    The file has one row per sample: ``index``; ``suspect_rank``, from 1 for the surest, null for the others;
    ``likely``, the likeliest other class, and ``suspect_score``, its mean probability less that of the label, -1 to 1,
    from the third epoch on and where the means are known; and a boolean per group.

    Args:
        files: of the loader.

    Returns:
        What was found; None where there are no running values of samples with a class, and then there is no file.
    """
    path, epoch = files.folder / FILE, files.epoch
    if epoch == 0 or not {*_READ} <= {*pq.read_schema(files.folder / RUNNING).names}:
        path.unlink(missing_ok=True)
        return None
    table = pq.read_table(files.folder / RUNNING).combine_chunks()
    running = {name: np.asarray(table[name].fill_null(pa.scalar(0).cast(table[name].type))) for name in _READ}
    groups = find_groups(running, epoch)
    suspects, of_labels = _find_labels(table, epoch)
    columns = {"index": table["index"], **of_labels, **{name: pa.array(of) for name, of in groups.items()}}
    written = pa.table(columns).replace_schema_metadata({"epoch": str(epoch)})
    with replacing(path) as temporary:
        pq.write_table(written, temporary, compression="zstd", use_dictionary=["likely"])
    chosen = np.zeros(0, np.int64) if suspects is None else suspects.index
    ids = pq.read_table(files.folder / IDS, columns=["id"])["id"].take(pa.array(chosen)).to_pylist()
    counts = {name: int(of.sum()) for name, of in groups.items()}
    return FoundGroups(epoch, counts, suspects, ids, running["epochs"][chosen])


def _find_labels(table: pa.Table, epoch: int) -> tuple[Suspects | None, dict[str, pa.Array]]:
    """Return the suspects, and the columns about the labels of all samples."""
    count, known, suspects = len(table), np.zeros(0, np.int64), None
    rank, likely, score = np.zeros(count, np.int32), np.zeros(count, np.int32), np.zeros(count, np.float32)
    if epoch >= FROM_EPOCH:
        known, target, shares, classes = _known_means(table)
    if len(known):
        suspects = find_suspects(target, shares, classes)
        suspects = replace(suspects, index=known[suspects.index])
        score[known], likely[known] = rank_labels(target, shares, classes)
        rank[suspects.index] = np.arange(1, len(suspects) + 1)
    is_unknown = np.ones(count, bool)
    is_unknown[known] = False
    return suspects, {
        "suspect_rank": pa.array(rank, mask=rank == 0),
        "likely": pa.array(likely, mask=is_unknown),
        "suspect_score": pa.array(score, mask=is_unknown),
    }


def _known_means(table: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Return the samples with mean probabilities, [m], their targets, the means, and of which classes; None: of all."""
    told = table[_MEANS].is_valid().combine_chunks()
    known = np.flatnonzero(told)
    target = np.asarray(table["target"].filter(told)).astype(np.int64)
    means = _padded(table[_MEANS].filter(told).combine_chunks())
    is_of_some = _CLASSES in table.column_names and table[_CLASSES].null_count < len(table)
    return known, target, means, _padded(table[_CLASSES].filter(told).combine_chunks()) if is_of_some else None


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
