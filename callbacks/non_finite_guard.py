"""Keeping NaN and infinite values out of a model, and telling where they came from."""

import logging
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch
from catalyst import dl
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from .buffer_snapshot import BufferSnapshot
from .diagnostic import Diagnostic
from .distributed import gather_objects, reduce_state
from .drawings.pictures import Channels
from .drawings.samples import draw_samples
from .errors import UsageError, at_least_one, unknown_name
from .first_module import first_module, plain_model
from .gradient_watch import trained_parameters
from .host_copy import HostCopy
from .keys import IMAGE_KEY, OUTPUT_KEY, SAMPLE_ID_KEY, TARGET_KEY
from .loader_place import place_in_loader
from .measures.non_finite import flag_gradients, flag_values
from .non_finite_report import (
    Finding,
    NonFiniteError,
    Place,
    Record,
    broken_first,
    compose,
    examine,
    float_tensors,
    id_list,
    leading,
    save_record,
)
from .rng import RngState
from .step_gate import StepGate
from .unwrapped import by_name, detached, raw_optimizers
from .writer import Writer

CHOICES = ("stop", "skip")
_MOST_SAMPLES = 16

_log = logging.getLogger("assay")


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
    held back by one read a step. Held back are all steps behind the batch: of a group of accumulated batches, none
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
        class_names: one a class; without, classes are shown by number.
        mean: of the images' normalization ``(x - mean) / std``, one number or one a channel.
        std: likewise.
        folder: the run folder; by default the runner's ``logdir``, or that of its logger.

    Raises:
        UsageError: an argument is out of range; at the start of the run, when the runner has no TensorBoard logger, or
            no folder is known.
        NonFiniteError: a value is not finite and the run is to stop, or too many steps in a row were skipped.
    """

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
        # Behind the stock optimizer's callback, and before all that watch the optimizer: they see a step held back.
        super().__init__(order=dl.CallbackOrder.Optimizer + 1)
        if on_non_finite not in CHOICES:
            raise unknown_name("on_non_finite", on_non_finite, CHOICES)
        self.on_non_finite = on_non_finite
        self.max_skips = at_least_one("max_skips", max_skips)
        self.keys = {"image": image_key, "target": target_key, "output": output_key}
        self.sample_id_key = sample_id_key
        self.loss_keys = [loss_key] if isinstance(loss_key, str) else list(loss_key)
        self.draw = partial(draw_samples, class_names=class_names, mean=mean, std=std)
        self.folder = None if folder is None else Path(folder)
        self._start_anew()

    def _start_anew(self) -> None:
        self.handles_: list[StepGate | RemovableHandle] = []
        self.folder_: Path | None = None
        self.in_a_row_ = 0
        self._start_loader()

    def _start_loader(self) -> None:
        self.parameters_: dict[str, nn.Parameter] = {}
        self.snapshot_: BufferSnapshot | None = None
        self.current_: Record | None = None  # the batch that is being worked on
        self.pending_: Record | None = None  # the batch before, whose checks have reached the host by now
        self.suspect_: Record | None = None  # the first of the group whose loss or output is broken
        self.group_: Tensor | None = None  # whether a loss or an output of the group is broken, on the device
        self.group_is_open_ = False
        self.decided_: Tensor | None = None
        self.skipped_ = 0
        self.reported_ = False

    # -- events ---------------------------------------------------------------------------------------------------

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        super().on_experiment_start(runner)
        self._start_anew()
        logdirs = (getattr(logger, "logdir", None) for logger in runner.loggers.values())
        folder = self.folder or getattr(runner, "_logdir", None) or next(filter(None, logdirs), None)
        if folder is None:
            raise UsageError("NonFiniteGuard saves batches in the run folder: pass train() logdir=..., or folder=...")
        self.folder_ = Path(folder) / "non_finite"
        if hasattr(runner, "register_gradient_hook"):
            self.handles_.append(runner.register_gradient_hook(partial(self._decide_for_all, runner)))
        for optimizer in raw_optimizers(runner.optimizer).values():
            self.handles_.append(StepGate(optimizer, partial(self._answer, runner)))

    def begin(self, runner: dl.IRunner) -> None:
        self._start_loader()
        if not runner.is_train_loader:
            return
        models = [plain_model(runner, model) for model in by_name(runner.model).values()]
        self.snapshot_ = BufferSnapshot(buffer for model in models for buffer in model.buffers())
        self.parameters_ = trained_parameters(runner)

    def on_batch_start(self, runner: dl.IRunner) -> None:
        if runner.is_infer_loader:
            return
        self.current_ = Record(_place(runner), runner.batch, (), RngState.take(runner.engine.device))
        if self.snapshot_ is not None and not self.group_is_open_:
            self.snapshot_.take()
            self.group_is_open_ = True

    def observe(self, runner: dl.IRunner) -> None:
        if self.current_ is None:
            return
        self._check(runner)
        self._settle(runner)
        self.pending_, self.current_ = self.current_, None
        self.decided_ = None

    def report(self, runner: dl.IRunner, writer: Writer) -> None:
        if runner.is_infer_loader:
            return
        if self.group_ is not None and runner.is_train_loader and self.pending_ is not None:
            self._close_group(self.pending_)
        self._settle(runner)
        if runner.is_train_loader and self.on_non_finite == "skip":
            writer.scalars({"optimizer/non_finite_steps": self.skipped_}, runner.epoch_step)
        if not runner.is_train_loader:
            self._report_validation(runner)
        self._start_loader()

    def on_experiment_end(self, runner: dl.IRunner) -> None:
        self._release()
        super().on_experiment_end(runner)

    def on_exception(self, runner: dl.IRunner) -> None:
        self._release()
        super().on_exception(runner)

    def _release(self) -> None:
        for handle in self.handles_:
            handle.remove()
        self.handles_ = []

    # -- on the device, within the step ---------------------------------------------------------------------------

    def _check(self, runner: dl.IRunner) -> None:
        """Check losses and outputs of the batch, once; the answer starts on its way to the host."""
        record = self.current_
        if record is None or record.checks is not None:
            return
        record.losses = _losses(runner, self.loss_keys)
        record.inputs, record.outputs = _split(record.inputs, runner.batch, self.keys["output"])
        record.sample_ids = self._sample_ids(runner, record.inputs)
        named = list(float_tensors({**record.losses, **record.outputs}))
        if not named:
            flags = torch.zeros(0, device=runner.engine.device)
        else:
            flags = flag_values([tensor for _, tensor in named])
            broken = flags.amax()
            self.group_ = broken if self.group_ is None else torch.maximum(self.group_, broken)
        record.checks = [name for name, _ in named], HostCopy(flags)

    def _decide_for_all(self, runner: dl.IRunner) -> None:
        """Decide on the step from all gradients, before they are clipped."""
        self.decided_ = self._decide(runner, self.parameters_)

    def _answer(self, runner: dl.IRunner, optimizer: Optimizer) -> Tensor:
        if self.decided_ is not None:
            return self.decided_
        held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        return self._decide(runner, {name: part for name, part in self.parameters_.items() if id(part) in held})

    def _decide(self, runner: dl.IRunner, parameters: Mapping[str, nn.Parameter]) -> Tensor:
        """Return [], float32, on every rank the same: 1 where the step is to be held back."""
        self._check(runner)
        self._settle(runner)  # before the weights change, so that the batch before can be run again with its own
        named = [(name, parameter.grad) for name, parameter in parameters.items() if parameter.grad is not None]
        found = torch.zeros((), device=runner.engine.device) if self.group_ is None else self.group_
        flags = found.new_zeros(0)
        if named:
            flags = flag_gradients([gradient for _, gradient in named]).to(found.device, non_blocking=True)
            found = torch.maximum(found, flags.amax() * _counts(runner))
        found = reduce_state({"found": found}, {"found": "max"})["found"]
        if self.current_ is not None:
            self.current_.steps.append(([name for name, _ in named], HostCopy(torch.cat([found.reshape(1), flags]))))
        self._end_group(found)
        return found

    def _close_group(self, record: Record) -> None:
        """Treat batches at the end of a loader, behind which no step was made, as a step without gradients."""
        if self.group_ is not None:
            found = reduce_state({"found": self.group_}, {"found": "max"})["found"]
            record.steps.append(([], HostCopy(found.reshape(1))))
            self._end_group(found)

    def _end_group(self, found: Tensor) -> None:
        if self.snapshot_ is not None:
            self.snapshot_.restore_where(found)
        self.group_, self.group_is_open_ = None, False

    # -- on the host, one step later ------------------------------------------------------------------------------

    def _settle(self, runner: dl.IRunner) -> None:
        """Read what became of the batch before."""
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
            module = first_module(runner, culprit, self.snapshot_)
            self._tell(runner, culprit, examine(culprit, module, parameters))

    def _report_validation(self, runner: dl.IRunner) -> None:
        record, finding = self.suspect_, None
        if record is not None:
            finding = examine(record, first_module(runner, record, None), [])
        if any(found is not None for found in gather_objects(finding)):
            self._tell(runner, record, finding)

    def _tell(self, runner: dl.IRunner, record: Record | None, finding: Finding | None) -> None:
        """Save, draw and say what every rank has found, and end the run where it is to end. A collective."""
        findings = [found for found in gather_objects(finding) if found is not None]
        lead = findings[leading(findings)]
        gradients_alone = not any(found.forward_broken for found in findings)
        mine = not self.reported_ and finding is not None and (finding.forward_broken or gradients_alone)
        path = self._path(finding) if mine and finding is not None else None
        message = compose(findings, gather_objects(path))
        if record is not None and finding is not None and path is not None:
            save_record(path, record, finding, message)
        writer = self.writers_[runner.loader_key]
        if not self.reported_:
            self._draw(runner, writer, record if finding == lead else None, lead.place)
        self.reported_ = True
        if self.on_non_finite == "stop":
            self._stop(message)
        skipped = "; the step was skipped" if runner.is_train_loader else ""
        if self.in_a_row_ >= self.max_skips:
            self._stop(f"{message}{skipped}, as were all of the last {self.in_a_row_} (max_skips)")
        # By way of the writer, which drops what does not belong to this rank.
        writer.submit(lambda _: _log.warning("%s%s", message, skipped))

    def _stop(self, message: str) -> NoReturn:
        if self.snapshot_ is not None and self.group_is_open_:
            self.snapshot_.restore()  # of the batch behind, whose step is not made any more
        raise NonFiniteError(message)

    def _path(self, finding: Finding) -> Path | None:
        return None if self.folder_ is None else self.folder_ / finding.place.file_name

    def _draw(self, runner: dl.IRunner, writer: Writer, record: Record | None, place: Place) -> None:
        chosen = None if record is None else _samples(record, self.keys)
        samples = next((part for part in gather_objects(chosen) if part is not None), None)
        if samples is not None:
            title = ["NaN or infinite values", str(place)]
            writer.image("non_finite/batch", partial(self.draw, samples, title), runner.epoch_step)

    def _sample_ids(self, runner: dl.IRunner, inputs: Any) -> Any:
        if isinstance(inputs, Mapping) and self.sample_id_key in inputs:
            return inputs[self.sample_id_key]
        first = place_in_loader(runner).first_sample
        return range(first, first + runner.batch_size)


def _place(runner: dl.IRunner) -> Place:
    ranks = runner.engine.num_processes
    step = runner.loader_batch_step // ranks
    return Place(runner.loader_key, runner.epoch_step, step, runner.engine.process_index, ranks)


def _losses(runner: dl.IRunner, keys: Sequence[str]) -> dict[str, Tensor]:
    """Return the terms of the loss, [] each; the sum alone where it is the only one."""
    names = [term.label for term in getattr(runner, "losses", ())]
    chosen = [name for name in dict.fromkeys([*names, *keys]) if name in runner.batch_metrics]
    return {name: _scalar(runner.batch_metrics[name], runner.engine.device) for name in chosen}


def _scalar(value: Any, device: torch.device) -> Tensor:
    return value.detach() if isinstance(value, Tensor) else torch.full((), float(value), device=device)


def _split(given: Any, batch: Any, output_key: str) -> tuple[Any, dict[str, Any]]:
    """Return what the loader gave and what the model added to it."""
    if not isinstance(batch, Mapping):
        return given, {}
    added = batch.keys() - given.keys() if isinstance(given, Mapping) else {output_key} & batch.keys()
    outputs = {name: detached(part) for name, part in batch.items() if name in added}
    return {name: part for name, part in batch.items() if name not in added}, outputs


def _counts(runner: dl.IRunner) -> Tensor | float:
    """Return 0 where a gradient may have overflowed only because its loss was scaled up, else 1."""
    scaler = getattr(runner.engine, "scaler", None)
    if scaler is None:
        return 1.0
    scale: Tensor = scaler.scale(torch.ones((), device=runner.engine.device))
    return (scale < 1).float()


def _samples(record: Record, keys: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the first samples as host values for the drawing, the broken ones in front; None without images."""
    parts = {**record.inputs, **record.outputs} if isinstance(record.inputs, Mapping) else {}
    image = parts.get(keys["image"])
    if not isinstance(image, Tensor) or not _is_drawable(image):
        return None
    broken, order = broken_first(record)
    ids, order = id_list(record), order[:_MOST_SAMPLES]
    samples: dict[str, Any] = {"sample_id": [ids[index] for index in order]}
    if len(broken) < len(ids):
        samples["caption"] = ["NaN or Inf" if index in broken else "" for index in order]
    for name, key in keys.items():
        part = parts.get(key)
        if isinstance(part, Tensor) and part.ndim and len(part) == len(ids):
            chosen = part.detach()[order].cpu()
            samples[name] = (chosen.float() if chosen.is_floating_point() else chosen).numpy()
    return samples


def _is_drawable(image: Tensor) -> bool:
    return image.ndim in (3, 4) and not image.is_complex()
