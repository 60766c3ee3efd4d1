"""BestWorstBatches: pictures of the best and the worst batch of every epoch, by one or several metrics."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from catalyst import dl
from torch import Tensor

from ..base.detections import Detections, without_masks
from ..base.diagnostic import Diagnostic
from ..base.dict_batch import dict_batch
from ..base.image_checks import check_images
from ..drawings.canvas.images import Channels
from ..drawings.canvas.picture_style import PictureStyle
from ..drawings.samples import draw_samples, format_score
from ..drawings.tasks.find_task import TASKS
from ..errors import UsageError, at_least_one, unknown_name
from ..keys import IMAGE_KEY, OUTPUT_KEY, SAMPLE_ID_KEY, TARGET_KEY, pick
from ..measures import best_worst_batches as measures
from ..measures.best_worst_samples import is_no_success
from ..measures.reduced_image import reduced, sizes
from ..support.class_names import check_names
from ..support.distributed import winner_over_ranks
from ..support.host_copy import HostCopy, copy_tree, is_read_at_once
from ..support.runner_view import (
    batches_in_loader,
    count_of_loss,
    kept_parts,
    place_in_loader,
    positions_in_loader,
    samples_of_keys,
)
from ..support.sample_losses import NO_SCORE, WHOLE_BATCH, NoSampleLossError, losses_of_batch
from ..support.unwrap import detached
from ..tensorboard.writer import Writer
from .own_drawing import OwnDrawing, VisualizeBatch
from .target_kind import target_kind

_log = logging.getLogger("assay")


class BestWorstBatches(Diagnostic):
    """Shows the best and the worst batch of every epoch, for each loader and each of one or several metrics.

    Loaders for inference are left out, as they have no metric. With the task ``detection``, so are loaders for training
    whose batches hold no detections: torchvision's detectors return only losses while they train.

    The samples with the largest loss of the worst batch are shown, and those with the smallest of the best batch, each
    with its id, its loss and what belongs to its task:

    - classification: truth, prediction and its probability, with a tick if they agree and a cross if not; with several
      labels those that are missed, false and right;
    - binary segmentation: the image with hits in blue, misses in red stripes and false alarms in yellow; IoU;
    - segmentation: image, truth and prediction in the colours of the classes, errors in the colour of the true class;
      accuracy and mean IoU;
    - detection: hits in blue and false boxes in yellow, both with their score, misses dashed in red;
    - regression: true and predicted numbers; with one per pixel the maps of both and of the error;
    - anything else: the image alone.

    A batch whose metric is NaN or infinite is the worst, is marked, and is never the best. Where larger is better and
    all batches have 0, there is no best. Among equal batches the
    first wins. A batch whose targets are all ignored, so that nothing counts in its loss, is neither.

    =========================== ===== ====================================
    tag, in the loader's folder kind  step and content
    =========================== ===== ====================================
    ``9_batches/best/METRIC``   image epoch; one grid, [H, W, 3] uint8 RGB
    ``9_batches/worst/METRIC``  image epoch; one grid, [H, W, 3] uint8 RGB
    =========================== ===== ====================================

    Nothing is read from the device within a step: the metric is copied without blocking and read one step later, and
    only the samples of a leading batch are cloned. Memory: references to two batches, and twice ``k_images`` samples
    per metric.

    The loss of a sample comes from the runner's criterion without its reduction, or, if it has none, from a call for
    each sample. Samples are shown in their order if there is no criterion (or several by name in a stock runner, and
    ``criterion_key`` names none), if it compares the samples of a batch (triplets, contrastive), or if the output is no
    tensor (a detection).

    Args:
        metric: one or several of ``runner.batch_metrics``, each a number or a tensor of one element.
        minimize: whether a smaller value is better; one for all metrics, or one each.
        k_images: how many samples of a batch are shown.
        task: ``multiclass``, ``binary``, ``multilabel``, ``detection`` or ``regression``; None: found from the
            criterion, the shapes and the values (see ``drawings.tasks.find_task``): multiclass if only the output has
            classes, multilabel if both have, binary if neither has.
        image_key: key of the images in the batch: [N, C, H, W] or [N, H, W], or a list of N images of different sizes,
            of any number of channels: normalized floats, or integers (see ``drawings.canvas.images.to_rgb``).
        target_key: key of the targets in the batch: class numbers [N] or [N, H, W], labels 0 and 1 [N, C] or
            [N, C, H, W], or for a detection N dicts of ``boxes`` [M, 4] (left, top, right, bottom in pixels of the
            image) and ``labels`` [M].
        output_key: key of the outputs in the batch: logits [N, C], [N], [N, 1], [N, H, W] or [N, C, H, W] (of any
            height and width), or for a detection N dicts of ``boxes``, ``scores`` and ``labels``.
        sample_id_key: key of the sample ids in the batch; without it, samples are named by their position in the
            loader.
        class_names: one name per class; None: classes are shown by number.
        ignore_index: target value that counts neither as right nor as wrong.
        mean: mean of the images' normalization ``(x - mean) / std``, one number or one per channel.
        std: standard deviation of that normalization, one number or one per channel.
        min_score: smallest score of the boxes that are shown and counted.
        min_iou: smallest overlap with a true box of the same label at which a box is a hit.
        visualize_batch: a function of your own that draws instead. It gets the shown samples: all inputs and outputs in
            ``runner.batch`` with one entry per sample, as CPU tensors [k, ...] and lists, and ``loss`` [k] if it is
            known. It returns a picture or a list of them: arrays [H, W, 3] or tensors [3, H, W], uint8 or 0 to 1. If
            there are as many as samples, each has its id and loss below. It is called in the thread that writes. The
            batch needs no image then, ``task`` and the arguments about it have no effect, and whole samples are kept.
        criterion_key: name of the criterion, of several, that gives the loss of a sample; None: the only one, or all
            terms of a ``DictRunner``.
        prefix: added to the tags, as ``TAG/PREFIX``; a second callback of this kind needs one.

    Raises:
        UsageError: an argument is out of range; at the first batch, when a key or a metric is missing, the images
            cannot be drawn, or the criterion gives no number for one sample; what ``visualize_batch`` returns is no
            picture; at the start of the run, when the runner has no TensorBoard logger.
    """

    observed = ("measures_",)

    def __init__(
        self,
        metric: str | Sequence[str] = "loss",
        minimize: bool | Sequence[bool] = True,
        k_images: int = 12,
        *,
        task: str | None = None,
        image_key: str = IMAGE_KEY,
        target_key: str = TARGET_KEY,
        output_key: str = OUTPUT_KEY,
        sample_id_key: str = SAMPLE_ID_KEY,
        class_names: Sequence[str] | None = None,
        ignore_index: int | None = None,
        mean: Channels = 0.0,
        std: Channels = 1.0,
        min_score: float = 0.5,
        min_iou: float = 0.5,
        visualize_batch: VisualizeBatch | None = None,
        criterion_key: str | None = None,
        prefix: str = "",
    ):
        super().__init__(prefix=prefix)
        if task is not None and task not in TASKS:
            raise unknown_name("task", task, TASKS)
        self.minimize = _pair_up(metric, minimize)
        self.k_images = at_least_one("k_images", k_images)
        self.keys = {"image": image_key, "target": target_key, "output": output_key}
        self.sample_id_key = sample_id_key
        self.criterion_key = criterion_key
        self.detections_ = Detections(output_key, type(self).__name__) if task == "detection" else None
        style = PictureStyle(check_names(class_names), mean, std, ignore_index)
        self.own_drawing = None if visualize_batch is None else OwnDrawing(visualize_batch)
        # A function of the user's draws in its own way, which tells nothing about the style of the others.
        self.style = style if self.own_drawing is None else None
        self.draw = self.own_drawing or partial(
            draw_samples,
            style=style,
            task=task,
            min_score=_check_fraction("min_score", min_score),
            min_iou=_check_fraction("min_iou", min_iou),
        )
        self.measures_: dict[str, measures.BestWorstBatches] = {}
        self.pending_: Callable[[], None] | None = None
        self.has_warned_ = False

    def tags(self, loader_key: str) -> tuple[str, ...]:
        return tuple(f"9_batches/worst/{metric}" for metric in self.minimize)

    def begin(self, runner: dl.IRunner) -> None:
        self.pending_ = None
        self.measures_ = {
            metric: measures.BestWorstBatches(minimize=minimize, max_samples=self.k_images)
            for metric, minimize in self.minimize.items()
        }

    def observe(self, runner: dl.IRunner) -> None:
        if runner.is_infer_loader or (self.detections_ is not None and self.detections_.are_missing(runner)):
            return
        # The copies start before the last batch is compared, so that they travel meanwhile.
        scores = {metric: self._score(runner, metric) for metric in self.measures_}
        place = place_in_loader(runner)
        # It is kept for a step, and must not keep its graph alive.
        batch = detached(dict_batch(runner, type(self).__name__))
        size = samples_of_keys(runner, self.keys.values())
        parts = self._parts(batch, size)
        parts["sample_id"] = batch.get(self.sample_id_key, positions_in_loader(runner, size))
        self.settle(runner)
        at_once = is_read_at_once(runner)
        # A loader may refill its buffers for the next batch, before this one is looked at.
        if not at_once:
            batch, parts = kept_parts(runner, batch), kept_parts(runner, parts)
        self.pending_ = partial(
            self._compare_batch, scores, place.batch, partial(self._with_losses, runner, batch, parts)
        )
        if at_once:
            self.settle(runner)

    def report(self, runner: dl.IRunner, writer: Writer) -> None:
        self.settle(runner)
        of_target = target_kind(runner, self.keys["output"], self.keys["target"], self.criterion_key)
        for metric, measure in self.measures_.items():
            # Collectives: every rank takes part, also one that had no batch.
            best = winner_over_ranks(measure.best, measure.best_key, _to_host)
            worst = winner_over_ranks(measure.worst, measure.worst_key, _to_host)
            # Every batch has one of 0: the first is no better than the others.
            if best is not None and is_no_success(best.score, [worst.score], minimize=self.minimize[metric]):
                best = None
            for kind, candidate in (("best", best), ("worst", worst)):
                if candidate is not None:
                    title = self._title(runner, kind, metric, candidate)
                    draw = partial(self._draw, candidate.samples, title, kind=of_target)
                    writer.image(self.full_tag(f"9_batches/{kind}/{metric}"), draw, runner.epoch_step)
        self.measures_ = {}

    def _parts(self, batch: Mapping[str, Any], size: int) -> dict[str, Any]:
        """Return what a picture of the batch is drawn from."""
        if self.own_drawing is not None:
            # Output and target too, if there are any: the loss of each sample is computed from them.
            known = {name: batch[key] for name, key in self.keys.items() if name != "image" and key in batch}
            return {**known, **self.own_drawing.parts(batch, size)}
        parts = {name: without_masks(pick(batch, key, type(self).__name__)) for name, key in self.keys.items()}
        check_images(self.keys["image"], parts["image"], self.style)
        return parts

    def _score(self, runner: dl.IRunner, metric: str) -> HostCopy | float:
        asked_by = f"{type(self).__name__}(metric={metric!r})"
        value = pick(runner.batch_metrics, metric, asked_by, source_name=f"metrics of a {runner.loader_key} batch")
        if not isinstance(value, Tensor):
            return float(value)
        if value.numel() != 1:
            raise UsageError(f"{asked_by} needs one number per batch, got a tensor of shape {tuple(value.shape)}.")
        count = count_of_loss(runner, metric)
        # A batch in which no target counts has a loss that says nothing about it.
        return HostCopy(value.reshape(()) if count is None else value.reshape(()).masked_fill(count == 0, NO_SCORE))

    def settle(self, runner: dl.IRunner) -> None:
        """Compare the batch of the last step."""
        # One step later, as its scores have reached the host by then and the loop need not wait for them.
        if self.pending_ is not None:
            self.pending_()
            self.pending_ = None

    def _compare_batch(
        self, scores: Mapping[str, HostCopy | float], position: int, samples: Callable[[], Mapping[str, Any]]
    ) -> None:
        for metric, measure in self.measures_.items():
            score: Any = scores[metric]
            if isinstance(score, HostCopy):
                score = score.read().tolist()
            if score != NO_SCORE:
                measure.update(score, position, samples)

    def _title(self, runner: dl.IRunner, kind: str, metric: str, candidate: measures.Candidate) -> list[str]:
        mark = "" if np.isfinite(candidate.score) else "  NOT FINITE"
        return [
            f"{kind} {self.place(runner.loader_key)} batch by {metric}: {format_score(candidate.score)}{mark}",
            f"epoch {runner.epoch_step}, batch {candidate.position} of {batches_in_loader(runner)}",
        ]

    def _with_losses(self, runner: dl.IRunner, batch: Mapping[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
        """Return the parts with the loss of each sample, if there is one, and with images in the size of a picture."""
        # Only for a batch that leads: the losses of all batches would be a second pass of the criterion per step.
        losses = None
        if "output" in parts and "target" in parts:
            losses = self._losses(runner, batch, parts)
        # A drawing of the user's gets the whole batch, which holds output and target already.
        if "batch" in parts:
            parts = {name: part for name, part in parts.items() if name in ("batch", "sample_id")}
        # Of its image no more is kept than is drawn.
        images = {"image": reduced(parts["image"]), "image_size": sizes(parts["image"])} if "image" in parts else {}
        return {**parts, **images, **({} if losses is None else {"loss": losses})}

    def _losses(self, runner: dl.IRunner, batch: Mapping[str, Any], parts: Mapping[str, Any]) -> Tensor | None:
        try:
            return losses_of_batch(runner, batch, parts["output"], parts["target"], self.criterion_key)
        except NoSampleLossError as error:
            self._warn_once(self.writers_[runner.loader_key].warn, str(error))
            return None

    def _warn_once(self, warn: Callable[[str], Any], reason: str) -> None:
        if not self.has_warned_:
            warn(f"BestWorstBatches shows samples in their order, without a loss of each: {reason}.")
        self.has_warned_ = True

    def _draw(self, samples: Mapping[str, Any], title: list[str], kind: str | None) -> np.ndarray:
        read = measures.read_samples(samples)
        if "loss" in read and (read["loss"] == WHOLE_BATCH).any():
            del read["loss"]
            # Not through the writer: this is its own thread, which would wait for itself if the queue is full.
            self._warn_once(_log.warning, "the criterion compares the samples of a batch")
        return self.draw({**read, "kind": kind}, title)


def _pair_up(metric: str | Sequence[str], minimize: bool | Sequence[bool]) -> dict[str, bool]:
    metrics = [metric] if isinstance(metric, str) else list(metric)
    directions = [minimize] * len(metrics) if isinstance(minimize, bool) else list(minimize)
    if not metrics or len(set(metrics)) != len(metrics):
        raise UsageError(f"metric must name one or several different metrics, got {metric!r}.")
    if len(directions) != len(metrics):
        raise UsageError(f"minimize must be one value, or one for each of {metrics}, got {minimize!r}.")
    return dict(zip(metrics, directions, strict=True))


def _check_fraction(name: str, value: float) -> float:
    """Return ``value``; raise a ``UsageError`` if it is not between 0 and 1."""
    if not 0 <= value <= 1:
        raise UsageError(f"{name} must be between 0 and 1, got {value!r}.")
    return value


def _to_host(candidate: measures.Candidate) -> measures.Candidate:
    return replace(candidate, samples=copy_tree(candidate.samples, own=True))
