"""The registry of Catalyst's faults: each is a function that mends it, with the reason as its docstring."""

import functools
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

FAULTS: "dict[str, Fault]" = {}
_mended: set[str] = set()


@dataclass(frozen=True)
class Fault:
    """A fault that ``revive`` mends.

    Attributes:
        name: its name in ``without``.
        reason: what is wrong without the mend.
        changes_numbers: whether the mend changes metrics or weights of a run that worked before.
        mend: mends it in this process; returns False and changes nothing if the fault is absent.
    """

    name: str
    reason: str
    changes_numbers: bool
    mend: Callable[[], bool]


def fault(*, changes_numbers: bool = False) -> Callable[[Callable[[], bool]], Callable[[], bool]]:
    """Register a function as the mend of the fault of the same name; its docstring is the reason."""

    def register(mend: Callable[[], bool]) -> Callable[[], bool]:
        reason = " ".join((inspect.getdoc(mend) or "").split())
        FAULTS[mend.__name__] = Fault(mend.__name__, reason, changes_numbers, mend)
        return mend

    return register


def mend(name: str) -> None:
    """Mend a fault, once per process."""
    # Not twice: some mends wrap methods, which would then be wrapped again.
    if name not in _mended and FAULTS[name].mend():
        _mended.add(name)


def is_mended(name: str) -> bool:
    """Whether a fault was there and is mended in this process."""
    return name in _mended


def replace_everywhere(old: Any, new: Any) -> None:
    """Replace ``old`` by ``new`` in every module of Catalyst that has imported it."""
    # Each ``from ... import`` made a name of its own, which a change in the first module does not reach.
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "catalyst":
            for key, value in list(vars(module).items()):
                if value is old:
                    setattr(module, key, new)


def after(owner: type, name: str, action: Callable[..., None]) -> None:
    """Make a method call ``action`` with the same arguments after its own work."""
    method = getattr(owner, name)

    def both(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = method(self, *args, **kwargs)
        action(self, *args, **kwargs)
        return result

    setattr(owner, name, functools.update_wrapper(both, method))


def before(owner: type, name: str, action: Callable[..., None]) -> None:
    """Make a method call ``action`` with the same arguments before its own work."""
    method = getattr(owner, name)

    def both(self: Any, *args: Any, **kwargs: Any) -> Any:
        action(self, *args, **kwargs)
        return method(self, *args, **kwargs)

    setattr(owner, name, functools.update_wrapper(both, method))
