"""FixedSamples and RandomSamples: pictures of samples that are chosen by chance and not by their score."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from inspect import Signature
from typing import Any, ClassVar

import numpy as np
from catalyst import dl
from torch import Tensor

from ..base.detections import Detections, without_masks
from ..base.diagnostic import Diagnostic
from ..base.image_checks import check_images
from ..base.option_signature import signature_with_options
from ..drawings.canvas.images import Channels
from ..drawings.canvas.picture_style import PictureStyle
from ..drawings.samples import draw_samples
from ..drawings.tasks.find_task import TASKS
from ..errors import at_least_one, unknown_name
from ..keys import IMAGE_KEY, OUTPUT_KEY, SAMPLE_ID_KEY, TARGET_KEY, pick
from ..measures.best_worst_samples import Sample
from ..measures.chosen_samples import ChosenSamples, choose_places
from ..measures.reduced_image import reduced
from ..support.class_names import check_names
from ..support.distributed import gather_objects, winners_over_ranks
from ..support.host_copy import copy_rows, read_tree
from ..support.runner_view import batches_in_loader, host_targets, positions_in_loader, samples_of_keys
from ..support.unwrap import detached
from ..tensorboard.writer import Writer
from .target_kind import target_kind


class SamplesByChance(Diagnostic):
    """Base of the diagnostics that show samples at places of the loader that are chosen before it starts.

    Only chosen samples are copied, those of a batch together, so that most steps ask nothing of the device. Loaders for
    inference are left out; for detections, so are training batches that hold none. A stock runner knows of some loaders
    the number of batches alone, as of one with a batch sampler of its own: they count as full, and fewer may be shown.

    Args:
        kind: names the samples in tag and title.
        k_samples: how many are shown.
        seed: the choice is a function of it.
        task: see ``BestWorstSamples``, as all that follow.
        image_key: key of the images in the batch.
        target_key: key of the targets in the batch.
        output_key: key of the outputs in the batch.
        sample_id_key: key of the sample ids in the batch.
        class_names: one name per class.
        ignore_index: target value that counts neither as right nor as wrong.
        mean: mean of the images' normalization.
        std: standard deviation of that normalization.
        min_score: detection: predictions below it are not counted.
        min_iou: detection: smallest overlap at which a box counts as found.
        criterion_key: name of the criterion, of several, whose targets these are.
        train: whether samples of loaders for training are shown too.
        prefix: see ``Named``.
    """

    __signature__: ClassVar[Signature]

    def __init__(
        self,
        kind: str,
        k_samples: int,
        seed: int,
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
        criterion_key: str | None = None,
        train: bool = False,
        prefix: str = "",
    ):
        super().__init__(prefix=prefix)
        if task is not None and task not in TASKS:
            raise unknown_name("task", task, TASKS)
        self.kind = kind
        self.k_samples = at_least_one("k_samples", k_samples)
        self.seed, self.train = seed, train
        self.keys = {"image": image_key, "target": target_key, "output": output_key}
        self.sample_id_key, self.criterion_key = sample_id_key, criterion_key
        self.style: PictureStyle = PictureStyle(check_names(class_names), mean, std, ignore_index)
        self.draw = partial(draw_samples, style=self.style, task=task, min_score=min_score, min_iou=min_iou)
        self.detections_ = Detections(output_key, type(self).__name__) if task == "detection" else None
        self.measure_: ChosenSamples | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Show the ``**options`` of a subclass as the arguments that they are, to ``help``, configs and checks."""
        super().__init_subclass__(**kwargs)
        cls.__signature__ = signature_with_options(cls)

    def tags(self, loader_key: str) -> tuple[str, ...]:
        return (f"6_samples/{self.kind}",) if self.shows(loader_key) else ()

    def shows(self, loader_key: str) -> bool:
        """Return whether samples of a loader are shown."""
        return not loader_key.startswith(("infer",) if self.train else ("infer", "train"))

    def choose(self, runner: dl.IRunner, samples: int) -> ChosenSamples:
        """Return a measure for a loader of so many samples."""
        raise NotImplementedError

    def begin(self, runner: dl.IRunner) -> None:
        self.measure_ = None
        if self.shows(runner.loader_key) and self.draws:
            self.measure_ = self.choose(runner, _samples_in_loader(runner))

    def observe(self, runner: dl.IRunner) -> None:
        if self.measure_ is None or (self.detections_ is not None and self.detections_.are_missing(runner)):
            return
        positions = positions_in_loader(runner, samples_of_keys(runner, self.keys.values()))
        found = {name: pick(runner.batch, key, type(self).__name__) for name, key in self.keys.items()}
        check_images(self.keys["image"], found["image"])
        parts: dict[str, Any] = {name: detached(without_masks(part)) for name, part in found.items()}
        ids = self._host_ids(runner, positions)
        if isinstance(ids, Tensor):
            # On a device they are unknown yet: those of the chosen samples travel with their parts.
            parts["id"], ids = ids.reshape(-1), [None] * len(positions)
        self.measure_.update(positions, ids, partial(_copied, parts, len(positions)))

    def report(self, runner: dl.IRunner, writer: Writer) -> None:
        if self.measure_ is None:
            return
        measure, self.measure_ = self.measure_, None
        # A sample that padding gave to two ranks counts once.
        samples: list[Sample] = winners_over_ranks(
            measure.samples, self.k_samples, measure.rank, _read, identity=_identity
        )
        count = sum(gather_objects(measure.seen))
        self.remember(runner, writer, samples)
        if not samples:
            return
        kind = target_kind(runner, self.keys["output"], self.keys["target"], self.criterion_key)
        title = [
            f"{self.kind} {self.place(runner.loader_key)} samples",
            f"epoch {runner.epoch_step}, {len(samples)} of {count:,} samples, seed {self.seed}",
        ]
        writer.image(
            self.full_tag(f"6_samples/{self.kind}"), partial(_draw, self.draw, samples, title, kind), runner.epoch_step
        )

    def _host_ids(self, runner: dl.IRunner, positions: Sequence[int]) -> Any:
        """Return the ids of a batch as the loader gave them, a list; a tensor where they are on a device alone."""
        ids = runner.batch.get(self.sample_id_key, positions)
        if isinstance(ids, Tensor):
            given = host_targets(runner).arrays(self.sample_id_key)
            return ids if given is None else given.reshape(-1).tolist()
        return ids.reshape(-1).tolist() if isinstance(ids, np.ndarray) else list(ids)

    def remember(self, runner: dl.IRunner, writer: Writer, samples: Sequence[Sample]) -> None:
        """Keep what later epochs need to know of the samples that were found."""

    def seeds(self, loader_key: str) -> list[int]:
        """Return the seed of a loader's choice."""
        return [self.seed, zlib.crc32(loader_key.encode())]


