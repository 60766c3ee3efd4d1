"""``assay predict``: predict images with the model of a run."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from assay.callbacks.errors import UsageError, unknown_name
from assay.callbacks.keys import pick

from ..data.files.image_errors import BadImageError
from ..engine.engine import DEVICES, PRECISIONS, Engine
from ..experiment.base import Experiment
from ..experiment.catalog import missing_package
from ..experiment.field_names import flag_of
from ..experiment.prediction_spec import BoxPrediction, ClassPrediction, MaskPrediction, Prediction
from ..prediction.inputs import Input, LeftOut, find_inputs
from ..prediction.models import Models, average_weights
from ..prediction.outcome import Outcome
from ..prediction.truth.reading import Truth, read_truth
from ..prediction.tta import TTA, Views
from ..saving.checkpoint_files import load_checkpoint, validated_weights
from .evaluate import score
from .reopen import checkpoint_path, reopen

ENSEMBLES = ("outputs", "weights")


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """The options of ``assay predict``.

    Attributes:
        input: files, folders and patterns.
        output: the folder for predictions.
        checkpoint: one or several: ``best``, ``last``, or a file.
        ensemble: what to average over several checkpoints: their ``outputs``, or their ``weights`` to a single model.
        tile: segmentation: side of the tiles; None: the experiment's.
        overlap: segmentation: overlap of neighbouring tiles; None: the experiment's, or a quarter of ``tile``.
        tta: test-time augmentation, one of ``TTA``.
        precision: of the forward pass, one of ``PRECISIONS``.
        batch_size: images or tiles per batch; None: the default of the task.
        device: one of ``DEVICES``.
        truth: what the images show, to score the predictions by: see ``read_truth``; None: it is not known.

    Raises:
        UsageError: an option is out of range.
    """

    input: Sequence[str]
    output: str
    checkpoint: Sequence[str] = ("best",)
    ensemble: str = "outputs"
    tile: int | None = None
    overlap: int | None = None
    tta: str = "none"
    precision: str = "fp32"
    batch_size: int | None = None
    device: str = "auto"
    truth: str | None = None

    @property
    def averages(self) -> bool:
        """Whether a prediction is a mean, of several checkpoints or of several views."""
        return len(self.checkpoint) > 1 or self.tta != "none"

    def __post_init__(self) -> None:
        for name, choices in (("ensemble", ENSEMBLES), ("tta", TTA), ("precision", PRECISIONS), ("device", DEVICES)):
            if getattr(self, name) not in choices:
                raise unknown_name(f"--{name}", getattr(self, name), choices)
        for name, smallest in (("tile", 1), ("overlap", 0), ("batch_size", 1)):
            value = getattr(self, name)
            if value is not None and value < smallest:
                raise UsageError(f"{flag_of(name)} must be at least {smallest}, got {value}.")
        # All options are checked here, before a model or an image is read.
        if Path(self.output).exists() and not Path(self.output).is_dir():
            raise UsageError(f"--output {self.output} must be a folder, and is a file.")
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UsageError("assay predict runs on one process: start it without torchrun.")


def predict(run: str | os.PathLike[str], options: PredictOptions) -> Outcome:
    """Predict images with the model of a run.

    Args:
        run: the run folder.
        options: what to predict, how, and where to.

    Returns:
        The outcome for each image; those that cannot be read were reported, and the others predicted. With ``truth`` it
        tells the metrics too, which stand in ``OUTPUT/scores`` with their pictures.

    Raises:
        UsageError: wrong use, which is found before a model is loaded; a checkpoint that does not fit.
        BrokenWeightsError: weights are not finite.
    """
    experiment = reopen(Path(run))
    prediction = experiment.get_prediction()
    output = Path(options.output)
    with _name_missing_package():
        work, views = _select_predictor(prediction, options), Views(options.tta)
    if options.truth is not None and options.averages and not isinstance(prediction, ClassPrediction):
        raise UsageError(f"--truth scores one checkpoint of a {prediction.task}: leave out --tta and all others.")
    left_out = LeftOut(output)
    inputs = find_inputs(options.input, output, left_out)
    if isinstance(prediction, MaskPrediction):
        _check_no_overwrite(inputs, output)
    truth = None if options.truth is None else read_truth(Path(options.truth), prediction, inputs)
    models = _load_models(Path(run), experiment, prediction, views, options)
    # Made last, so that wrong use leaves no empty folder.
    output.mkdir(parents=True, exist_ok=True)
    with Outcome(len(inputs) + len(left_out.errors)) as outcome:
        outcome.note(left_out.line())
        for error in left_out.errors:
            outcome.fail(BadImageError(error))
        work(
            models,
            prediction,
            inputs,
            output,
            batch_size=options.batch_size or prediction.batch_size,
            outcome=outcome,
        )
    if truth is not None and outcome.done:
        outcome.scores = _score(Path(run), experiment, options, truth, models)
    return outcome


def _score(run: Path, experiment: Experiment, options: PredictOptions, truth: Truth, models: Models) -> list[str]:
    """Write metrics and pictures of the images with a truth, and return lines that tell of them."""
    experiment.device, experiment.precision = options.device, options.precision  # type: ignore[assignment]
    experiment.batch_size = options.batch_size or experiment.batch_size
    experiment.on_bad_image = "skip"  # they are reported already
    path = checkpoint_path(run, options.checkpoint[0])
    folder = Path(options.output) / "scores"
    combine = partial(_averaged, models) if options.averages else None
    done, left_out = score(experiment, truth.items, path, models.output_names, folder, combine)
    return [*truth.notes, *left_out, f"scores of {len(truth.items)} images with truth", *done.lines()]


def _averaged(models: Models, batch: Mapping[str, Any], outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs of a model with the logits of the mean over models and views in place of its own."""
    from ..prediction.classes import mean_logits

    prediction = cast(ClassPrediction, models.prediction)
    of_one = pick(outputs, prediction.output_key, "get_prediction", "model's output")
    mean = mean_logits(models, prediction, pick(batch, prediction.input_key, "get_prediction"))
    return {**outputs, prediction.output_key: mean.reshape(of_one.shape)}


