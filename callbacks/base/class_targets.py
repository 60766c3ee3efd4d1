"""The check that the targets of a batch are classes, with the same error in all callbacks."""

from collections.abc import Sequence
from dataclasses import dataclass

from catalyst import dl

from ..errors import UsageError
from ..keys import pick
from ..measures.targets import has_shares
from ..support.host_targets import MARKS, shown
from ..support.runner_view import host_targets

_NEED = {255: "; masks of 0 and 255 need / 255", -1: "; targets of -1 and 1 need (target + 1) / 2"}


@dataclass(frozen=True)
class ClassTargets:
    """The targets that a callback takes.

    Attributes:
        asked_by: name of the callback.
        task: ``binary``, ``multiclass`` or ``multilabel``.
        num_classes: C; of ``binary`` 2.
        ignored: target value that is left out; None: none is.
        key: of the target in the batch.
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
        """The largest value that counts."""
        return self.num_classes - 1 if self.task == "multiclass" else 1

    def check(self, runner: dl.IRunner, output: Sequence[int]) -> None:
        """Raise where a target of the batch is none that is taken and lies on the host; ``error`` reports the others.

        Args:
            runner: has the batch; a ``DictRunner`` also has it as it was before it went to the device.
            output: shape of the output.

        Raises:
            UsageError: with loader, sample, value and range.
        """
        target = pick(runner.batch, self.key, self.asked_by)
        if self.task == "multiclass" and has_shares(target.shape, output):
            return
        found = host_targets(runner).find(self.key, target, self)
        if found is not None:
            sample, value = found
            holds = f"loader {runner.loader_key!r}, {sample}: {self.key!r} holds {shown(value)}"
            raise UsageError(f"{holds}, and {self._takes()}{self._advice(value)}.")

    def error(self, loader_key: str, outside: int) -> UsageError:
        """Return the error for targets that are none that is taken, of which only the number is known."""
        return UsageError(f"loader {loader_key!r}: {self._takes()}, got {outside} others in {self.key!r}.")

    def _takes(self) -> str:
        numbers = "class numbers" if self.task == "multiclass" else "targets"
        also = "" if self.ignored is None else f" or ignore_index={self.ignored}"
        return f"{self.asked_by} takes {numbers} from 0 to {self.high}{also}"

    def _advice(self, value: float) -> str:
        if self.task == "multiclass" and value == self.num_classes:
            return ": classes count from 0, and those of data that count from 1 need 1 less"
        if value not in MARKS:
            return ""
        need = "" if self.task == "multiclass" else _NEED.get(int(value), "")
        return f": ignore_index={shown(value)} leaves out what it marks{need}"
