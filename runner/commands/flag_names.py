"""Names of flags: with dashes or underscores, and what a user may have meant by one that there is not."""

import re
from collections.abc import Collection, Sequence
from difflib import SequenceMatcher, get_close_matches
from itertools import pairwise
from typing import Any

from assay.callbacks.errors import UsageError

from ..experiment.field_names import flag_of

# What other programs call a flag, where its spelling is not close to ours.
SYNONYMS = {
    "--lr": ("--learning-rate", "--base-lr", "--max-lr", "--eta"),
    "--epochs": ("--max-epochs", "--num-epochs", "--n-epochs", "--num-train-epochs", "--max-steps"),
    "--batch-size": ("--bs", "--per-device-train-batch-size", "--train-batch-size"),
    "--accumulate-steps": ("--accumulate-grad-batches", "--gradient-accumulation-steps", "--grad-accum"),
    "--clip-grad-norm": ("--gradient-clip-val", "--max-grad-norm", "--grad-clip", "--clip"),
    "--patience": ("--early-stopping", "--early-stopping-patience"),
    "--limit-batches": ("--dry-run", "--fast-dev-run", "--limit-train-batches", "--max-batches"),
    "--overfit-batches": ("--overfit",),
    "--weight-decay": ("--wd", "--l2"),
    "--optimizer": ("--optim", "--opt"),
    "--scheduler": ("--lr-scheduler", "--lr-schedule", "--sched"),
    "--warmup-epochs": ("--warmup", "--warmup-steps", "--num-warmup-steps"),
    "--lr-min": ("--min-lr", "--eta-min"),
    "--data-dir": ("--data", "--data-path", "--data-root", "--root", "--dataset", "--dataset-dir", "--train-dir"),
    "--workers": ("--num-workers", "--n-workers", "--jobs", "--dataloader-num-workers"),
    "--device": ("--gpu", "--gpus", "--cuda", "--accelerator", "--devices", "--cpu", "--no-cuda"),
    "--precision": ("--amp", "--fp16", "--bf16", "--half", "--mixed-precision", "--dtype"),
    "--compile": ("--torch-compile",),
    "--monitor": ("--metric", "--metrics", "--main-metric", "--best-metric"),
    "--top-k": ("--save-top-k", "--save-total-limit"),
    "--log-every-steps": ("--log-every-n-steps", "--log-interval", "--logging-steps"),
    "--resume": ("--checkpoint", "--ckpt", "--ckpt-path", "--resume-from", "--resume-from-checkpoint", "--load"),
    "--run-dir": ("--output", "--output-dir", "--out", "--logdir", "--log-dir", "--save-dir", "--work-dir"),
    "--config": ("--cfg", "--yaml", "--config-file"),
    "--help": ("--usage", "--options"),
}  # fmt: skip


def normalize_flag(argument: str, known: Collection[str]) -> str:
    """Return a flag with dashes in place of underscores; raise for one that does not exist."""
    if not argument.startswith("--"):
        return argument
    flag, equals, value = argument.partition("=")
    flag, dot, key = flag.partition(".")  # --optimizer-options.nesterov
    if flag_of(flag[2:]) not in known:
        raise unknown_flag(flag, known)
    return f"{flag_of(flag[2:])}{dot}{key}{equals}{value}"


def spaced_mapping(argument: str) -> str:
    """Return a value such as "{a:1,b:2}" with the spaces that YAML needs after its colons; others as they are.

    Example:
        >>> spaced_mapping("{dent:3,'a b':2}"), spaced_mapping("a:b")
        ("{dent: 3,'a b': 2}", 'a:b')
    """
    is_mapping = re.fullmatch(r"(--[\w-]+=)?\{.*\}", argument, re.DOTALL) is not None
    return re.sub(r":(?=[^\s/])", ": ", argument) if is_mapping else argument


def unknown_flag(flag: str, known: Collection[str]) -> UsageError:
    """Return the error for a flag that does not exist, with the one that is called so elsewhere, or is close to it."""
    return _unknown("flag", flag, _meant(flag_of(flag[2:].lower()), known))


def unknown_field(where: str, name: str, known: Collection[str]) -> UsageError:
    """Return the error for a field that does not exist, in a file; see ``unknown_flag``."""
    flag = _meant(flag_of(name.lower()), [flag_of(one) for one in known])
    return _unknown(f"field in {where}:", name, flag and next(one for one in known if flag_of(one) == flag))


def complete_bool_flags(arguments: Sequence[str], hints: dict[str, Any]) -> list[str]:
    """Complete a bool flag without a value: ``--deterministic`` becomes ``--deterministic=true``."""
    flags = {flag_of(name) for name, hint in hints.items() if hint is bool}
    followed = pairwise([*arguments, "--"])  # the last argument has no value after it either
    return [f"{one}=true" if one in flags and after.startswith("--") else one for one, after in followed]


def flag_values(flag: str, arguments: Sequence[str]) -> list[str]:
    """Return each value that is given to a flag; none where it has no value."""
    # --flag=value, and --flag value.
    values = [value for name, _, value in (argument.partition("=") for argument in arguments) if name == flag and value]
    return values + [value for name, value in pairwise(arguments) if name == flag]


def _meant(flag: str, known: Collection[str]) -> str | None:
    # An experiment may have a field under one of these names, and then this is not asked.
    called = {word: ours for ours, words in SYNONYMS.items() for word in words if ours in known}
    if flag in called:
        return called[flag]
    close = [*get_close_matches(flag, known, n=1), *get_close_matches(flag, called, n=1, cutoff=0.8)]
    # The closest of both; of equals, the flag itself.
    nearest = max(close, key=lambda name: SequenceMatcher(None, name, flag).ratio(), default=None)
    return nearest if nearest is None else called.get(nearest, nearest)


def _unknown(kind: str, name: str, meant: str | None) -> UsageError:
    # There are too many to list them all.
    hint = f"; did you mean {meant!r}?" if meant else "."
    return UsageError(f"unknown {kind} {name!r}{hint} --help-all explains them all.")