def _load_models(
    run: Path, experiment: Experiment, prediction: Prediction, views: Views, options: PredictOptions
) -> Models:
    """Return the model of each checkpoint, or that of their mean."""
    paths = [checkpoint_path(run, which) for which in options.checkpoint]
    engine = Engine(options.device, options.precision)
    weights = [validated_weights(load_checkpoint(path)) for path in paths]
    if options.ensemble == "weights":
        weights = [average_weights(weights)]
    models = Models(experiment, prediction, weights, engine, views)
    # NaN in one checkpoint is NaN in the mean, whose error then names all of them.
    names = [f"checkpoint {path}" for path in paths]
    models.check_finite(names if len(weights) == len(names) else [f"the mean of {', '.join(names)}"])
    return models


def _select_predictor(prediction: Prediction, options: PredictOptions) -> Callable[..., None]:
    """Return the function that predicts for the task."""
    # Imported only here: GDAL and toolbelt are slow to import, and optional.
    if isinstance(prediction, MaskPrediction):
        from ..prediction.masks import predict_masks, tile_and_overlap

        tile, overlap = tile_and_overlap(prediction, options.tile, options.overlap)
        return partial(predict_masks, tile=tile, overlap=overlap)
    for name in ("tile", "overlap"):
        if getattr(options, name) is not None:
            raise UsageError(f"--{name} is for segmentation; the task of this run is {prediction.task}.")
    if isinstance(prediction, ClassPrediction):
        from ..prediction.classes import predict_classes

        return predict_classes
    if isinstance(prediction, BoxPrediction):
        from ..prediction.boxes import predict_boxes

        return predict_boxes
    kind = type(prediction).__name__
    raise UsageError(f"get_prediction must return a ClassPrediction, MaskPrediction or BoxPrediction, got a {kind}.")


@contextmanager
def _name_missing_package() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise missing_package("this prediction", error) from error


def _check_no_overwrite(inputs: Sequence[Input], output: Path) -> None:
    from ..prediction.masks import mask_path

    # By real path, as a link in the folder may lead to an image.
    images = {os.path.realpath(one.path) for one in inputs}
    for one in inputs:
        if os.path.realpath(mask_path(one, output)) in images:
            raise UsageError(f"--output {output} would replace the image {one.path}: choose another folder.")
