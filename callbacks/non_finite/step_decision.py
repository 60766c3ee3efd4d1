"""StepDecision: whether an optimizer step is made, the same on all ranks, without reading the device."""

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
    """Decides on the step of each group of batches, and restores the buffers if the step is held back.

    A group is the batches whose gradients are accumulated for one step. For a loader that trains nothing there are
    neither parameters nor buffers.

    Args:
        device: the device of the decision.
        parameters: the trained parameters by name.
        buffers: the buffers of the models.
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
        """Return the decision for the loader that a runner has just started."""
        if not runner.is_train_loader:
            return cls(runner.engine.device, {})
        buffers = (buffer for model in plain_modules(runner).values() for buffer in model.buffers())
        return cls(runner.engine.device, trained_parameters(runner), buffers)

    def end_batch(self) -> None:
        """Copy the buffers for the next group, if one has ended."""
        # Here and not at the start of the next group: a placeholder for a batch has no event before its forward pass.
        if self._has_ended:
            self.before.take()
        self._has_ended = False

    def add(self, flags: Tensor) -> None:
        """Add the flags of a batch of the group: [n], 1 for what is not finite."""
        if len(flags):
            broken = flags.amax()
            self._broken = broken if self._broken is None else torch.maximum(self._broken, broken)

    def decide(self, parameters: Mapping[str, nn.Parameter], gradients_count: Tensor | float) -> Decision:
        """Decide on the step of the given parameters, and end the group. A collective.

        Args:
            parameters: the parameters by name.
            gradients_count: 1, or 0 if gradients that are not finite do not hold the step back.
        """
        named = {name: part.grad for name, part in parameters.items() if part.grad is not None}
        found = torch.zeros((), device=self._device) if self._broken is None else self._broken
        flags = found.new_zeros(0)
        if named:
            flags = flag_gradients(list(named.values())).to(found.device, non_blocking=True)
            found = torch.maximum(found, flags.amax() * gradients_count)
        # Reduced without a read: all ranks hold back the same step, also those whose own batch is finite.
        found = reduce_state({"found": found}, {"found": "max"})["found"]
        # The forward passes of the group have changed the buffers, and holding back the step would not undo that.
        self.before.restore_where(found)
        self._broken, self._has_ended = None, True
        return Decision(list(named), torch.cat([found.reshape(1), flags]))

    def decide_without_step(self) -> Decision | None:
        """Decide on batches at the end of a loader that no step followed, as on a step without gradients."""
        return None if self._broken is None else self.decide({}, 0.0)

    def take_back(self) -> None:
        """Restore the buffers to what they were before the current group."""
        self.before.restore()
