"""The worst samples of a loader as a table: id, score, truth and prediction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catalyst import dl

from ..drawings.canvas.picture_style import PictureStyle
from ..drawings.tasks.describe import describe_output, describe_target
from ..drawings.tasks.find_task import find_task
from ..measures.best_worst_samples import Sample
from ..samples.best_worst_samples import BestWorstSamples
from ..samples.csv_table import write_table
from ..samples.sample_ranking import without_input
from ..samples.target_kind import target_kind

COLUMNS = ("loader", "epoch", "score", "rank", "sample_id", "value", "target", "prediction")


@dataclass(frozen=True)
class WorstSamples:
    """The worst samples of one loader by one score.

    Attributes:
        score_name: of the score, with the prefix of the callback.
        samples: the worst first.
        style: names the classes.
        task: where it is known.
        kind: of the targets, see ``target_kind``.
    """

    score_name: str
    samples: Sequence[Sample]
    style: PictureStyle
    task: str | None
    kind: str | None

    def rows(self) -> list[list[str]]:
        """Return rank, id, value, target and prediction of each sample."""
        texts = self._texts()
        return [
            [self.score_name, str(rank), str(sample.sample_id), f"{sample.score:.9g}", *text]
            for rank, (sample, text) in enumerate(zip(self.samples, texts, strict=True), start=1)
        ]

    def _texts(self) -> list[tuple[str, str]]:
        parts = [sample.parts for sample in self.samples]
        # A drawing of the user's keeps whole batches, of which only the user knows what is the truth.
        if not all("target" in part and "output" in part for part in parts):
            return [("", "")] * len(parts)
        outputs, targets = ([part[name] for part in parts] for name in ("output", "target"))
        task = find_task(outputs, targets, self.task, self.style.ignore_index, self.kind)
        if task is None:
            return [("", "")] * len(parts)
        return [
            (describe_target(task, output, target, self.style), describe_output(task, output, self.style))
            for output, target in zip(outputs, targets, strict=True)
        ]


def worst_samples(runner: dl.IRunner, callback: BestWorstSamples) -> WorstSamples | None:
    """Return the worst samples of the loader that has just ended; None where the callback has found none."""
    ranking = callback.source_.ranking_
    if ranking is None or not ranking.worst:
        return None
    return WorstSamples(
        callback.named(callback.score_name),
        [_without_image(sample) for sample in ranking.worst],
        callback.style or PictureStyle(),
        callback.task,
        target_kind(runner, callback.output_key, callback.target_key, callback.criterion_key),
    )


def write_worst(path: Path, loader: str, epoch: int, found: Sequence[WorstSamples]) -> None:
    """Write the worst samples of a loader, whole or not at all."""
    with write_table(path, COLUMNS) as table:
        for worst in found:
            for row in worst.rows():
                table.add([loader, str(epoch), *row])


def _without_image(sample: Sample) -> Sample:
    return Sample(sample.score, sample.position, sample.sample_id, _text_parts(without_input(sample).parts))


def _text_parts(parts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in parts.items() if name in ("target", "output")}
