"""Deciding whether an optimizer step is made, for all ranks alike, without reading the device."""

from collections.abc import Iterable, Mapping

import torch
from catalyst import dl
from torch import Tensor, nn

from ..measures.non_finite import flag_gradients
from ..support.buffer_snapshot import BufferSnapshot
from ..support.distributed import reduce_state
from ..support.unwrap import plain_modules, trained_parameters
from .record import Decision


class StepDecision:
    """Decides on the step after each group of batches, and takes the group's changes of buffers back with it.

    A group is the batches whose gradients make up one step. A loader that trains nothing has no parameters and no
    buffers here.

    Args:
        device: where the decision is made.
        parameters: those that are trained, by name.
        buffers: of the models.
    """

    def __init__(self, device: torch.device, parameters: Mapping[str, nn.Parameter], buffers: Iterable[Tensor] = ()):
        self.parameters = parameters
        self.before = BufferSnapshot(buffers)
        self._device = device
        self._broken: Tensor | None = None  # whether a loss or an output of the group is not finite
        self._has_ended = False
        self.before.take()

    @classmethod
    def of(cls, runner: dl.IRunner) -> "StepDecision":
        """Return that of the loader that the runner is at."""
        if not runner.is_train_loader:
            return cls(runner.engine.device, {})
        buffers = (buffer for model in plain_modules(runner).values() for buffer in model.buffers())
        return cls(runner.engine.device, trained_parameters(runner), buffers)

    def end_batch(self) -> None:
        """Keep the buffers for the next group, where one has ended."""
        # Now and not when the next group begins: a rank with a placeholder for a batch has no event before its pass.
        if self._has_ended:
            self.before.take()
        self._has_ended = False

    def add(self, flags: Tensor) -> None:
        """Add what of a batch of the group is not finite: [n], 1 where it is not."""
        if len(flags):
            broken = flags.amax()
            self._broken = broken if self._broken is None else torch.maximum(self._broken, broken)

    def decide(self, parameters: Mapping[str, nn.Parameter], gradients_count: Tensor | float) -> Decision:
        """Decide on the step of some of the parameters, and end the group. A collective.

        Args:
            parameters: by name.
            gradients_count: 1, or 0 where a gradient that is not finite does not hold the step back.
        """
        named = {name: part.grad for name, part in parameters.items() if part.grad is not None}
        found = torch.zeros((), device=self._device) if self._broken is None else self._broken
        flags = found.new_zeros(0)
        if named:
            flags = flag_gradients(list(named.values())).to(found.device, non_blocking=True)
            found = torch.maximum(found, flags.amax() * gradients_count)
        # A collective here, and no read: all ranks hold the same step back, also those whose own batch is sound.
        found = reduce_state({"found": found}, {"found": "max"})["found"]
        self.before.restore_where(found)
        self._broken, self._has_ended = None, True
        return Decision(list(named), torch.cat([found.reshape(1), flags]))

    def decide_without_step(self) -> Decision | None:
        """Treat batches at the end of a loader, after which no step was made, as a step without gradients."""
        return None if self._broken is None else self.decide({}, 0.0)

    def take_back(self) -> None:
        """Put the buffers back as they were before a group whose step is not made any more."""
        self.before.restore()
