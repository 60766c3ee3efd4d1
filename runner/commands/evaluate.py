"""``assay evaluate``: compute the metrics and draw the pictures of a run once more."""

import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from catalyst import dl
from torch.utils.data import DataLoader

from assay.callbacks.errors import unknown_name
from assay.callbacks.findings.findings import Findings
from assay.callbacks.history.sample_history import SampleHistory
from assay.callbacks.non_finite.guard import NonFiniteGuard
from assay.callbacks.results.results import Results
from assay.callbacks.samples.grad_cam import GradCAM
from assay.callbacks.support.unwrap import by_name, plain_modules
from assay.callbacks.training.gradient_stats import GradientStats
from assay.callbacks.training.hparams import HParams
from assay.callbacks.training.optimizer_monitor import OptimizerMonitor

from ..data.bad_images import BadImages
from ..data.mixing import unmixed
from ..data.readers.item_list import ItemList
from ..data.seeding import seed_everything
from ..engine.engine import Engine
from ..experiment.base import Experiment
from ..experiment.build import get_loaders, get_model, prepare_machine
from ..experiment.default_callbacks import make_findings
from ..loop.checks.finite_weights import check_finite_weights
from ..loop.dict_runner import DictRunner
from ..loop.progress import Progress
from ..prediction.truth.items import as_validated
from ..recipe.criteria import load_criterion_state
from ..recipe.losses import LossTerm
from ..saving.checkpoint_files import load_checkpoint, validated_weights
from ..saving.loggers import MetricsCsv, TensorBoardLogger
from ..saving.resume import decided_by_main_rank
from .reopen import checkpoint_path, reopen

Combine = Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]

TRUTH = "valid"  # the loader of what ``score`` is given; the name decides that nothing is trained
# Of callbacks, for what is no part of a batch, or may be.
_OTHER_KEYS = ("criterion_key", "loader_key", "sample_id_key")
# Callbacks that need optimizer steps, or several epochs.
_FOR_TRAINING_ONLY = (GradientStats, HParams, NonFiniteGuard, OptimizerMonitor, SampleHistory)


class Evaluated(NamedTuple):
    """The folder of metrics and pictures, the epoch of the weights, and the metrics by name."""

    folder: Path
    epoch: int
    metrics: dict[str, float]

    def lines(self) -> list[str]:
        """Return the metrics, one per line, and the folder."""
        width = max(map(len, self.metrics), default=0)
        lines = [f"  {name:<{width}}  {value:.6g}" for name, value in self.metrics.items()]
        return [*lines, f"metrics and pictures: {self.folder}"]


def evaluate(
    run: str | os.PathLike[str],
    *,
    loader: str = "valid",
    checkpoint: str = "best",
    data_dir: str | None = None,
    device: str | None = None,
) -> "Evaluated":
    """Compute every metric of a loader with the weights of a checkpoint, and draw every picture.

    The results are those of the checkpoint's epoch in the run, which is also the step in TensorBoard. A train loader
    yields augmented samples as in training, each by itself and not mixed, but the weights do not change.

    Args:
        run: the run folder.
        loader: a loader of the experiment, also one that is held back from training.
        checkpoint: ``best``, ``last``, or a file.
        data_dir: where the data is now; None: where it was.
        device: where to compute; None: as in the run, or on the CPU where there is no GPU.

    Returns:
        The metrics, and the folder ``RUN/evaluate/LOADER-CHECKPOINT``, which holds ``metrics.csv``, ``results/`` and
        the events of this evaluation alone.

    Raises:
        UsageError: it is not a run folder, or the loader or the checkpoint does not exist or does not fit.
        BrokenWeightsError: the weights are not finite.
    """
    run = Path(run)
    experiment = _reopen_here(run, data_dir, device)
    path = checkpoint_path(run, checkpoint)
    engine = prepare_machine(experiment)
    loaders = get_loaders(experiment, engine) | experiment.get_held_back_loaders()
    if loader not in loaders:
        raise unknown_name("loader", loader, loaders)
    folder = run / "evaluate" / f"{loader}-{Path(checkpoint).stem}"
    return _evaluate_loader(experiment, engine, loader, loaders[loader], path, folder)


