"""SampleHistory: what becomes of each sample, epoch by epoch, as Parquet files."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from catalyst import dl
from torch import Tensor

from ..base.detections import Detections
from ..base.diagnostic import Diagnostic
from ..base.dict_batch import dict_batch
from ..drawings.canvas.images import Channels
from ..drawings.canvas.picture_style import PictureStyle
from ..errors import UsageError, at_least_one, listing, unknown_name
from ..keys import IMAGE_KEY, OUTPUT_KEY, SAMPLE_ID_KEY, TARGET_KEY
from ..measures.sample_history import TASKS
from ..results.result_files import file_name
from ..samples.box_score import SampleBoxes
from ..support.class_names import check_names
from ..support.host_copy import is_read_at_once
from ..support.runner_view import draws_order, kept_parts, logdir_of, positions_in_loader, samples_of_keys
from ..support.sample_losses import (
    NO_SCORE,
    WHOLE_BATCH,
    NoSampleLossError,
    kept_copy,
    losses_of_batch,
    row_criterion,
    row_losses,
)
from ..tensorboard.writer import Writer
from .batch_numbers import MOST_CLASSES, OF_MAPS, BatchReader
from .collected import CollectedSamples, SampleRows, kept_ids, over_ranks, why_no_ids
from .duplicates import FINDINGS_FILE, read_duplicates
from .file_names import FileNames
from .pictures.encoder import Encoder
from .pictures.named_samples import named_samples
from .pictures.suspect_picture import SURE_TAG, suspect_picture
from .pictures.thumbnails import BUDGET, Thumbnails
from .suspect_table import SuspectTable
from .suspects import FROM_EPOCH

if TYPE_CHECKING:
    from .files import SampleFiles
    from .groups import FoundGroups

_log = logging.getLogger("assay")


class SampleHistory(Diagnostic):
    """Writes for each sample and epoch what the model made of it, in files that pandas, polars and duckdb read.

    ============================== =====================================================================================
    file in ``samples/LOADER``     rows and columns
    ============================== =====================================================================================
    ``about.json``                 ``loader``, its name; ``task``; ``class_names``, a list or null; ``ignore_index``
    ``ids.parquet``                one row per sample: ``index``, its number from 0 in the order in which samples were
                                   first seen; ``id``, the id in the batch as text
    ``epoch-000001.parquet``       one row per sample seen in that epoch: ``index``; ``target``, ``prediction``: class
                                   numbers; ``probability`` of the prediction and ``target_probability``, 0 to 1;
                                   ``margin``, the logit of the target less the largest other one; ``el2n``, 0 to
                                   sqrt(2); ``loss``. Numbers have 16 binary digits
    ``running.parquet``            one row per sample, over the epochs in which it was seen: ``index``; ``epochs``, how
                                   many these are; ``aum``, ``el2n`` and ``target_probability``, means; ``variability``,
                                   the standard deviation of the latter; ``learned``, the first epoch in which it was
                                   predicted right; ``forgotten``, how often it was right and then wrong, and
                                   ``last_forgotten``, the epoch of the last time; ``correct``, whether it was right at
                                   last, and ``target``, its class then; ``mean_probability``, one number per class, up
                                   to 200 classes; of more classes those of the target and of the ten largest others,
                                   and ``mean_classes``, which these are. An epoch in which a class was not among the
                                   ten best of the sample counts as 0 there
    ============================== =====================================================================================

    Samples of other tasks have in the file of an epoch ``index`` and the columns below, and their means as running
    values (see ``history.running``).

    ================ ===================================================================================================
    task             columns
    ================ ===================================================================================================
    ``multilabel``   ``wrong_labels``, how many; ``margin``, the smallest of its labels, below 0 where one is wrong;
                     ``loss``
    ``segmentation`` ``score``, the mean IoU of the classes that are true or predicted in the sample; ``contradicted``,
                     how surely the model sees another class in a region than the mask says, 0 to 1; from 0.9 on
                     ``region_target`` and ``region_seen``, class of the mask and class that is seen there, and ``x1``,
                     ``y1``, ``x2``, ``y2``, the box around it in pixels (see ``measures.mask_regions``); ``loss``
    ``detection``    ``score``, the average precision of its boxes; ``boxes``, ``found``, ``missed`` and ``false``,
                     how many; what speaks against boxes (see ``measures.box_evidence``); ``loss``, which is null
    ================ ===================================================================================================

    From the third epoch on, ``suspects.csv`` lists what is probably wrong with labels, the surest first: loader, id,
    file where the data set tells it, what it is (``history.suspects.SUSPECT_KINDS``), label, likely label, score, 0 to
    1, number of epochs, and where in the picture. It is in ``results`` of the run, or in ``folder``; a line at the end
    of the run names the first ones of each kind. ``groups.parquet`` has the surest one of each sample, and which
    samples are stuck, newly wrong, forgotten, unstable or easy (see ``history.groups``). Samples whose duplicates have
    another label are read from ``findings.json`` in the ``logdir``.

    ============================ ======================================================================================
    tag                          number of samples of the loader after each epoch, over all epochs so far
    ============================ ======================================================================================
    ``9_history/stuck``          that were never predicted right, in three epochs or more
    ``9_history/newly_wrong``    that are wrong, and were right in the epoch before
    ``9_history/forgotten``      that were right once, and are wrong now
    ``9_history/unstable``       that were right and then wrong again and again
    ``9_history/easy``           that were learned at once and never forgotten
    ============================ ======================================================================================

    From the third epoch on, ``9_history/suspects`` is the number of suspected samples, and ``2_suspects/surest`` shows
    the surest, where they are images: one grid, [H, W, 3] uint8 RGB.

    What cannot be told is null: of a target that is no class or ``ignore_index``, of outputs that are not finite, of a
    criterion that has no loss of one sample. ``measures.sample_history`` has the definitions and their sources;
    ``docs/sample-history.md`` tells of the thumbnails and shows queries.

    Loaders for inference are left out, and so are those whose batches hold no ids and whose order changes, as in
    training, and those with more than ``max_samples`` samples; one line says so. A sample that an epoch shows twice
    counts once. Numbers stay on the device until the loader has ended; nothing is read within a step. Memory: 28 bytes,
    of boxes 44, the id and 2 C bytes per sample of the epoch under way, with C classes or labels; of more than 200, 60
    in place of 2 C. Files are written in a thread, whole or not at all, and are the same on any number of ranks. A run
    that ``DictRunner`` resumes ends with the files of one that was never interrupted.

    Args:
        task: ``multiclass`` (logits [N, C]), ``binary`` (logits [N] or [N, 1]), ``multilabel`` (logits [N, C]) or
            ``detection``; logits with more axes are maps.
        max_samples: largest number of samples of a loader; None: any.
        folder: where to write, reserved for this callback. None: ``samples`` in the run's ``logdir``; without that,
            nothing is written, and one line says so.
        output_key: key of the logits in the batch.
        target_key: key of the targets in the batch: class numbers [N], or shares [N, C], of which the largest counts;
            0 and 1 of labels; of maps a value for each pixel; N dicts of boxes.
        sample_id_key: key of the sample ids in the batch, which are unique; without it, samples of loaders whose
            order stays are named by their position in the loader.
        class_names: one name per class, for ``suspects.csv``; None: classes are shown by number.
        ignore_index: target value that is no class.
        criterion_key: name of the criterion, of several, that gives the loss of a sample; None: the only one, or all
            terms of a ``DictRunner``.
        thumbnails: whether small pictures of samples are kept; ``auto``: where the batches hold images.
        thumbnail_bytes: what they may take in all. Where all samples fit, all have one; else those that lists name.
        image_key: key of the images in the batch, for thumbnails: see ``BestWorstSamples``.
        mean: mean of the images' normalization ``(x - mean) / std``, one number or one per channel.
        std: standard deviation of that normalization, one number or one per channel.
        min_score: detection: predictions below it are neither found nor false.
        min_iou: detection: smallest overlap at which a box counts as found.
        prefix: added to the tags, as ``TAG/PREFIX``; a second callback of this kind needs one.

    Raises:
        UsageError: an argument is out of range; at the start of the run, two callbacks have the same folder; at a
            batch, a key is missing or a shape does not fit.
        OSError: a file, which the error names, cannot be written.
    """

    observed = ("collected_", "pictures_")
    own_tags = ("2_suspects/surest", "9_history/stuck")

    def __init__(
        self,
        task: str = "multiclass",
        max_samples: int | None = 200_000,
        *,
        folder: str | os.PathLike[str] | None = None,
        output_key: str = OUTPUT_KEY,
        target_key: str = TARGET_KEY,
        sample_id_key: str = SAMPLE_ID_KEY,
        class_names: Sequence[str] | None = None,
        ignore_index: int | None = None,
        criterion_key: str | None = None,
        thumbnails: bool | str = "auto",
        thumbnail_bytes: int = BUDGET,
        image_key: str = IMAGE_KEY,
        mean: Channels = 0.0,
        std: Channels = 1.0,
        min_score: float = 0.5,
        min_iou: float = 0.5,
        prefix: str = "",
    ):
        super().__init__(prefix=prefix)
        if thumbnails not in (True, False, "auto"):
            raise UsageError(f"thumbnails must be True, False or 'auto', got {thumbnails!r}.")
        if task not in TASKS:
            raise unknown_name("task", task, TASKS)
        self.task = task
        self.max_samples = None if max_samples is None else at_least_one("max_samples", max_samples)
        self.folder = None if folder is None else Path(folder)
        self.output_key, self.target_key, self.sample_id_key = output_key, target_key, sample_id_key
        self.ignore_index, self.criterion_key = ignore_index, criterion_key
        self.class_names = check_names(class_names)
        self.files_: dict[str, SampleFiles] = {}
        self.file_names_: dict[str, FileNames] = {}
        self.table_ = SuspectTable(Path(), self.class_names)
        self.reader = BatchReader(task, output_key, target_key, ignore_index)
        self.boxes = SampleBoxes(output_key, target_key, min_score, min_iou)
        self.detections_ = Detections(output_key, type(self).__name__) if task == "detection" else None
        self.collected_: CollectedSamples | None = None
        self.findings_: Path | None = None  # the file of what is wrong with the run, which may not be there yet
        self.pending_: Callable[[], None] | None = None
        self.told_: set[str] = set()
        self.no_losses_ = ""  # why there are none of single samples
        self.image_key, self.thumbnails = image_key, thumbnails
        self.thumbnail_bytes = at_least_one("thumbnail_bytes", thumbnail_bytes)
        self.style: PictureStyle = PictureStyle(self.class_names, mean, std, ignore_index)
        self.pictures_: Encoder | None = None
        self.found_: dict[str, FoundGroups | None] = {}  # by loader, in the thread of its writer
        self.thumbnails_ = self._thumbnails()

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        super().on_experiment_start(runner)
        self.files_, self.collected_, self.told_, self.found_ = {}, None, set(), {}
        self.no_losses_ = ""  # why there are none of single samples
        if self.is_mute_:
            return
        logdir = logdir_of(runner)
        if missing := self._missing(logdir):
            next(iter(self.writers_.values())).warn(f"SampleHistory writes nothing: {missing}")
            return
        from .files import SampleFiles  # needs pyarrow, 50 MB, which not every project has

        folder = self._folder(logdir)
        self.findings_ = None if logdir is None else logdir / FINDINGS_FILE
        self._check_peers(runner, folder)
        results = folder if self.folder is not None else folder.parent / "results"
        self.table_ = SuspectTable(results / "suspects.csv", self.class_names)
        # An epoch may have begun before the checkpoint that the run goes on from.
        begun = runner.epoch_step + int(runner.epoch_step > 0 or runner.batch_step > 0)
        for loader, writer in self.writers_.items():
            self.files_[loader] = SampleFiles(folder / file_name(loader), self._about(loader))
            self.files_[loader].clean()
            writer.call(partial(self.files_[loader].go_on, begun))
            self.file_names_[loader] = FileNames(getattr(runner.loaders[loader], "dataset", None), self.sample_id_key)
            # A run that goes on within validation has those of training already.
            writer.call(partial(self._write_groups, loader))
        self.thumbnails_ = self._thumbnails()
        if self.thumbnails:
            folders = {loader: files.folder for loader, files in self.files_.items() if not loader.startswith("infer")}
            self.thumbnails_.start(runner, folders, self.writers_, begun)
            for loader in folders:
                self.files_[loader].about["thumbnails"] = self.thumbnails_.source(loader)

    @property
    def takes_pictures(self) -> bool:
        """Whether pictures that other callbacks make of single samples are written."""
        return bool(self.files_) and bool(self.thumbnails)

    def _thumbnails(self) -> Thumbnails:
        required, budget = self.thumbnails is True, self.thumbnail_bytes
        return Thumbnails(self.image_key, self.style, required=required, budget=budget, named=named_samples)

    def _missing(self, logdir: Path | None) -> str:
        """Return what has to be done before anything can be written; empty if nothing."""
        if self.folder is None and logdir is None:
            return "the run has no folder; pass folder=..., or train(logdir=...)"
        if find_spec("pyarrow") is None:
            return "install pyarrow, as by pip install 'catalyst-assay[samples]'"
        return ""

    def _folder(self, logdir: Path | None) -> Path:
        return self.folder if self.folder is not None else Path(logdir or "") / "samples"

    def _check_peers(self, runner: dl.IRunner, folder: Path) -> None:
        peers = [one for one in runner.callbacks.values() if isinstance(one, SampleHistory)]
        if sum(one._folder(logdir_of(runner)) == folder for one in peers) > 1:
            raise UsageError(
                f"SampleHistory: two callbacks write to {folder}; leave one out (the lists of diagnostics hold one at "
                "the level full), or give each a folder of its own."
            )

    def _about(self, loader: str) -> dict[str, Any]:
        names = None if self.class_names is None else [str(name) for name in self.class_names]
        return {"loader": loader, "task": "", "class_names": names, "ignore_index": self.ignore_index}

    def begin(self, runner: dl.IRunner) -> None:
        """Begin to collect the samples of a loader."""
        self.collected_, self.pending_, self.pictures_, loader = None, None, None, runner.loader_key
        if loader in self.files_ and not runner.is_infer_loader:
            self.collected_ = CollectedSamples(self.max_samples)
            # An epoch that is run again has left files.
            self.writers_[loader].call(partial(self.files_[loader].cut, runner.epoch_step - 1))
            self.pictures_ = self.thumbnails_.begin(runner, self.writers_[loader])

    @torch.no_grad()
    def observe(self, runner: dl.IRunner) -> None:
        if self.collected_ is None or (self.detections_ is not None and self.detections_.are_missing(runner)):
            return
        given = dict_batch(runner, type(self).__name__).get(self.sample_id_key)
        if given is None and (runner.is_train_loader or draws_order(runner)):
            self.collected_.leave_out(f"as its order changes and its batches have no key {self.sample_id_key!r}")
            return
        positions = positions_in_loader(runner, samples_of_keys(runner, [self.output_key]))
        if given is not None and (why := why_no_ids(given, len(positions))):
            self.collected_.leave_out(why)
            return
        ids = kept_ids(positions if given is None else given)
        if self.task == "detection":
            self._observe_boxes(runner, positions.start, ids)
        else:
            kind, logits, target = self.reader.read(runner, len(positions))
            later = row_criterion(runner, *self.reader.keys, self.criterion_key) if kind == "multiclass" else None
            losses = self._losses(runner) if later is None else None
            if kind == "segmentation":
                parts = self.reader.maps(logits, target)
            else:
                self.collected_.use(later, self._numbers)
                parts = [kept_copy(runner, logits), *kept_parts(runner, [target])]
            parts += [] if losses is None else [losses]
            self.collected_.add_logits(kind, positions.start, ids, parts, self._numbers)
        if not self.collected_.left_out:
            self.thumbnails_.observe(runner, self.pictures_, self.sample_id_key, positions)

    def _observe_boxes(self, runner: dl.IRunner, first: int, ids: Any) -> None:
        # They are copied now, and matched on the host one step later.
        read = self.boxes.copy(runner.batch)
        self.settle(runner)
        self.pending_ = partial(self._add_boxes, first, ids, read)
        if is_read_at_once(runner):
            self.settle(runner)

    def _add_boxes(self, first: int, ids: Any, read: Callable[[], tuple[np.ndarray, np.ndarray]]) -> None:
        counts, evidence = (torch.from_numpy(part) for part in read())
        if self.collected_ is not None:
            self.collected_.add("detection", first, ids, counts, evidence)

    def settle(self, runner: dl.IRunner) -> None:
        """Match the boxes of the last step."""
        if self.pending_ is not None:
            pending, self.pending_ = self.pending_, None
            pending()

    def report(self, runner: dl.IRunner, writer: Writer) -> None:
        if self.collected_ is None:
            return
        self.settle(runner)
        self.collected_.settle(self._numbers)
        loader, epoch = runner.loader_key, runner.epoch_step
        rows, why = over_ranks(self.collected_, is_main=runner.engine.is_main_process)
        self.collected_ = None
        if self.no_losses_:
            self._tell_once(writer, f"SampleHistory writes no loss of a sample: {self.no_losses_}")
        if why:
            self._tell_once(writer, f"SampleHistory leaves out loader {loader!r}, {why}")
        elif rows is not None and len(rows):
            if rows.kind == "multilabel" and not rows.shares.shape[1]:
                message = f"finds no wrong labels, as there are more than {MOST_CLASSES} of them"
                self._tell_once(writer, f"SampleHistory {message}")
            writer.scalars(lambda: self._write(loader, epoch, rows), epoch)
        self.thumbnails_.report(runner, self.pictures_, writer)
        self.pictures_ = None
        self.thumbnails_.take(runner, loader, writer)
        if rows is not None and len(rows) and epoch >= FROM_EPOCH and self.thumbnails_.shows(loader) and self.draws:
            writer.image(self.full_tag(SURE_TAG), partial(self._draw_suspects, loader, epoch), epoch)

    def on_epoch_end(self, runner: dl.IRunner) -> None:
        self.thumbnails_.end_epoch(runner, self.writers_)
        super().on_epoch_end(runner)

    def state_dict(self) -> dict[str, Any]:
        """Return the ids of the samples that other callbacks named, by loader."""
        return {"named": {loader: list(ids) for loader, ids in self.thumbnails_.by_callbacks.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.thumbnails_.by_callbacks = {loader: list(ids) for loader, ids in state["named"].items()}

    def release(self, runner: dl.IRunner) -> None:
        """Stop what is read beside the loop."""
        self.thumbnails_.close()

    def on_experiment_end(self, runner: dl.IRunner) -> None:
        for writer in self.writers_.values():
            writer.drain()
        self.thumbnails_.finish()
        super().on_experiment_end(runner)
        if runner.engine.is_main_process:
            self.table_.tell()

    def _write(self, loader: str, epoch: int, rows: SampleRows) -> dict[str, float]:
        if not self.files_[loader].add(epoch, rows):
            _log.warning(
                "SampleHistory goes on from an older checkpoint than its running values of %r: they are counted again, "
                "but for the means of classes and labels, which are not known any more",
                loader,
            )
        return self._write_groups(loader)

    def _write_groups(self, loader: str) -> dict[str, float]:
        """Write the groups and the suspects of a loader, and return how many there are of each by tag."""
        from .groups import write_groups

        duplicates = {} if self.findings_ is None else read_duplicates(self.findings_, loader)
        found = write_groups(self.files_[loader], duplicates)
        self.found_[loader] = found
        if found is None:
            return {}
        self.table_.put(loader, found, self.file_names_[loader].of(found.ids))
        return {self.full_tag(tag): count for tag, count in found.scalars().items()}

    def _draw_suspects(self, loader: str, epoch: int) -> np.ndarray:
        found = self.found_.get(loader)
        rows = None if found is None or found.suspects is None else found.rows()
        pictures_of, shape = partial(self.thumbnails_.pictures_of, loader), self.thumbnails_.shape_of(loader)
        return suspect_picture(self.place(loader), epoch, rows, pictures_of, self.style, shape)

    def _tell_once(self, writer: Writer, message: str) -> None:
        if message not in self.told_:
            self.told_.add(message)
            writer.warn(message)

    @torch.no_grad()
    def _numbers(self, kind: str, *parts: Tensor) -> tuple[Tensor, Tensor]:
        """Return the columns of samples and the probabilities of classes, [N, K] and [N, C].

        Args:
            kind: from the reader.
            parts: from the reader, and behind them the losses where they are known.
        """
        of_maps = kind == "segmentation"
        count = OF_MAPS if of_maps else 2
        found = self.reader.numbers_of_maps(*parts[:count]) if of_maps else self.reader.numbers(kind, *parts[:count])
        losses = parts[count] if len(parts) > count else None
        if losses is None and self.collected_ is not None and self.collected_.criterion is not None:
            losses = self._found_losses(partial(row_losses, self.collected_.criterion, *parts[:2]))
        if losses is None:
            losses = found.numbers.new_full((len(found.numbers),), torch.nan)
        losses = losses.float().masked_fill((losses == NO_SCORE) | (losses == WHOLE_BATCH), torch.nan)
        return torch.cat([found.numbers, losses[:, None], found.best], dim=1), found.shares

    def _losses(self, runner: dl.IRunner) -> Tensor | None:
        """Return the loss of each sample, [N], ``NO_SCORE`` or ``WHOLE_BATCH`` where there is none; None: of no one."""
        output, target = (runner.batch[key] for key in (self.output_key, self.target_key))
        find = partial(losses_of_batch, runner, runner.batch, output.detach(), target, self.criterion_key)
        losses = self._found_losses(find)
        if losses is None and isinstance(runner.criterion, Mapping) and not self.no_losses_:
            self.no_losses_ = f"there are several criteria, {listing(runner.criterion)}: pass criterion_key"
        return losses

    def _found_losses(self, find: Callable[[], Tensor | None]) -> Tensor | None:
        if self.no_losses_:
            return None
        try:
            losses = find()
        except NoSampleLossError as error:
            # To find that out may take a call for each sample.
            self.no_losses_ = str(error)
            return None
        return None if losses is None else losses.detach()
