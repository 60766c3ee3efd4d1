"""Handing on what callbacks write to trackers: Catalyst's loggers of W&B, of MLflow, and any that takes pictures."""

import itertools
import re
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from catalyst import dl
from catalyst.core.logger import ILogger


@dataclass(frozen=True)
class Entry:
    """One thing that a callback wrote: ``kind`` is ``scalar``, ``picture`` ([H, W, 3] uint8 RGB) or ``text``."""

    kind: str
    tag: str
    value: Any
    step: int


class Place:
    """A runner as it was at an epoch and a loader: what a logger asks of it when it is called later.

    Args:
        runner: answers whatever else is asked.
        loader_key: name of the loader, or ``run`` for what belongs to none.
        epoch: ``epoch_step`` of then.
    """

    def __init__(self, runner: dl.IRunner, loader_key: str, epoch: int):
        self._runner = runner
        self.loader_key = self.loader = loader_key  # WandbLogger puts the loader itself into names
        self.epoch_step = epoch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)


class Tracker:
    """Hands entries to a Catalyst logger by ``log_image``, ``log_metrics`` (scope ``loader``) and ``log_artifact``.

    A text is an artifact: a Markdown file that lies in a temporary folder until the process ends.

    Args:
        logger: has a ``log_image`` of its own.
    """

    def __init__(self, logger: Any):
        self.logger = logger

    def scalars(self, values: Mapping[str, float], place: Place) -> None:
        self.logger.log_metrics(values, scope="loader", runner=place)

    def picture(self, tag: str, picture: np.ndarray, place: Place) -> None:
        self.logger.log_image(tag, picture, runner=place, scope="loader")

    def text(self, tag: str, text: str, place: Place) -> None:
        if type(self.logger).log_artifact is not ILogger.log_artifact:
            path = _texts() / f"{_as_file_name(tag)}_epoch-{place.epoch_step:04d}_loader-{place.loader_key}.md"
            path.write_text(text)
            self.logger.log_artifact(tag, runner=place, path_to_artifact=str(path), scope="loader")


class WandbTracker(Tracker):
    """Hands entries to W&B: pictures and texts as media ``LOADER/TAG``, scalars as ``WandbLogger`` names metrics."""

    def picture(self, tag: str, picture: np.ndarray, place: Place) -> None:
        import wandb

        self._log(tag, wandb.Image(picture), place)

    def text(self, tag: str, text: str, place: Place) -> None:
        import markdown
        import wandb

        self._log(tag, wandb.Html(markdown.markdown(text, extensions=["tables", "fenced_code"])), place)

    def _log(self, tag: str, value: Any, place: Place) -> None:
        # The steps are those of the logger's own metrics: W&B drops what comes at an earlier one.
        step = place.sample_step if self.logger.log_batch_metrics else place.epoch_step
        self.logger.logger.log({f"{place.loader_key}/{tag}": value}, step=step)


class MLflowTracker(Tracker):
    """Hands entries to MLflow: pictures by epoch under ``LOADER/TAG``, metrics ``TAG/LOADER/epoch``, texts as files."""

    def scalars(self, values: Mapping[str, float], place: Place) -> None:
        named = {_as_mlflow_name(f"{tag}/{place.loader_key}/epoch"): value for tag, value in values.items()}
        self.logger.logger.log_metrics(named, step=place.epoch_step)

    def picture(self, tag: str, picture: np.ndarray, place: Place) -> None:
        key = _as_mlflow_name(f"{place.loader_key}/{tag}")
        self.logger.logger.log_image(picture, key=key, step=place.epoch_step, synchronous=True)

    def text(self, tag: str, text: str, place: Place) -> None:
        name = _as_mlflow_name(f"{place.loader_key}/{tag}").replace(":", "_3a_")
        self.logger.logger.log_text(text, f"{name}/epoch-{place.epoch_step:04d}.md")


def trackers_of(loggers: Sequence[Any]) -> list[Tracker]:
    """Return one for each logger that takes pictures and is not TensorBoard's."""
    return [_tracker_class(logger)(logger) for logger in loggers if _takes_pictures(logger)]


def _takes_pictures(logger: Any) -> bool:
    own = getattr(type(logger), "log_image", ILogger.log_image) is not ILogger.log_image
    return own and not isinstance(logger, dl.TensorboardLogger) and not hasattr(logger, "get_writer")


def _tracker_class(logger: Any) -> type[Tracker]:
    # Catalyst has these two only where their packages are installed.
    for name, tracker in (("WandbLogger", WandbTracker), ("MLflowLogger", MLflowTracker)):
        if isinstance(logger, getattr(dl, name, ())):
            return tracker
    return Tracker


class Outbox:
    """Keeps what was written until the thread of the loop hands it to the trackers.

    Only that thread may: a run of MLflow belongs to the thread that began it, and W&B drops what comes after the
    metrics of a later step.

    Args:
        trackers: in the order in which they are called.
        runner: whose run it is.
        loader_key: of the loader, or ``run``.
    """

    def __init__(self, trackers: Sequence[Tracker], runner: dl.IRunner, loader_key: str):
        self.trackers, self.runner, self.loader_key = trackers, runner, loader_key
        self._entries: deque[Entry] = deque()

    def add(self, entry: Entry) -> None:
        """Keep one thing more; for the thread of the writer."""
        self._entries.append(entry)

    def deliver(self) -> None:
        """Hand all on, in the order in which it was written; scalars of one epoch together."""
        entries = [self._entries.popleft() for _ in range(len(self._entries))]
        for (kind, step), group in itertools.groupby(entries, key=lambda entry: (entry.kind, entry.step)):
            place = Place(self.runner, self.loader_key, step)
            values = [(entry.tag, entry.value) for entry in group]
            for tracker in self.trackers:
                _hand_on(tracker, kind, values, place)


def _hand_on(tracker: Tracker, kind: str, values: list[tuple[str, Any]], place: Place) -> None:
    if kind == "scalar":
        tracker.scalars(dict(values), place)
        return
    take: Callable[[str, Any, Place], None] = tracker.picture if kind == "picture" else tracker.text
    for tag, value in values:
        take(tag, value, place)


_temporary: list[tempfile.TemporaryDirectory[str]] = []


def _texts() -> Path:
    """Return a folder that is there until the process ends: some loggers read files later."""
    if not _temporary:
        _temporary.append(tempfile.TemporaryDirectory(prefix="assay-texts-"))
    return Path(_temporary[0].name)


def _as_file_name(tag: str) -> str:
    return tag.replace("/", "_")


def _as_mlflow_name(tag: str) -> str:
    """Write characters that MLflow refuses by their number, so that different tags stay different."""
    return re.sub(r"[^\w\-. :/]", lambda match: f"_{ord(match[0]):x}_", tag)
