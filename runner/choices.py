"""The words that fields and arguments accept. It imports nothing, so that flags are checked without torch."""

from typing import Literal, get_args

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]
OnBadImage = Literal["raise", "skip"]
OnSaveError = Literal["stop", "warn"]

DEVICES: tuple[str, ...] = get_args(Device)
PRECISIONS: tuple[str, ...] = get_args(Precision)
ON_SAVE_ERROR: tuple[str, ...] = get_args(OnSaveError)
SCHEDULERS = ("none", "cosine", "one-cycle", "multi-step", "cyclic", "plateau")
