"""Running values of samples over the epochs in which they were seen."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

NEVER = 0  # the epoch in which a sample was learned, or was forgotten last, that never was
EPOCH_NUMBERS = ("learned", "last_forgotten")  # which are ``NEVER`` for some
_WHOLE = ("epochs", "forgotten", "target", *EPOCH_NUMBERS)
_TYPES = {**dict.fromkeys(_WHOLE, np.int32), "correct": np.bool_}


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

    def __len__(self) -> int:
        return len(self.epochs)

    def add(self, epoch: int, where: np.ndarray, numbers: Mapping[str, np.ndarray], shares: np.ndarray | None) -> None:
        """Add an epoch, in place.

        Args:
            epoch: its number, from 1.
            where: [m], numbers of the samples that were seen, each once.
            numbers: [m] of each column of ``measures.sample_history``.
            shares: [m, C], probabilities of the classes; None: they are not known.
        """
        # A sample without a class, or of logits that are not finite, has no margin.
        counts = np.isfinite(numbers["margin"])
        where, numbers = where[counts], {name: of[counts] for name, of in numbers.items()}
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
        if shares is not None and self.mean_probability.shape[1]:
            means = self.mean_probability[where]
            step = (shares[counts].astype(np.float32) - means) / self.epochs[where][:, None]
            self.mean_probability[where] = means + step

    def _add_deviation(self, where: np.ndarray, probability: np.ndarray, mean_before: np.ndarray) -> None:
        # Welford's update of a variance, whose mean is that of the target's probability.
        epochs, mean = self.epochs[where], self.target_probability[where]
        squares = self.variability[where] ** 2 * (epochs - 1) + (probability - mean_before) * (probability - mean)
        self.variability[where] = np.sqrt(np.maximum(squares, 0) / epochs)

    @staticmethod
    def fresh(count: int, classes: int) -> "RunningValues":
        """Return those of samples that were not seen yet."""
        numbers: dict[str, np.ndarray] = {
            field.name: np.zeros(count, _TYPES.get(field.name, np.float64)) for field in fields(RunningValues)
        }
        return RunningValues(**{**numbers, "mean_probability": np.zeros((count, classes), np.float32)})
