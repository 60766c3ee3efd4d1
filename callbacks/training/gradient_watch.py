"""Hooks that observe the gradients and the updates of the weights at the optimizer's steps."""

import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import compress
from typing import Any

import torch
from catalyst import dl
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from ..measures.gradient_stats import GradientStats
from ..support.checkpoint_values import from_plain, to_plain
from ..support.distributed import reduce_state
from ..support.host_copy import HostCopy
from ..support.runner_view import clipping_norm, gradient_hooks_of, norm_before_clipping, steps_in_loader
from ..support.unwrap import held_by, raw_optimizers, trained_parameters


class GradientWatch:
    """The hook of one optimizer, and the measure of the parameters that it trains.

    Args:
        parameters: the parameters by name, at least one.
        every_n_steps: observe one in so many steps, beginning with the first.
        suspects: names of the parameters whose NaN and infinite values are counted; those found broken are added.
        update_ratio: whether to copy the weights before an observed step, for ``compare``.
        steps: how many steps the loader has, if that is known.
        timed: returns a context for the work of an observed step, given the number of steps that it stands for.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        every_n_steps: int,
        suspects: set[str],
        *,
        update_ratio: bool = False,
        steps: int = sys.maxsize,
        timed: Callable[[int], AbstractContextManager[object]] = nullcontext,
    ):
        self.parameters = parameters
        self.every_n_steps = every_n_steps
        self.suspects = suspects
        self.update_ratio = update_ratio
        self.steps = steps
        self.timed = timed
        self.step = 0
        self.observing = False
        self.before: list[Tensor] = []
        self.measure = GradientStats([parameter.numel() for parameter in parameters.values()])
        self._pending: list[Callable[[], None]] = []

    def __call__(self, optimizer: Optimizer | None = None, *_: Any) -> None:
        self.step += 1
        self.observing = (self.step - 1) % self.every_n_steps == 0
        if self.observing:
            with self._timed():
                self._observe(optimizer)

    def _timed(self) -> AbstractContextManager[object]:
        # Its time counts for all steps up to the next observed one, or to the end of the loader.
        return self.timed(max(1, min(self.every_n_steps, self.steps - self.step + 1)))

    def _observe(self, optimizer: Optimizer | None) -> None:
        self.settle()
        suspects = {index for index, name in enumerate(self.parameters) if name in self.suspects}
        # A fused optimizer unscales within its step: a GradScaler leaves the scale in this attribute for it.
        scale = getattr(optimizer, "grad_scale", None)
        gradients = [parameter.grad for parameter in self.parameters.values()]
        missing = [index for index, gradient in enumerate(gradients) if gradient is None]
        rows = HostCopy(self.measure.reduce(gradients, suspects=suspects, scale=scale), own=True)
        self._pending.append(partial(self._add, rows, missing, suspects))
        if self.update_ratio:
            self._keep_weights()

    def _add(self, rows: HostCopy, missing: Collection[int], suspects: Collection[int]) -> None:
        self._suspect(self.measure.add(rows.read(), missing=missing, suspects=suspects))

    def _suspect(self, broken: Tensor) -> None:
        self.suspects.update(compress(self.parameters, broken.tolist()))

    def settle(self) -> None:
        """Add what was observed last."""
        # One observation later, as the copies have reached the host by then and nothing waits.
        for add in self._pending:
            add()
        self._pending = []

    def state_dict(self) -> dict[str, Any]:
        """Return what was observed so far, in types that ``weights_only=True`` loads."""
        self.settle()
        return {"step": self.step, "sums": to_plain(self.measure.state)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what ``state_dict`` returned."""
        self.step = state["step"]
        self.measure.state = from_plain(state["sums"], self.measure.state)
        self._suspect(self.measure.state["broken_steps"])

    def over_ranks(self) -> Tensor:
        """Return what was observed over all ranks, as ``GradientStats.pack`` does. A collective."""
        self.settle()
        # Ranks reduce on the device, where their messages travel.
        rows = self.measure.pack().to(next(iter(self.parameters.values())).device)
        state = dict(zip(self.measure.reductions, rows.unbind(), strict=True))
        return self.measure.pack(reduce_state(state, self.measure.reductions))

    def compare(self, *_: Any) -> None:
        """Measure how far an observed step moved the weights."""
        if self.observing:
            with self._timed():
                after = [weight.detach() for weight in self.parameters.values()]
                norms = HostCopy(self.measure.reduce_update(self.before, after), own=True)
                self._pending.append(lambda: self.measure.add_ratio(norms.read()))
            self.observing = False

    def _keep_weights(self) -> None:
        weights = [weight.detach() for weight in self.parameters.values()]
        # Into the same memory at each observed step.
        if self.before:
            torch._foreach_copy_(self.before, weights)
        else:
            self.before = [weight.clone() for weight in weights]


