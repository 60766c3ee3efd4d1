"""Reports a batch with NaN or infinite values: a message, a picture and a saved file."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from catalyst import dl
from torch import Tensor

from ..errors import UsageError
from ..measures.non_finite import flag_values
from ..support.buffer_snapshot import BufferSnapshot
from ..support.distributed import gather_objects
from ..support.runner_view import logdir_of
from ..tensorboard.writer import Writer
from .first_non_finite_module import first_non_finite_module
from .record import Record, RunPosition, float_tensors, save_record

_MOST_NAMES = 4  # in a message, which is one line
_MOST_SAMPLES = 12  # in a picture


class NonFiniteError(RuntimeError):
    """Ends a run because a loss, an output or a gradient holds NaN or an infinite value; the message names where."""


@dataclass(frozen=True)
class Finding:
    """What one rank has found in its batch, in words; a placeholder for a batch has no samples."""

    place: RunPosition
    losses: list[str]
    outputs: list[str]
    inputs: list[str]
    module: str | None
    parameters: list[str]
    samples: list[str]

    @property
    def forward_broken(self) -> bool:
        """Whether a loss or an output of this rank is not finite."""
        return bool(self.losses or self.outputs)

    def parts(self) -> Iterator[str]:
        """Yield the parts of the message, from the loss back to the samples."""
        yield from (f"loss term {name}" for name in self.losses)
        yield from (f"output {name}" for name in self.outputs)
        yield from (f"input {name}" for name in self.inputs)
        if self.module is not None:
            yield f"first non-finite output: {self.module}"
        if self.parameters:
            # In the order of the backward pass, which begins at the end of the model.
            names = [repr(name) for name in reversed(self.parameters)]
            yield f"gradients of {_list_some(names)} are not finite"
        if self.samples:
            yield f"sample{'s' * (len(self.samples) > 1)} {_list_some(self.samples)}"
        else:
            yield "no sample counts in this step"


def examine(runner: dl.IRunner, record: Record, before: BufferSnapshot, parameters: list[str]) -> Finding:
    """Examine a batch that is to be reported. A collective: the model is run again, and may communicate.

    Args:
        runner: see ``first_non_finite_module``.
        record: the batch.
        before: see ``first_non_finite_module``.
        parameters: names of parameters with a gradient that is not finite, in the order of the model.
    """
    losses, outputs, inputs = (
        _describe_broken(parts) for parts in (record.losses, record.outputs, record.named_inputs())
    )
    ids = [str(value) for value in record.ids()]
    samples = [ids[index] for index in record.broken_first()[0]]
    module = first_non_finite_module(runner, record, before)
    return Finding(record.place, losses, outputs, inputs, module, parameters, samples)


def find_folder(given: Path | None, runner: dl.IRunner) -> Path:
    """Return where to save batches: in the given run folder, else in that of the runner or of one of its loggers."""
    logdirs = (getattr(logger, "logdir", None) for logger in runner.loggers.values())
    folder = given or logdir_of(runner) or next(filter(None, logdirs), None)
    if folder is None:
        raise UsageError("NonFiniteGuard saves batches in the run folder: pass train() logdir=..., or folder=...")
    return Path(folder) / "non_finite"


class Reporter:
    """Composes the message from what all ranks have found, and saves and draws the first batch of a loader.

    Args:
        folder: where to save batches; it is made when it is needed.
        keys: keys of the batch for the picture, see ``samples_to_draw``.
        draw: returns a picture of samples with the lines of a title.
    """

    def __init__(
        self,
        folder: Path,
        keys: Mapping[str, str],
        draw: Callable[[Mapping[str, Any], Sequence[str]], np.ndarray],
    ):
        self._folder = folder
        self._keys = keys
        self._draw = draw
        self._is_first = True

    def start_loader(self) -> None:
        """Save and draw the next batch again."""
        self._is_first = True

    def report(self, record: Record | None, finding: Finding | None, writer: Writer, step: int) -> str:
        """Save and draw the batch if it is the first, and return the message, the same on every rank. A collective.

        Args:
            record: the batch of this rank; None if it has none.
            finding: what was found in it; None if all is finite.
            writer: the writer of the loader.
            step: the step of the picture.
        """
        findings = [found for found in gather_objects(finding) if found is not None]
        lead = _pick_leading(findings)
        # A rank saves its batch if its own forward pass broke, or if none did: then the gradients are to blame.
        gradients_alone = not any(found.forward_broken for found in findings)
        blamed = finding is not None and finding.samples and (finding.forward_broken or gradients_alone)
        path = self._folder / finding.place.file_name if finding is not None and blamed and self._is_first else None
        # Gathered by all ranks, also by those that save nothing: the message names the files of all.
        message = _compose_message(findings, gather_objects(path))
        if record is not None and finding is not None and path is not None:
            save_record(path, record, message, finding.module, finding.parameters)
        if self._is_first:
            self._write_picture(record if finding == lead and lead.samples else None, lead.place, writer, step)
        self._is_first = False
        return message

    def _write_picture(self, record: Record | None, place: RunPosition, writer: Writer, step: int) -> None:
        chosen = None if record is None else samples_to_draw(record, self._keys)
        # Only the rank of the leading finding gives samples, and only the main process writes.
        samples = next((part for part in gather_objects(chosen) if part is not None), None)
        if samples is not None:
            writer.image(
                "0_findings/non_finite_batch",
                partial(self._draw, samples, ["NaN or infinite values", str(place)]),
                step,
            )


def samples_to_draw(record: Record, keys: Mapping[str, str]) -> dict[str, Any] | None:
    """Return up to 12 samples of a batch as host values for ``draw_samples``, those to blame first.

    Args:
        record: the batch.
        keys: keys of the batch, by what the drawing calls them: ``image``, ``target``, ``output``.

    Returns:
        The samples; None if the batch has no images.
    """
    parts = {**record.named_inputs(), **record.outputs}
    if not _is_image(parts.get(keys["image"])):
        return None
    blamed, order = record.broken_first()
    ids, order = record.ids(), order[:_MOST_SAMPLES]
    samples: dict[str, Any] = {"sample_id": [ids[index] for index in order]}
    # Where all samples are to blame a mark on each would say nothing.
    if len(blamed) < len(ids):
        samples["caption"] = ["NaN or Inf" if index in blamed else "" for index in order]
    for name, key in keys.items():
        part = parts.get(key)
        if isinstance(part, Tensor) and part.ndim and len(part) == len(ids):
            samples[name] = _to_numpy(part[order])
    return samples


def _is_image(part: Any) -> bool:
    return isinstance(part, Tensor) and part.ndim in (3, 4) and not part.is_complex()


def _to_numpy(part: Tensor) -> np.ndarray:
    # NumPy has no bfloat16.
    part = part.detach().cpu()
    return (part.float() if part.is_floating_point() else part).numpy()


def _pick_leading(findings: Sequence[Finding]) -> Finding:
    """Return the first finding with a broken loss or output; if there is none, the first with samples."""
    return min(findings, key=lambda finding: (not finding.forward_broken, not finding.samples))


def _compose_message(findings: Sequence[Finding], paths: Sequence[Path | None]) -> str:
    lead = _pick_leading(findings)
    others = [finding.place.rank for finding in findings if finding.forward_broken and finding is not lead]
    parts = list(lead.parts())
    if others:
        parts.append(f"also on rank{'s' * (len(others) > 1)} {', '.join(map(str, others))}")
    if saved := [str(path) for path in paths if path is not None]:
        parts.append(f"saved to {_list_some(saved)}")
    return f"{lead.place}: {'; '.join(parts)}"


def _describe_broken(parts: Mapping[str, Any]) -> list[str]:
    tensors = list(float_tensors(parts))
    flags = flag_values([tensor for _, tensor in tensors]).tolist() if tensors else []
    return [f"{name!r} {_describe_values(tensor)}" for (name, tensor), flag in zip(tensors, flags, strict=True) if flag]


def _describe_values(tensor: Tensor) -> str:
    kinds = [name for name, found in (("NaN", tensor.isnan()), ("Inf", tensor.isinf())) if bool(found.any())]
    return f"{'is' if tensor.numel() == 1 else 'holds'} {' and '.join(kinds)}"


def _list_some(names: Sequence[str]) -> str:
    listed = ", ".join(names[:_MOST_NAMES])
    return f"{listed} and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else listed
