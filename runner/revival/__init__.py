"""Mend Catalyst 22.04 for today's torch and accelerate, without changes to the project that uses it."""

from collections.abc import Collection
from dataclasses import dataclass

from assay.callbacks.errors import UsageError, unknown_name

from . import (  # noqa: F401 - each registers its faults
    checkpoints,
    configs,
    engines,
    gradients,
    loader_metrics,
    loaders,
    loggers,
    names,
    optimizers,
    ranks,
    samplers,
    times,
    transforms,
)
from .fault import FAULTS, Fault, is_mended, mend

__all__ = ["Revival", "revive"]


@dataclass(frozen=True)
class Revival:
    """The faults that are mended in this process; prints one line per fault.

    Attributes:
        faults: in the order in which they were mended.
    """

    faults: tuple[Fault, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the faults."""
        return tuple(fault.name for fault in self.faults)

    def __str__(self) -> str:
        lines = [f"{fault.name}{'*' if fault.changes_numbers else ''}: {fault.reason}" for fault in self.faults]
        starred = any(fault.changes_numbers for fault in self.faults)
        note = ["* changes numbers; leave it out by revive(without=(NAME,))"] if starred else []
        return "\n".join(["mended in Catalyst:", *lines, *note] if lines else ["nothing to mend in Catalyst"])


def revive(without: Collection[str] = ()) -> Revival:
    """Mend what is broken in Catalyst 22.04 on today's stack, for this process.

    Call it once at the top of a script, before callbacks, loaders and engines are created. Working parts are left
    alone, and a second call mends only what the first one left out.

    Args:
        without: names of faults to leave as they are; ``print(revive())`` lists them. A star marks those that change
            the numbers of a working project: ``accumulation``, ``collecting``, ``config_words``, ``loader_metrics``,
            ``means`` and ``padding``.

    Returns:
        What is mended, by this call or earlier ones.

    Raises:
        UsageError: a name is unknown, or ``without`` is a single string.
    """
    if isinstance(without, str):  # it is a collection too, of letters
        raise UsageError(f"without must be a collection of names, got the string {without!r}: write ({without!r},).")
    for name in without:
        if name not in FAULTS:
            raise unknown_name("without", name, FAULTS)
    for name in FAULTS:
        if name not in without:
            mend(name)
    return Revival(tuple(fault for fault in FAULTS.values() if is_mended(fault.name)))
