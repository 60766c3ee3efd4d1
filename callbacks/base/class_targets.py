"""Checks that the targets of a batch are classes, with the same error in all callbacks."""

from collections.abc import Sequence
from dataclasses import dataclass

from catalyst import dl

from ..errors import UsageError
from ..keys import pick
from ..measures.targets import has_shares
from ..support.host_targets import MARKS, shown
from ..support.runner_view import host_targets

# What to do about values that masks and labels of other conventions hold.
_NEED = {255: "; masks of 0 and 255 need / 255", -1: "; targets of -1 and 1 need (target + 1) / 2"}


@dataclass(frozen=True)
class ClassTargets:
    """The targets that a callback accepts.

    Attributes:
        asked_by: name of the callback, for errors.
        task: ``binary``, ``multiclass`` or ``multilabel``.
        num_classes: C, the number of classes or labels; 2 for ``binary``.
        ignored: target value that is left out; None: no value is.
        key: key of the target in the batch.
    """

    asked_by: str
    task: str
    num_classes: int
    ignored: int | None
    key: str
    low: int = 0
    ends: tuple[float, ...] = ()

    @property
    def high(self) -> int:
        """The largest value that is a class."""
        return self.num_classes - 1 if self.task == "multiclass" else 1

    def check(self, runner: dl.IRunner, output: Sequence[int]) -> bool:
        """Raise if a target of the batch that lies on the host is no class.

        Args:
            runner: the runner with its batch; a ``DictRunner`` also keeps the batch as it was before it was moved to
                the device.
            output: shape of the output.

        Returns:
            Whether all targets are known to be whole numbers of classes, none of them ignored.

        Raises:
            UsageError: it names loader, sample, value and range.
        """
        # Targets on the device are not read here: measures count the bad ones, and ``error`` reports them later.
        target = pick(runner.batch, self.key, self.asked_by)
        if self.task == "multiclass" and has_shares(target.shape, output):
            return False
        found = host_targets(runner).find(self.key, target, self)
        if found is not None:
            sample, value = found
            holds = f"loader {runner.loader_key!r}, {sample}: {self.key!r} holds {shown(value)}"
            raise UsageError(f"{holds}, and {self._takes()}{self._advice(value)}.")
        return not target.is_floating_point() and host_targets(runner).all_count(self.key, target, self)

    def error(self, loader_key: str, outside: int) -> UsageError:
        """Return the error for targets that are no class, of which only the number is known."""
        return UsageError(f"loader {loader_key!r}: {self._takes()}, got {outside} others in {self.key!r}.")

    def _takes(self) -> str:
        numbers = "class numbers" if self.task == "multiclass" else "targets"
        also = "" if self.ignored is None else f" or ignore_index={self.ignored}"
        return f"{self.asked_by} takes {numbers} from 0 to {self.high}{also}"

    def _advice(self, value: float) -> str:
        # The most common mistakes have an advice of their own.
        if self.task == "multiclass" and value == self.num_classes:
            return ": classes count from 0, and those of data that count from 1 need 1 less"
        if value not in MARKS:
            return ""
        need = "" if self.task == "multiclass" else _NEED.get(int(value), "")
        return f": ignore_index={shown(value)} leaves out what it marks{need}"
