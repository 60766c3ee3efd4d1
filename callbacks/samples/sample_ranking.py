"""SampleRanking: the base of the diagnostics that show single samples, ranked by a score over an epoch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

from catalyst import dl
from torch import Tensor, nn

from ..base.detections import Detections, without_masks
from ..base.diagnostic import Diagnostic
from ..base.dict_batch import dict_batch
from ..base.image_checks import check_images
from ..base.shared_counts import first_alike, key_of_methods
from ..errors import UsageError, at_least_one
from ..keys import IMAGE_KEY, OUTPUT_KEY, SAMPLE_ID_KEY, TARGET_KEY, pick
from ..measures.best_worst_samples import BestWorstSamples, Sample, is_no_success
from ..measures.reduced_image import is_reduced, reduced
from ..support.distributed import gather_objects, winners_over_ranks
from ..support.host_copy import HostCopy, copy_tree, is_read_at_once, read_tree
from ..support.runner_view import kept_parts, positions_in_loader, samples_of_keys
from ..support.sample_losses import NO_SCORE, WHOLE_BATCH, NoSampleLossError, losses_of_batch, names_of_criteria
from ..support.unwrap import detached
from ..tensorboard.writer import Writer
from .box_score import BoxF1
from .own_drawing import OwnDrawing

PICTURE_SIDE = 256  # pixels of the longer side of a sample's picture, each panel of it

Score = str | Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True)
class SamplePicture:
    """A picture of one sample, for the history of samples.

    Attributes:
        name: id of the sample.
        kind: what it shows: ``drawn``, truth and prediction; ``grad_cam``, where the model looks.
        draw: called in the writer's thread; returns [h, w, 3], uint8, RGB, or None where there is nothing to show.
    """

    name: str
    kind: str
    draw: Callable[[], Any]


@dataclass(frozen=True)
class Ranking:
    """The outcome of a loader, the same on every rank.

    Attributes:
        best: samples from the best on, at most k. Where larger is better and 0 the worst score of all, a sample of
            score 0 is not among them, so that there may be none.
        worst: samples from the worst on, at most k.
        count: number of samples that were compared, over all ranks.
    """

    best: list[Sample]
    worst: list[Sample]
    count: int


class SampleRanking(Diagnostic):
    """Base of the diagnostics that show single samples; a subclass fills in ``show``.

    Scores are copied without blocking and read one step later, on a CPU at once; only leading samples are cloned. A
    large image is kept in the size in which it is drawn (see ``measures.reduced_image``), with ``image_size``, its
    height and width. A subclass that runs the model again sets ``keeps_input_`` of ``source_``: then the worst samples
    hold the image as the model was given it in ``input``. Several of these in one run that ask for the same choice
    share it. Inference loaders are skipped.

    Args:
        score: see ``BestWorstSamples``.
        minimize: whether a smaller score is better.
        k_samples: k, at least 1.
        image_key: key of the images in the batch.
        target_key: key of the targets in the batch.
        output_key: key of the outputs in the batch.
        sample_id_key: key of the sample ids in the batch; without it, samples are named by their position in the
            loader.
        criterion_key: see ``BestWorstSamples``.
        score_name: see ``BestWorstSamples``.
        prefix: see ``Named``.
    """

    also_apart = "a score_name"

    def __init__(
        self,
        score: Score = "loss",
        minimize: bool = True,
        k_samples: int = 12,
        *,
        image_key: str = IMAGE_KEY,
        target_key: str = TARGET_KEY,
        output_key: str = OUTPUT_KEY,
        sample_id_key: str = SAMPLE_ID_KEY,
        criterion_key: str | None = None,
        score_name: str | None = None,
        prefix: str = "",
    ):
        super().__init__(prefix=prefix)
        if not isinstance(score, str) and not callable(score):
            raise UsageError(f"score must be a name or a function of the batch, got {score!r}.")
        # A loss of torch is callable too, and would fail in the first batch with an error of its own.
        if isinstance(score, nn.modules.loss._Loss):
            raise UsageError(
                f"score must be a function of the batch, and {type(score).__name__} is one of output and target: leave "
                "score='loss' for the runner's criterion, or pass a lambda of the batch with one number per sample."
            )
        self.score = BoxF1(output_key, target_key) if score == "box_f1" else score
        if criterion_key is not None and score != "loss":
            raise UsageError(f"criterion_key={criterion_key!r} is for score='loss', got the score {score!r}.")
        self.criterion_key = criterion_key
        self.score_name = _check_score_name(score_name) or _name_of_score(score, criterion_key)
        self.minimize = minimize
        self.k_samples = at_least_one("k_samples", k_samples)
        self.image_key, self.target_key, self.output_key = image_key, target_key, output_key
        self.sample_id_key = sample_id_key
        self.detections_ = Detections(output_key, type(self).__name__) if isinstance(self.score, BoxF1) else None
        self.own_drawing: OwnDrawing | None = None
        self.inputs_: list[str] = []  # keys of further inputs of the model, for a subclass that runs it again
        self.keeps_input_ = False
        self.source_: SampleRanking = self
        self.measure_: BestWorstSamples | None = None
        self.pending_: Callable[[], None] | None = None
        self.ranking_: Ranking | None = None
        self.named_: dict[str, list[str]] = {}  # ids of ranked samples by loader
        self.pictures_: dict[str, list[SamplePicture]] = {}

    def show(self, runner: dl.IRunner, writer: Writer, ranking: Ranking) -> None:
        """Show the samples of a loader; each holds ``image``, ``target`` and ``output`` as host arrays."""
        raise NotImplementedError

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        super().on_experiment_start(runner)
        self.source_ = first_alike(runner, self, SampleRanking)

    @property
    @final
    def count_key(self) -> tuple[Any, ...]:
        """A value that is equal for two callbacks that choose the same samples, and keep the same of them."""
        # With the helpers that they call: who overrides one of these gets other scores or parts too.
        methods = key_of_methods(self, ("_scores", "_parts", "_compare_samples", "_size", "_part", "_losses"))
        return (*methods, *self.inputs_, self.own_drawing, self.detections_ is None)

    @property
    def keys(self) -> dict[str, str]:
        """The keys of images, targets and outputs in the batch."""
        return {"image": self.image_key, "target": self.target_key, "output": self.output_key}

    def begin(self, runner: dl.IRunner) -> None:
        self.pending_, self.ranking_, self.measure_ = None, None, None
        self.named_.pop(runner.loader_key, None)
        self.pictures_.pop(runner.loader_key, None)
        if self.source_ is self and not runner.is_infer_loader:
            self.measure_ = BestWorstSamples(self.k_samples, minimize=self.minimize)

    def observe(self, runner: dl.IRunner) -> None:
        if self.measure_ is None or (self.detections_ is not None and self.detections_.are_missing(runner)):
            return
        parts = self._parts(runner)
        scores = self._scores(runner, parts)
        positions = positions_in_loader(runner, self._size(runner))
        # The copies start before the last step is compared, so that they travel meanwhile.
        ids = copy_tree(runner.batch.get(self.sample_id_key, positions))
        self.settle(runner)
        at_once = is_read_at_once(runner)
        parts = parts if at_once else kept_parts(runner, parts)
        self.pending_ = partial(self._compare_samples, self.measure_, scores, positions, ids, parts, self.keeps_input_)
        if at_once:
            self.settle(runner)

    def report(self, runner: dl.IRunner, writer: Writer) -> None:
        if self.measure_ is not None:
            self.settle(runner)
            # A collective: the callback that ranks for the others is the same one on every rank.
            self.ranking_ = _over_ranks(self.measure_, self.k_samples)
            self.measure_ = None
        ranking = self.source_.ranking_
        if ranking is not None and ranking.count:
            self.named_[runner.loader_key] = [str(one.sample_id) for one in (*ranking.worst, *ranking.best)]
            self.show(runner, writer, ranking)

    def named_samples(self, loader: str) -> Sequence[str]:
        """Return the ids of the samples of a loader that were the best and the worst of its last epoch."""
        return self.named_.get(loader, ())

    def sample_pictures(self, loader: str) -> Sequence[SamplePicture]:
        """Hand over pictures of single samples of a loader, of its last epoch; after that there are none."""
        return self.pictures_.pop(loader, ())

    def offer_pictures(self, runner: dl.IRunner, pictures: list[SamplePicture]) -> None:
        """Keep pictures of single samples of the loader, which hold these, if a callback of the run takes them."""
        if any(getattr(one, "takes_pictures", False) for one in runner.callbacks.values()):
            self.pictures_[runner.loader_key] = pictures

    def _size(self, runner: dl.IRunner) -> int:
        return samples_of_keys(runner, self.keys.values())

    def _parts(self, runner: dl.IRunner) -> dict[str, Any]:
        """Return the parts of the batch that pictures are drawn from."""
        if self.own_drawing is not None:
            batch = dict_batch(runner, type(self).__name__)
            return self.own_drawing.parts(detached(batch), self._size(runner))
        found = {name: pick(runner.batch, key, type(self).__name__) for name, key in self.keys.items()}
        parts: dict[str, Any] = {name: detached(without_masks(part)) for name, part in found.items()}
        if self.inputs_:
            parts["inputs"] = {key: runner.batch[key] for key in self.inputs_}
        check_images(self.keys["image"], parts["image"])
        return parts

    def _scores(self, runner: dl.IRunner, parts: Mapping[str, Any]) -> Callable[[], list[float | None]]:
        """Start copying the scores of a batch; return a function that reads them, None where nothing counts."""
        name, size = f"{type(self).__name__}(score={self.score_name!r})", self._size(runner)
        values: Any
        no_score: float | None = None
        if callable(self.score):
            values = self.score(runner.batch)
        elif self.score == "loss" and "loss" not in runner.batch:
            output, target = (self._part(runner, parts, part) for part in ("output", "target"))
            # No score of a user's is special: only a loss of the runner may count nothing.
            values, no_score = self._losses(runner, output, target, name), NO_SCORE
        else:
            values = pick(runner.batch, self.score, name)
        if isinstance(values, Tensor):
            values = HostCopy(values.detach().reshape(-1))
        return lambda: [None if score == no_score else score for score in _read_scores(values, size, name)]

    def _part(self, runner: dl.IRunner, parts: Mapping[str, Any], part: str) -> Any:
        # With a drawing of the user's, the parts hold the batch and not output and target.
        return parts[part] if part in parts else detached(pick(runner.batch, self.keys[part], type(self).__name__))

    def _losses(self, runner: dl.IRunner, output: Any, target: Any, name: str) -> Tensor:
        """Return the losses of the samples, [N]; raise a ``UsageError`` if the run has none."""
        try:
            losses = losses_of_batch(runner, runner.batch, output, target, self.criterion_key)
        except NoSampleLossError as error:
            raise _no_loss(name, str(error)) from error
        if losses is None and isinstance(output, Tensor) and (several := names_of_criteria(runner.criterion)):
            raise UsageError(f"{name} needs a loss of each sample, and {several}.")
        if losses is None:
            raise UsageError(
                f"{name} needs a runner with one criterion, and an output that is a tensor: name another score, a "
                "key of the batch with one number per sample or a function of the batch."
            )
        return losses

    def settle(self, runner: dl.IRunner) -> None:
        """Compare the batch of the last step."""
        # One step later, as its scores have reached the host by then and the loop need not wait for them.
        if self.pending_ is not None:
            self.pending_()
            self.pending_ = None

    @staticmethod
    def _compare_samples(
        measure: BestWorstSamples,
        scores: Callable[[], list[float | None]],
        positions: Sequence[int],
        ids: Any,
        parts: Mapping[str, Any],
        keeps_input: bool,
    ) -> None:
        names = read_tree(ids)
        names = names.reshape(-1).tolist() if hasattr(names, "tolist") else list(names)
        values = scores()
        chosen = [index for index, value in enumerate(values) if value is not None]
        sample = partial(_at, parts, size=len(positions))
        measure.update(
            [value for value in values if value is not None],
            [positions[index] for index in chosen],
            [names[index] for index in chosen],
            lambda index: _drawn(sample(chosen[index])),
            lambda index, drawn: _with_input(drawn, sample(chosen[index])) if keeps_input else drawn,
        )


def _read_scores(values: Any, size: int, name: str) -> list[float]:
    if isinstance(values, HostCopy):
        values = values.read().tolist()
    scores = list(values() if callable(values) else values)
    # Checked when the scores have arrived: a function of the user's may return them only then.
    if len(scores) != size:
        raise UsageError(f"{name} needs one number per sample, {size} for this batch, got {len(scores)}.")
    if WHOLE_BATCH in scores:
        raise _no_loss(name, "the criterion compares the samples of a batch: of one alone its loss says nothing")
    return scores


def _no_loss(name: str, reason: str) -> UsageError:
    return UsageError(
        f"{name} needs a loss of each sample, and {reason}; name another score, a key of the batch with one number per "
        "sample or a function of the batch."
    )


def _name_of_score(score: Any, criterion_key: str | None) -> str:
    """Return the name of a score in tags and titles; for a lambda it is ``score``."""
    if isinstance(score, str):
        return score if criterion_key is None else f"{score}_{criterion_key}"
    # A partial has no name of its own.
    while isinstance(score, partial):
        score = score.func
    name = str(getattr(score, "__name__", type(score).__name__))
    return "score" if name == "<lambda>" else name


def _check_score_name(name: Any) -> str | None:
    if name is not None and not (isinstance(name, str) and name.strip()):
        raise UsageError(f"score_name must be a text, as in score_name='margin', got {name!r}.")
    return name


def _at(part: Any, index: int, size: int) -> Any:
    """Return the part of one sample in a batch of ``size``, or in a nested part of the batch."""
    if isinstance(part, Mapping):
        return {name: _at(inner, index, size) for name, inner in part.items()}
    # A list of another length holds views, or the parts of a tuple, of all samples each.
    if isinstance(part, list | tuple) and len(part) != size:
        return [_at(inner, index, size) for inner in part]
    return part[index]


def _drawn(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Copy what a picture of a sample is drawn from."""
    # A drawing of the user's gets the whole sample.
    if "batch" in sample:
        kept: dict[str, Any] = copy_tree(sample)
        return kept
    image = sample["image"]
    parts = {name: part for name, part in sample.items() if name != "inputs"}
    copies: dict[str, Any] = copy_tree({**parts, "image": reduced(image), "image_size": list(image.shape[-2:])})
    return copies


