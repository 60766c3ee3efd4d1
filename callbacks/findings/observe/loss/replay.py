"""The loss of a ``handle_batch`` of a user's own as a term, by running it again with other outputs of the model."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isclose
from typing import Any

import torch
from torch import Tensor, nn

from ...probe.settings_probe import CriterionProbe
from ..passes.batches import cut, rebuilt, samples_in
from ..passes.made_outputs import find_task
from ..passes.outputs import named_parts
from ..passes.recording import ModelCall
from ..passes.stand_in import StandIn, one_number
from ..passes.terms import Term

_TOLERANCE = 1e-3


def replayed_terms(stand: StandIn, calls: list[ModelCall], batch: Any, loss: Tensor | None) -> list[Term]:
    """Return the loss as one term; none where it is not certain what it takes.

    Args:
        stand: for the runner.
        calls: of whole models in its training pass, of which there may be one alone.
        batch: as it was given.
        loss: of that pass.
    """
    if loss is None or len(calls) != 1 or not isinstance(batch, Mapping | list | tuple):
        return []
    replay = _Replay(stand, calls[0], batch)
    term = replay.term()
    if term is None:
        return []
    actual, blank = _number(term, term.output), _number(term, torch.zeros_like(term.output))
    # A part that is made anew in each pass, or does not go through the output, cannot be tried.
    known = actual is not None and isclose(actual, float(loss), rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    return [term] if known and blank != actual else []


def _number(term: Term, output: Tensor) -> float | None:
    value = term.call(output, term.target)
    return float(value) if value is not None else None


class _Replay:
    """Runs a ``handle_batch`` with a model that returns what it is told to."""

    def __init__(self, stand: StandIn, call: ModelCall, batch: Any):
        self.stand, self.call, self.batch = stand, call, batch
        self.size = samples_in(batch)
        self.key: str = ""
        self.place: Any = None

    def term(self) -> Term | None:
        """Return the term of an output and a part of the batch that go together; None: there are none."""
        for key, output in _outputs(self.call):
            for place, target in self._targets():
                if find_task(output, target, CriterionProbe("")) is not None:
                    self.key, self.place = key, place
                    leaf = output.detach().clone().requires_grad_()
                    return Term("loss", 1.0, leaf, target, key, self._name(place), self.value)
        return None

    def _name(self, place: Any) -> str:
        return str(place) if isinstance(self.batch, Mapping) else "target"

    def _targets(self) -> Iterator[tuple[Any, Tensor]]:
        taken = {id(one) for one in (*self.call.args, *self.call.kwargs.values())}
        parts = self.batch.items() if isinstance(self.batch, Mapping) else enumerate(self.batch)
        yield from ((place, one) for place, one in parts if isinstance(one, Tensor) and id(one) not in taken)

    def value(self, output: Tensor, target: Tensor) -> Tensor | None:
        """Return the loss where the model gives an output and the batch holds a target."""
        stand, runner = self.stand, self.stand.runner
        made = output if output.requires_grad else output.detach().requires_grad_()
        stand.losses.clear()
        runner.batch_metrics = {}
        with torch.enable_grad(), _returning(stand.models[self.call.key], self._output(made)):
            stand.handle(self._given(len(output), target))
        named = next((value for name, value in runner.batch_metrics.items() if "loss" in str(name)), None)
        found = stand.losses[0] if stand.losses else one_number(named)
        return None if found is None else found.detach()

    def _output(self, made: Tensor) -> Any:
        given = self.call.output
        return {**given, self.key: made} if isinstance(given, Mapping) else made

    def _given(self, size: int, target: Tensor) -> Any:
        batch = self.batch if size == self.size else cut(self.batch, 0, size, self.size)
        if isinstance(batch, Mapping):
            return {**batch, self.place: target}
        return rebuilt(batch, [target if place == self.place else one for place, one in enumerate(batch)])


def _outputs(call: ModelCall) -> Iterator[tuple[str, Tensor]]:
    if isinstance(call.output, Tensor | Mapping):
        named = named_parts(call.output, call.key or "output")
        yield from ((key, one) for key, one in named if isinstance(one, Tensor) and one.is_floating_point())


@contextmanager
def _returning(model: nn.Module, output: Any) -> Iterator[None]:
    """Have a model return an output without computing it."""
    vars(model)["forward"] = lambda *args, **kwargs: output
    try:
        yield
    finally:
        del vars(model)["forward"]
