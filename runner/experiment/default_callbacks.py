"""The callbacks of a run: those that an experiment brings, and those that every run has."""

import dataclasses
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from assay.callbacks.base.diagnostic import Diagnostic
from assay.callbacks.drawings.canvas.picture_style import PictureStyle
from assay.callbacks.findings.findings import Findings
from assay.callbacks.gallery.report.callback import Report
from assay.callbacks.history.sample_history import SampleHistory
from assay.callbacks.non_finite.guard import NonFiniteGuard
from assay.callbacks.overhead.budget import OverheadBudget
from assay.callbacks.results.results import Results
from assay.callbacks.training.hparams import HParams

from ..data.bad_images import BadImages
from ..loop.checks.known_monitors import KnownMonitors
from ..loop.progress import Progress
from ..loop.sanity_check import SanityCheck
from ..loop.stop_on_signal import StopOnSignal
from ..recipe.early_stopping import EarlyStopping
from ..recipe.monitor import Monitor
from ..saving.checkpoints import Checkpoints
from .base import Experiment

_log = logging.getLogger("assay")

# Rules about a whole data set, of which a dry run and a test of learning by heart take a few batches on purpose.
_ABOUT_WHOLE_DATA = (
    "label-base", "missing-classes", "ordered-labels", "rare-classes", "rarely-taught-classes", "repeated-batches",
    "skipped-samples", "small-validation", "too-few-samples", "undrawn-classes", "unshuffled-training",
    "untaught-classes",
)  # fmt: skip
# Learning by heart is tried on what is trained on.
_ABOUT_SPLITS = ("near-duplicates", "shared-images")


def callbacks_of_run(
    experiment: Experiment, monitors: list[Monitor], folder: Path, name: str, *, page: bool = True
) -> dict[str, Any]:
    """Return the callbacks of an experiment, and those that every run has, where it does not bring them itself.

    Args:
        experiment: what is trained.
        monitors: what its best epochs are chosen by.
        folder: the run folder.
        name: of the experiment, by which a run finds it again.
        page: whether the run makes ``report.html`` when it ends.
    """
    # Callbacks of the same order run in the order of this dict.
    brought = _with_history(experiment.get_callbacks(), experiment.sample_history)
    callbacks: dict[str, Any] = {"sanity_check": SanityCheck(experiment.sanity_batches, monitors)}
    if experiment.check != "off" and not _holds(brought, Findings):
        callbacks["findings"] = make_findings(experiment)
    callbacks |= {str(i): callback for i, callback in enumerate(brought)}
    callbacks |= _saving(experiment, monitors, folder, name)
    callbacks["monitors"] = KnownMonitors(monitors)
    if experiment.on_bad_image == "skip":
        callbacks["bad_images"] = BadImages(folder / "bad_images.txt")
    callbacks["progress"] = Progress(metrics=[monitor.name for monitor in monitors], monitor=monitors[0])
    callbacks |= _diagnostics(experiment, monitors, brought)
    if not _holds(brought, Results):
        callbacks["results"] = Results(monitors[0].name, monitors[0].minimize, folder / "results")
    if not _holds(brought, Report):
        callbacks["report"] = Report(folder, page=page)
    if experiment.patience is not None:
        callbacks["early_stopping"] = EarlyStopping(monitors[0], experiment.patience)
    return callbacks


def make_findings(experiment: Experiment, *, stop: bool = True) -> Findings:
    """Return the callback that says what is wrong, without the rules about what the experiment asks for."""
    by_heart = experiment.overfit_batches is not None
    few = by_heart or experiment.limit_batches is not None
    silence = {*experiment.silence, *(_ABOUT_WHOLE_DATA if few else ()), *(_ABOUT_SPLITS if by_heart else ())}
    # ``assay check`` looks whatever training would do.
    check = "quick" if experiment.check == "off" else experiment.check
    return Findings(check, silence=sorted(silence), stop=stop, fields=dataclasses.asdict(experiment))


def _saving(experiment: Experiment, monitors: list[Monitor], folder: Path, name: str) -> dict[str, Any]:
    checkpoints = Checkpoints(
        folder / "checkpoints",
        monitors,
        top_k=experiment.top_k,
        # The config too: on resume an edited config.yaml is compared with it.
        extra={"experiment": name, "config": dataclasses.asdict(experiment)},
        on_save_error=experiment.on_save_error,
        every_n_steps=experiment.save_every_steps,
        every_minutes=experiment.save_every_minutes,
    )
    return {"checkpoints": checkpoints, "stop_on_signal": StopOnSignal(folder, name, checkpoints)}


def _diagnostics(experiment: Experiment, monitors: list[Monitor], brought: Sequence[Any]) -> dict[str, Any]:
    """Return the diagnostics that every run has, but for kinds that the experiment brings with options of its own."""
    callbacks: dict[str, Any] = {}
    if experiment.non_finite != "off" and not _holds(brought, NonFiniteGuard):
        callbacks["non_finite"] = _make_guard(experiment.non_finite, brought)
    if not _holds(brought, HParams):
        callbacks["hparams"] = HParams([it.name for it in monitors], [it.minimize for it in monitors])
    # With the diagnostics off there is nothing to thin.
    if experiment.max_overhead is not None and experiment.diagnostics != "off" and not _holds(brought, OverheadBudget):
        callbacks["overhead"] = OverheadBudget(experiment.max_overhead)
    return callbacks


def _with_history(brought: Sequence[Any], choice: str) -> list[Any]:
    """Return the callbacks of an experiment, with a history of samples as the field of that name wants it."""
    if choice == "off":
        return [callback for callback in brought if not isinstance(callback, SampleHistory)]
    if choice == "on":
        for callback in brought:
            if isinstance(callback, SampleHistory):
                callback.max_samples = None
        if not _holds(brought, SampleHistory):
            _log.warning(
                "--sample-history on has no effect: the experiment's get_callbacks returns no SampleHistory, which the "
                "lists of diagnostics hold at the level full"
            )
    return list(brought)


def _make_guard(action: str, brought: Sequence[Any]) -> NonFiniteGuard:
    # The guard draws the broken batch as the experiment's own diagnostics draw theirs.
    styles = (one.style for one in brought if isinstance(one, Diagnostic) and one.style is not None)
    style = next(styles, PictureStyle())
    return NonFiniteGuard(action, class_names=style.class_names, mean=style.mean, std=style.std)


def _holds(callbacks: Iterable[Any], kind: type) -> bool:
    return any(isinstance(callback, kind) for callback in callbacks)
