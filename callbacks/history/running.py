"""Running values of samples over the epochs in which they were seen."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np

NEVER = 0  # the epoch in which a sample was learned, or was forgotten last, that never was
EPOCH_NUMBERS = ("learned", "last_forgotten")  # which are ``NEVER`` for some
_WHOLE = ("epochs", "forgotten", "target", *EPOCH_NUMBERS)
_TYPES = {**dict.fromkeys(_WHOLE, np.int32), "correct": np.bool_}


def _no_columns() -> np.ndarray:
    return np.zeros((0, 0), np.int32)


@dataclass(frozen=True)
class Seen:
    """What was seen of m samples in an epoch.

    Attributes:
        index: [m], numbers of the samples, ascending, each once.
        numbers: [m] of each column of ``measures.sample_history``.
        shares: [m, C], probabilities of the classes; C is 0 where they are not known.
        best: [m, C], int32, which classes these are; of no columns where they are all in their order.
    """

    index: np.ndarray
    numbers: Mapping[str, np.ndarray]
    shares: np.ndarray = field(default_factory=_no_columns)
    best: np.ndarray = field(default_factory=_no_columns)

    @property
    def widths(self) -> tuple[int, int]:
        """Return the numbers of columns of ``shares`` and ``best``."""
        return self.shares.shape[1], self.best.shape[1]

    def part(self, low: int, high: int, first: int) -> "Seen":
        """Return the rows from ``low`` to before ``high``, with numbers counted from ``first``."""
        numbers = {name: of[low:high] for name, of in self.numbers.items()}
        return Seen(self.index[low:high] - first, numbers, self.shares[low:high], self.best[low:high])


@dataclass(frozen=True)
class RunningValues:
    """Running values of n samples; those of one that was never seen with a class are 0.

    Attributes:
        epochs: [n], int32, in how many epochs it was seen with a class as target.
        aum: [n], float64, area under the margin: the mean margin (Pleiss et al., 2020, equation 2).
        el2n: [n], float64, mean of its EL2N (Paul et al., 2021).
        target_probability: [n], float64, mean probability of its target: the confidence of Swayamdipta et al., "Dataset
            Cartography", 2020.
        variability: [n], float64, standard deviation of this probability over the epochs, 0 to 0.5 (the same, section
            2; of the epochs as a population).
        learned: [n], int32, first epoch in which it was predicted right; 0: none as yet.
        forgotten: [n], int32, how often it was right in one epoch and wrong in the next in which it was seen (Toneva
            et al., "An Empirical Study of Example Forgetting", 2019, definition of a forgetting event).
        last_forgotten: [n], int32, the epoch in which it was forgotten last; 0: never.
        correct: [n], bool, whether it was right when it was last seen.
        target: [n], int32, its class when it was last seen with one.
        mean_probability: [n, C], float32, mean probability of each class; C is 0 where it is not known.
        mean_classes: [n, C], int32, which classes these are: the target, then the others by their means, and -1 where
            there are no more. [n, 0]: all in their order. The mean of one that was not among the best of a sample in
            each epoch is a lower bound, as it counts as 0 in the others.
    """

    epochs: np.ndarray
    aum: np.ndarray
    el2n: np.ndarray
    target_probability: np.ndarray
    variability: np.ndarray
    learned: np.ndarray
    forgotten: np.ndarray
    last_forgotten: np.ndarray
    correct: np.ndarray
    target: np.ndarray
    mean_probability: np.ndarray
    mean_classes: np.ndarray

    def __len__(self) -> int:
        return len(self.epochs)

    def add(self, epoch: int, seen: Seen) -> None:
        """Add an epoch, in place.

        Args:
            epoch: its number, from 1.
            seen: its samples.
        """
        # A sample without a class, or of logits that are not finite, has no margin.
        counts = np.isfinite(seen.numbers["margin"])
        where, numbers = seen.index[counts], {name: of[counts] for name, of in seen.numbers.items()}
        self.epochs[where] += 1
        before = self.target_probability[where]
        for name, column in (("aum", "margin"), ("el2n", "el2n"), ("target_probability", "target_probability")):
            mean = getattr(self, name)
            mean[where] += (numbers[column] - mean[where]) / self.epochs[where]
        self._add_deviation(where, numbers["target_probability"], before)
        correct = numbers["prediction"] == numbers["target"]
        is_forgotten = self.correct[where] & ~correct
        self.forgotten[where] += is_forgotten
        self.last_forgotten[where] = np.where(is_forgotten, epoch, self.last_forgotten[where])
        self.learned[where] = np.where((self.learned[where] == NEVER) & correct, epoch, self.learned[where])
        self.correct[where], self.target[where] = correct, numbers["target"]
        if self.mean_classes.shape[1]:
            self._add_best(where, seen.shares[counts].astype(np.float32), seen.best[counts])
        elif self.mean_probability.shape[1]:
            means = self.mean_probability[where]
            step = (seen.shares[counts].astype(np.float32) - means) / self.epochs[where][:, None]
            self.mean_probability[where] = means + step

    def _add_best(self, where: np.ndarray, shares: np.ndarray, best: np.ndarray) -> None:
        """Add the probabilities of the best classes, [m, K] each, to those of the classes that are kept."""
        kept, epochs = self.mean_classes[where, 1:], self.epochs[where][:, None]
        means, shares = self.mean_probability[where, 1:] * ((epochs - 1) / epochs), shares / epochs
        is_same = kept[:, :, None] == best[:, None, :]
        means += (is_same * shares[:, None, :]).sum(axis=2)
        classes, means = np.concatenate([kept, best], axis=1), np.concatenate([means, shares], axis=1)
        is_again = np.concatenate([np.zeros(kept.shape, bool), is_same.any(axis=1)], axis=1)
        # The target has a place of its own, the first.
        means[is_again | (classes < 0) | (classes == self.target[where][:, None])] = -1
        order = np.argsort(-means, axis=1, kind="stable")[:, : kept.shape[1]]
        means = np.take_along_axis(means, order, axis=1)
        self.mean_classes[where, 1:] = np.where(means < 0, -1, np.take_along_axis(classes, order, axis=1))
        self.mean_probability[where, 1:] = np.maximum(means, 0)
        self.mean_classes[where, 0], self.mean_probability[where, 0] = (
            self.target[where],
            self.target_probability[where],
        )

    def _add_deviation(self, where: np.ndarray, probability: np.ndarray, mean_before: np.ndarray) -> None:
        # Welford's update of a variance, whose mean is that of the target's probability.
        epochs, mean = self.epochs[where], self.target_probability[where]
        squares = self.variability[where] ** 2 * (epochs - 1) + (probability - mean_before) * (probability - mean)
        self.variability[where] = np.sqrt(np.maximum(squares, 0) / epochs)

    @staticmethod
    def fresh(count: int, classes: int, best: int = 0) -> "RunningValues":
        """Return those of samples that were not seen yet, with means of all ``classes``, or of the ``best`` of many."""
        numbers: dict[str, np.ndarray] = {
            field.name: np.zeros(count, _TYPES.get(field.name, np.float64)) for field in fields(RunningValues)
        }
        # One more for the target.
        numbers["mean_probability"] = np.zeros((count, best + 1 if best else classes), np.float32)
        numbers["mean_classes"] = np.full((count, best + 1 if best else 0), -1, np.int32)
        return RunningValues(**numbers)
