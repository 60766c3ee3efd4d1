"""The samples that a model is most wrong about, with what was embedded in them."""

from functools import partial
from pathlib import Path

import numpy as np
from catalyst import dl

from assay.callbacks.toolkit import Ranking, Sample, SampleRanking, Writer, format_score, ranking_title

from .data import CLASS_NAMES
from .residuals import ShownChanges, draw_changes, measure_changes


class ChangedSamples(SampleRanking):
    """Shows the k samples with the largest loss of every epoch, for each loader, beside their covers.

    =========================== ===== ==================================================================================
    tag, in the loader's folder kind  step and content
    =========================== ===== ==================================================================================
    ``6_samples/changes/loss``  image epoch; one grid, [H, W, 3] uint8 RGB, the worst first: the image as it is in its
                                      file, its residual, and its distance from its cover
    =========================== ===== ==================================================================================

    The files of the samples shown are read once more, at the end of the loader.

    Args:
        root: the folder below which ``sample_id`` is a path.
        k_samples: k, at least 1.

    Raises:
        UsageError: as ``SampleRanking``.
    """

    def __init__(self, root: Path, k_samples: int = 12):
        super().__init__(k_samples=k_samples)
        self.root = root

    def show(self, runner: dl.IRunner, writer: Writer, ranking: Ranking) -> None:
        title = ranking_title(self, "worst", runner, ranking.worst, ranking.count)
        # Not in the writer's thread: jpeglib serves one thread alone.
        shown = [show_sample(self.root, *entry) for entry in enumerate(ranking.worst, start=1)]
        writer.image(f"6_samples/changes/{self.score_name}", partial(draw_changes, shown, title), runner.epoch_step)


def show_sample(root: Path, rank: int, sample: Sample) -> ShownChanges:
    """Return what is shown of a sample.

    Args:
        root: see ``ChangedSamples``.
        rank: of the sample, from 1.
        sample: with ``target``, a class number, and ``output``, logits [4].
    """
    path = root / sample.sample_id
    logits = np.asarray(sample.parts["output"], dtype=np.float64)
    powers = np.exp(logits - logits.max())
    truth, found = int(sample.parts["target"]), int(logits.argmax())
    names = CLASS_NAMES[truth] if truth == found else f"{CLASS_NAMES[truth]} → {CLASS_NAMES[found]}"
    lines = (
        f"{names}  {powers[found] / powers.sum():.2f}",
        f"#{rank}  loss {format_score(sample.score)}",
    )
    changes = measure_changes(path, root / CLASS_NAMES[0] / path.name)
    return ShownChanges(changes, str(sample.sample_id), lines, right=truth == found)
