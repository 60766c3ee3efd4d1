"""What a batch with NaN or infinite values leaves behind: where they began, in words, and a file to look into."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .host_copy import HostCopy
from .measures.non_finite import flag_samples, flag_values
from .rng import RngState

FORMAT = "assay non-finite batch 1"
_MOST_NAMES = 4


class NonFiniteError(RuntimeError):
    """NaN or an infinite value in a loss, an output or a gradient has ended the run; the message says where."""


@dataclass(frozen=True)
class Place:
    """Where in the run a batch stands; epoch and step count from 1, the step within its loader."""

    loader: str
    epoch: int
    step: int
    rank: int
    ranks: int

    def __str__(self) -> str:
        on_rank = f" on rank {self.rank}" if self.ranks > 1 else ""
        return f"epoch {self.epoch}, step {self.step} of {self.loader}{on_rank}"

    @property
    def file_name(self) -> str:
        """The name of the file of this batch."""
        loader = "" if self.loader == "train" else f"-{self.loader}"
        rank = f"-rank-{self.rank}" if self.ranks > 1 else ""
        return f"epoch-{self.epoch:04d}{loader}-step-{self.step:06d}{rank}.pt"


@dataclass
class Record:
    """One batch of this rank: what went into the model, what came out, and the checks on their way to the host.

    Attributes:
        place: where in the run.
        inputs: the batch as the loader gave it.
        sample_ids: one a sample: a list, or a tensor [N].
        rng: the generators before the forward pass.
        losses: terms of the loss by name, [] each.
        outputs: outputs of the model by name, without a graph.
        checks: names of what was checked, and [len(names)], 1 where it is not finite.
        steps: for each optimizer step behind this batch the names of its parameters, and [1 + len(names)]: whether
            the step was held back, and for each parameter whether its gradient is not finite.
    """

    place: Place
    inputs: Any
    sample_ids: Sequence[Any] | Tensor
    rng: RngState
    losses: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    checks: tuple[list[str], HostCopy] | None = None
    steps: list[tuple[list[str], HostCopy]] = field(default_factory=list)

    def broken(self) -> list[str]:
        """Return what is not finite among losses and outputs; waits where that has not reached the host."""
        names, copy = self.checks or ([], HostCopy(torch.zeros(0)))
        return [name for name, flag in zip(names, copy.read().tolist(), strict=True) if flag]

    def held_back(self) -> tuple[bool, list[str]]:
        """Return whether a step behind this batch was held back, and parameters whose gradients are not finite."""
        rows = [(names, copy.read().tolist()) for names, copy in self.steps]
        broken = [name for names, row in rows for name, flag in zip(names, row[1:], strict=True) if flag]
        return any(row[0] for _, row in rows), broken


@dataclass(frozen=True)
class Finding:
    """What one rank found out about its batch, in words."""

    place: Place
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
        """Yield what there is to say, from the loss back to the samples."""
        yield from (f"loss term {name}" for name in self.losses)
        yield from (f"output {name}" for name in self.outputs)
        yield from (f"input {name}" for name in self.inputs)
        if self.module is not None:
            yield f"first non-finite output: {self.module}"
        if self.parameters:
            # A backward pass begins at the end of the model: what broke first comes first.
            names = [repr(name) for name in reversed(self.parameters)]
            yield f"gradients of {_some(names)} are not finite"
        yield f"sample{'s' * (len(self.samples) > 1)} {_some(self.samples)}"


def examine(record: Record, module: str | None, parameters: list[str]) -> Finding:
    """Read a batch that is to be reported.

    Args:
        record: the batch.
        module: see ``first_module``.
        parameters: names of those with a gradient that is not finite, in the order of the model.
    """
    losses, outputs, inputs = (_describe(parts) for parts in (record.losses, record.outputs, _named(record.inputs)))
    ids = [str(value) for value in id_list(record)]
    samples = [ids[index] for index in broken_first(record)[0]]
    return Finding(record.place, losses, outputs, inputs, module, parameters, samples)


def compose(findings: Sequence[Finding], paths: Sequence[Path | None]) -> str:
    """Return the message on a step from what every rank found: the first with a broken loss or output leads."""
    lead = leading(findings)
    others = [finding.place.rank for finding in findings if finding.forward_broken and finding is not findings[lead]]
    parts = list(findings[lead].parts())
    if others:
        parts.append(f"also on rank{'s' * (len(others) > 1)} {', '.join(map(str, others))}")
    if saved := [str(path) for path in paths if path is not None]:
        parts.append(f"saved to {_some(saved)}")
    return f"{findings[lead].place}: {'; '.join(parts)}"


def leading(findings: Sequence[Finding]) -> int:
    """Return the index of the first finding with a broken loss or output; of the first where there is none."""
    return next((index for index, finding in enumerate(findings) if finding.forward_broken), 0)


def save_record(path: Path, record: Record, finding: Finding, message: str) -> None:
    """Write a batch, its outputs and all that is known about it; ``torch.load(path, weights_only=True)`` reads it."""
    content = {
        "format": FORMAT,
        "message": message,
        "loader": record.place.loader,
        "epoch": record.place.epoch,
        "step": record.place.step,
        "rank": record.place.rank,
        "batch": portable(record.inputs),
        "sample_ids": portable(id_list(record)),
        "outputs": portable(record.outputs),
        "losses": {name: float(value) for name, value in record.losses.items()},
        "module": finding.module,
        "parameters": finding.parameters,
        "rng": record.rng.portable(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        torch.save(content, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def id_list(record: Record) -> list[Any]:
    """Return the ids of the samples as host values."""
    ids = record.sample_ids
    return ids.tolist() if isinstance(ids, Tensor) else list(ids)


def broken_first(record: Record) -> tuple[list[int], list[int]]:
    """Return the samples to blame, and all samples with those first.

    To blame are those with an input that is not finite; where there is none, those with such an output; else all.
    """
    size = len(record.sample_ids)
    for parts in (_named(record.inputs), record.outputs):
        tensors = [tensor for _, tensor in float_tensors(parts) if tensor.ndim and len(tensor) == size]
        flags = [flag_samples(tensor).cpu() for tensor in tensors]
        broken = torch.stack(flags).any(dim=0).tolist() if flags else []
        if any(broken):
            order = sorted(range(size), key=lambda index: not broken[index])
            return order[: sum(broken)], order
    return list(range(size)), list(range(size))


def float_tensors(part: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield every floating point tensor of mappings, lists and tuples, with its name."""
    if isinstance(part, Tensor):
        if part.is_floating_point() or part.is_complex():
            yield name, part
    elif isinstance(part, Mapping):
        for key, value in part.items():
            yield from float_tensors(value, f"{name}.{key}" if name else str(key))
    elif isinstance(part, list | tuple):
        for index, value in enumerate(part):
            yield from float_tensors(value, f"{name}.{index}" if name else str(index))


