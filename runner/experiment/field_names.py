"""The flags of fields, and the check that fields have no reserved names."""

from collections.abc import Iterable

from assay.callbacks.errors import UsageError

# The flags that every experiment has beside its fields.
_FLAGS = ("config", "debug", "help", "help_all", "resume", "run_dir", "trials", "tune", "tune_storage")
# Not imported: of a class without methods, which is read from the source of an experiment, none can be hidden.
_BASE = f"{__package__}.base"


def flag_of(name: str) -> str:
    """Return the flag of a field.

    Example:
        >>> flag_of("batch_size")
        '--batch-size'
    """
    return f"--{name.replace('_', '-')}"


def check_field_names(names: Iterable[str], experiment: type) -> None:
    """Raise where a field cannot be a flag, or would hide a method of ``Experiment``.

    Args:
        names: of the fields.
        experiment: the class that they are of.
    """
    base = next((one for one in experiment.__mro__ if one.__module__ == _BASE), object)
    for name in names:
        if name in _FLAGS:
            flag = flag_of(name)
            raise UsageError(f"the field {name!r} must have another name: {flag} is a flag of every experiment.")
        if name.startswith("_"):
            raise UsageError(f"the field {name!r} must have a name that begins with a letter, to be a flag.")
        # The field would shadow the method, and who calls it would find a value.
        hidden = getattr(base, name, None)
        if callable(hidden) or isinstance(hidden, property):
            raise UsageError(f"the field {name!r} must have another name: every experiment has {name!r} as its own.")
