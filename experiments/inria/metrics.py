"""IoU by image and by city, of the area and of the border, and at the best threshold."""

from collections.abc import Sequence
from functools import partial

import torch
from catalyst import dl
from torch import Tensor

from assay.callbacks.keys import OUTPUT_KEY, TARGET_KEY, pick
from assay.callbacks.toolkit import (
    Diagnostic,
    RegionCounts,
    ScoreCounts,
    Writer,
    best_f1,
    iou,
    markdown_table,
    reduce_state,
)


class TileIoU(Diagnostic):
    """Puts the windows of a validation together again to images and cities.

    ============================== ====== ======================================================================
    written to                     kind   content
    ============================== ====== ======================================================================
    ``iou/CITY``                   metric IoU of all pixels of the city's images, 0 to 1
    ``iou_per_image``              metric mean over images of the image's IoU
    ``boundary_iou``               metric IoU of the borders alone, of all images together; see ``RegionCounts``
    tag ``3_metrics/iou_by_image`` text   Markdown table of IoU and boundary IoU by image, the worst first
    ============================== ====== ======================================================================

    An image without any house, in truth as in prediction, has no IoU, and no part in means. The sums are exact, over
    all ranks. Loaders other than for validation are left out.

    Args:
        names: of the images; windows tell theirs by its place in the list.
        cities: of the images; "" of none.
        reach: width of the border in pixels.
        tile_key: of the batch; [N], int64.
        output_key: of the batch; logits [N, 1, H, W].
        target_key: of the batch; [N, H, W] with 0, 1 and other values for what does not count.
    """

    observed = ("measure_",)
    minor_metrics = ("iou_per_image", "boundary_iou")

    def __init__(
        self,
        names: Sequence[str],
        cities: Sequence[str],
        reach: int,
        *,
        tile_key: str = "tile",
        output_key: str = OUTPUT_KEY,
        target_key: str = TARGET_KEY,
    ):
        super().__init__()
        self.names, self.cities, self.reach = list(names), list(cities), reach
        self.keys = (output_key, target_key, tile_key)
        self.measure_: RegionCounts | None = None

    def begin(self, runner: dl.IRunner) -> None:
        device = runner.engine.device
        self.measure_ = RegionCounts(len(self.names), self.reach, device) if runner.is_valid_loader else None

    def observe(self, runner: dl.IRunner) -> None:
        if self.measure_ is not None:
            self.measure_.update(*(pick(runner.batch, key, type(self).__name__) for key in self.keys))

    def report(self, runner: dl.IRunner, writer: Writer) -> None:
        if self.measure_ is None:
            return
        state = reduce_state(self.measure_.state, self.measure_.reductions)
        area, border = state["area"].cpu(), state["border"].cpu()
        self.measure_ = None
        for city in sorted({*self.cities} - {""}):
            inside = torch.tensor([name == city for name in self.cities])
            runner.loader_metrics[f"iou/{city}"] = float(iou(area[inside].sum(dim=0)))
        runner.loader_metrics["iou_per_image"] = float(iou(area).nanmean())
        runner.loader_metrics["boundary_iou"] = float(iou(border.sum(dim=0)))
        writer.text("3_metrics/iou_by_image", partial(self._table, iou(area), iou(border)), runner.epoch_step)

    def _table(self, area: Tensor, border: Tensor) -> str:
        rows = zip(self.names, area.tolist(), border.tolist(), strict=True)
        ranked = sorted(rows, key=lambda row: (row[1] != row[1], row[1]))
        return markdown_table(
            ("image", "IoU", "boundary IoU"), [(name, f"{of:.4f}", f"{near:.4f}") for name, of, near in ranked]
        )


class BestThreshold(ScoreCounts):
    """Finds the threshold of the probability with the largest IoU over the whole loader, by binned counts.

    Where F1 is largest, IoU = F1 / (2 - F1) is largest too. The threshold is an edge of one of 8,192 bins; at it the
    IoU is exact.

    ================================ ========== ==================================================================
    written to                       kind       content
    ================================ ========== ==================================================================
    ``best_iou``                     metric     largest IoU of all thresholds, 0 to 1
    ``best_iou_threshold``           metric     where: a probability; a house is what is at least as probable
    ================================ ========== ==================================================================

    Args:
        ignore_index: target value that is left out.
    """

    minor_metrics = ("best_iou", "best_iou_threshold")

    def __init__(self, ignore_index: int):
        super().__init__(task="binary", ignore_index=ignore_index)

    def write(self, runner: dl.IRunner, writer: Writer, counts: Tensor) -> None:
        f1, _, edge = best_f1(counts)
        runner.loader_metrics["best_iou"] = float(f1 / (2 - f1))
        runner.loader_metrics["best_iou_threshold"] = float(self.edges[edge].sigmoid())
