"""Read trained weights of a run, a checkpoint or another project's file, without executing what it contains."""

import os
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from assay.callbacks.errors import UsageError

from .checkpoint_files import (
    OF_NUMPY,
    UNREADABLE,
    check_sums,
    find_checkpoint,
    load_checkpoint,
    refused_types,
    validated_weights,
)
from .checkpoint_state import FORMAT
from .run_folder import check_weights_there

# Under which the weights stand in files of other trainers, from the most specific name on.
# A moving average comes before what it averages, as in timm, and as of a checkpoint of assay.
_AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "weights")
_DEEPEST = 4
_SAFE = ".safetensors"


class TrainedWeights(NamedTuple):
    """Trained weights by name, several models' as ``MODEL.NAME``; the file, and in words what it is."""

    tensors: dict[str, Tensor]
    path: Path
    source: str


def read_weights(path: str | os.PathLike[str]) -> TrainedWeights:
    """Read trained weights to the CPU.

    Args:
        path: a run folder, of which the best checkpoint is taken, or the last where none is the best; a checkpoint; a
            file that ``torch.save`` wrote of a ``state_dict``, alone or beside others in a dict; or one of safetensors.
            Of a checkpoint with a moving average of the weights, also another project's, it is the average.

    Raises:
        UsageError: there is no such file; it is damaged, holds no weights, or what could run code.
    """
    check_weights_there(path)
    path = Path(path)
    if path.is_dir():
        return _of_checkpoint(_best_of(path))
    content = _safe_tensors(path) if path.suffix == _SAFE else _load(path)
    if isinstance(content, Mapping) and content.get("format") == FORMAT:
        return _of_checkpoint(path)
    if isinstance(content, Mapping):
        for name in _AVERAGES:
            if isinstance(content.get(name), Mapping) and (tensors := _tensors_in(content[name])):
                return TrainedWeights(tensors, path, f"{path} ({name!r}, moving average)")
    tensors = _tensors_in(content)
    if not tensors:
        raise UsageError(f"weights {path} holds no weights, but {_kind_of(content)}.")
    return TrainedWeights(tensors, path, str(path))


def _kind_of(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    return f"a dict of {', '.join(map(repr, list(content)[:4]))}" if content else "an empty dict"


def _best_of(run: Path) -> Path:
    try:
        return find_checkpoint(run, "best")
    except UsageError:  # no epoch is over, or none had a finite metric
        return find_checkpoint(run, "last")


def _of_checkpoint(path: Path) -> TrainedWeights:
    state = load_checkpoint(path)
    average = "" if state.get("ema") is None else ", moving average"
    tensors = {
        f"{key}.{name}" if key else name: value
        for key, weights in validated_weights(state).items()
        for name, value in weights.items()
        if isinstance(value, Tensor)
    }
    return TrainedWeights(tensors, path, f"{path} (epoch {state['epoch']}{average})")


def _safe_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise _unreadable(path, error) from error


def _load(path: Path) -> Any:
    try:
        if zipfile.is_zipfile(path):  # older files of torch are none, and have no checksums
            check_sums(path)
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals(OF_NUMPY):
            return torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        if refused := refused_types(path):
            raise UsageError(
                f"weights {path} holds {refused}, which could run code, and is not loaded: load it where that is "
                "defined, and save its weights alone, torch.save(model.state_dict(), ...)."
            ) from error
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UsageError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "weights_only" in reason or "Weights only" in reason:  # torch's advice to load it all the same
        reason = "its content is no plain data"
    reason = reason.partition(". ")[0]  # torch goes on with advice
    return UsageError(f"weights {path} cannot be read; it is cut off, changed, or no file of weights: {reason}")


def _tensors_in(content: Any, depth: int = 0) -> dict[str, Tensor]:
    """Return the weights in what a file holds, by name."""
    if not isinstance(content, Mapping) or depth > _DEEPEST:
        return {}
    for wrapper in _WRAPPERS:
        if isinstance(content.get(wrapper), Mapping) and (found := _tensors_in(content[wrapper], depth + 1)):
            return found
    tensors: dict[str, Tensor] = {}
    for name, part in content.items():
        if isinstance(part, Tensor):
            tensors[str(name)] = part
        elif not str(name).startswith("optim"):  # several models by name, and not what trained them
            tensors |= {f"{name}.{inner}": it for inner, it in _tensors_in(part, depth + 1).items()}
    return tensors
