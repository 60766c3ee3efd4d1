"""Metrics of detected boxes, exact over the epoch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from catalyst import dl
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision

from .batch_size import batch_size
from .distributed import gather_objects, reduce_state
from .errors import UsageError
from .host_copy import HostCopy
from .keys import OUTPUT_KEY, TARGET_KEY, pick
from .loader_place import place_in_loader
from .loader_state import freeze, thaw
from .measures.box_precision import Boxes, box_precision
from .measures.weighted_mean import WeightedMean


@dataclass(frozen=True)
class BoxPrecision:
    """The score of each sample's detected boxes, 0 to 1, by the rule of ``box_precision``.

    Args:
        output_key: of the batch; N dicts of ``boxes`` [P, 4], ``scores`` [P] and ``labels`` [P].
        target_key: of the batch; N dicts of ``boxes`` [M, 4] and ``labels`` [M].
        min_score: predictions below it do not count.
    """

    output_key: str = OUTPUT_KEY
    target_key: str = TARGET_KEY
    min_score: float = 0.5

    @property
    def __name__(self) -> str:
        return "map"

    def __call__(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the score of each sample, [N], float64, on the device."""
        found, true = (pick(batch, key, "map") for key in (self.output_key, self.target_key))
        return box_precision(found, true, min_score=self.min_score)


class BoxMetrics(dl.Callback):
    """Computes the metrics of a detector over each epoch as a whole, and one of them over each batch.

    =========================== =========================================================================
    written to                  content
    =========================== =========================================================================
    ``runner.batch_metrics``    ``map``: the mean over the batch's images, a tensor on the device
    ``runner.loader_metrics``   ``map``: the mean over all images of ``box_precision``, 0 to 1
    ``runner.loader_metrics``   ``ap50``: COCO's average precision at an IoU of 0.5, 0 to 1
    ``runner.loader_metrics``   ``coco_map``: COCO's, the mean over IoUs of 0.5 to 0.95, 0 to 1
    =========================== =========================================================================

    COCO's two rank the predictions of all images by score, whatever ``min_score`` is, and count at most 100 of an
    image; they are NaN where there is no true box. ``torchmetrics.detection.MeanAveragePrecision`` computes them.

    All values are of the samples of all ranks. Nothing is read from the device within a step. Memory: COCO's rule needs
    all boxes of a loader on the host, 48 bytes each: it is bounded by the number of samples alone.

    Loaders for inference are left out, and loaders for training too where their batches hold no detections:
    torchvision's detectors give none while they train.

    Args:
        output_key: of the batch; N dicts of ``boxes`` [P, 4] (left, top, right, bottom), ``scores`` and ``labels`` [P].
        target_key: of the batch; N dicts of ``boxes`` [M, 4] and ``labels`` [M].
        min_score: predictions below it do not count for ``map``.

    Raises:
        UsageError: pycocotools is not installed; at the first batch, when a key is missing.
    """

    def __init__(self, *, output_key: str = OUTPUT_KEY, target_key: str = TARGET_KEY, min_score: float = 0.5):
        super().__init__(order=dl.CallbackOrder.Metric)
        if find_spec("pycocotools") is None:
            raise UsageError("BoxMetrics needs the package pycocotools: pip install 'catalyst-assay[experiments]'.")
        self.score = BoxPrecision(output_key, target_key, min_score)

    def on_loader_start(self, runner: dl.IRunner) -> None:
        self.mean_ = WeightedMean(["map"], runner.engine.device)
        self.batches_: list[tuple[int, HostCopy, HostCopy]] = []

    def loader_state(self, runner: dl.IRunner) -> Any:
        """Return what was seen of the loader so far, in types that ``weights_only=True`` loads."""
        return freeze([self.mean_, self.batches_])

    def load_loader_state(self, runner: dl.IRunner, state: Any) -> None:
        """Continue from what ``loader_state`` returned."""
        mean, batches = state
        self.mean_, self.batches_ = thaw(mean, self.mean_), thaw(batches)

    def on_batch_end(self, runner: dl.IRunner) -> None:
        detects = not runner.is_train_loader or self.score.output_key in runner.batch
        if runner.is_infer_loader or not detects:
            return
        precision = self.score(runner.batch).mean()
        runner.batch_metrics["map"] = precision
        self.mean_.update(precision.reshape(1), batch_size(runner))
        packed = [HostCopy(pack(runner.batch[key])) for key in (self.score.output_key, self.score.target_key)]
        self.batches_.append((place_in_loader(runner).first_sample, packed[0], packed[1]))

    def on_loader_end(self, runner: dl.IRunner) -> None:
        of_ranks = gather_objects([(first, found.read(), true.read()) for first, found, true in self.batches_])
        batches = sorted((batch for of_rank in of_ranks for batch in of_rank), key=lambda batch: batch[0])
        state = reduce_state(self.mean_.state, self.mean_.reductions)
        self.batches_ = []
        if batches:
            runner.loader_metrics.update(self.mean_.compute(state))
            runner.loader_metrics.update(coco_precision(batches))


def pack(images: Boxes) -> Tensor:
    """Return the boxes of N images in one tensor, [sum of boxes + N, 7], float64; ``unpack`` takes it apart.

    Each image has a row of its number alone, so that one without boxes is not lost, and then its boxes in the columns
    number, left, top, right, bottom, label and score; NaN where there is none.
    """
    return torch.cat([_rows(number, image) for number, image in enumerate(images)])


def unpack(packed: Tensor) -> list[dict[str, Tensor]]:
    """Return the boxes of each image as dicts again, ``boxes``, ``labels`` and ``scores``, on the host."""
    parts = packed.split(torch.unique_consecutive(packed[:, 0], return_counts=True)[1].tolist())
    return [
        {"boxes": part[1:, 1:5].float(), "labels": part[1:, 5].long(), "scores": part[1:, 6].float()} for part in parts
    ]


def _rows(number: int, image: Mapping[str, Tensor]) -> Tensor:
    boxes = image["boxes"].double().reshape(-1, 4)
    rows = boxes.new_full((len(boxes) + 1, 7), torch.nan)
    rows[:, 0] = number
    rows[1:, 1:5] = boxes
    rows[1:, 5] = image["labels"].double()
    if "scores" in image:
        rows[1:, 6] = image["scores"].double()
    return rows


def coco_precision(batches: Sequence[tuple[int, Tensor, Tensor]]) -> dict[str, float]:
    """Return COCO's metrics of batches as (position, packed predictions, packed truth), by the name they are logged as.

    NaN where there is no true box.
    """
    metric = MeanAveragePrecision()
    metric.warn_on_many_detections = False
    for _, found, true in batches:
        metric.update(unpack(found), unpack(true))
    metric.sync_on_compute = False  # every rank has all batches
    values = metric.compute()
    return {name: _or_nan(values[key].item()) for name, key in (("ap50", "map_50"), ("coco_map", "map"))}


def _or_nan(value: float) -> float:
    return torch.nan if value < 0 else value
