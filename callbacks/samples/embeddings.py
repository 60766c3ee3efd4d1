"""Embeddings: samples as points in TensorBoard's projector."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from catalyst import dl
from torch import Tensor

from ..base.diagnostic import Diagnostic
from ..base.image_checks import check_images
from ..drawings.canvas.images import Channels
from ..drawings.canvas.picture_style import PictureStyle
from ..drawings.canvas.theme import THUMBNAIL_SIZE
from ..drawings.embeddings import draw_sheet
from ..errors import UsageError, at_least_one
from ..keys import IMAGE_KEY, OUTPUT_KEY, SAMPLE_ID_KEY, TARGET_KEY, pick
from ..measures.embeddings import SampleChoice, pool, position_hash, shrink, take
from ..measures.targets import NO_CLASS, class_of_distribution, decide_targets
from ..support.class_names import check_names
from ..support.distributed import winners_over_ranks
from ..support.host_copy import HostCopy, copy_tree, read_tree
from ..support.runner_view import positions_in_loader, samples_of_keys
from ..tensorboard.projector_files import Embedding
from ..tensorboard.writer import Writer


@dataclass(frozen=True)
class Cloud:
    """What the projector shows of a loader: samples with ``vector``, ``image``, ``id`` and, where known, classes."""

    loader: str
    epoch: int
    samples: list[Mapping[str, Any]]


class Embeddings(Diagnostic):
    """Shows samples as points in TensorBoard's projector, with thumbnail, id, true and predicted class.

    ========================= ========= ======================================================================
    tag, in the loader's folder kind    step and content
    ========================= ========= ======================================================================
    ``embeddings``            projector epoch, in the name: ``embeddings:00003``; [n, D] vectors, n thumbnails of at
                                        most 64 px, framed in the colours of their classes, and columns ``id``,
                                        ``label``, ``prediction``, ``correct``
    ========================= ========= ======================================================================

    They are written at the end of the run, for its last epoch, and every ``every_n_epochs`` epochs. Of larger loaders
    ``max_samples`` samples are shown, spread evenly and chosen by their position: the same ones in every epoch and on
    any number of ranks. Loaders for training are left out unless named, loaders for inference always.

    A running server finds embeddings only after a restart, or when a new run appears.

    Nothing is read from the device within a step: the choice is made on the host, and the chosen samples are reduced on
    the device, copied without blocking and read one step later. Memory: ``max_samples`` vectors and thumbnails.

    Args:
        max_samples: how many samples are shown at most.
        every_n_epochs: also write after every so many epochs; None: only at the end of the run.
        loader: the loader to show; None: every loader for validation.
        embedding_key: key of the embeddings in the batch: [N, D, ...], floating point. Axes after D are averaged. None:
            ``output_key``.
        output_key: key of the outputs in the batch: logits [N, C], [N] or [N, 1], for the predicted class. It may be
            missing.
        target_key: key of the targets in the batch: class numbers [N], or distributions [N, C] that add up to 1, of
            which the largest share counts, for the true class. The batch may lack it.
        image_key: key of the images in the batch: [N, C, H, W] or [N, H, W], of any number of channels: normalized
            floats, or integers (see ``drawings.canvas.images.to_rgb``).
        sample_id_key: key of the sample ids in the batch; without it, samples are named by their position in the
            loader.
        class_names: one name per class; None: classes are shown by number.
        mean: mean of the images' normalization ``(x - mean) / std``, one number or one per channel.
        std: standard deviation of that normalization, one number or one per channel.
        tag: another name, for a second callback of this kind; letters, digits, ``-`` and ``_``.
        prefix: comes before the name, ``PREFIX-embeddings:00003``, for a second callback of this kind in the run.

    Raises:
        UsageError: an argument is out of range; at the start of the run, when there is no such loader or no TensorBoard
            logger; at the start of a loader, when two callbacks share a tag; at a batch, when a key is missing or a
            shape does not fit.
    """

    observed = ("choice_",)
    event_files = True

    def __init__(
        self,
        max_samples: int = 1000,
        every_n_epochs: int | None = None,
        *,
        loader: str | None = None,
        embedding_key: str | None = None,
        output_key: str = OUTPUT_KEY,
        target_key: str = TARGET_KEY,
        image_key: str = IMAGE_KEY,
        sample_id_key: str = SAMPLE_ID_KEY,
        class_names: Sequence[str] | None = None,
        mean: Channels = 0.0,
        std: Channels = 1.0,
        tag: str = "embeddings",
        prefix: str = "",
    ):
        super().__init__(prefix=prefix)
        self.max_samples = at_least_one("max_samples", max_samples)
        self.every_n_epochs = None if every_n_epochs is None else at_least_one("every_n_epochs", every_n_epochs)
        self.loader = loader
        self.embedding_key = output_key if embedding_key is None else embedding_key
        self.image_key, self.sample_id_key = image_key, sample_id_key
        self.class_keys = {"output": output_key, "target": target_key}
        self.class_names = check_names(class_names)
        self.normalization = PictureStyle(mean=mean, std=std)
        self.draw = partial(draw_sheet, mean=mean, std=std)
        if not re.fullmatch(r"[\w-]+", tag):
            raise UsageError(f"tag must be of letters, digits, '-' and '_', got {tag!r}.")
        self.tag = tag
        self.choice_: SampleChoice | None = None
        self.pending_: Callable[[], None] | None = None
        self.last_: dict[str, Cloud] = {}

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        super().on_experiment_start(runner)
        self.last_, name = {}, type(self).__name__
        if self.loader is not None:
            pick(runner.loaders, self.loader, f"{name}(loader={self.loader!r})", source_name="run's loaders")
        elif not any(key.startswith("valid") for key in runner.loaders):
            raise UsageError(f"{name} shows loaders for validation, and there is none: pass loader='train'.")

    def tags(self, loader_key: str) -> tuple[str, ...]:
        return (self.tag,) if self._shows_loader(loader_key) else ()

    def begin(self, runner: dl.IRunner) -> None:
        self.choice_, self.pending_ = None, None
        if self._shows_loader(runner.loader_key) and not runner.is_infer_loader:
            self.choice_ = SampleChoice(self.max_samples)

    def _shows_loader(self, loader_key: str) -> bool:
        return loader_key.startswith("valid") if self.loader is None else loader_key == self.loader

    @torch.no_grad()
    def observe(self, runner: dl.IRunner) -> None:
        if self.choice_ is None:
            return
        positions = positions_in_loader(runner, samples_of_keys(runner, [self.embedding_key]))
        rows = self.choice_.choose(positions)
        # Reduced on the device before the copy, which is then small.
        parts = copy_tree(self._parts(runner, positions, rows)) if rows else None
        self.settle(runner)
        self.pending_ = (
            None if parts is None else partial(_keep_samples, self.choice_, [positions[row] for row in rows], parts)
        )

    def settle(self, runner: dl.IRunner) -> None:
        """Keep the samples of the last step."""
        # One step later, as they have reached the host by then and the loop need not wait for them.
        if self.pending_ is not None:
            self.pending_()
            self.pending_ = None

    def report(self, runner: dl.IRunner, writer: Writer) -> None:
        if self.choice_ is None:
            return
        self.settle(runner)
        # By position, which is unique over ranks, so that any number of ranks chooses the same samples.
        mine = sorted(self.choice_.kept.items())
        self.choice_ = None
        chosen = winners_over_ranks(
            mine, self.max_samples, lambda item: position_hash(item[0]), lambda item: item, lambda item: item[1]["id"]
        )
        samples = [sample for _, sample in sorted(chosen, key=itemgetter(0))]
        if not samples:
            return
        cloud = self.last_[runner.loader_key] = Cloud(runner.loader_key, runner.epoch_step, samples)
        if self.every_n_epochs is not None and runner.epoch_step % self.every_n_epochs == 0:
            self._write(writer, cloud)

    def on_experiment_end(self, runner: dl.IRunner) -> None:
        self._write_last()
        super().on_experiment_end(runner)

    def on_exception(self, runner: dl.IRunner) -> None:
        # Raises nothing, and takes the errors that the writers would raise at the next call.
        super().on_exception(runner)
        self._write_last()
        super().on_exception(runner)

    def _write_last(self) -> None:
        for loader, cloud in list(self.last_.items()):
            self._write(self.writers_[loader], cloud)

    def _write(self, writer: Writer, cloud: Cloud) -> None:
        # First, so that what is handed over is not written again when the run fails at its end.
        del self.last_[cloud.loader]
        name = self.named(self.tag).replace("/", "-")
        writer.embedding(f"{name}:{cloud.epoch:05d}", partial(self._embedding, cloud))

    def _embedding(self, cloud: Cloud) -> Embedding:
        columns = [name for name in ("id", "label", "prediction", "correct") if name in cloud.samples[0]]
        rows = [[self._format_cell(name, sample.get(name)) for name in columns] for sample in cloud.samples]
        sheet, side = self.draw([sample["image"] for sample in cloud.samples], **_classes_of(cloud.samples))
        vectors = np.stack([sample["vector"] for sample in cloud.samples])
        return Embedding(vectors, columns, rows, sheet, side)

    def _format_cell(self, column: str, value: Any) -> str:
        if column in ("label", "prediction") and self.class_names and 0 <= value < len(self.class_names):
            return str(self.class_names[value])
        return str(value)

    def _images(self, runner: dl.IRunner, rows: list[int]) -> dict[str, Any]:
        images = pick(runner.batch, self.image_key, type(self).__name__)
        images = check_images(self.image_key, images, self.normalization)
        return {"image": shrink(take(images, rows), THUMBNAIL_SIZE)}

    def _parts(self, runner: dl.IRunner, positions: Sequence[int], rows: list[int]) -> dict[str, Any]:
        """Return what is kept of the chosen samples of a batch, on the device and small."""
        batch, size, name = runner.batch, len(positions), type(self).__name__
        vectors = _check_vectors(self.embedding_key, pick(batch, self.embedding_key, name))
        parts: dict[str, Any] = {"vector": pool(take(vectors, rows)), **self._images(runner, rows)}
        for part, key in self.class_keys.items():
            values = batch.get(key)
            if isinstance(values, Tensor) and values.ndim and len(values) == size and values.ndim <= 2:
                parts[part] = take(values, rows)
        ids = batch.get(self.sample_id_key, positions)
        parts["id"] = take(ids, rows) if isinstance(ids, Tensor) else [ids[row] for row in rows]
        return parts


def _keep_samples(choice: SampleChoice, positions: Sequence[int], parts: Mapping[str, Any]) -> None:
    """Keep the samples of a batch that have reached the host."""
    host = read_tree(parts)
    columns = {name: host[name] for name in ("vector", "image", "id") if name in host}
    target, output = host.get("target"), host.get("output")
    labels = None if target is None else _true_classes(target)
    if labels is not None:
        columns["label"] = labels
    # With several labels per sample there is no class to predict.
    if output is not None and (target is None or "label" in columns):
        columns["prediction"] = _predicted_classes(output)
    if "label" in columns and "prediction" in columns:
        columns["correct"] = np.where(columns["label"] == columns["prediction"], "yes", "no")
    # Sample by sample, so that one that is kept does not keep the whole batch in memory.
    for index, position in enumerate(positions):
        choice.put(position, {name: _own_copy(values[index]) for name, values in columns.items()})


def _classes_of(samples: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return what is known of the classes: those that are true, or predicted, and which predictions are wrong."""
    found: dict[str, list[Any]] = {}
    name = next((name for name in ("label", "prediction") if name in samples[0]), None)
    if name is not None:
        found["classes"] = [int(sample[name]) for sample in samples]
    if "correct" in samples[0]:
        found["wrong"] = [sample["correct"] == "no" for sample in samples]
    return found


