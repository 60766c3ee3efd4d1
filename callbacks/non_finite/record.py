"""The record of one batch: inputs, outputs, losses, their checks for NaN and infinite values, and the saved file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from catalyst import dl
from torch import Tensor

from ..measures.non_finite import flag_samples, flag_values
from ..support.atomic_files import replacing
from ..support.host_copy import HostCopy, is_read_at_once, kept_from_loader
from ..support.rng import RngState
from ..support.runner_view import batch_size, kept_parts, loss_scale, loss_terms, place_in_loader
from ..support.unwrap import detached

FORMAT = "assay non-finite batch 1"


@dataclass(frozen=True)
class RunPosition:
    """Where in the run a batch was seen; epoch and step count from 1, the step within its loader."""

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


class Decision(NamedTuple):
    """What became of one optimizer step.

    Attributes:
        names: names of the parameters with a gradient.
        flags: [1 + len(names)], float32, on the device: first 1 if the step is held back (the same on every rank), then
            per parameter 1 if its gradient is not finite.
    """

    names: list[str]
    flags: Tensor


@dataclass
class Record:
    """One batch of this rank: what went into the model, what came out, and the checks on their way to the host.

    Attributes:
        place: where in the run it was seen.
        inputs: the batch as the loader returned it.
        rng: the state of the random generators before the forward pass.
        sample_ids: one id per sample: a list, or a tensor [N].
        losses: terms of the loss by name, [] each.
        outputs: outputs of the model by name, detached.
        checks: names of what was checked, and flags [len(names)], 1 if it is not finite; None before the check.
        steps: names and flags of the ``Decision`` on each optimizer step after this batch.
    """

    place: RunPosition
    inputs: Any
    rng: RngState
    sample_ids: Sequence[Any] | Tensor = ()
    losses: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    checks: tuple[list[str], HostCopy] | None = None
    steps: list[tuple[list[str], HostCopy]] = field(default_factory=list)

    def add_step(self, decision: Decision | None) -> None:
        """Add the decision on an optimizer step after this batch; None: there was no step."""
        if decision is not None:
            self.steps.append((decision.names, HostCopy(decision.flags)))

    def broken(self) -> list[str]:
        """Return the names of losses and outputs that are not finite; waits for the copy if it has not arrived."""
        names, copy = self.checks or ([], HostCopy(torch.zeros(0)))
        return [name for name, flag in zip(names, copy.read().tolist(), strict=True) if flag]

    def held_back(self) -> tuple[bool, list[str]]:
        """Return whether a step after this batch was held back, and the parameters whose gradients are not finite."""
        rows = [(names, copy.read().tolist()) for names, copy in self.steps]
        broken = [name for names, row in rows for name, flag in zip(names, row[1:], strict=True) if flag]
        return any(row[0] for _, row in rows), broken

    def keep(self) -> None:
        """Copy the parts whose memory the loader may reuse."""
        # On a CPU, where nothing has been sent.
        self.inputs, self.outputs = kept_from_loader(self.inputs), kept_from_loader(self.outputs)
        self.sample_ids = kept_from_loader(self.sample_ids)

    def ids(self) -> list[Any]:
        """Return the ids of the samples as host values."""
        return self.sample_ids.tolist() if isinstance(self.sample_ids, Tensor) else list(self.sample_ids)

    def named_inputs(self) -> Mapping[str, Any]:
        """Return the parts of the batch by name; a batch that is no dict has the name ``""``."""
        return self.inputs if isinstance(self.inputs, Mapping) else {"": self.inputs}

    def broken_first(self) -> tuple[list[int], list[int]]:
        """Return the indices of the samples to blame, and those of all samples with these first.

        To blame are samples with an input that is not finite; if there are none, those with such an output; else all.
        """
        # Inputs first: a broken sample can spoil the outputs of all others, as through BatchNorm.
        size = len(self.sample_ids)
        for parts in (self.named_inputs(), self.outputs):
            tensors = [tensor for _, tensor in float_tensors(parts) if tensor.ndim and len(tensor) == size]
            flags = [flag_samples(tensor).cpu() for tensor in tensors]
            broken = torch.stack(flags).any(dim=0).tolist() if flags else []
            if any(broken):
                order = sorted(range(size), key=lambda index: not broken[index])
                return order[: sum(broken)], order
        return list(range(size)), list(range(size))


def start_record(runner: dl.IRunner) -> Record:
    """Return the record of the batch that the loader has just returned."""
    ranks, rank = runner.engine.num_processes, runner.engine.process_index
    place = RunPosition(runner.loader_key, runner.epoch_step, runner.loader_batch_step // ranks, rank, ranks)
    return Record(place, runner.batch, RngState.take(runner.engine.device))


def placeholder_record(runner: dl.IRunner) -> Record:
    """Return the record of a placeholder for a batch: no sample counts, and nothing is checked."""
    # A rank without a batch takes part in the step of the others, and so in the report on that step.
    record = start_record(runner)
    record.checks = [], HostCopy(torch.zeros(0))
    return record


def check_batch(
    runner: dl.IRunner, record: Record, loss_keys: Sequence[str], output_key: str, sample_id_key: str
) -> Tensor:
    """Complete a record after the forward pass: check losses and outputs, and start copying the flags to the host.

    Returns:
        Flags [number of tensors], float32, on the device: 1 for a tensor that is not finite.
    """
    record.losses = _losses_of(runner, loss_keys)
    record.inputs, record.outputs = _split_batch(record.inputs, runner.batch, output_key)
    # On a CPU the batch is checked before the next one is fetched. On a GPU it is checked a step later, when the loader
    # may have reused the memory, so a copy is kept.
    if not is_read_at_once(runner):
        record.inputs = kept_parts(runner, record.inputs)
    record.sample_ids = _sample_ids_of(runner, record.inputs, sample_id_key)
    named = list(float_tensors({**record.losses, **record.outputs}))
    flags = torch.zeros(0, device=runner.engine.device)
    if named:
        flags = flag_values([tensor for _, tensor in named])
    record.checks = [name for name, _ in named], HostCopy(flags)
    return flags


def gradients_count(runner: dl.IRunner) -> Tensor | float:
    """Return 0 if an infinite gradient may only be due to the scale of the loss, else 1."""
    # The scaler skips such a step itself and lowers the scale. Once the scale is below 1 it cannot be the cause.
    scale = loss_scale(runner)
    return 1.0 if scale is None else (scale < 1).float()


def _losses_of(runner: dl.IRunner, keys: Sequence[str]) -> dict[str, Tensor]:
    """Return the loss terms of the runner and the losses under the given keys, [] each."""
    names = [term.label for term in loss_terms(runner) or ()]
    chosen = [name for name in dict.fromkeys([*names, *keys]) if name in runner.batch_metrics]
    return {name: _to_tensor(runner.batch_metrics[name], runner.engine.device) for name in chosen}


def _to_tensor(value: Any, device: torch.device) -> Tensor:
    return value.detach() if isinstance(value, Tensor) else torch.full((), float(value), device=device)


def _split_batch(given: Any, batch: Any, output_key: str) -> tuple[Any, dict[str, Any]]:
    """Return what the loader returned, and what the model added to it."""
    if not isinstance(batch, Mapping):
        return given, {}
    # A loader of tuples has no keys to compare with: then only the named output is the model's.
    added = batch.keys() - given.keys() if isinstance(given, Mapping) else {output_key} & batch.keys()
    outputs = {name: detached(part) for name, part in batch.items() if name in added}
    return {name: part for name, part in batch.items() if name not in added}, outputs


def _sample_ids_of(runner: dl.IRunner, inputs: Any, key: str) -> Any:
    if isinstance(inputs, Mapping) and key in inputs:
        return inputs[key]
    first = place_in_loader(runner).first_sample
    return range(first, first + batch_size(runner))


def save_record(path: Path, record: Record, message: str, module: str | None, parameters: list[str]) -> None:
    """Save a batch, its outputs and all that is known about it, for ``torch.load(path, weights_only=True)``."""
    content = {
        "format": FORMAT,
        "message": message,
        "loader": record.place.loader,
        "epoch": record.place.epoch,
        "step": record.place.step,
        "rank": record.place.rank,
        "batch": portable(record.inputs),
        "sample_ids": portable(record.ids()),
        "outputs": portable(record.outputs),
        "losses": {name: float(value) for name, value in record.losses.items()},
        "module": module,
        "parameters": parameters,
        "rng": record.rng.portable(),
    }
    # Made here and not at the start: most runs never need the folder.
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        torch.save(content, temporary)


def portable(part: Any) -> Any:
    """Return a part of a batch in types that ``weights_only=True`` loads; anything else becomes text."""
    if isinstance(part, Tensor):
        return part.detach().cpu().clone()
    if isinstance(part, np.ndarray | np.generic) and part.dtype.kind in "biufc":
        return torch.tensor(part) if isinstance(part, np.ndarray) else part.item()
    if isinstance(part, Mapping):
        return {str(key): portable(value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return [portable(value) for value in part]
    return part if part is None or isinstance(part, str | int | float | bool) else str(part)


def float_tensors(part: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield every floating point or complex tensor in nested mappings, lists and tuples, with its name."""
    if isinstance(part, Tensor):
        if part.is_floating_point() or part.is_complex():
            yield name, part
    elif isinstance(part, Mapping):
        for key, value in part.items():
            yield from float_tensors(value, f"{name}.{key}" if name else str(key))
    elif isinstance(part, list | tuple):
        for index, value in enumerate(part):
            yield from float_tensors(value, f"{name}.{index}" if name else str(index))
