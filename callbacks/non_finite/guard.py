"""NonFiniteGuard: keeps NaN and infinite values out of a model, and reports where they came from."""

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
    """Ends the run, or skips the step, where a loss, an output or a gradient holds NaN or an infinite value.

    A step with such a value changes nothing: neither weights, nor the optimizer's state, nor buffers (BatchNorm's
    running statistics), and so no checkpoint. With several ranks all decide alike. Loaders for inference are left out.

    The message names the loss term, the output, the input, the first module whose output is not finite (found by
    running the model once more with the same weights and the same chance), the parameters (before clipping where the
    runner is ``DictRunner``; the one nearest to the loss first) and the samples. The batch, its ids, its outputs and
    the state of the generators before its forward pass go into the run folder, as
    ``non_finite/epoch-0003-step-000012.pt`` (``-valid`` and ``-rank-1`` where there is more to tell apart);
    ``torch.load(file, weights_only=True)`` reads it.

    ============================ ======= ====================================================================
    tag, in the loader's folder  kind    step and content
    ============================ ======= ====================================================================
    ``non_finite/batch``         image   epoch; up to 16 samples, the broken ones first, [H, W, 3] uint8 RGB
    ``optimizer/non_finite_steps`` scalar  epoch; steps skipped in it (train loaders, ``on_non_finite="skip"``)
    ============================ ======= ====================================================================

    With ``skip`` each loader's first such batch of an epoch is drawn and saved, and every one is logged (logger
    ``assay``). Its loss still counts in the epoch's mean, which is NaN then; a learning rate that changes by step moves
    on. Of a validation loader, batches are reported when the loader has ended, the first one alone; there is nothing
    to skip.

    Fused optimizers of torch (``SGD``, ``Adam``, ``AdamW``, ``Adagrad`` with ``fused=True``) are held back on the
    device, and nothing is read: the message comes one step later, before that step changes the weights. Others are
    held back by one read per step. All steps after the batch are held back: of a group of accumulated batches, none
    counts. An optimizer that computes gradients within its step (``LBFGS``) is not held back.

    With fp16 a gradient that overflows is the loss scaler's matter, which skips the step and lowers the scale; it
    counts here when the scale has fallen below 1. A gradient whose norm is above 1.8e19 counts as infinite.

    Args:
        on_non_finite: ``stop`` ends the run with a ``NonFiniteError``; ``skip`` goes on without the step.
        max_skips: as many steps skipped in a row end the run.
        image_key: of the batch, to draw it: [N, C, H, W] or [N, H, W]; anything else is not drawn.
        target_key: of the batch; class numbers [N], to show the truth.
        output_key: of the batch; logits, to show the prediction. Where the loader gives no dicts it is what is checked
            as output; otherwise all that the model adds to the batch is.
        sample_id_key: of the batch; without it in the batch, the position in the loader serves.
        loss_key: the loss, or several, among ``runner.batch_metrics``; the terms of a ``DictRunner`` are checked too.
        class_names: one per class; without, classes are shown by number.
        mean: of the images' normalization ``(x - mean) / std``, one number or one a channel.
        std: likewise.
        folder: the run folder; by default the runner's ``logdir``, or that of its logger.

    Raises:
        UsageError: an argument is out of range; at the start of the run, when the runner has no TensorBoard logger, or
            no folder is known.
        NonFiniteError: a value is not finite and the run is to stop, or too many steps in a row were skipped.
    """

    works_unwritten = True  # it fails, or saves batches
    own_tags = ("non_finite/batch",)
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
        self.pending_: Record | None = None  # the batch before, whose checks have reached the host by now
        self.suspect_: Record | None = None  # the first of the group whose loss or output is broken
        self.decided_: Tensor | None = None  # for all optimizers of the current batch
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
        self.handles_ = [StepGate(optimizer, partial(self._answer, runner)) for optimizer in optimizers]
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
        """Report what was wrong with the batches so far, so that no checkpoint follows one unseen. A collective."""
        self._settle(runner)
        if runner.is_valid_loader:
            self._report_validation(runner)
            self.suspect_ = None

    def report(self, runner: dl.IRunner, writer: Writer) -> None:
        if runner.is_infer_loader:
            return
        if runner.is_train_loader and self.pending_ is not None:
            self.pending_.add_step(self.step_.decide_without_step())
        self._settle(runner)
        if not runner.is_train_loader:
            self._report_validation(runner)
        elif self.on_non_finite == "skip":
            writer.scalars({"optimizer/non_finite_steps": self.skipped_}, runner.epoch_step)
        self._start_loader()

    def release(self, runner: dl.IRunner) -> None:
        for handle in self.handles_:
            handle.remove()
        self.handles_ = []

    def _end_batch(self, runner: dl.IRunner, record: Record) -> None:
        if is_read_at_once(runner) and (record.broken() or record.held_back()[0]):
            record.keep()
        self.pending_, self.current_, self.decided_ = record, None, None
        self.step_.end_batch()
        if runner.is_train_loader and loss_terms(runner) is None:
            self._warn_unwatched(runner)

    def _warn_unwatched(self, runner: dl.IRunner) -> None:
        """Warn once of losses that a batch of a stock runner lacks, as they may be misspelt."""
        missing = [key for key in self.loss_keys if key not in runner.batch_metrics]
        if missing and not self.has_warned_:
            self.has_warned_ = True
            self.writers_[runner.loader_key].warn(
                f"NonFiniteGuard(loss_key={missing[0]!r}) watches no such loss: the metrics of a {runner.loader_key} "
                f"batch lack it; they have {listing(runner.batch_metrics)}. Outputs and gradients are watched."
            )

    def _check(self, runner: dl.IRunner, record: Record) -> None:
        """Check losses and outputs of the batch, once."""
        if record.checks is None:
            self.step_.add(check_batch(runner, record, self.loss_keys, self.keys["output"], self.sample_id_key))

    def _decide_for_all(self, runner: dl.IRunner) -> None:
        """Decide on the step from all gradients, before they are clipped."""
        stand_in = None if self.current_ is not None else placeholder_record(runner)
        self.current_ = self.current_ or stand_in
        decided = self._decide(runner, self.step_.parameters)
        if stand_in is not None:  # its batch has no end
            self._end_batch(runner, stand_in)
        self.decided_ = decided

    def _answer(self, runner: dl.IRunner, optimizer: Optimizer) -> Tensor:
        if self.decided_ is not None:
            return self.decided_
        return self._decide(runner, held_by(optimizer, self.step_.parameters))

    def _decide(self, runner: dl.IRunner, parameters: Mapping[str, nn.Parameter]) -> Tensor:
        """Return [], float32, on every rank the same: 1 where the step is to be held back."""
        if self.current_ is not None:
            self._check(runner, self.current_)
        self._settle(runner)  # before the weights change, so that the batch before can be run again with its own
        decision = self.step_.decide(parameters, gradients_count(runner))
        if self.current_ is not None:
            self.current_.add_step(decision)
        return decision.flags[0]

    def _settle(self, runner: dl.IRunner) -> None:
        """Read what became of the batch before, whose flags have reached the host by now."""
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
            # Each rank runs its model again: one with SyncBatchNorm talks to the others.
            self._report(runner, culprit, examine(runner, culprit, self.step_.before, parameters))

    def _report_validation(self, runner: dl.IRunner) -> None:
        record = self.suspect_
        finding = None if record is None else examine(runner, record, self.step_.before, [])
        if any(found is not None for found in gather_objects(finding)):
            self._report(runner, record, finding)

    def _report(self, runner: dl.IRunner, record: Record | None, finding: Finding | None) -> None:
        """Report what every rank has found, and end the run where it is to end. A collective."""
        writer = self.writers_[runner.loader_key]
        message = self.reporter_.report(record, finding, writer, runner.epoch_step)
        if self.on_non_finite == "stop":
            self._stop(message)
        skipped = "; the step was skipped" if runner.is_train_loader else ""
        if self.in_a_row_ >= self.max_skips:
            self._stop(f"{message}{skipped}, as were all of the last {self.in_a_row_} (max_skips)")
        writer.warn(message + skipped)

    def _stop(self, message: str) -> NoReturn:
        self.step_.take_back()  # of the batch after, whose step is not made any more
        raise NonFiniteError(message)