def _true_classes(target: np.ndarray) -> np.ndarray | None:
    """Return the true classes of targets [n] or [n, C], int64; None if one of them is no class, or several labels."""
    values = torch.as_tensor(target)
    if target.size != len(target):
        classes = class_of_distribution(values)
    else:
        # A fraction from 0 to 1 is a soft yes or no; what is whole is a class number.
        values = values.reshape(-1)
        classes, soft = (decide_targets(values, values.shape, task) for task in ("multiclass", "binary"))
        classes = torch.where(classes == NO_CLASS, soft, classes)
    # It is on the host already, so that nothing waits here.
    found: np.ndarray = HostCopy(classes, own=True).read().numpy()
    return None if (found == NO_CLASS).any() else found


def _predicted_classes(output: np.ndarray) -> np.ndarray:
    """Return predicted classes: the largest of [N, C], or for [N] and [N, 1] whether the logit is positive."""
    scores = output.reshape(len(output), -1)
    classes: np.ndarray = scores.argmax(axis=1) if scores.shape[1] > 1 else (scores[:, 0] > 0).astype(np.int64)
    return classes


def _own_copy(value: Any) -> Any:
    # A view would keep the whole array in memory.
    if isinstance(value, np.ndarray):
        return value.copy()
    return value.item() if isinstance(value, np.generic) else value


def _check_vectors(key: str, vectors: Any) -> Tensor:
    if not isinstance(vectors, Tensor) or vectors.ndim < 2 or not vectors.is_floating_point():
        got = f"{vectors.dtype} {tuple(vectors.shape)}" if isinstance(vectors, Tensor) else type(vectors).__name__
        raise UsageError(f"embedding_key={key!r} must be [N, D, ...] of floating point, got {got}.")
    return vectors