def score(
    experiment: Experiment,
    items: ItemList,
    checkpoint: Path,
    outputs: Collection[str],
    folder: Path,
    combine: Combine | None = None,
) -> tuple[Evaluated, list[str]]:
    """Compute the metrics of validation on images with their truth, and draw its pictures.

    Args:
        experiment: of the run.
        items: see ``Experiment.get_truth_loader``.
        checkpoint: the file with the weights.
        outputs: names of the model's outputs.
        folder: where to write, whole or not at all; what it held is replaced.
        combine: makes of a batch and the model's outputs those that are scored; None: they are.

    Returns:
        The metrics, and lines on what was left out because the truth does not hold what it needs.

    Raises:
        UsageError: the experiment does not know how to prepare the images.
    """
    engine = prepare_machine(experiment)
    loader = experiment.get_truth_loader(items)
    if loader is None:
        prepared = as_validated(items, experiment.get_prediction(), experiment.get_losses())
        loader = experiment.make_loader(prepared)
    known = {*next(iter(loader)), *outputs}
    terms = [term for term in experiment.get_losses() if term.target in known]
    callbacks, left_out = _answerable(experiment.get_callbacks(), known)
    if combine is not None and any(isinstance(callback, GradCAM) for callback in callbacks):
        callbacks = [callback for callback in callbacks if not isinstance(callback, GradCAM)]
        left_out.append("GradCAM left out: it explains one model and one view")
    chosen: dict[str, Any] = {"callbacks": callbacks, "losses": terms, "combine": combine}
    return _evaluate_loader(experiment, engine, TRUTH, loader, checkpoint, folder, **chosen), left_out


def _answerable(callbacks: Sequence[dl.Callback], known: Collection[str]) -> tuple[list[dl.Callback], list[str]]:
    """Return the callbacks that find all they ask for, and a line on the others."""
    kept, missing = [], dict[str, list[str]]()
    for callback in callbacks:
        keys = [key for name, key in vars(callback).items() if name.endswith("_key") and name not in _OTHER_KEYS]
        absent = [key for key in keys if isinstance(key, str) and key not in known]
        if absent:
            missing.setdefault(absent[0], []).append(type(callback).__name__)
        else:
            kept.append(callback)
    return kept, [f"--truth holds no {key!r}: {', '.join(names)} left out" for key, names in missing.items()]


def _evaluate_loader(
    experiment: Experiment,
    engine: Engine,
    name: str,
    loader: DataLoader[Any],
    checkpoint: Path,
    folder: Path,
    *,
    callbacks: Sequence[dl.Callback] | None = None,
    losses: Sequence[LossTerm] | None = None,
    combine: Combine | None = None,
) -> Evaluated:
    """Evaluate one loader; ``callbacks`` and ``losses`` are by default the experiment's."""
    state = load_checkpoint(checkpoint)
    seed_everything(experiment.seed)
    epoch = max(1, state["epoch"])  # 0: saved within the first epoch
    terms = experiment.get_losses() if losses is None else losses
    runner = _Evaluation(experiment, epoch, checkpoint, state, terms or experiment.get_losses(), combine)
    given = experiment.get_callbacks() if callbacks is None else callbacks
    with _replaced_when_complete(folder, is_main=engine.is_main_process) as temporary:
        runner.train(
            engine=engine,
            loaders={name: unmixed(loader)},
            model=get_model(experiment, engine),
            criterion=experiment.get_criterion() if terms else None,
            callbacks=_make_callbacks(experiment, given, temporary),
            loggers={
                "tensorboard": _OneFolder(temporary, log_every_steps=0, run_loader=name),
                "csv": MetricsCsv(temporary / "metrics.csv"),
            },
            seed=experiment.seed,
            num_epochs=runner.epoch,
        )
    return Evaluated(folder, runner.epoch, runner.history[runner.epoch][name])


