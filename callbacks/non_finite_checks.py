"""What of a runner's batch is looked at for NaN and infinite values."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from catalyst import dl
from torch import Tensor

from .host_copy import HostCopy, is_read_at_once, kept_from_loader
from .measures.non_finite import flag_values
from .non_finite_record import Place, Record, float_tensors
from .rng import RngState
from .runner_view import batch_size, loss_scale, loss_terms, place_in_loader
from .unwrapped import detached


def start_record(runner: dl.IRunner) -> Record:
    """Return the record of the batch that the loader has just given."""
    ranks, rank = runner.engine.num_processes, runner.engine.process_index
    place = Place(runner.loader_key, runner.epoch_step, runner.loader_batch_step // ranks, rank, ranks)
    inputs = runner.batch if is_read_at_once(runner) else kept_from_loader(runner.batch)
    return Record(place, inputs, RngState.take(runner.engine.device))


def stand_in_record(runner: dl.IRunner) -> Record:
    """Return the record of a batch that only stands in for one, behind its pass: no sample counts, nothing is checked.

    It is there because a rank without a batch takes part in the step, and in what is said about it.
    """
    record = start_record(runner)
    record.checks = [], HostCopy(torch.zeros(0))
    return record


def check_batch(
    runner: dl.IRunner, record: Record, loss_keys: Sequence[str], output_key: str, sample_id_key: str
) -> Tensor:
    """Fill in a record behind the forward pass, and check losses and outputs; the answer sets out for the host.

    Returns:
        [number of tensors], float32, on the device: 1 where one is not finite.
    """
    record.losses = _losses(runner, loss_keys)
    record.inputs, record.outputs = _split(record.inputs, runner.batch, output_key)
    record.sample_ids = _sample_ids(runner, record.inputs, sample_id_key)
    named = list(float_tensors({**record.losses, **record.outputs}))
    flags = torch.zeros(0, device=runner.engine.device)
    if named:
        flags = flag_values([tensor for _, tensor in named])
    record.checks = [name for name, _ in named], HostCopy(flags)
    return flags


def gradients_count(runner: dl.IRunner) -> Tensor | float:
    """Return 0 where a gradient may have overflowed only because its loss was scaled up, else 1."""
    scale = loss_scale(runner)
    return 1.0 if scale is None else (scale < 1).float()


def _losses(runner: dl.IRunner, keys: Sequence[str]) -> dict[str, Tensor]:
    """Return the terms of the loss, [] each; the sum alone where it is the only one."""
    names = [term.label for term in loss_terms(runner) or ()]
    chosen = [name for name in dict.fromkeys([*names, *keys]) if name in runner.batch_metrics]
    return {name: _to_tensor(runner.batch_metrics[name], runner.engine.device) for name in chosen}


def _to_tensor(value: Any, device: torch.device) -> Tensor:
    return value.detach() if isinstance(value, Tensor) else torch.full((), float(value), device=device)


def _split(given: Any, batch: Any, output_key: str) -> tuple[Any, dict[str, Any]]:
    """Return what the loader gave and what the model added to it."""
    if not isinstance(batch, Mapping):
        return given, {}
    added = batch.keys() - given.keys() if isinstance(given, Mapping) else {output_key} & batch.keys()
    outputs = {name: detached(part) for name, part in batch.items() if name in added}
    return {name: part for name, part in batch.items() if name not in added}, outputs


def _sample_ids(runner: dl.IRunner, inputs: Any, key: str) -> Any:
    if isinstance(inputs, Mapping) and key in inputs:
        return inputs[key]
    first = place_in_loader(runner).first_sample
    return range(first, first + batch_size(runner))
