"""What may become of a field when a run goes on, and between machines, as a part of its type."""

from enum import Enum

from .ranges import field_hints


class Mark(Enum):
    """A mark of a field, such as ``Annotated[int, Mark.RESUMABLE]``.

    A field without a mark decides about the course of the run: ``--resume`` refuses to change it, and all processes
    must agree in it.
    """

    RESUMABLE = "may change when a run goes on"
    OBSERVING = "changes what is shown of a run and not its course: an edit of ``config.yaml`` is taken with a warning"
    PER_MACHINE = "belongs to a machine: the processes on several may differ in it"


def marked(experiment: type, mark: Mark) -> set[str]:
    """Return the fields of an experiment that have a mark."""
    # Any of its declarations may carry it: a variant that only changes the default does not repeat it.
    hints = field_hints(experiment)
    return {name for name in hints if any(mark in getattr(hint, "__metadata__", ()) for hint in hints[name])}