class FixedSamples(SamplesByChance):
    """Shows the same samples in every epoch, so that the slider of the picture shows what becomes of each.

    They are chosen once by ``seed``, the same on any number of ranks, of every loader for validation. In a loader that
    shuffles they are found again by their ids, texts or numbers; a warning says where the samples have changed, as
    where ids are tensors on a GPU and the runner is a stock one. Of a loader of which a stock runner knows only the
    number of batches, fewer may be shown.

    ============================ ======= ===================================================================
    tag, in the loader's folder  kind    step and content
    ============================ ======= ===================================================================
    ``6_samples/fixed``          image   epoch; one grid, [H, W, 3] uint8 RGB, in the order of the first epoch
    ============================ ======= ===================================================================

    Nothing is read from the device within a step, and only the chosen samples are copied: a step without one asks
    nothing of the device, and one with some copies their images, targets and outputs in one copy each.

    Args:
        k_samples: how many are shown, at least 1; all if the loader has fewer.
        seed: the choice is a function of it.
        options: ``task``, ``image_key``, ``target_key``, ``output_key``, ``sample_id_key``, ``class_names``,
            ``ignore_index``, ``mean``, ``std``, ``min_score``, ``min_iou``, ``criterion_key`` and ``prefix``, see
            ``BestWorstSamples``; ``train``, whether samples of loaders for training are shown too.

    Raises:
        UsageError: an argument is out of range; at the first batch, when a key is missing or the images cannot be
            drawn; at the start of the run, when the runner has no TensorBoard logger.
    """

    def __init__(self, k_samples: int = 16, seed: int = 0, **options: Any):
        super().__init__("fixed", k_samples, seed, **options)
        self.ids_: dict[str, list[Any]] = {}
        self.warned_ = False

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        super().on_experiment_start(runner)
        self.ids_, self.warned_ = {}, False

    def state_dict(self) -> dict[str, Any]:
        """Return the ids of the samples that were chosen, by loader."""
        return {"ids": {loader: list(ids) for loader, ids in self.ids_.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.ids_ = {loader: list(ids) for loader, ids in state["ids"].items()}

    def choose(self, runner: dl.IRunner, samples: int) -> ChosenSamples:
        """Choose places in the first epoch, and later the ids that were found there."""
        places = choose_places(samples, self.k_samples, self.seeds(runner.loader_key))
        ids = self.ids_.get(runner.loader_key)
        return ChosenSamples(places, ids)

    def remember(self, runner: dl.IRunner, writer: Writer, samples: Sequence[Sample]) -> None:
        """Keep the ids of the first epoch."""
        found = [sample.sample_id for sample in samples]
        known = self.ids_.setdefault(runner.loader_key, found)
        if found != known and not self.warned_:
            self.warned_ = True
            writer.warn(
                f"FixedSamples: loader {runner.loader_key!r} has other samples at the chosen places than in its first "
                "epoch, so that the picture does not show what becomes of each: do not shuffle it."
            )


class RandomSamples(SamplesByChance):
    """Shows other samples in every epoch, chosen at random: what a usual prediction looks like.

    The choice is a function of (``seed``, loader, epoch, place in the loader), the same on any number of ranks, of each
    loader for validation. Of one of which a stock runner knows only the number of batches, fewer may be shown.

    ============================ ======= ===================================================================
    tag, in the loader's folder  kind    step and content
    ============================ ======= ===================================================================
    ``6_samples/random``         image   epoch; one grid, [H, W, 3] uint8 RGB, in the order of the loader
    ============================ ======= ===================================================================

    Nothing is read from the device within a step, and only the chosen samples are copied: a step without one asks
    nothing of the device, and one with some copies their images, targets and outputs in one copy each.

    Args:
        k_samples: how many are shown, at least 1; all if the loader has fewer.
        seed: the choice is a function of it.
        options: ``task``, ``image_key``, ``target_key``, ``output_key``, ``sample_id_key``, ``class_names``,
            ``ignore_index``, ``mean``, ``std``, ``min_score``, ``min_iou``, ``criterion_key`` and ``prefix``, see
            ``BestWorstSamples``; ``train``, whether samples of loaders for training are shown too.

    Raises:
        UsageError: see ``FixedSamples``.
    """

    def __init__(self, k_samples: int = 16, seed: int = 0, **options: Any):
        super().__init__("random", k_samples, seed, **options)

    def choose(self, runner: dl.IRunner, samples: int) -> ChosenSamples:
        """Choose places anew in every epoch."""
        seed = [*self.seeds(runner.loader_key), runner.epoch_step]
        return ChosenSamples(choose_places(samples, self.k_samples, seed))


def _samples_in_loader(runner: dl.IRunner) -> int:
    """Return how many samples the current loader has over all ranks; more where not all that it counts are used."""
    return int(min(batches_in_loader(runner) * max(1, runner.loader_batch_size), runner.loader_sample_len))


def _copied(parts: Mapping[str, Any], size: int, chosen: Sequence[int]) -> list[dict[str, Any]]:
    """Start copying what pictures of the chosen samples of a batch are drawn from."""
    rows = {name: [_at(part, index, size) for index in chosen] for name, part in parts.items()}
    sizes = [list(image.shape[-2:]) for image in rows["image"]]
    copies = {name: copy_rows(of) for name, of in {**rows, "image": reduced(rows["image"])}.items()}
    copies["image_size"] = sizes
    return [dict(zip(copies, sample, strict=True)) for sample in zip(*copies.values(), strict=True)]


def _at(part: Any, index: int, size: int) -> Any:
    """Return the part of one sample in a batch of ``size``, or in a nested part of the batch."""
    if isinstance(part, Mapping):
        return {name: _at(inner, index, size) for name, inner in part.items()}
    # A list of another length holds views, or the parts of a tuple, of all samples each.
    if isinstance(part, list) and len(part) != size:
        return [_at(inner, index, size) for inner in part]
    return part[index]


def _identity(sample: Sample) -> Any:
    return sample.position if sample.sample_id is None else sample.sample_id


def _read(sample: Sample) -> Sample:
    parts = dict(read_tree(sample.parts))
    return replace(sample, sample_id=parts.pop("id").item() if "id" in parts else sample.sample_id, parts=parts)


def _draw(draw: Any, samples: Sequence[Sample], title: Sequence[str], kind: str | None) -> np.ndarray:
    # Called in the writer's thread, with samples that are on the host.
    parts = {name: [sample.parts[name] for sample in samples] for name in samples[0].parts}
    ids = [_identity(sample) for sample in samples]
    picture: np.ndarray = draw({**parts, "sample_id": ids, "kind": kind}, title)
    return picture
