"""BestWorstSamples: pictures of the best and the worst samples of every epoch."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from catalyst import dl

from ..base.detections import Detections
from ..drawings.canvas.images import Channels
from ..drawings.canvas.picture_style import PictureStyle
from ..drawings.samples import draw_panels, draw_samples, format_score
from ..drawings.sentence import draw_sentence
from ..keys import IMAGE_KEY, OUTPUT_KEY, SAMPLE_ID_KEY, TARGET_KEY
from ..measures.best_worst_samples import Sample
from ..support.class_names import check_names
from ..support.tables import markdown_table
from ..tensorboard.writer import Writer
from .own_drawing import OwnDrawing, VisualizeBatch
from .sample_ranking import PICTURE_SIDE, Ranking, SamplePicture, SampleRanking, Score, without_input
from .target_kind import target_kind

_TAGS = {"best": "6_samples/best", "worst": "6_worst_samples"}
_IN_OVERVIEW = 3  # samples at most, as the cards of TIME SERIES are low

Draw = Callable[..., np.ndarray]


class BestWorstSamples(SampleRanking):
    """Shows the k best and the k worst samples of every epoch, for each loader: mislabelled ones are among the worst.

    Each sample is shown with its id, its rank among all samples of the epoch, its score, its truth and its prediction
    (see ``task``). A score that is NaN or infinite is the worst, is marked, and never the best; nor is 0 where
    larger is better and no score is below 0. Among equal samples the first in the loader comes first, on any number of
    ranks. Loaders for inference are left out; for detections, so are loaders for training whose batches hold none:
    torchvision's detectors return only losses while they train.

    ================================== ===== =====================================================
    tag, in the loader's folder        kind  step and content
    ================================== ===== =====================================================
    ``1_overview/worst/SCORE``         image epoch; the first row of ``6_worst_samples``
    ``1_overview/sample_ids/SCORE``    text  epoch; Markdown table of both: rank, id and score
    ``6_samples/best/SCORE``           image epoch; one grid, [H, W, 3] uint8 RGB, the best first
    ``6_worst_samples/SCORE``          image epoch; one grid, [H, W, 3] uint8 RGB, the worst first
    ================================== ===== =====================================================

    In a train loader's folder there is no ``1_overview/worst``, and the ids are in ``6_sample_ids/SCORE``: the overview
    holds what validation finds.

    Nothing is read from the device within a step: scores are copied without blocking and read one step later, and only
    leading samples are cloned. Memory: references to two batches and twice ``k_samples`` samples, however many samples
    the epoch has. Samples are shown as the model saw them, augmented.

    Args:
        score: ``loss`` (of the runner's criterion without its reduction, or, if it has none, called for each sample),
            ``box_f1`` (of detected boxes, larger is better), a key of the batch with one number per sample, or a
            function from the batch to [N]. A function may also return a function that returns the N numbers; it is
            called one step later.
        minimize: whether a smaller score is better.
        k_samples: k, at least 1; fewer are shown if there are fewer.
        task: ``multiclass``, ``binary``, ``multilabel``, ``detection`` or ``regression``; None: found from the
            criterion, the shapes and the values (see ``drawings.tasks.find_task``).
        image_key: key of the images in the batch: [N, C, H, W] or [N, H, W], or N images of several sizes.
        target_key: key of the targets in the batch: the truth, in the form of the task.
        output_key: key of the outputs in the batch: the prediction, in the form of the task.
        sample_id_key: key of the sample ids in the batch, which are unique; without it, samples are named by their
            position in the loader.
        class_names: one name per class; None: classes are shown by number.
        ignore_index: target value that counts neither as right nor as wrong.
        mean: mean of the images' normalization ``(x - mean) / std``, one number or one per channel.
        std: standard deviation of that normalization, one number or one per channel.
        min_score: detection: predictions below it are not shown.
        min_iou: detection: smallest overlap at which a box counts as found.
        visualize_batch: a function of your own that draws instead, see ``BestWorstBatches``; it gets the k samples in
            their order, for the overview the three worst, with the score under its name. The batch needs no image
            then, and whole samples are kept.
        criterion_key: name of the criterion, of several, that gives the loss of a sample; None: the only one, or all
            terms of a ``DictRunner``.
        score_name: the name of the score in tags and titles (SCORE above); None: its own name, for a function the
            function's name, with ``criterion_key`` ``loss_KEY``, and for a lambda ``score``.
        prefix: added to the tags, as ``TAG/PREFIX``; a second callback of this kind needs one.

    Raises:
        UsageError: an argument is out of range; at the first batch, when a key is missing or the score is not one
            number per sample; what ``visualize_batch`` returns is no picture; at the start of the run, when the runner
            has no TensorBoard logger.
    """

    def __init__(
        self,
        score: Score = "loss",
        minimize: bool = True,
        k_samples: int = 12,
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
        score_name: str | None = None,
        prefix: str = "",
    ):
        super().__init__(
            score,
            minimize,
            k_samples,
            image_key=image_key,
            target_key=target_key,
            output_key=output_key,
            sample_id_key=sample_id_key,
            criterion_key=criterion_key,
            score_name=score_name,
            prefix=prefix,
        )
        if task == "detection":
            # With a score of its own the base cannot know that the samples are detections.
            self.detections_ = Detections(output_key, type(self).__name__)
        self.task = task
        style = PictureStyle(check_names(class_names), mean, std, ignore_index)
        self.own_drawing = None if visualize_batch is None else OwnDrawing(visualize_batch)
        # A function of the user's draws in its own way, which tells nothing about the style of the others.
        self.style = style if self.own_drawing is None else None
        self.draw: Draw = self.own_drawing or partial(
            draw_samples, style=style, task=task, min_score=min_score, min_iou=min_iou
        )

        self.draw_alone = partial(draw_panels, style=style, task=task, min_score=min_score, min_iou=min_iou)

    def tags(self, loader_key: str) -> tuple[str, ...]:
        return (f"6_samples/best/{self.score_name}",)

    def show(self, runner: dl.IRunner, writer: Writer, ranking: Ranking) -> None:
        for kind, found in (("best", ranking.best), ("worst", ranking.worst)):
            if found:
                draw = self._drawing(runner, found, ranking_title(self, kind, runner, found, ranking.count))
            else:
                # Only of the best: whatever was compared has a worst one.
                draw = partial(draw_sentence, self._no_best(runner, ranking.count))
            writer.image(self.full_tag(f"{_TAGS[kind]}/{self.score_name}"), draw, runner.epoch_step)
        if self.own_drawing is None:
            kind_of = target_kind(runner, self.keys["output"], self.keys["target"], self.criterion_key)
            samples = [without_input(sample) for sample in (*ranking.worst, *ranking.best)]
            pictures = [
                SamplePicture(str(one.sample_id), "drawn", partial(self._draw_alone, one, kind_of)) for one in samples
            ]
            self.offer_pictures(runner, pictures)
        # The overview sorts first: training samples are hard by augmentation too.
        if not runner.is_train_loader:
            self._show_in_overview(runner, writer, ranking)
        self._write_ids(runner, writer, ranking)

    def _show_in_overview(self, runner: dl.IRunner, writer: Writer, ranking: Ranking) -> None:
        place, epoch = self.place(runner.loader_key), runner.epoch_step
        title = [f"worst of {ranking.count:,} {place} samples by {self.score_name}, epoch {epoch}"]
        draw_row = self.own_drawing or partial(self.draw, one_row=True)
        draw = self._drawing(runner, ranking.worst[:_IN_OVERVIEW], title, draw_row)
        writer.image(self.full_tag(f"1_overview/worst/{self.score_name}"), draw, epoch)

    def _drawing(
        self, runner: dl.IRunner, found: Sequence[Sample], title: Sequence[str], draw: Draw | None = None
    ) -> Callable[[], np.ndarray]:
        """Return a function that draws samples, for the writer's thread."""
        kind = target_kind(runner, self.keys["output"], self.keys["target"], self.criterion_key)
        samples = [without_input(sample) for sample in found]
        return partial(draw_ranking, draw or self.draw, self.score_name, samples, title, kind)

    def _draw_alone(self, sample: Sample, kind: str | None) -> np.ndarray | None:
        parts = {name: [part] for name, part in sample.parts.items()}
        return self.draw_alone({**parts, "kind": kind}, PICTURE_SIDE)

    def _write_ids(self, runner: dl.IRunner, writer: Writer, ranking: Ranking) -> None:
        # As text too, so that they can be copied from TensorBoard into a list of samples to look at.
        rows = [
            (kind, str(rank), str(sample.sample_id), format_score(sample.score))
            for kind, samples in (("worst", ranking.worst), ("best", ranking.best))
            for rank, sample in enumerate(samples, start=1)
        ]
        group = "6_sample_ids" if runner.is_train_loader else "1_overview/sample_ids"
        writer.text(self.full_tag(f"{group}/{self.score_name}"), partial(self._table, rows), runner.epoch_step)

    def _no_best(self, runner: dl.IRunner, count: int) -> list[str]:
        place = self.place(runner.loader_key)
        head = f"no best {place} samples by {self.score_name}, epoch {runner.epoch_step}"
        reason = "is more than 0" if not self.minimize else "is finite"
        return [head, f"none of {count:,} scores {reason}"]

    def _table(self, rows: Sequence[Sequence[str]]) -> str:
        return markdown_table(("", "rank", "id", self.score_name), rows)


def ranking_title(
    callback: SampleRanking, kind: str, runner: dl.IRunner, samples: Sequence[Sample], count: int
) -> list[str]:
    """Return the lines above a picture of ranked samples."""
    span = f"{format_score(samples[0].score)} to {format_score(samples[-1].score)}"
    return [
        f"{kind} {callback.place(runner.loader_key)} samples by {callback.score_name}: {span}",
        f"epoch {runner.epoch_step}, {len(samples)} of {count:,} samples",
    ]


def draw_ranking(
    draw: Draw,
    score_name: str,
    samples: Sequence[Sample],
    title: Sequence[str],
    kind: str | None = None,
) -> np.ndarray:
    """Draw samples in their order, each with rank and score."""
    captions = [f"#{rank}  {score_name} {format_score(sample.score)}" for rank, sample in enumerate(samples, start=1)]
    # Called in the writer's thread, with samples that are on the host.
    parts = {name: [sample.parts[name] for sample in samples] for name in samples[0].parts}
    ids = [sample.sample_id for sample in samples]
    scores = {score_name: np.array([sample.score for sample in samples])}
    return draw({**parts, "sample_id": ids, "caption": captions, "kind": kind, "scores": scores}, title)