def portable(part: Any) -> Any:
    """Return a part of a batch in types that ``weights_only=True`` loads; what has none there becomes its text."""
    if isinstance(part, Tensor):
        return part.detach().cpu().clone()
    if isinstance(part, np.ndarray | np.generic) and part.dtype.kind in "biufc":
        return torch.as_tensor(part) if isinstance(part, np.ndarray) else part.item()
    if isinstance(part, Mapping):
        return {str(key): portable(value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return [portable(value) for value in part]
    return part if part is None or isinstance(part, str | int | float | bool) else str(part)


def _named(batch: Any) -> Mapping[str, Any]:
    return batch if isinstance(batch, Mapping) else {"": batch}


def _describe(parts: Mapping[str, Any]) -> list[str]:
    tensors = list(float_tensors(parts))
    flags = flag_values([tensor for _, tensor in tensors]).tolist() if tensors else []
    return [f"{name!r} {_kind(tensor)}" for (name, tensor), flag in zip(tensors, flags, strict=True) if flag]


def _kind(tensor: Tensor) -> str:
    kinds = [name for name, found in (("NaN", tensor.isnan()), ("Inf", tensor.isinf())) if bool(found.any())]
    return f"{'is' if tensor.numel() == 1 else 'holds'} {' and '.join(kinds)}"


def _some(names: Sequence[str]) -> str:
    listed = ", ".join(names[:_MOST_NAMES])
    return f"{listed} and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else listed
