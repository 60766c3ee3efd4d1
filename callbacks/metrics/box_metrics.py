"""BoxMetrics: average precision of detected boxes, exact over the epoch and over all ranks."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from catalyst import dl
from torch import Tensor

from ..base.detections import FOUND, TRUE, has_detections, pick_boxes
from ..base.dict_batch import dict_batch
from ..base.naming import Named
from ..base.order import METRICS
from ..errors import UsageError, unknown_name
from ..keys import OUTPUT_KEY, TARGET_KEY
from ..measures.box_precision import box_precision
from ..measures.coco_precision import CocoPrecision, coco_precision, pack
from ..measures.measure import reduce_measure
from ..measures.weighted_mean import WeightedMean
from ..support.checkpoint_values import from_plain, to_plain
from ..support.class_names import check_names, name_of
from ..support.distributed import gather_objects
from ..support.host_copy import HostCopy
from ..support.runner_view import history_of, place_in_loader

RULES = ("coco", "competition")

_COMPETITION = "competition_map"
# What former versions called COCO's metric, when "map" was that of the competition.
_FORMER_COCO = "coco_map"

_log = logging.getLogger("assay")


@dataclass(frozen=True)
class BoxPrecision:
    """The score of each sample's detected boxes, 0 to 1, by the rule of ``box_precision``; 1 where there is no box.

    Args:
        output_key: key of the detections in the batch: N dicts of ``boxes`` [P, 4], ``scores`` [P] and ``labels`` [P].
        target_key: key of the targets in the batch: N dicts of ``boxes`` [M, 4] and ``labels`` [M].
        min_score: predictions with a lower score do not count.
        name: name of the score in tags and titles.
    """

    output_key: str = OUTPUT_KEY
    target_key: str = TARGET_KEY
    min_score: float = 0.5
    name: str = _COMPETITION

    # A score is called by its function's name in tags and titles.
    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the score of each sample, [N], float64, on the device."""
        return self.precision(batch).nan_to_num(1.0)

    def precision(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the score of each sample, [N], float64; NaN for a sample without any box, true or predicted."""
        found = pick_boxes(batch, self.output_key, self.name, FOUND)
        true = pick_boxes(batch, self.target_key, self.name, TRUE)
        return box_precision(found, true, min_score=self.min_score)


class BoxMetrics(Named):
    """Computes the metrics of a detector over each epoch as a whole, and one of them over each batch.

    =========================== =========================================================================
    written to                  content, 0 to 1
    =========================== =========================================================================
    ``runner.loader_metrics``   ``map``: COCO's average precision, the mean over IoUs of 0.5 to 0.95 and
                                over all classes that have a true box
    ``runner.loader_metrics``   ``ap50``, ``ap75``: the same at an IoU of 0.5, and of 0.75
    ``runner.loader_metrics``   ``map_small``, ``map_medium``, ``map_large``: the same as ``map`` of true
                                boxes of up to 32 x 32 pixels, from there to 96 x 96, and above; only
                                those of which there is a true box
    ``runner.loader_metrics``   ``map/CLASS``, ``ap50/CLASS``: the same of one class that has a true box
    ``runner.loader_metrics``   ``competition_map``: the mean over all images of ``box_precision``
    ``runner.batch_metrics``    ``competition_map``: of the batch, a tensor on the device
    =========================== =========================================================================

    The attribute ``coco_`` holds all of COCO's figures of the last loader, also by class and size together.

    COCO's metrics rank the predictions of all images by score, regardless of ``min_score``, and count at most 100 per
    image and class (see ``coco_precision``). They are NaN if there is no true box. Predictions that are not finite are
    left out, with a warning (logger ``assay``). ``competition_map`` leaves out images without any box, true or
    predicted; if there are no others, it is NaN for a loader and 1 for a batch.

    All values cover the samples of all ranks. Nothing is read from the device within a step. Memory: COCO's rule needs
    all boxes of a loader on the host, 56 bytes each, so it grows with the number of samples.

    Inference loaders are skipped, and so are training loaders whose batches hold no detections: torchvision's detectors
    return none while they train.

    Args:
        class_names: one per label, from label 0 on; None: labels are shown by number.
        output_key: key of the detections in the batch: N dicts of ``boxes`` [P, 4] (left, top, right, bottom),
            ``scores`` [P] and ``labels`` [P].
        target_key: key of the targets in the batch: N dicts of ``boxes`` [M, 4], ``labels`` [M] and, if there are
            crowds, ``iscrowd`` [M], 0 or 1.
        min_score: predictions with a lower score do not count for ``competition_map``.
        map_is: which metric is called ``map``: ``coco``, or ``competition`` as in former versions, which then called
            COCO's ``coco_map``. A resumed run that began with those names keeps them, with a warning.
        prefix: added in front of the names, as ``PREFIX/NAME``; a second callback of this kind needs one.

    Raises:
        UsageError: an argument is out of range; pycocotools is not installed; at the first batch, a key is missing or
            holds no boxes; at the end of a loader, a true box has no area or is not finite.
    """

    own_metrics = ("map", "ap50", _COMPETITION)
    minor_metrics = (_COMPETITION, "ap75", "map_small", "map_medium", "map_large")

    def __init__(
        self,
        *,
        class_names: Sequence[str] | None = None,
        output_key: str = OUTPUT_KEY,
        target_key: str = TARGET_KEY,
        min_score: float = 0.5,
        map_is: str = "coco",
        prefix: str = "",
    ):
        super().__init__(METRICS, prefix)
        # Checked here, as it is only imported at the end of the first loader.
        if find_spec("pycocotools") is None:
            raise UsageError("BoxMetrics needs the package pycocotools: pip install 'catalyst-assay[experiments]'.")
        if map_is not in RULES:
            raise unknown_name("map_is", map_is, RULES)
        self.class_names = check_names(class_names)
        self.target_key = target_key
        self.score = BoxPrecision(output_key, target_key, min_score)
        self.map_is = map_is
        self.batches_: list[tuple[int, HostCopy, HostCopy]] = []
        self.coco_: CocoPrecision | None = None  # of the last loader; None where it had no detections

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        # A resumed run keeps the names that it began with: its best checkpoints were chosen by them.
        former, history = self.named(_FORMER_COCO), history_of(runner)
        if any(former in of for by_loader in history.values() for of in by_loader.values()):
            self.map_is = "competition"
        if self.map_is == "competition" and runner.engine.is_main_process:
            self._warn_of_former_names()

    def on_loader_start(self, runner: dl.IRunner) -> None:
        super().on_loader_start(runner)
        self.mean_ = WeightedMean([_COMPETITION], runner.engine.device)
        self.batches_, self.coco_ = [], None

    def loader_state(self, runner: dl.IRunner) -> Any:
        """Return what was observed of the loader so far, in types that ``weights_only=True`` loads."""
        return to_plain([self.mean_, self.batches_])

    def load_loader_state(self, runner: dl.IRunner, state: Any) -> None:
        """Continue from what ``loader_state`` returned."""
        mean, batches = state
        self.mean_, self.batches_ = from_plain(mean, self.mean_), from_plain(batches)
        # This state was saved when the metric was called "map".
        if self.mean_.names != [_COMPETITION]:
            self.mean_.names, self.map_is = [_COMPETITION], "competition"
            self._warn_of_former_names()

    def on_batch_end(self, runner: dl.IRunner) -> None:
        detects = not runner.is_train_loader or has_detections(dict_batch(runner, "BoxMetrics"), self.score.output_key)
        if runner.is_infer_loader or not detects:
            return
        precision = self.score.precision(runner.batch)
        # NaN marks an image without any box, which does not count.
        counted = precision.isfinite().sum()
        mean = torch.where(counted > 0, precision.nansum() / counted.clamp(min=1), 1.0)
        name = "map" if self.map_is == "competition" else _COMPETITION
        self.write_metrics(runner, runner.batch_metrics, {name: mean})
        self.mean_.update(mean.reshape(1), counted)
        # COCO's rule ranks the boxes of all images, so they are kept: copied now, read at the end of the loader.
        packed = [HostCopy(pack(runner.batch[key])) for key in (self.score.output_key, self.target_key)]
        self.batches_.append((place_in_loader(runner).first_sample, packed[0], packed[1]))

    def on_loader_end(self, runner: dl.IRunner) -> None:
        # A collective: a rank without batches takes part too.
        of_ranks = gather_objects([(first, found.read(), true.read()) for first, found, true in self.batches_])
        # In the order of the loader: predictions with equal scores rank the same on any number of ranks.
        batches = sorted((batch for of_rank in of_ranks for batch in of_rank), key=lambda batch: batch[0])
        state = reduce_measure(self.mean_)
        self.batches_ = []
        if not batches:
            return
        self._check_truth(runner, batches)
        coco = self.coco_ = coco_precision([(found, true) for _, found, true in batches])
        values = self._by_name(coco, self.mean_.compute(state)[_COMPETITION])
        self.write_metrics(runner, runner.loader_metrics, values)
        # Every rank has computed the same number; one warning is enough.
        if coco.left_out and runner.engine.is_main_process:
            place = f"{runner.loader_key} epoch {runner.epoch_step}"
            _log.warning("BoxMetrics, %s: %d predictions are not finite and left out.", place, coco.left_out)

    def _by_name(self, coco: CocoPrecision, competition: float) -> dict[str, float]:
        is_coco = self.map_is == "coco"
        name, other = ("map", _COMPETITION) if is_coco else (_FORMER_COCO, "map")
        of_all = coco.overall
        values = {name: of_all.map, "ap50": of_all.ap50, "ap75": of_all.ap75, other: competition}
        # A size of which there is no object would be a curve of nothing, every epoch.
        values |= {f"{name}_{size}": value for size, value in of_all.by_size.items() if not math.isnan(value)}
        for label, figures in coco.by_label.items():
            of_class = name_of(label, self.class_names)
            values |= {f"{name}/{of_class}": figures.map, f"ap50/{of_class}": figures.ap50}
        return values

    def _check_truth(self, runner: dl.IRunner, batches: Sequence[tuple[int, Tensor, Tensor]]) -> None:
        for first, _, true in batches:
            boxes = true[:, 1:5]
            # A row without a label stands for an image, and holds no box.
            wrong = ~true[:, 5].isnan() & ~((boxes[:, 2:] > boxes[:, :2]).all(dim=1) & boxes.isfinite().all(dim=1))
            if wrong.any():
                row = true[wrong][0]
                raise UsageError(
                    f"BoxMetrics needs true boxes as left, top, right, bottom, with right > left and bottom > top, got "
                    f"{row[1:5].tolist()} in {self.target_key!r} of sample {first + int(row[0])} of loader "
                    f"{runner.loader_key!r}."
                )

    def _warn_of_former_names(self) -> None:
        _log.warning(
            "BoxMetrics: as in older runs, map is the competition's figure in this one, and %s is COCO's; in new ones "
            "map is COCO's, and the competition's is %s.",
            _FORMER_COCO,
            _COMPETITION,
        )