def _with_input(drawn: Mapping[str, Any], sample: Mapping[str, Any]) -> dict[str, Any]:
    """Add what the model is given: further inputs, and the image itself if the drawn one is a reduced copy."""
    inputs = {"inputs": copy_tree(sample["inputs"])} if "inputs" in sample else {}
    return {**drawn, **inputs, **({"input": copy_tree(sample["image"])} if is_reduced(sample["image"]) else {})}


def without_input(sample: Sample) -> Sample:
    """Return a sample with only what is drawn of it."""
    # Pictures wait in the queue of the writer, and must not keep the inputs of the model in memory.
    parts = {name: part for name, part in sample.parts.items() if name not in ("input", "inputs")}
    # Checkpoints of former versions hold no size: their images are whole.
    size = {"image_size": list(parts["image"].shape[-2:])} if "image" in parts else {}
    return replace(sample, parts={**size, **parts})


def _over_ranks(measure: BestWorstSamples, count: int) -> Ranking:
    # A sample that padding gave to two ranks counts once, by its id.
    best, worst = (
        winners_over_ranks(samples, count, key, _read_sample, identity=lambda sample: sample.sample_id)
        for samples, key in ((measure.best, measure.best_key), (measure.worst, measure.worst_key))
    )
    scores, minimize = [sample.score for sample in worst], measure.sign > 0
    best = [sample for sample in best if not is_no_success(sample.score, scores, minimize=minimize)]
    return Ranking(best, worst, sum(gather_objects(measure.seen)))


def _read_sample(sample: Sample) -> Sample:
    return replace(sample, parts=read_tree(sample.parts))
