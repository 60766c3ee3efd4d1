"""PredictionTable: the predictions for each sample of a loader as a CSV file."""

import heapq
import os
import pickle
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from catalyst import dl
from torch import Tensor

from ..base.order import DIAGNOSTICS
from ..classes.class_counts import count_classes
from ..errors import UsageError, unknown_name
from ..keys import OUTPUT_KEY, SAMPLE_ID_KEY, TARGET_KEY, pick
from ..metrics.batch_metrics import METRIC_TASKS
from ..support.class_names import check_names
from ..support.distributed import from_main_rank, gather_objects, world_size
from ..support.host_copy import copy_tree, is_read_at_once, read_tree
from ..support.runner_view import folder_in_run, positions_in_loader, samples_of_keys
from .csv_table import write_table
from .task_scores import probabilities_of

Row = tuple[int, list[str]]  # position in the loader, cells

# Rows that ranks exchange at once, so that memory does not grow with the loader.
_ROWS_AT_ONCE = 4096


class PredictionTable(dl.Callback):
    """Writes the predictions of the model as CSV, one row per sample, in the order of the loader.

    ================= ========================================================================================
    column            content
    ================= ========================================================================================
    sample_id         the id in the batch, or else the position in the loader, from 0
    target            if the batch has it: the class, the labels separated by semicolons, or the number; for
                      ``regression`` with D numbers the columns are target/0 and so on
    prediction        the predicted class, labels or number, in the same form; for ``binary`` and ``multilabel``,
                      yes from a probability of 0.5 on
    probability/CLASS probability of each class or label, 0 to 1, six digits; for ``binary`` only of class 1
    ================= ========================================================================================

    The file is ``LOADER.csv``; each epoch replaces it as a whole. ``assay predict`` writes the same table for image
    files. Every sample of every rank has a row; a sampler that repeats samples to give all ranks equal shares repeats
    their rows.

    Nothing is read from the device within a step. Memory does not grow with the number of samples: rows are kept in a
    temporary file. In a run that is resumed within an epoch, the table of that loader holds only the samples after it.

    Args:
        folder: folder of the files; None: ``predictions`` in the run's ``logdir``.
        loaders: name of the loader to write, or several; None: all but training loaders.
        task: ``multiclass`` (output [N, C]: the largest logit wins), ``binary`` (logits [N] or [N, 1]), ``multilabel``
            (logits [N, C]) or ``regression`` (numbers [N] or [N, D]).
        num_classes: C, the number of classes or labels. Not needed with ``class_names``, nor for ``binary`` and
            ``regression``.
        class_names: one name per class or label; None: they are shown by number.
        output_key: key of the outputs in the batch.
        target_key: key of the targets in the batch: class numbers [N], labels [N, C], or numbers in the shape of the
            output. The batch may lack it.
        sample_id_key: key of the sample ids in the batch. The batch may lack it.

    Raises:
        UsageError: an argument is out of range; at the start of the run, there is no such loader or no folder, or two
            callbacks have the same folder; at a batch, the output is missing or has another shape, such as that of
            masks.
        OSError: the file, which the error names, cannot be written; raised on every rank.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        loaders: str | Sequence[str] | None = None,
        task: str = "multiclass",
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        output_key: str = OUTPUT_KEY,
        target_key: str = TARGET_KEY,
        sample_id_key: str = SAMPLE_ID_KEY,
    ):
        super().__init__(order=DIAGNOSTICS)
        if task not in METRIC_TASKS:
            raise unknown_name("task", task, METRIC_TASKS)
        self.folder = None if folder is None else Path(folder)
        self.loaders = [loaders] if isinstance(loaders, str) else loaders
        self.task = task
        count = 0 if task == "regression" else count_classes(task, num_classes, class_names)
        self.class_names = check_names(class_names) or [str(number) for number in range(count)]
        self.output_key, self.target_key, self.sample_id_key = output_key, target_key, sample_id_key
        self.folder_ = self.folder
        self.rows_: _Rows | None = None
        self.header_: list[str] = []
        self.pending_: Callable[[], None] | None = None

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        # Before the first step: a run must not end at its first table.
        self.folder_ = self._find_folder(runner)
        for loader in self.loaders or ():
            pick(runner.loaders, loader, f"PredictionTable(loaders={loader!r})", source_name="run's loaders")
        peers = [c for c in runner.callbacks.values() if isinstance(c, PredictionTable)]
        if sum(peer._find_folder(runner) == self.folder_ for peer in peers) > 1:
            raise UsageError(f"PredictionTable: two callbacks write to {self.folder_}; give each a folder of its own.")

    def on_loader_start(self, runner: dl.IRunner) -> None:
        self._close()
        wanted = not runner.is_train_loader if self.loaders is None else runner.loader_key in self.loaders
        if wanted:
            self.rows_ = _Rows()

    def on_batch_end(self, runner: dl.IRunner) -> None:
        if self.rows_ is None:
            return
        size = samples_of_keys(runner, [self.output_key])
        positions = positions_in_loader(runner, size)
        parts = {"output": self._output(runner, size)}
        ids = runner.batch.get(self.sample_id_key, positions)
        if self.target_key in runner.batch:
            parts["target"] = self._target(runner.batch[self.target_key], parts["output"].shape)
        # The copies start before those of the last step are read, so that they travel meanwhile.
        copies = copy_tree({**parts, "id": ids if isinstance(ids, Tensor) else list(ids)})
        self._settle()
        self.pending_ = partial(self._add_rows, self.rows_, positions.start, copies)
        # On a CPU nothing is gained by waiting.
        if is_read_at_once(runner):
            self._settle()

    def on_loader_end(self, runner: dl.IRunner) -> None:
        if self.rows_ is None:
            return
        self._settle()
        error = None
        # A collective. A rank without a batch has no header, and the main process may be one.
        header: list[str] = next((header for header in gather_objects(self.header_) if header), [])
        try:
            with _gathered(self.rows_, runner.engine.is_main_process) as files:
                if runner.engine.is_main_process and self.folder_ is not None:
                    self._write(self.folder_ / f"{runner.loader_key}.csv", header, files)
        except OSError as failed:
            error = failed
        self._close()
        # Only the main process writes; its error is raised on every rank, so that none waits for the others.
        if (error := from_main_rank(error)) is not None:
            raise error

    def on_exception(self, runner: dl.IRunner) -> None:
        self._close()

    def _close(self) -> None:
        if self.rows_ is not None:
            self.rows_.close()
        self.rows_, self.pending_, self.header_ = None, None, []

    def _settle(self) -> None:
        # One step later, as the copies have reached the host by then and the loop need not wait for them.
        if self.pending_ is not None:
            self.pending_()
            self.pending_ = None

    def _find_folder(self, runner: dl.IRunner) -> Path:
        return folder_in_run(runner, self.folder, "predictions", "PredictionTable")

    def _write(self, path: Path, header: list[str], files: Sequence["_Rows"]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_table(path, header or ["sample_id"]) as table:
            # Each file is in the order of the loader already, so that merging needs one row per file in memory.
            for _, cells in heapq.merge(*files, key=itemgetter(0)):
                table.add(cells)

    def _output(self, runner: dl.IRunner, size: int) -> Tensor:
        """Return probabilities [N, C], or numbers [N, D] for ``regression``, on the device."""
        output = pick(runner.batch, self.output_key, type(self).__name__).detach()
        columns = 1 if self.task == "binary" else len(self.class_names)
        flat = output.reshape(size, -1) if output.ndim in (1, 2) and len(output) == size else output
        if flat.ndim != 2 or (columns and flat.shape[1] != columns):
            shape = "[N, D]" if self.task == "regression" else f"[{size}, {columns}]"
            raise UsageError(
                f"PredictionTable(task={self.task!r}) needs an output of shape {shape}, got {self.output_key} "
                f"{tuple(output.shape)}; masks and boxes are written by assay predict."
            )
        return flat if self.task == "regression" else probabilities_of(flat, self.task)

    def _target(self, target: Any, shape: Sequence[int]) -> Tensor:
        """Return class numbers [N, 1], or labels or numbers [N, C]."""
        found = torch.as_tensor(target).detach()
        found = found.reshape(shape[0], -1) if len(found) == shape[0] else found
        if found.ndim == 2 and self.task == "multiclass" and found.shape[1] == shape[1] > 1:
            # Soft or one-hot targets: the class with the largest share.
            return found.argmax(dim=1, keepdim=True)
        if found.ndim != 2 or found.shape[1] != (1 if self.task == "multiclass" else shape[1]):
            raise UsageError(
                f"PredictionTable(task={self.task!r}) needs a target for each output of {tuple(shape)}, got "
                f"{self.target_key} {tuple(torch.as_tensor(target).shape)}."
            )
        return found

    def _add_rows(self, rows: "_Rows", first: int, copies: Mapping[str, Any]) -> None:
        host = read_tree(copies)
        names = [name for name in ("target", "prediction") if name == "prediction" or "target" in host]
        values, size = host["output"], len(host["output"])
        columns = {"target": host.get("target"), "prediction": values}
        if self.task == "regression":
            places = [""] if values.shape[1] == 1 else [f"/{place}" for place in range(values.shape[1])]
            self.header_ = ["sample_id", *(f"{name}{place}" for name in names for place in places)]
        else:
            shown = self.class_names[1:] if self.task == "binary" else self.class_names
            self.header_ = ["sample_id", *names, *(f"probability/{name}" for name in shown)]
        ids = host["id"].tolist() if hasattr(host["id"], "tolist") else host["id"]
        for index in range(size):
            cells = [str(ids[index])]
            for name in names:
                cells += self._cells(name, columns[name][index])
            if self.task != "regression":
                cells += [f"{value:.6f}" for value in values[index].tolist()]
            rows.add((first + index, cells))

    def _cells(self, name: str, values: np.ndarray) -> list[str]:
        """Return the cells of a target or a prediction."""
        if self.task == "regression":
            # Nine digits give every float32 back.
            return [f"{value:.9g}" for value in values.tolist()]
        # A broken output has no largest class, and must not look like a prediction.
        if not np.isfinite(values).all():
            return ["nan"]
        if self.task == "multilabel":
            known = zip(self.class_names, values.tolist(), strict=True)
            return [";".join(label for label, value in known if value >= 0.5)]
        if self.task == "binary" and name == "prediction":
            return [self.class_names[int(values[0] >= 0.5)]]
        number = values.argmax() if name == "prediction" else values[0]
        # An ignored target, such as 255, is no class, and is written as it is.
        is_class = float(number).is_integer() and 0 <= number < len(self.class_names)
        return [self.class_names[int(number)] if is_class else f"{number:g}"]


class _Rows:
    """Rows in a temporary file, in the order in which they were added."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115, it is closed by close

    def add(self, row: Row) -> None:
        pickle.dump(row, self._file)

    def __iter__(self) -> Iterator[Row]:
        self._file.seek(0)
        while True:
            try:
                yield pickle.load(self._file)
            except EOFError:
                return

    def close(self) -> None:
        self._file.close()


@contextmanager
def _gathered(mine: _Rows, is_main: bool) -> Iterator[list[_Rows]]:
    """Give the main process the rows of all ranks, one file per rank. A collective, a few rows at a time."""
    files = [_Rows() for _ in range(world_size())] if world_size() > 1 else []
    try:
        rows = iter(mine)
        while files and any(parts := gather_objects(list(islice(rows, _ROWS_AT_ONCE)))):
            for file, part in zip(files, parts, strict=True):
                for row in part if is_main else ():
                    file.add(row)
        yield files or [mine]
    finally:
        for file in files:
            file.close()