class _Evaluation(DictRunner):
    """Runs one epoch, in evaluation mode whatever the loader's name.

    Args:
        experiment: the experiment of the run.
        epoch: the epoch to seed random draws for.
        path: of the checkpoint.
        state: content of the checkpoint.
        losses: terms of the loss.
        combine: see ``score``.
    """

    def __init__(
        self,
        experiment: Experiment,
        epoch: int,
        path: Path,
        state: dict[str, Any],
        losses: Sequence[LossTerm],
        combine: Combine | None,
    ):
        super().__init__(input_key=experiment.input_key, losses=losses)
        self.epoch = epoch
        self.path = path
        self.state = state
        self.combine = combine

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return the outputs of the model, or what is made of them."""
        outputs = super().forward(batch)
        return outputs if self.combine is None else self.combine(batch, outputs)

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        super().on_experiment_start(runner)
        self.load_model_state(validated_weights(self.state))
        check_finite_weights(plain_modules(self), f"checkpoint {self.path}")
        load_criterion_state(self.criterion, self.state.get("criterion", {}))
        self.epoch_step = self.epoch - 1  # Catalyst counts on from here, so that one epoch is run: the checkpoint's

    def on_loader_start(self, runner: dl.IRunner) -> None:
        super().on_loader_start(runner)
        if self.is_train_loader:  # Catalyst decides by the name, and would train on it
            self.is_train_loader, self.is_valid_loader = False, True
            for model in by_name(self.model).values():
                model.eval()

    def _shard(self, loader: Any, *, trains: bool) -> Any:
        return super()._shard(loader, trains=False)


class _OneFolder(TensorBoardLogger):
    """Writes all events to the folder itself, so that an evaluation is one row in TensorBoard, of a short name."""

    def event_folder(self, loader_key: str) -> Path:
        return self.folder


class _BarOnly(Progress):
    """The progress bar without the table, as all metrics are printed afterwards."""

    def on_epoch_end(self, runner: dl.IRunner) -> None:
        """Print nothing."""


def _reopen_here(run: Path, data_dir: str | None, device: str | None) -> Experiment:
    """Return the experiment, adapted to this machine."""
    experiment = reopen(run, data_dir=data_dir, device=device)
    if not torch.cuda.is_available() and device is None:
        experiment.device = "auto"
    if not torch.cuda.is_available() and experiment.precision == "fp16":
        experiment.precision = "fp32"  # fp16 needs a GPU
    return experiment


def _make_callbacks(experiment: Experiment, given: Sequence[dl.Callback], folder: Path) -> dict[str, dl.Callback]:
    left_out = (*_FOR_TRAINING_ONLY, Results)
    kept = [callback for callback in given if not isinstance(callback, left_out)]
    callbacks: dict[str, dl.Callback] = {str(i): callback for i, callback in enumerate(kept)}
    if experiment.check != "off" and not any(isinstance(callback, Findings) for callback in kept):
        # The numbers are wanted whatever the data is; what is wrong with it is said beside them.
        callbacks["findings"] = make_findings(experiment, stop=False)
    if experiment.on_bad_image == "skip":
        callbacks["bad_images"] = BadImages(folder / "bad_images.txt")
    callbacks["progress"] = _BarOnly()
    callbacks["results"] = Results(None, folder=folder / "results")
    return callbacks


@contextmanager
def _replaced_when_complete(folder: Path, *, is_main: bool) -> Iterator[Path]:
    """Give a folder to write to, which takes the other's place after the block."""
    # Beside the folder: results of an earlier evaluation stay until the new ones are complete.
    temporary = decided_by_main_rank(lambda: _make_temporary(folder))
    try:
        yield temporary
        if is_main:
            _replace_folder(folder, temporary)
    finally:
        if is_main:
            shutil.rmtree(temporary, ignore_errors=True)


def _make_temporary(folder: Path) -> Path:
    folder.parent.mkdir(exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))


def _replace_folder(folder: Path, temporary: Path) -> None:
    """Replace a folder by another."""
    temporary.chmod(0o755)  # mkdtemp lets only the owner read
    if folder.exists():
        old = temporary.with_name(f"{temporary.name}.old")
        folder.rename(old)
        temporary.rename(folder)
        shutil.rmtree(old)
    else:
        temporary.rename(folder)
