"""The metric by which epochs are compared, and the best epochs by it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from assay.callbacks.errors import UsageError, listing

History = Mapping[int, Mapping[str, Mapping[str, float]]]


@dataclass(frozen=True)
class Monitor:
    """A metric of a loader, and which direction is better.

    Attributes:
        loader: name of the loader.
        metric: name of the metric.
        minimize: whether a smaller value is better.

    Example:
        >>> monitor = Monitor.parse("valid/accuracy:max")
        >>> monitor.name, monitor.minimize
        ('valid/accuracy', False)
        >>> history = {1: {"valid": {"accuracy": 0.7}}, 2: {"valid": {"accuracy": 0.9}}}
        >>> monitor.best(history)
        2
    """

    loader: str
    metric: str
    minimize: bool

    @classmethod
    def parse(cls, text: str) -> "Monitor":
        """Read ``LOADER/METRIC:min`` or ``LOADER/METRIC:max``."""
        path, _, direction = text.rpartition(":")
        loader, _, metric = path.partition("/")
        if not loader or not metric or direction not in ("min", "max"):
            raise UsageError(f"monitor must read LOADER/METRIC:min or LOADER/METRIC:max, got {text!r}.")
        return cls(loader, metric, direction == "min")

    @property
    def name(self) -> str:
        """``LOADER/METRIC``."""
        return f"{self.loader}/{self.metric}"

    def value(self, metrics: Mapping[str, Mapping[str, float]]) -> float:
        """Return the metric's value from one epoch's metrics by loader."""
        if self.loader not in metrics:
            raise UsageError(f"monitor {self.name!r} names a loader that there is not; there is {listing(metrics)}.")
        if self.metric not in metrics[self.loader]:
            raise self._unknown_metric(metrics[self.loader])
        return metrics[self.loader][self.metric]

    def _unknown_metric(self, known: Iterable[str]) -> UsageError:
        close = get_close_matches(self.metric, known, n=1)
        hint = f"did you mean {f'{self.loader}/{close[0]}'!r}? It" if close else "it"
        return UsageError(
            f"monitor {self.name!r}: loader {self.loader!r} has no such metric; {hint} has {listing(known)}."
        )

    def of_epoch(self, runner: Any) -> float | None:
        """Return the value at the end of an epoch of a ``DictRunner``; None where the epoch leaves the loader out."""
        metrics = runner.history[runner.epoch_step]
        # PeriodicLoaderCallback may leave a loader out of an epoch; a loader that never was there is a mistake.
        left_out = self.loader not in metrics and self.loader in runner.all_loaders
        return None if left_out else self.value(metrics)

    def known(self, metrics: Mapping[str, Mapping[str, float]]) -> float:
        """Return the value, NaN where the epoch left the loader out."""
        return self.value(metrics) if self.loader in metrics else math.nan

    def ranking(self, history: History) -> list[int]:
        """Return the epochs with a finite value, best first; of equals the earlier comes first."""
        values = {epoch: self.known(metrics) for epoch, metrics in history.items()}
        # NaN would make the order depend on where it stands; sorted keeps equals in the order of the epochs.
        finite = [epoch for epoch in sorted(values) if math.isfinite(values[epoch])]
        return sorted(finite, key=lambda epoch: values[epoch] if self.minimize else -values[epoch])

    def best(self, history: History) -> int | None:
        """Return the best epoch; None while no value is finite."""
        return next(iter(self.ranking(history)), None)


def parse_monitors(texts: str | Sequence[str]) -> list[Monitor]:
    """Read one monitor or several; the first is the one that decides."""
    texts = [texts] if isinstance(texts, str) else texts
    monitors = [Monitor.parse(text) for text in texts]
    if not monitors or len({monitor.name for monitor in monitors}) != len(monitors):
        raise UsageError(f"monitor must name one or several different metrics, got {list(texts)}.")
    return monitors
