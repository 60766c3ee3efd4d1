"""PredictionDistribution: which probabilities are predicted for each true class, per epoch."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from catalyst import dl
from torch import Tensor

from ..drawings.canvas.fonts import shown_names
from ..drawings.prediction_distribution import draw_distribution
from ..errors import UsageError
from ..keys import OUTPUT_KEY, TARGET_KEY
from ..measures.score_curves import best_thresholds, shares_by_probability
from ..tensorboard.writer import Histogram, Writer
from .score_counts import ScoreCounts

_PICTURE_BINS = 40
_HISTOGRAM_BINS = 100  # one per percent


class PredictionDistribution(ScoreCounts):
    """Shows every epoch, for each loader, which probabilities are predicted for each true class.

    All samples of the epoch count, over all ranks; for masks, all pixels. Inference loaders are skipped.

    ================================= ========= ========================================================================
    tag, in the loader's folder       kind      step and content
    ================================= ========= ========================================================================
    ``5_predictions/distribution``    image     epoch; [H, W, 3] uint8 RGB. ``binary``: the probability of class 1, for
                                                samples of class 0 and of class 1. Otherwise, per class or label, its
                                                probability for its own samples and for all others: one chart each, or
                                                from 25 on one row each of a map
    ``9_predicted_probability/CLASS`` histogram epoch; predicted probability, 0 to 1, of the samples of the true class:
                                                of class 1 for ``binary``, otherwise of the class itself
    ================================= ========= ========================================================================

    Scores are counted in bins: the sums of the histograms use the middle of each bin, and their minimum and maximum are
    edges of bins.

    Args:
        low: lower end of the range of probabilities, 0 to 1, in which a sample counts as undecided; the picture shows
            the share of these samples.
        high: upper end of that range.
        task: ``multiclass`` (output [N, C, ...]: each class against all others, by its softmax probability), ``binary``
            (output [N, ...] or [N, 1, ...]: the logit of class 1) or ``multilabel`` (output [N, C, ...]: one logit per
            label).
        num_classes: C, the number of classes or labels. Not needed with ``class_names``, nor for ``binary``.
        class_names: one name per class or label; None: they are shown by number.
        ignore_index: target value to leave out; None: every target counts.
        output_key: key of the logits in the batch.
        target_key: key of the targets in the batch: class numbers [N, ...], or 0 and 1 in the shape of the output.
        bins: how many bins the scores are counted in, an even number from 16 to 65536, at 16 bytes per class and bin;
            None: 8192 for up to 256 classes, fewer for more.
        prefix: added to the tags, as ``TAG/PREFIX``; a second callback of this kind needs one.

    Raises:
        UsageError: an argument is out of range; at the start of the run, there is no TensorBoard logger; at a batch, a
            key is missing, a shape does not fit, or a target on the host is no class; at the end of a loader, any other
            target was no class.
    """

    own_tags = ("5_predictions/distribution",)

    def __init__(
        self,
        *,
        low: float = 0.25,
        high: float = 0.75,
        task: str = "multiclass",
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        ignore_index: int | None = None,
        output_key: str = OUTPUT_KEY,
        target_key: str = TARGET_KEY,
        bins: int | None = None,
        prefix: str = "",
    ):
        super().__init__(
            task=task,
            num_classes=num_classes,
            class_names=class_names,
            ignore_index=ignore_index,
            output_key=output_key,
            target_key=target_key,
            bins=bins,
            prefix=prefix,
        )
        if not 0 <= low < high <= 1:
            raise UsageError(f"low and high must be probabilities, low below high, got {low!r} and {high!r}.")
        self.low, self.high = low, high

    def write(self, runner: dl.IRunner, writer: Writer, counts: Tensor) -> None:
        title, step = f"{self.place(runner.loader_key)} predictions, epoch {runner.epoch_step}", runner.epoch_step
        writer.image(self.full_tag("5_predictions/distribution"), partial(self._draw, counts, title), step)
        writer.histograms(partial(self._histograms, counts), step)

    def _draw(self, counts: Tensor, title: str) -> np.ndarray:
        shares = shares_by_probability(counts, self.edges, np.linspace(0, 1, _PICTURE_BINS + 1))
        # Three shares: below, between and above the two bounds.
        grid = np.array([0.0, self.low, self.high, 1.0])
        undecided = shares_by_probability(counts, self.edges, grid)[:, :, 1]
        return draw_distribution(
            shares,
            counts.sum(dim=2).numpy(),
            best_thresholds(counts, self.edges).numpy(),
            undecided,
            shown_names(self.class_names),
            title,
            bounds=(self.low, self.high),
            unit=self.unit,
        )

    def _histograms(self, counts: Tensor) -> dict[str, Histogram]:
        # Two classes share one score, that of class 1, which is shown for the samples of either class.
        rows = counts[0] if self.task == "binary" else counts[:, 1]
        edges = self.edges.sigmoid().numpy()
        named = zip(self.class_names, rows.numpy(), strict=True)
        return {
            self.full_tag(f"9_predicted_probability/{name}"): _histogram(row, edges) for name, row in named if row.any()
        }


def _histogram(counts: np.ndarray, edges: np.ndarray) -> Histogram:
    """Return the histogram of counts [B] between edges [B + 1]."""
    # A bin may lie across two bars: it counts for the one that holds its middle.
    middles, filled = (edges[:-1] + edges[1:]) / 2, np.flatnonzero(counts)
    limits = np.linspace(0, 1, _HISTOGRAM_BINS + 1)
    bars = np.searchsorted(limits[1:-1], middles, side="right")
    return Histogram(
        counts=np.bincount(bars, weights=counts, minlength=_HISTOGRAM_BINS),
        limits=limits[1:],
        low=float(edges[filled[0]]),
        high=float(edges[filled[-1] + 1]),
        total=float((counts * middles).sum()),
        total_of_squares=float((counts * middles**2).sum()),
    )
