"""Read device and precision from the arguments of assay, Catalyst and accelerate, and from ``accelerate launch``."""

import inspect
import os
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator, DataLoaderConfiguration

from assay.callbacks.errors import UsageError, listing, unknown_name

from ..choices import DEVICES, PRECISIONS

# accelerate's words and the precision that each stands for; "no" leaves room for tf32.
_MIXED = {"no": "fp32", "fp16": "fp16", "bf16": "bf16"}
# Arguments that accelerate has moved from Accelerator to DataLoaderConfiguration.
_OF_LOADERS = ("split_batches", "dispatch_batches", "even_batches", "use_seedable_sampler")


def chosen_device(device: str, cpu: bool) -> str:
    """Return ``auto``, ``cpu`` or ``cuda``.

    Args:
        device: one of them.
        cpu: Catalyst's; False leaves the choice to ``device``.

    Raises:
        UsageError: the device is unknown or missing on this machine, or the two contradict each other.
    """
    if device not in DEVICES:
        raise unknown_name("device", device, DEVICES)
    if cpu and device == "cuda":
        raise UsageError("cpu=True and device='cuda' contradict each other: give one of them.")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("device must be 'cpu' or 'auto' on this machine: 'cuda' needs a GPU that torch can use.")
    # ``accelerate launch --cpu`` sets it. An explicit device comes first.
    forced = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "y", "t", "on")
    return "cpu" if cpu or (forced and device == "auto") else device


def chosen_precision(precision: str | None, mixed_precision: Any, fp16: bool | None) -> str:
    """Return one of ``PRECISIONS``: the one that is given, else that of ``accelerate launch``, else ``fp32``.

    Args:
        precision: one of them, or None.
        mixed_precision: accelerate's: ``no``, ``fp16`` or ``bf16``, or None.
        fp16: Catalyst's; True stands for ``fp16``, and False for nothing.

    Raises:
        UsageError: a value is unknown, or two contradict each other.
    """
    if precision is not None and precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    mixed = getattr(mixed_precision, "value", mixed_precision)  # an enumeration of accelerate's
    if mixed is not None and mixed not in _MIXED:
        raise unknown_name("mixed_precision", mixed, _MIXED)
    named = {"fp16=True": "fp16"} if fp16 else {}
    if mixed is not None:
        named[f"mixed_precision={mixed!r}"] = precision if mixed == "no" and precision == "tf32" else _MIXED[mixed]
    if precision is not None:
        named[f"precision={precision!r}"] = precision
    if len(set(named.values())) > 1:
        raise UsageError(f"{' and '.join(named)} contradict each other: give one of them.")
    launched = _MIXED.get(os.environ.get("ACCELERATE_MIXED_PRECISION", "no"), "fp32")
    return next(iter(named.values()), launched)


def accelerator_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options as today's accelerate takes them: those of loaders are together, trackers have a folder.

    Raises:
        UsageError: an option is unknown, or one of loaders is given twice.
    """
    taken = dict(options)
    loaders = {name: taken.pop(name) for name in _OF_LOADERS if name in taken}
    if "logging_dir" in taken:  # its name in the accelerate of Catalyst's time
        taken.setdefault("project_dir", taken.pop("logging_dir"))
    # By the accelerate that is installed: newer ones take other arguments.
    known = [name for name in inspect.signature(Accelerator.__init__).parameters if name != "self"]
    for name in taken:
        if name not in known:
            ours = ["device", "precision", "fp16", "cpu", *_OF_LOADERS]
            raise unknown_name("argument of an engine", name, [*ours, *known])
    if loaders and taken.get("dataloader_config") is not None:
        raise UsageError(f"dataloader_config holds {listing(loaders)} too: give it there alone.")
    if taken.get("dataloader_config") is None:
        # Copies of pinned batches run beside the step.
        taken["dataloader_config"] = DataLoaderConfiguration(non_blocking=True, **loaders)
    return taken