class ClippedNorm:
    """The total norm of the gradients before and after clipping, for a runner that clips by norm.

    It is called before an optimizer's step, after the runner has clipped. The state is float64 [3]: the sums of both
    norms over the observed steps with finite norms, and the number of these steps.

    Args:
        runner: keeps the norm before clipping in ``grad_norm_`` and the largest norm allowed in ``clip_grad_norm``.
        watch: the hook that decides which steps are observed.
    """

    reductions = {"sums": "sum"}

    def __init__(self, runner: dl.IRunner, watch: GradientWatch):
        self.runner = runner
        self.watch = watch
        self.state = {"sums": torch.zeros(3, dtype=torch.float64)}
        self._last: HostCopy | None = None

    def __call__(self, *_: Any) -> None:
        if self.watch.observing:
            self.settle()
            # Copied on a CPU too, where the runner may compute the next one in its place.
            self._last = HostCopy(norm_before_clipping(self.runner))

    def settle(self) -> None:
        """Add the norm that was observed last, one observation later."""
        if self._last is not None:
            norm = self._last.read().double()
            row = torch.stack([norm, norm.clamp(max=clipping_norm(self.runner)), torch.ones_like(norm)])
            self.state["sums"] += torch.where(norm.isfinite(), row, 0.0)
            self._last = None

    def over_ranks(self) -> Tensor:
        """Return the sums over all ranks. A collective."""
        self.settle()
        state = {name: sums.to(self.runner.engine.device) for name, sums in self.state.items()}
        return reduce_state(state, self.reductions)["sums"]


class GradientWatches:
    """The watches of all optimizers over one training loader.

    Args:
        runner: the runner at the start of the loader.
        every_n_steps: see ``GradientWatch``.
        suspects: see ``GradientWatch``.
        update_ratio: see ``GradientWatch``.
        timed: see ``GradientWatch``.
    """

    def __init__(
        self,
        runner: dl.IRunner,
        every_n_steps: int,
        suspects: set[str],
        *,
        update_ratio: bool = False,
        timed: Callable[[int], AbstractContextManager[object]] = nullcontext,
    ):
        self._parameters = trained_parameters(runner)
        self._watches: list[GradientWatch] = []
        self._clipped: ClippedNorm | None = None
        self._hooks: list[RemovableHandle] = []
        for optimizer in raw_optimizers(runner.optimizer).values():
            own = held_by(optimizer, self._parameters)
            if own:
                watch = GradientWatch(
                    own, every_n_steps, suspects, update_ratio=update_ratio, steps=steps_in_loader(runner), timed=timed
                )
                self._attach(runner, optimizer, watch)

    def _attach(self, runner: dl.IRunner, optimizer: Optimizer, watch: GradientWatch) -> None:
        # Without such hooks, as in a stock runner, gradients are seen as the optimizer gets them, after clipping.
        before_clipping = gradient_hooks_of(runner)
        self._hooks.append((before_clipping or optimizer.register_step_pre_hook)(watch))
        if before_clipping and clipping_norm(runner) is not None and self._clipped is None:
            # Once for all optimizers: the runner's norm is that of all parameters.
            self._clipped = ClippedNorm(runner, watch)
            self._hooks.append(optimizer.register_step_pre_hook(self._clipped))
        if watch.update_ratio:
            self._hooks.append(optimizer.register_step_post_hook(watch.compare))
        self._watches.append(watch)

    def observe_every(self, n_steps: int) -> None:
        """Observe the first of so many steps from now on, counted from the start of the loader."""
        for watch in self._watches:
            watch.every_n_steps = n_steps

    def remove(self) -> None:
        """Observe no further step."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def state_dict(self) -> dict[str, Any]:
        """Return what was observed so far, in types that ``weights_only=True`` loads."""
        if self._clipped is not None:
            self._clipped.settle()
        clipped = None if self._clipped is None else to_plain(self._clipped.state)
        return {"watches": [watch.state_dict() for watch in self._watches], "clipped": clipped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what ``state_dict`` returned."""
        for watch, of in zip(self._watches, state["watches"], strict=True):
            watch.load_state_dict(of)
        if self._clipped is not None:
            self._clipped.state = from_plain(state["clipped"], self._clipped.state)

    def summarize(self) -> tuple[list[str], dict[str, Tensor], list[float]]:
        """Return what was observed over all ranks. A collective with one copy to the host.

        Returns:
            Names of the parameters in the order of the model, their statistics (see the measure), and the mean total
            norm before and after clipping; the last list is empty without clipping.
        """
        states = [watch.over_ranks() for watch in self._watches]
        names = [name for watch in self._watches for name in watch.parameters]
        if not names:
            return [], {}, []
        sums = [] if self._clipped is None else [self._clipped.over_ranks()]
        # One copy for all parameters and norms, as each read waits for the device.
        on_host = HostCopy(torch.cat([part.flatten() for part in (*states, *sums)])).read()
        parts = on_host.split([part.numel() for part in (*states, *sums)])
        packed = torch.cat([part.reshape(state.shape) for part, state in zip(parts, states, strict=False)], dim=1)
        # Optimizers may hold the parameters in any order, while the pictures go by depth.
        places = {name: place for place, name in enumerate(self._parameters)}
        order = sorted(range(len(names)), key=lambda index: places[names[index]])
        summary = GradientStats.summarize(packed[:, order])
        return [names[index] for index in order], summary, (parts[-1][:2] / parts[-1][2]).tolist() if sums else []
