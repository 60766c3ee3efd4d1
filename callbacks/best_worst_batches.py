"""The best and the worst batch of every epoch, as pictures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from catalyst import dl
from torch import Tensor

from .diagnostic import Diagnostic
from .distributed import winner_over_ranks
from .drawings.best_worst_batches import draw_batch, format_score
from .drawings.pictures import Channels
from .errors import UsageError, at_least_one
from .host_copy import HostCopy
from .keys import IMAGE_KEY, OUTPUT_KEY, SAMPLE_ID_KEY, TARGET_KEY, pick
from .measures import best_worst_batches as measures
from .sample_losses import sample_losses
from .unwrapped import detached
from .writer import Writer


class BestWorstBatches(Diagnostic):
    """Shows the best and the worst batch of every epoch, for each loader and each of one or several metrics.

    Loaders for inference are left out: they have no metric.

    Each sample is shown with its id, truth, prediction and loss, framed green where the prediction is right and
    red where it is wrong: of the worst batch the samples of the largest loss, of the best those of the smallest.
    A batch whose metric is NaN or infinite is the worst, marked so, and never the best; the first of equals wins.

    ========================= ======= =====================================
    tag, in the loader's folder kind  step and content
    ========================= ======= =====================================
    ``batches/best/METRIC``   image   epoch; one grid, [H, W, 3] uint8 RGB
    ``batches/worst/METRIC``  image   epoch; one grid, [H, W, 3] uint8 RGB
    ========================= ======= =====================================

    Nothing is read from the device within a step: the metric is copied without blocking and read one step later,
    and only the samples of a batch that leads are cloned. Memory: two batches of references and twice
    ``k_images`` samples a metric.

    The loss of a sample comes from the runner's criterion without its reduction, sample by sample where it has
    none; without a criterion, samples are shown in their order.

    Args:
        metric: one or several of ``runner.batch_metrics``, each a number or a tensor of one element.
        minimize: whether a smaller value is better; one for all metrics, or one each.
        k_images: how many samples of a batch to show.
        image_key: of the batch; [N, C, H, W] or [N, H, W] with 1, 3 or 4 channels, normalized floats or uint8.
        target_key: of the batch; class numbers [N], to show the truth.
        output_key: of the batch; logits [N, C], [N] or [N, 1], to show the prediction.
        sample_id_key: of the batch; without it in the batch, the position in the loader serves.
        class_names: one a class; without, classes are shown by number.
        mean: of the images' normalization ``(x - mean) / std``, one number or one a channel.
        std: likewise.

    Raises:
        UsageError: an argument is out of range; at the first batch, when a key or a metric is missing; at the
            start of the run, when the runner has no TensorBoard logger.
    """

    def __init__(
        self,
        metric: str | Sequence[str] = "loss",
        minimize: bool | Sequence[bool] = True,
        k_images: int = 16,
        *,
        image_key: str = IMAGE_KEY,
        target_key: str = TARGET_KEY,
        output_key: str = OUTPUT_KEY,
        sample_id_key: str = SAMPLE_ID_KEY,
        class_names: Sequence[str] | None = None,
        mean: Channels = 0.0,
        std: Channels = 1.0,
    ):
        super().__init__()
        self.minimize = _pair_up(metric, minimize)
        self.k_images = at_least_one("k_images", k_images)
        self.keys = {"image": image_key, "target": target_key, "output": output_key}
        self.sample_id_key = sample_id_key
        self.draw = partial(draw_batch, class_names=class_names, mean=mean, std=std)
        self.measures_: dict[str, measures.BestWorstBatches] = {}
        self.pending_: Callable[[], None] | None = None

    def begin(self, runner: dl.IRunner) -> None:
        self.pending_ = None
        self.measures_ = {
            metric: measures.BestWorstBatches(minimize=minimize, max_samples=self.k_images)
            for metric, minimize in self.minimize.items()
        }

    def observe(self, runner: dl.IRunner) -> None:
        if runner.is_infer_loader:
            return
        scores = {metric: self._score(runner, metric) for metric in self.measures_}
        position, first = _place(runner)
        parts = {name: detached(pick(runner.batch, key, type(self).__name__)) for name, key in self.keys.items()}
        parts["sample_id"] = runner.batch.get(self.sample_id_key, range(first, first + runner.batch_size))
        _check_images(self.keys["image"], parts["image"])
        self._settle()
        samples = partial(_with_losses, runner, runner.batch if hasattr(runner, "sample_losses") else None, parts)
        self.pending_ = partial(self._compare, scores, position, samples)

    def report(self, runner: dl.IRunner, writer: Writer) -> None:
        self._settle()
        for metric, measure in self.measures_.items():
            best = winner_over_ranks(measure.best, measure.best_key, _to_host)
            worst = winner_over_ranks(measure.worst, measure.worst_key, _to_host)
            for kind, candidate in (("best", best), ("worst", worst)):
                if candidate is not None:
                    title = self._title(runner, kind, metric, candidate)
                    draw = partial(self._draw, candidate.samples, title)
                    writer.image(f"batches/{kind}/{metric}", draw, runner.epoch_step)
        self.measures_ = {}

    def _score(self, runner: dl.IRunner, metric: str) -> HostCopy | float:
        asked_by = f"{type(self).__name__}(metric={metric!r})"
        value = pick(runner.batch_metrics, metric, asked_by, source_name=f"metrics of a {runner.loader_key} batch")
        if not isinstance(value, Tensor):
            return float(value)
        if value.numel() != 1:
            raise UsageError(f"{asked_by} needs one number a batch, got a tensor of shape {tuple(value.shape)}.")
        return HostCopy(value.reshape(()))

    def _settle(self) -> None:
        """Compare the batch of the step before: its scores have reached the host by now."""
        if self.pending_ is not None:
            self.pending_()
            self.pending_ = None

    def _compare(
        self, scores: Mapping[str, HostCopy | float], position: int, samples: Callable[[], Mapping[str, Any]]
    ) -> None:
        for metric, measure in self.measures_.items():
            score: Any = scores[metric]
            if isinstance(score, HostCopy):
                score = score.read().tolist()
            measure.update(score, position, samples)

    def _title(self, runner: dl.IRunner, kind: str, metric: str, candidate: measures.Candidate) -> list[str]:
        mark = "" if np.isfinite(candidate.score) else "  NOT FINITE"
        batches = runner.loader_batch_len * runner.engine.num_processes
        return [
            f"{kind} {runner.loader_key} batch by {metric}: {format_score(candidate.score)}{mark}",
            f"epoch {runner.epoch_step}, batch {candidate.position} of {batches}",
        ]

    def _draw(self, samples: Mapping[str, Any], title: list[str]) -> np.ndarray:
        host = measures.read_samples(samples)
        arrays = {name: _to_numpy(part) if isinstance(part, Tensor) else part for name, part in host.items()}
        return self.draw(arrays, title)


def _pair_up(metric: str | Sequence[str], minimize: bool | Sequence[bool]) -> dict[str, bool]:
    metrics = [metric] if isinstance(metric, str) else list(metric)
    directions = [minimize] * len(metrics) if isinstance(minimize, bool) else list(minimize)
    if not metrics or len(set(metrics)) != len(metrics):
        raise UsageError(f"metric must name one or several different metrics, got {metric!r}.")
    if len(directions) != len(metrics):
        raise UsageError(f"minimize must be one value, or one for each of {metrics}, got {minimize!r}.")
    return dict(zip(metrics, directions, strict=True))


def _check_images(key: str, images: Any) -> None:
    channels = images.shape[1] if isinstance(images, Tensor) and images.ndim == 4 else 1
    if not isinstance(images, Tensor) or images.ndim not in (3, 4) or channels not in (1, 3, 4):
        got = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise UsageError(f"image_key={key!r} must be [N, C, H, W] with 1, 3 or 4 channels, or [N, H, W], got {got}.")
    if not images.is_floating_point() and images.dtype not in (torch.uint8, torch.bool):
        raise UsageError(f"image_key={key!r} must hold floating point, uint8 or bool, got {images.dtype}.")


def _place(runner: dl.IRunner) -> tuple[int, int]:
    """Return the place of the batch in the loader, from 1, and that of its first sample, from 0.

    Catalyst counts every batch once a rank; the ranks take the batches in turn.
    """
    ranks, rank = runner.engine.num_processes, runner.engine.process_index
    before = runner.loader_sample_step - ranks * runner.batch_size
    return runner.loader_batch_step - ranks + rank + 1, before + rank * runner.loader_batch_size


def _with_losses(runner: dl.IRunner, batch: Mapping[str, Any] | None, parts: dict[str, Any]) -> dict[str, Any]:
    """Add the loss of each sample: by the runner's own rule, for which it wants the batch, or by its criterion."""
    if batch is not None:
        loss = runner.sample_losses(batch)
    elif callable(runner.criterion):
        loss = sample_losses(runner.criterion, parts["output"], parts["target"])
    else:
        return parts
    return {**parts, "loss": loss}


def _to_host(candidate: measures.Candidate) -> measures.Candidate:
    return replace(candidate, samples=measures.to_host(candidate.samples))


def _to_numpy(part: Tensor) -> np.ndarray:
    return (part.float() if part.is_floating_point() else part).numpy()
