"""Loggers of a run: TensorBoard, with one event folder per loader, and a CSV file."""

import csv
import io
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from catalyst import dl
from catalyst.core.logger import ILogger
from torch import Tensor

from assay.callbacks.base.metric_tags import batch_metric_tag, metric_tag
from assay.callbacks.errors import UsageError
from assay.callbacks.support.atomic_files import naming, save_text
from assay.callbacks.tensorboard.hparams_summaries import flatten, session_start
from assay.callbacks.tensorboard.writer import Writer

from .any_picture import as_rgb
from .log_truncation import file_sizes, truncate_to

_log = logging.getLogger("assay")

_PLAIN = (bool, int, float, str, list, dict, type(None))

_FORMER_RUN = "run"  # the folder where former versions wrote what belongs to no loader
_FOLDERS = ("train*", "valid*", "infer*", _FORMER_RUN)  # Catalyst takes no loader of another name

CSV_COLUMNS = ["epoch", "loader", "metric", "value"]

Rows = Mapping[tuple[int, str], Mapping[str, float]]
"""Metrics by epoch and loader."""


class TensorBoardLogger(ILogger):
    """Writes to ``FOLDER/LOADER/``, and values that belong to no loader to the folder of one of them.

    ======================================= ======= =================================================================
    tag                                     kind    content
    ======================================= ======= =================================================================
    ``1_overview/loss``                     scalar  the loader's loss; step = epoch
    ``1_overview/metrics/METRIC``           scalar  the same of each metric of the task
    ``3_metrics/METRIC``                    scalar  the same of the terms of the loss, and of minor metrics
    ``4_metrics_per_class/METRIC/CLASS``    scalar  the same of single classes
    ``9_bounds/METRIC``                     scalar  the same of bounds of errors
    ``9_by_samples_seen/METRIC``            scalar  a batch's metric, every ``log_every_steps`` steps; step = samples
                                                    seen in all loaders
    ``9_config``                            text    in ``run_loader``: hyper-parameters, as YAML
    (HPARAMS tab)                           hparams in ``run_loader``: hyper-parameters; the callback ``HParams`` adds
                                                    the best metric
    ======================================= ======= =================================================================

    Callbacks get the writer of a loader from ``get_writer`` (see ``assay.callbacks.tensorboard.find_writer``). A
    resumed run truncates the event files to their length at the checkpoint, so that no point is duplicated or missing.

    Args:
        folder: where to create the event folders.
        log_every_steps: how often to write batch metrics; 0: never.
        run_loader: the loader whose folder gets what belongs to no loader.
    """

    def __init__(self, folder: str | os.PathLike[str], *, log_every_steps: int = 10, run_loader: str = "train"):
        super().__init__(log_batch_metrics=log_every_steps > 0, log_epoch_metrics=True)
        if log_every_steps < 0:
            raise UsageError(f"log_every_steps must be at least 0, got {log_every_steps}.")
        self.folder = Path(folder)
        self.log_every_steps = log_every_steps
        self.run_loader = run_loader
        self.writers_: dict[str, Writer] = {}

    @property
    def logger(self) -> dict[str, Writer]:
        """The writers by event folder; the name is Catalyst's."""
        return self.writers_

    def get_writer(self, loader_key: str) -> Writer:
        """Return the writer of a loader's event folder, and create it on first use."""
        if loader_key not in self.writers_:
            # Imported on first use, as it is slow to import.
            from torch.utils.tensorboard import SummaryWriter

            from .checksums import speed_up_checksums

            speed_up_checksums()
            self.writers_[loader_key] = Writer(SummaryWriter(str(self.event_folder(loader_key))))
        return self.writers_[loader_key]

    def get_run_writer(self) -> Writer:
        """Return the writer of what belongs to no loader."""
        # The hyper-parameters of a run of a former version are there, and what ends its row must be beside them.
        return self.get_writer(_FORMER_RUN if (self.folder / _FORMER_RUN).is_dir() else self.run_loader)

    def event_folder(self, loader_key: str) -> Path:
        """Return where the events of a loader are written."""
        return self.folder / loader_key

    def log_metrics(self, metrics: Mapping[str, Any], scope: str, runner: dl.IRunner) -> None:
        if scope == "batch" and self.log_every_steps:
            # Catalyst's loader_batch_step counts the batches of all processes.
            if runner.loader_batch_step // runner.engine.num_processes % self.log_every_steps == 0:
                self._log_batch(metrics, runner)
        elif scope == "loader":
            values = {metric_tag(runner, name): float(value) for name, value in metrics.items()}
            self.get_writer(runner.loader_key).scalars(values, runner.epoch_step)

    def log_hparams(self, hparams: Mapping[str, Any], runner: dl.IRunner | None = None) -> None:
        if not hparams:
            return
        writer = self.get_run_writer()
        writer.text("9_config", f"```yaml\n{_to_yaml(hparams)}```", 0)
        writer.summary(session_start(flatten(hparams)))

    def log_image(self, tag: str, image: Any, runner: dl.IRunner, scope: str | None = None) -> None:
        """Write a picture for callbacks that use Catalyst's own ``runner.log_image``.

        Args:
            tag: of the picture.
            image: see ``as_rgb``.
            runner: its current loader decides the folder.
            scope: ``batch``: the step is the number of samples seen; otherwise the epoch.
        """
        picture = as_rgb(image)  # a copy, made now: the caller may change the array before the writer's thread runs
        step = runner.sample_step if scope == "batch" else runner.epoch_step
        self.get_writer(runner.loader_key).image(tag, lambda: picture, step)

    def flush_log(self) -> None:
        for writer in self.writers_.values():
            writer.flush()

    def close_log(self) -> None:
        for writer in self.writers_.values():
            writer.close()

    def state_dict(self) -> dict[str, int]:
        """Return the size of each event file, by its path, after everything queued is written."""
        for writer in self.writers_.values():
            writer.drain()
        return file_sizes(self.folder, self._event_files())

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Truncate the event files to the sizes in ``state``; call it before the first ``get_writer``."""
        truncate_to(self.folder, self._event_files(), state)

    def _event_files(self) -> Iterator[Path]:
        # Nothing else: a run folder may hold event files that are not of this logger, and those stay as they are.
        for name in _FOLDERS:
            yield from self.folder.glob(f"{name}/events.out.tfevents.*")

    def _log_batch(self, metrics: Mapping[str, Any], runner: dl.IRunner) -> None:
        tensors = {name: value for name, value in metrics.items() if isinstance(value, Tensor)}
        numbers = {batch_metric_tag(name): float(value) for name, value in metrics.items() if name not in tensors}
        writer = self.get_writer(runner.loader_key)
        if tensors:  # one copy to the host for all, which the writer's thread reads later
            values = torch.stack([value.detach().reshape(()).float() for value in tensors.values()])
            writer.scalars_later([batch_metric_tag(name) for name in tensors], values, runner.sample_step)
        if numbers:
            writer.scalars(numbers, runner.sample_step)


class MetricsCsv(ILogger):
    """Appends every loader's metrics to a file with the columns epoch, loader, metric, value.

    Epochs count from 1. A resumed run truncates the file to its length at the checkpoint. A file that was edited since
    keeps its complete lines up to that epoch, and a missing one is written again.

    Args:
        path: the file.
    """

    def __init__(self, path: str | os.PathLike[str]):
        super().__init__(log_batch_metrics=False, log_epoch_metrics=True)
        self.path = Path(path)

    def log_metrics(self, metrics: Mapping[str, Any], scope: str, runner: dl.IRunner) -> None:
        if scope != "loader":
            return
        rows = [(runner.epoch_step, runner.loader_key, name, float(value)) for name, value in metrics.items()]
        is_new = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with naming(self.path), open(self.path, "a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([CSV_COLUMNS, *rows] if is_new else rows)

    def state_dict(self) -> dict[str, int]:
        """Return the size of the file, by its name; nothing if it does not exist."""
        return file_sizes(self.path.parent, [self.path])

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Truncate the file to its size in ``state``."""
        if self.path.is_file():
            truncate_to(self.path.parent, [self.path], state)

    def load_history(self, known: Rows, state: Mapping[str, int]) -> None:
        """Restore the file as of the checkpoint, even if it was edited or removed.

        Args:
            known: the metrics up to the checkpoint, by epoch and loader.
            state: what ``state_dict`` returned at the checkpoint.
        """
        # A line that ends exactly at the saved size is taken as a sign that the file was only appended to.
        size = state.get(self.path.name)
        if size is None or (self.path.is_file() and self.path.read_bytes()[:size][size - 1 :] == b"\n"):
            self.load_state_dict(state)
        elif self.path.is_file():
            _log.warning("%s was edited since the checkpoint: its complete lines until then are kept.", self.path)
            save_text(self.path, "".join(_lines_until(self.path.read_bytes(), known)))
        else:
            _log.warning("%s is missing: it is written again from the checkpoint.", self.path)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            save_text(self.path, "".join(_csv_lines([CSV_COLUMNS, *_rows_of(known)])))


