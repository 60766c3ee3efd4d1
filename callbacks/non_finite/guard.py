"""NonFiniteGuard: keeps NaN and infinite values out of the model, and reports where they began."""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from catalyst import dl
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from ..base.diagnostic import Diagnostic
from ..base.order import STEP_GUARD
from ..drawings.canvas.images import Channels
from ..drawings.canvas.picture_style import PictureStyle
from ..drawings.samples import draw_samples
from ..errors import at_least_one, listing, unknown_name
from ..keys import IMAGE_KEY, OUTPUT_KEY, SAMPLE_ID_KEY, TARGET_KEY
from ..support.class_names import check_names
from ..support.distributed import gather_objects
from ..support.host_copy import is_read_at_once
from ..support.runner_view import gradient_hooks_of, loss_terms
from ..support.unwrap import held_by, raw_optimizers
from ..tensorboard.writer import Writer
from .record import Record, check_batch, gradients_count, placeholder_record, start_record
from .report import Finding, NonFiniteError, Reporter, examine, find_folder
from .step_decision import StepDecision
from .step_gate import StepGate

CHOICES = ("stop", "skip")


class NonFiniteGuard(Diagnostic):
    """Ends the run, or skips the step, if a loss, an output or a gradient holds NaN or an infinite value.

    Such a step changes nothing: neither weights, nor the optimizer's state, nor buffers (the running statistics of
    BatchNorm), and so no checkpoint. All ranks decide alike. Inference loaders are skipped.

    The message names the loss term, the output, the input, the first module whose output is not finite (found by
    running the model again with the same weights and random numbers), the parameters (the one nearest to the loss
    first; with ``DictRunner`` their gradients are checked before clipping) and the samples. The batch, its ids, its
    outputs and the state of the random generators before its forward pass are saved in the run folder, as
    ``non_finite/epoch-0003-step-000012.pt``, with ``-valid`` or ``-rank-1`` for other loaders or several ranks.
    ``torch.load(file, weights_only=True)`` reads the file.

    ================================ ====== ====================================================================
    tag, in the loader's folder      kind   step and content
    ================================ ====== ====================================================================
    ``0_findings/non_finite_batch``  image  epoch; up to 12 samples, the broken ones first, [H, W, 3] uint8 RGB
    ``9_optimizer/non_finite_steps`` scalar epoch; steps skipped in it (train loaders, ``on_non_finite="skip"``)
    ================================ ====== ====================================================================

    With ``skip`` the first such batch of each loader and epoch is drawn and saved, and every one is logged (logger
    ``assay``). Its loss still counts in the mean of the epoch, which becomes NaN; a learning rate that changes per step
    moves on. For a validation loader, only the first such batch is reported, at the end of the loader; there is nothing
    to skip.

    Fused optimizers of torch (``SGD``, ``Adam``, ``AdamW``, ``Adagrad`` with ``fused=True``) are held back on the
    device, without any read: the message comes one step later, before that step changes the weights. Other optimizers
    are held back at the cost of one read per step. With gradient accumulation, the step of the whole group is held
    back. An optimizer that computes gradients within its step (``LBFGS``) is not held back.

    With fp16, gradients that overflow are left to the loss scaler, which skips the step and lowers the scale; they
    count here once the scale has fallen below 1. A gradient whose norm is above 1.8e19 counts as infinite.

    Args:
        on_non_finite: ``stop`` ends the run with a ``NonFiniteError``; ``skip`` goes on without the step.
        max_skips: how many steps skipped in a row end the run.
        image_key: key of the images in the batch, [N, C, H, W] or [N, H, W]; anything else is not drawn.
        target_key: key of the class numbers in the batch, [N], to show the true class.
        output_key: key of the logits in the batch, to show the predicted class. If the loader returns no dicts, only
            this output is checked; otherwise everything that the model adds to the batch is.
        sample_id_key: key of the sample ids in the batch; without it, samples are named by their position in the
            loader.
        loss_key: key of the loss in ``runner.batch_metrics``, or several keys; the loss terms of a ``DictRunner`` are
            checked too.
        class_names: one name per class; None: classes are shown by number.
        mean: mean of the images' normalization ``(x - mean) / std``, one number or one per channel.
        std: standard deviation of that normalization, one number or one per channel.
        folder: the run folder; None: the runner's ``logdir``, or that of its logger.

    Raises:
        UsageError: an argument is out of range; at the start of the run, there is no TensorBoard logger, or no folder
            is known.
        NonFiniteError: a value is not finite and ``on_non_finite`` is ``stop``, or ``max_skips`` steps in a row were
            skipped.
    """

    works_unwritten = True  # it ends the run, or saves batches, also without a logger
    own_tags = ("0_findings/non_finite_batch",)
    observed = ("skipped_", "in_a_row_")
    one_a_run = True
    counts_as_overhead = False  # a run has it without diagnostics too

    def __init__(
        self,
        on_non_finite: str = "stop",
        max_skips: int = 10,
        *,
        image_key: str = IMAGE_KEY,
        target_key: str = TARGET_KEY,
        output_key: str = OUTPUT_KEY,
        sample_id_key: str = SAMPLE_ID_KEY,
        loss_key: str | Sequence[str] = "loss",
        class_names: Sequence[str] | None = None,
        mean: Channels = 0.0,
        std: Channels = 1.0,
        folder: str | os.PathLike[str] | None = None,
    ):
        super().__init__(order=STEP_GUARD)
        if on_non_finite not in CHOICES:
            raise unknown_name("on_non_finite", on_non_finite, CHOICES)
        self.on_non_finite = on_non_finite
        self.max_skips = at_least_one("max_skips", max_skips)
        self.keys = {"image": image_key, "target": target_key, "output": output_key}
        self.sample_id_key = sample_id_key
        self.loss_keys = [loss_key] if isinstance(loss_key, str) else list(loss_key)
        self.style: PictureStyle = PictureStyle(check_names(class_names), mean, std)
        self.draw = partial(draw_samples, style=self.style)
        self.folder = None if folder is None else Path(folder)
        self.handles_: list[StepGate | RemovableHandle] = []

    def _start_loader(self) -> None:
        self.current_: Record | None = None  # the batch that is being worked on
        self.pending_: Record | None = None  # the batch before, whose checks are read one step later
        self.suspect_: Record | None = None  # the first batch of the group whose loss or output is not finite
        self.decided_: Tensor | None = None  # the decision for all optimizers of the current batch
        self.skipped_ = 0
        self.reporter_.start_loader()

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        super().on_experiment_start(runner)
        self.reporter_ = Reporter(find_folder(self.folder, runner), self.keys, self.draw)
        self.in_a_row_ = 0
        self.has_warned_ = False
        self.step_ = StepDecision(runner.engine.device, {})
        self._start_loader()
        optimizers = raw_optimizers(runner.optimizer).values()
        self.handles_ = [StepGate(optimizer, partial(self._decide_for_one, runner)) for optimizer in optimizers]
        # With such hooks all gradients are decided on at once, before clipping; without, each optimizer asks by itself.
        register = gradient_hooks_of(runner)
        if register is not None:
            self.handles_.append(register(partial(self._decide_for_all, runner)))

    def begin(self, runner: dl.IRunner) -> None:
        self._start_loader()
        self.step_ = StepDecision.of(runner)

    def on_batch_start(self, runner: dl.IRunner) -> None:
        if not runner.is_infer_loader:
            self.current_ = start_record(runner)

    def observe(self, runner: dl.IRunner) -> None:
        if self.current_ is not None:
            self._check(runner, self.current_)
            self._settle(runner)
            self._end_batch(runner, self.current_)

    def settle(self, runner: dl.IRunner) -> None:
        """Report what was wrong with the batches so far. A collective."""
        # Called before a checkpoint within an epoch, which must not be written after an unreported batch.
        self._settle(runner)
        if runner.is_valid_loader:
            self._report_validation(runner)
            self.suspect_ = None

    def report(self, runner: dl.IRunner, writer: Writer) -> None:
        if runner.is_infer_loader:
            return
        # Batches that no step followed, as at the end of a loader that does not fill a group, are decided on here.
        if runner.is_train_loader and self.pending_ is not None:
            self.pending_.add_step(self.step_.decide_without_step())
        self._settle(runner)
        if not runner.is_train_loader:
            self._report_validation(runner)
        elif self.on_non_finite == "skip":
            writer.scalars({"9_optimizer/non_finite_steps": self.skipped_}, runner.epoch_step)
        self._start_loader()

    def release(self, runner: dl.IRunner) -> None:
        for handle in self.handles_:
            handle.remove()
        self.handles_ = []

    def _end_batch(self, runner: dl.IRunner, record: Record) -> None:
        if is_read_at_once(runner) and (record.broken() or record.held_back()[0]):
            # It is reported one step later, when the loader may have reused the memory.
            record.keep()
        self.pending_, self.current_, self.decided_ = record, None, None
        self.step_.end_batch()
        if runner.is_train_loader and loss_terms(runner) is None:
            self._warn_unwatched(runner)

    def _warn_unwatched(self, runner: dl.IRunner) -> None:
        """Warn once of losses that the metrics of a batch lack: the key may be misspelt."""
        missing = [key for key in self.loss_keys if key not in runner.batch_metrics]
        if missing and not self.has_warned_:
            self.has_warned_ = True
            self.writers_[runner.loader_key].warn(
                f"NonFiniteGuard(loss_key={missing[0]!r}) watches no such loss: the metrics of a {runner.loader_key} "
                f"batch lack it; they have {listing(runner.batch_metrics)}. Outputs and gradients are watched."
            )

    def _check(self, runner: dl.IRunner, record: Record) -> None:
        """Check losses and outputs of the batch, unless that was done."""
        # A step within the batch asks for the check before the end of the batch does.
        if record.checks is None:
            self.step_.add(check_batch(runner, record, self.loss_keys, self.keys["output"], self.sample_id_key))

    def _decide_for_all(self, runner: dl.IRunner) -> None:
        """Decide on the step from all gradients, before they are clipped."""
        # A rank without a batch of its own runs a placeholder, to take part in the step of the others.
        placeholder = None if self.current_ is not None else placeholder_record(runner)
        self.current_ = self.current_ or placeholder
        decided = self._decide(runner, self.step_.parameters)
        # No event ends the batch of a placeholder.
        if placeholder is not None:
            self._end_batch(runner, placeholder)
        # After the end of the batch, which forgets the last decision.
        self.decided_ = decided

    def _decide_for_one(self, runner: dl.IRunner, optimizer: Optimizer) -> Tensor:
        if self.decided_ is not None:
            return self.decided_
        return self._decide(runner, held_by(optimizer, self.step_.parameters))

    def _decide(self, runner: dl.IRunner, parameters: Mapping[str, nn.Parameter]) -> Tensor:
        """Return whether to hold back the step: [], float32, 1 if so, the same on every rank. A collective."""
        if self.current_ is not None:
            self._check(runner, self.current_)
        # Before this step changes the weights, so that the batch before can be run again with those that it had.
        self._settle(runner)
        decision = self.step_.decide(parameters, gradients_count(runner))
        if self.current_ is not None:
            self.current_.add_step(decision)
        return decision.flags[0]

    def _settle(self, runner: dl.IRunner) -> None:
        """Read the checks of the batch before, and report it if its step was held back."""
        # One step later, as the flags have reached the host by then and the loop need not wait for them.
        record, self.pending_ = self.pending_, None
        if record is None:
            return
        if self.suspect_ is None and record.broken():
            self.suspect_ = record
        if not record.steps:
            return
        found, parameters = record.held_back()
        culprit, self.suspect_ = self.suspect_ or record, None
        self.in_a_row_ = self.in_a_row_ + 1 if found else 0
        if found:
            self.skipped_ += 1
            # On every rank, as the flag is the same on all: running a model with SyncBatchNorm again is a collective.
            self._report(runner, culprit, examine(runner, culprit, self.step_.before, parameters))

    def _report_validation(self, runner: dl.IRunner) -> None:
        record = self.suspect_
        finding = None if record is None else examine(runner, record, self.step_.before, [])
        if any(found is not None for found in gather_objects(finding)):
            self._report(runner, record, finding)

    def _report(self, runner: dl.IRunner, record: Record | None, finding: Finding | None) -> None:
        """Report what all ranks have found, and end the run if it is to end. A collective."""
        writer = self.writers_[runner.loader_key]
        message = self.reporter_.report(record, finding, writer, runner.epoch_step)
        if self.on_non_finite == "stop":
            self._stop(message)
        skipped = "; the step was skipped" if runner.is_train_loader else ""
        if self.in_a_row_ >= self.max_skips:
            self._stop(f"{message}{skipped}, as were all of the last {self.in_a_row_} (max_skips)")
        writer.warn(message + skipped)

    def _stop(self, message: str) -> NoReturn:
        # The report comes one step later: the batch since then has changed buffers, and its step will not be made.
        self.step_.take_back()
        raise NonFiniteError(message)
