"""Trackers, which get what callbacks write: Catalyst's loggers of W&B and MLflow, and any that takes pictures."""

import itertools
import re
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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


class PastRunner:
    """A runner as it was in an earlier loader, for loggers, which read loader and epoch from it when they are called.

    Args:
        runner: answers everything else.
        loader_key: name of the loader, or ``run`` for what belongs to none.
        epoch: its ``epoch_step``.
    """

    def __init__(self, runner: dl.IRunner, loader_key: str, epoch: int):
        self._runner = runner
        self.loader_key = self.loader = loader_key  # WandbLogger puts the loader itself into names
        self.epoch_step = epoch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)


class Tracker:
    """Hands entries to a Catalyst logger by ``log_image``, ``log_metrics`` (scope ``loader``) and ``log_artifact``.

    A text becomes an artifact: a Markdown file in a temporary folder, which stays until the process ends.

    Args:
        logger: overrides ``log_image``.
    """

    def __init__(self, logger: Any):
        self.logger = logger

    def scalars(self, values: Mapping[str, float], runner: PastRunner) -> None:
        self.logger.log_metrics(values, scope="loader", runner=runner)

    def picture(self, tag: str, picture: np.ndarray, runner: PastRunner) -> None:
        self.logger.log_image(tag, picture, runner=runner, scope="loader")

    def text(self, tag: str, text: str, runner: PastRunner) -> None:
        if type(self.logger).log_artifact is not ILogger.log_artifact:
            path = (
                _folder_of_texts() / f"{_as_file_name(tag)}_epoch-{runner.epoch_step:04d}_loader-{runner.loader_key}.md"
            )
            path.write_text(text)
            self.logger.log_artifact(tag, runner=runner, path_to_artifact=str(path), scope="loader")


class WandbTracker(Tracker):
    """Hands entries to W&B: pictures and texts as media ``LOADER/TAG``, scalars as ``WandbLogger`` names metrics."""

    def picture(self, tag: str, picture: np.ndarray, runner: PastRunner) -> None:
        import wandb

        self._log(tag, wandb.Image(picture), runner)

    def text(self, tag: str, text: str, runner: PastRunner) -> None:
        import markdown
        import wandb

        self._log(tag, wandb.Html(markdown.markdown(text, extensions=["tables", "fenced_code"])), runner)

    def _log(self, tag: str, value: Any, runner: PastRunner) -> None:
        # The step must be that of the logger's own metrics: W&B drops what comes at an earlier one.
        step = runner.sample_step if self.logger.log_batch_metrics else runner.epoch_step
        self.logger.logger.log({f"{runner.loader_key}/{tag}": value}, step=step)


class MLflowTracker(Tracker):
    """Hands entries to MLflow: pictures by epoch under ``LOADER/TAG``, metrics ``TAG/LOADER/epoch``, texts as files."""

    def scalars(self, values: Mapping[str, float], runner: PastRunner) -> None:
        named = {_as_mlflow_name(f"{tag}/{runner.loader_key}/epoch"): value for tag, value in values.items()}
        self.logger.logger.log_metrics(named, step=runner.epoch_step)

    def picture(self, tag: str, picture: np.ndarray, runner: PastRunner) -> None:
        key = _as_mlflow_name(f"{runner.loader_key}/{tag}")
        self.logger.logger.log_image(picture, key=key, step=runner.epoch_step, synchronous=True)

    def text(self, tag: str, text: str, runner: PastRunner) -> None:
        name = _as_mlflow_name(f"{runner.loader_key}/{tag}").replace(":", "_3a_")
        self.logger.logger.log_text(text, f"{name}/epoch-{runner.epoch_step:04d}.md")


def trackers_of(loggers: Sequence[Any]) -> list[Tracker]:
    """Return a tracker for each logger that takes pictures and is not TensorBoard's."""
    return [_tracker_class(logger)(logger) for logger in loggers if _takes_pictures(logger)]


def _takes_pictures(logger: Any) -> bool:
    # A logger of any other kind inherits a ``log_image`` that does nothing.
    own = getattr(type(logger), "log_image", ILogger.log_image) is not ILogger.log_image
    return own and not isinstance(logger, dl.TensorboardLogger) and not hasattr(logger, "get_writer")


def _tracker_class(logger: Any) -> type[Tracker]:
    # Catalyst has these two only where their packages are installed.
    for name, tracker in (("WandbLogger", WandbTracker), ("MLflowLogger", MLflowTracker)):
        if isinstance(logger, getattr(dl, name, ())):
            return tracker
    return Tracker


class Outbox:
    """Collects what is written until the thread of the loop delivers it to the trackers.

    Args:
        trackers: in the order in which they are called.
        runner: whose run it is.
        loader_key: of the loader, or ``run``.
    """

    def __init__(self, trackers: Sequence[Tracker], runner: dl.IRunner, loader_key: str):
        self.trackers, self.runner, self.loader_key = trackers, runner, loader_key
        # The writer's thread appends and the loop's thread pops. Only the latter may call a tracker: a run of MLflow
        # belongs to the thread that began it, and W&B drops what comes after the metrics of a later step.
        self._entries: deque[Entry] = deque()

    def add(self, entry: Entry) -> None:
        """Add an entry; called in the thread of the writer."""
        # The overview is only a place in TensorBoard, and the number of a group one to sort by.
        self._entries.append(replace(entry, tag=re.sub(r"^(1_overview/|\d+_)", "", entry.tag)))

    def deliver(self) -> None:
        """Deliver all entries in the order in which they were written, and scalars of one epoch together."""
        entries = [self._entries.popleft() for _ in range(len(self._entries))]
        for (kind, step), group in itertools.groupby(entries, key=lambda entry: (entry.kind, entry.step)):
            runner = PastRunner(self.runner, self.loader_key, step)
            values = [(entry.tag, entry.value) for entry in group]
            for tracker in self.trackers:
                _deliver_entries(tracker, kind, values, runner)


def _deliver_entries(tracker: Tracker, kind: str, values: list[tuple[str, Any]], runner: PastRunner) -> None:
    if kind == "scalar":
        tracker.scalars(dict(values), runner)
        return
    take: Callable[[str, Any, PastRunner], None] = tracker.picture if kind == "picture" else tracker.text
    for tag, value in values:
        take(tag, value, runner)


_temporary_folders: list[tempfile.TemporaryDirectory[str]] = []


def _folder_of_texts() -> Path:
    # It stays until the process ends, because some loggers read files later.
    if not _temporary_folders:
        _temporary_folders.append(tempfile.TemporaryDirectory(prefix="assay-texts-"))
    return Path(_temporary_folders[0].name)


def _as_file_name(tag: str) -> str:
    return tag.replace("/", "_")


def _as_mlflow_name(tag: str) -> str:
    # Characters that MLflow refuses are written by their number, so that different tags stay different.
    return re.sub(r"[^\w\-. :/]", lambda match: f"_{ord(match[0]):x}_", tag)