def _rows_of(known: Rows) -> Iterator[tuple[int, str, str, float]]:
    for (epoch, loader), metrics in known.items():
        for name, value in metrics.items():
            yield epoch, loader, name, float(value)


def _csv_lines(rows: Iterable[Sequence[Any]]) -> list[str]:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().splitlines(keepends=True)


def _lines_until(content: bytes, known: Rows) -> Iterator[str]:
    """Yield the header and the complete lines of a file whose epoch and loader are known."""
    yield from _csv_lines([CSV_COLUMNS])
    for line in content.decode(errors="replace").splitlines(keepends=True):
        cells = next(csv.reader([line]), [])
        is_row = line.endswith("\n") and len(cells) == len(CSV_COLUMNS) and cells[0].isdecimal()
        if is_row and (int(cells[0]), cells[1]) in known:
            yield line


def read_metrics(path: str | os.PathLike[str]) -> dict[tuple[int, str, str], float]:
    """Return a ``metrics.csv`` as {(epoch, loader, metric): value}."""
    with open(path, newline="") as file:
        return {(int(row["epoch"]), row["loader"], row["metric"]): float(row["value"]) for row in csv.DictReader(file)}


def _to_yaml(hparams: Mapping[str, Any]) -> str:
    values = {name: value if isinstance(value, _PLAIN) else str(value) for name, value in hparams.items()}
    return str(yaml.safe_dump(values, sort_keys=False))  # in the order of the fields, as in config.yaml
