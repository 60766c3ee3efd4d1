"""Running values of samples over the epochs in which they were seen."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

NEVER = 0  # the epoch in which a sample was learned, or was forgotten last, that never was
EPOCH_NUMBERS = ("learned", "last_forgotten")  # which are ``NEVER`` for some
ONE_CLASS = ("multiclass", "binary")  # kinds of samples that have one class each
RIGHT_FROM = 0.5  # the score from which on masks and boxes are right

# The column of an epoch that is not NaN where a sample counts.
_COUNTS_BY = {**dict.fromkeys((*ONE_CLASS, "multilabel"), "margin"), "segmentation": "score", "detection": "boxes"}
# The means that are known wherever a sample counts, and the columns of an epoch that they are of.
_KEPT_BITS = np.uint32(0xFFFFFF00)  # 16 binary digits of a float32, which pack into three bytes
_OF_ONE_CLASS = {"aum": "margin", "el2n": "el2n", "target_probability": "target_probability"}
_MEANS = {
    **dict.fromkeys(ONE_CLASS, _OF_ONE_CLASS),
    "multilabel": {"aum": "margin", "wrong_labels": "wrong_labels"},
    "segmentation": {"score": "score"},
    "detection": {name: name for name in ("boxes", "found", "missed", "false")},
}
# Further means, which are not known in each of these epochs.
_PARTLY_KNOWN = {"multilabel": ("loss",), "segmentation": ("loss",), "detection": ("score",)}
UNKNOWN_LABEL = -1


def counted_means(kind: str) -> dict[str, str]:
    """Return the means that are known of each sample that counts, and the columns of an epoch that they are of.

    Args:
        kind: of samples, see ``measures.sample_history.COLUMNS_OF``.
    """
    return _MEANS[kind]


def partial_means(kind: str) -> tuple[str, ...]:
    """Return the columns of an epoch whose means are over the epochs in which they are known.

    Args:
        kind: of samples, see ``measures.sample_history.COLUMNS_OF``.
    """
    return _PARTLY_KNOWN.get(kind, ())


def epochs_of(mean: str) -> str:
    """Return the name of the column that tells in how many epochs a value was known."""
    return f"{mean}_epochs"


def running_columns(kind: str) -> dict[str, type]:
    """Return the columns of running values with one number per sample, and their types.

    Args:
        kind: of samples, see ``measures.sample_history.COLUMNS_OF``.
    """
    has_class = kind in ONE_CLASS
    means = [*counted_means(kind), *(["variability"] if has_class else []), *partial_means(kind)]
    whole = [*map(epochs_of, partial_means(kind)), "learned", "forgotten", "last_forgotten"]
    return {
        "epochs": np.int32,
        **dict.fromkeys(means, np.float64),
        **dict.fromkeys(whole, np.int32),
        "correct": np.bool_,
        **({"target": np.int32} if has_class else {}),
    }


def _no_columns() -> np.ndarray:
    return np.zeros((0, 0), np.int32)


@dataclass(frozen=True)
class Seen:
    """What was seen of m samples in an epoch.

    Attributes:
        index: [m], numbers of the samples, ascending, each once.
        numbers: [m] of each column of ``measures.sample_history``; NaN where it is not known.
        shares: [m, C], probabilities of the classes or the labels; C is 0 where they are not known.
        best: [m, C], int32, which classes these are; of no columns where they are all in their order.
        labels: [m, C], int8, of samples with several labels: 1 where one is there, 0 where not, -1 where that is not
            known; else of no columns.
    """

    index: np.ndarray
    numbers: Mapping[str, np.ndarray]
    shares: np.ndarray = field(default_factory=_no_columns)
    best: np.ndarray = field(default_factory=_no_columns)
    labels: np.ndarray = field(default_factory=_no_columns)

    @property
    def widths(self) -> tuple[int, int]:
        """Return the numbers of columns of ``shares`` and ``best``."""
        return self.shares.shape[1], self.best.shape[1]

    def part(self, low: int, high: int, first: int) -> "Seen":
        """Return the rows from ``low`` to before ``high``, with numbers counted from ``first``."""
        numbers = {name: of[low:high] for name, of in self.numbers.items()}
        shares, best, labels = (of[low:high] for of in (self.shares, self.best, self.labels))
        return Seen(self.index[low:high] - first, numbers, shares, best, labels)


@dataclass(frozen=True)
class RunningValues:
    """Running values of n samples; those of one that was never seen are 0.

    A sample counts in an epoch in which it was seen with a target and with finite outputs. It is right where its
    prediction is its class, none of its labels is wrong, or its masks or boxes have a score of 0.5 or more; an image
    without true boxes where no box is predicted.

    ====================== =============================================================================================
    column                 value
    ====================== =============================================================================================
    ``epochs``             int32, in how many epochs the sample counted
    ``learned``            int32, first epoch in which it was right; 0: none as yet
    ``forgotten``          int32, how often it was right in one epoch and wrong in the next in which it counted (Toneva
                           et al., "An Empirical Study of Example Forgetting", 2019, definition of a forgetting event)
    ``last_forgotten``     int32, the epoch in which it was forgotten last; 0: never
    ``correct``            bool, whether it was right when it counted last
    ====================== =============================================================================================

    Of samples of one class, float64 but for the last:

    ====================== =============================================================================================
    ``aum``                area under the margin: the mean margin (Pleiss et al., 2020, equation 2)
    ``el2n``               mean of its EL2N (Paul et al., 2021)
    ``target_probability`` mean probability of its target: the confidence of Swayamdipta et al., "Dataset Cartography",
                           2020
    ``variability``        standard deviation of this probability over the epochs, 0 to 0.5 (the same, section 2; of the
                           epochs as a population)
    ``target``             int32, its class when it counted last
    ====================== =============================================================================================

    Of others means by the names of the columns of an epoch, float64, and ``aum``, that of the smallest margin of its
    labels. A column that is not known in each epoch is averaged over those in which it is: so many are in a column with
    its name and ``_epochs``, int32.

    Attributes:
        kind: of samples, see ``measures.sample_history.COLUMNS_OF``.
        columns: [n] each, see ``running_columns``.
        mean_probability: [n, C], float32, mean probability of each class or label; C is 0 where it is not known.
        mean_classes: [n, C], int32, which classes these are: the target, then the others by their means, and -1 where
            there are no more. [n, 0]: all in their order. The mean of one that was not among the best of a sample in
            each epoch is a lower bound, as it counts as 0 in the others.
        labels: [n, C], int8, see ``Seen``, when the sample counted last.
    """

    kind: str
    columns: Mapping[str, np.ndarray]
    mean_probability: np.ndarray
    mean_classes: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.columns["epochs"])

    def add(self, epoch: int, seen: Seen) -> None:
        """Add an epoch, in place.

        Args:
            epoch: its number, from 1.
            seen: its samples.
        """
        of = self.columns
        for name in partial_means(self.kind):
            self._add_known(name, seen)
        counts = np.isfinite(seen.numbers[_COUNTS_BY[self.kind]])
        where, numbers = seen.index[counts], {name: values[counts] for name, values in seen.numbers.items()}
        of["epochs"][where] += 1
        before = {name: of[name][where] for name in counted_means(self.kind)}
        for name, column in counted_means(self.kind).items():
            of[name][where] += (numbers[column] - before[name]) / of["epochs"][where]
        if "variability" in of:
            self._add_deviation(where, numbers["target_probability"], before["target_probability"])
        correct = are_right(self.kind, numbers)
        is_forgotten = of["correct"][where] & ~correct
        of["forgotten"][where] += is_forgotten
        of["last_forgotten"][where] = np.where(is_forgotten, epoch, of["last_forgotten"][where])
        of["learned"][where] = np.where((of["learned"][where] == NEVER) & correct, epoch, of["learned"][where])
        of["correct"][where] = correct
        if "target" in of:
            of["target"][where] = numbers["target"]
        if self.mean_classes.shape[1]:
            self._add_best(where, seen.shares[counts].astype(np.float32), seen.best[counts])
        elif self.mean_probability.shape[1]:
            means = self.mean_probability[where]
            step = (seen.shares[counts].astype(np.float32) - means) / of["epochs"][where][:, None]
            self.mean_probability[where] = means + step
        if self.labels.shape[1]:
            self.labels[where] = seen.labels[counts]

    def _add_known(self, name: str, seen: Seen) -> None:
        """Add a column to its mean where it is known."""
        values = seen.numbers.get(name)
        if values is None:  # of a version that has not written it
            return
        known = np.isfinite(values)
        where, mean, epochs = seen.index[known], self.columns[name], self.columns[epochs_of(name)]
        epochs[where] += 1
        mean[where] += (values[known] - mean[where]) / epochs[where]

    def _add_best(self, where: np.ndarray, shares: np.ndarray, best: np.ndarray) -> None:
        """Add the probabilities of the best classes, [m, K] each, to those of the classes that are kept."""
        kept, epochs, target = (
            self.mean_classes[where, 1:],
            self.columns["epochs"][where][:, None],
            self.columns["target"],
        )
        means, shares = self.mean_probability[where, 1:] * ((epochs - 1) / epochs), shares / epochs
        is_same = kept[:, :, None] == best[:, None, :]
        means += (is_same * shares[:, None, :]).sum(axis=2)
        classes, means = np.concatenate([kept, best], axis=1), np.concatenate([means, shares], axis=1)
        is_again = np.concatenate([np.zeros(kept.shape, bool), is_same.any(axis=1)], axis=1)
        # The target has a place of its own, the first.
        means[is_again | (classes < 0) | (classes == target[where][:, None])] = -1
        order = np.argsort(-means, axis=1, kind="stable")[:, : kept.shape[1]]
        means = np.take_along_axis(means, order, axis=1)
        self.mean_classes[where, 1:] = np.where(means < 0, -1, np.take_along_axis(classes, order, axis=1))
        self.mean_probability[where, 1:] = np.maximum(means, 0)
        self.mean_classes[where, 0] = target[where]
        self.mean_probability[where, 0] = self.columns["target_probability"][where]

    def _add_deviation(self, where: np.ndarray, probability: np.ndarray, mean_before: np.ndarray) -> None:
        # Welford's update of a variance, whose mean is that of the target's probability.
        epochs, mean, deviation = (self.columns[name] for name in ("epochs", "target_probability", "variability"))
        added = (probability - mean_before) * (probability - mean[where])
        squares = deviation[where] ** 2 * (epochs[where] - 1) + added
        deviation[where] = np.sqrt(np.maximum(squares, 0) / epochs[where])

    @staticmethod
    def fresh(kind: str, count: int, classes: int, best: int = 0) -> "RunningValues":
        """Return those of samples that were not seen yet, with means of all ``classes``, or of the ``best`` of many."""
        columns: dict[str, np.ndarray] = {name: np.zeros(count, of) for name, of in running_columns(kind).items()}
        # One more for the target.
        means = np.zeros((count, best + 1 if best else classes), np.float32)
        mean_classes = np.full((count, best + 1 if best else 0), -1, np.int32)
        labels = np.full((count, classes if kind == "multilabel" else 0), UNKNOWN_LABEL, np.int8)
        return RunningValues(kind, columns, means, mean_classes, labels)


def rounded(values: np.ndarray) -> np.ndarray:
    """Return float32 values with 16 binary digits, to the nearest."""
    bits = values.astype(np.float32).view(np.uint32)
    # Half of the last digit that stays; a number that is not finite has no digits to round.
    near = np.where(np.isfinite(values), bits + np.uint32(0x80), bits) & _KEPT_BITS
    return near.view(np.float32)


def are_right(kind: str, numbers: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return which samples are right, see ``RunningValues``, [m] bool.

    Args:
        kind: of samples, see ``measures.sample_history.COLUMNS_OF``.
        numbers: [m] of each column of an epoch, of samples that count.
    """
    if kind in ONE_CLASS:
        return np.asarray(numbers["prediction"] == numbers["target"])
    if kind == "multilabel":
        return np.asarray(numbers["wrong_labels"] == 0)
    # As files hold it, so that one counts the same from them.
    is_right = rounded(numbers["score"]) >= RIGHT_FROM
    # Without true boxes there is no score.
    return np.asarray(
        is_right if kind == "segmentation" else is_right | ((numbers["boxes"] == 0) & (numbers["false"] == 0))
    )
