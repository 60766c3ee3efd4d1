"""One training pass over the first batch, and what follows from it, on copies of a run's models and loss."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from catalyst import dl
from torch import Tensor

from ....support.rng import RngState
from ....support.runner_view import output_names, supervised_keys
from ....support.unwrap import plain_modules, raw_optimizers
from ...probe.settings_probe import SettingsProbe
from ..forward.dropouts import Dropouts
from ..forward.entries import Entries
from ..loss.faults import GradientFaults
from ..loss.replay import replayed_terms
from .batches import few_samples, first_batch, samples_in, sent
from .copies import alone, eager
from .outputs import named_parts, outputs_of_calls
from .recording import Recording
from .stand_in import StandIn, kind_of, one_number
from .terms import LossCalls, Term, declared_terms, supervised_terms

_EVALUATED = 4  # samples in evaluation mode, of which the range of outputs is all that is asked


@dataclass
class TrainingPass:
    """What a training pass over the first batch has shown.

    Attributes:
        recording: of layers.
        samples: of the batch that was tried.
        of_samples: of the run's batch.
        parts: the batch with its outputs, where it has names.
        outputs: of the model, with their graph.
        terms: of the loss.
        loss: with its graph, []; None where there is none.
        term_losses: value of each term, not weighted, by label.
        term_grads: norm of the gradient of each term alone, weighted, by label.
    """

    recording: Recording
    samples: int
    of_samples: int
    parts: Any
    outputs: Mapping[str, Any] = field(default_factory=dict)
    terms: list[Term] = field(default_factory=list)
    loss: Tensor | None = None
    term_losses: dict[str, float] = field(default_factory=dict)
    term_grads: dict[str, float] = field(default_factory=dict)

    @property
    def is_broken(self) -> bool:
        """Whether a finite loss has given gradients that are not."""
        norms = [*self.recording.grad_norms.values()]
        finite = self.loss is not None and bool(self.loss.isfinite())
        return finite and bool(norms) and not bool(torch.stack(norms).isfinite().all())


class Passes:
    """Takes batches through a stand-in for a runner.

    Args:
        runner: of a run that has started.
        batches: by key of the loader.
        settings: of the run.

    Raises:
        Exception: of any kind, where a part cannot be copied.
    """

    def __init__(self, runner: dl.IRunner, batches: Mapping[str, Sequence[Any]], settings: SettingsProbe):
        self.runner, self.batches, self.settings = runner, batches, settings
        self.device = torch.device(runner.engine.device)
        self.stand = StandIn(runner)
        self.trains_in_valid = False
        self.dropouts, self.valid_dropouts = Dropouts(), Dropouts()
        self.entries, self.valid_entries = Entries(self.stand.models), Entries(self.stand.models)

    @property
    def output_keys(self) -> Any:
        """The names that a stock runner gives to outputs."""
        return output_names(self.runner)

    def train(self) -> TrainingPass | None:
        """Return what a forward and a backward pass over the first training batch show; None: there is no batch."""
        given = first_batch(self.batches, "train")
        if given is None:
            return None
        batch = few_samples(given)
        self.stand.begin(self._key("train"), trains=True)
        recording = Recording(self.stand.models)
        self._settle(batch)
        recording.watch_gradients()
        found = TrainingPass(recording, samples_in(batch), samples_in(given), None)
        with recording.watching(), torch.enable_grad(), self.dropouts, self.entries:
            self._forward(found, self.sent(batch))
        self._backward(found)
        return found

    def begin(self, batch: Any) -> None:
        """Make the copies ready to train on a batch."""
        self.stand.begin(self._key("train"), trains=True)
        self._settle(batch)

    def loss_of(self, batch: Any) -> Tensor | None:
        """Return the loss of a batch that was sent, with its graph; None: there is none."""
        found = TrainingPass(Recording(self.stand.models, of_layers=False), samples_in(batch), samples_in(batch), None)
        self._forward(found, batch)
        return found.loss

    def _key(self, kind: str) -> str:
        return next((key for key in self.batches if key.startswith(kind)), kind)

    def sent(self, batch: Any) -> Any:
        """Return a copy of a batch on the device, as the runner names its parts."""
        return self.stand.named_batch(sent(batch, self.device))

    def _settle(self, batch: Any) -> None:
        """Let lazy modules make their parameters, so that they can be watched."""
        lazy = [one for model in self.stand.models.values() for one in model.parameters()]
        if any(isinstance(one, torch.nn.UninitializedParameter) for one in lazy):
            with torch.no_grad(), suppress(Exception):  # it fails again where it is looked at
                self._run(self.sent(batch))
            self.stand.losses.clear()

    def _run(self, batch: Any) -> Any:
        """Run the forward pass, and return the outputs."""
        if self.stand.kind == "own":
            self.stand.handle(batch)
            return {}
        return self.stand.outputs(batch)

    def _forward(self, found: TrainingPass, batch: Any) -> None:
        stand = self.stand
        if stand.kind == "own":
            self._handle(found, batch)
            return
        found.outputs = stand.outputs(batch)
        found.parts = {**batch, **found.outputs}
        with suppress(Exception):  # the run names it, and a term that is missing is not looked at
            found.terms = self._terms(found.parts)
            found.loss = _weighted(found)

    def _terms(self, parts: Mapping[str, Any]) -> list[Term]:
        if self.stand.kind == "declared":
            return declared_terms(self.stand, parts)
        return supervised_terms(self.stand, parts, self.settings)

    def _handle(self, found: TrainingPass, batch: Any) -> None:
        """Let the runner's own ``handle_batch`` make the pass, whose backward pass it may run as well."""
        stand = self.stand
        listener = LossCalls(stand)
        with listener.listening():
            error = stand.handle(batch)
        if error is not None and not found.recording.calls:
            raise error
        after = stand.runner.batch
        found.outputs = outputs_of_calls(found.recording.calls, after, batch)
        found.parts = {**after, **found.outputs} if isinstance(after, Mapping) else dict(found.outputs)
        metrics = stand.runner.batch_metrics
        named = metrics.get(supervised_keys(stand.real)[2] or "loss", metrics.get("loss"))
        found.loss = stand.losses[0] if stand.losses else one_number(named)
        if found.loss is not None and found.loss.requires_grad and not found.recording.grad_norms:
            with suppress(Exception):  # what is in no graph has no part
                listener.weigh(found.loss)
        found.terms = listener.terms(found.outputs, batch)
        if not found.terms:
            with suppress(Exception):
                found.terms = supervised_terms(stand, found.parts, self.settings)
                found.loss = found.loss if found.loss is not None else _weighted(found)
        if not found.terms:
            with suppress(Exception):  # of a way from a batch to a loss that is another one the second time
                found.terms = replayed_terms(stand, found.recording.calls, batch, found.loss)
        self._keep_terms(found)

    def _keep_terms(self, found: TrainingPass) -> None:
        """Keep what is known of the terms of a runner of the user's own, and of what is made for them alone."""
        made = {it.output_key: it.output for it in found.terms if isinstance(it.output, Tensor)}
        found.outputs = {**made, **found.outputs}
        for term in found.terms:
            value = _value(term)
            if value is not None:
                found.term_losses[term.label] = float(value.detach())
            if term.grad is not None:
                found.term_grads[term.label] = term.grad

    def _backward(self, found: TrainingPass) -> None:
        loss, norms = found.loss, found.recording.grad_norms
        # A ``handle_batch`` of the user's own has mostly run the backward pass itself. Where it fails, as after work in
        # place, nothing is known of the gradients, and the run says why.
        if loss is not None and loss.requires_grad and not norms:
            if len(found.term_losses) > 1 and not found.term_grads:
                found.term_grads = _term_grads(found)
            loss.backward()  # type: ignore[no-untyped-call]
        if len(found.term_losses) == 1 and norms:
            total = torch.stack([*norms.values()]).norm()
            found.term_grads = {label: float(total) for label in found.term_losses}

    def loss_again(self) -> float | None:
        """Return the loss of another training pass over the same batch, with the same random numbers."""
        if self.stand.kind == "own":
            return self._own_loss_again()
        with torch.no_grad(), suppress(Exception):
            again = TrainingPass(Recording(self.stand.models), 0, 0, None)
            torch.manual_seed(0)
            self._forward(again, self.sent(few_samples(first_batch(self.batches, "train"))))
            return None if again.loss is None else float(again.loss)
        return None

    def broken_operation(self) -> str:
        """Return what makes gradients infinite, see ``ModelProbe.broken_by``, in another pass over the same batch."""
        batch = self.sent(few_samples(first_batch(self.batches, "train")))
        with GradientFaults() as faults, torch.enable_grad(), suppress(Exception):
            loss = self.loss_of(batch)
            if loss is not None and loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
        return faults.first

    def _own_loss_again(self) -> float | None:
        self.stand.losses.clear()
        torch.manual_seed(0)
        with torch.enable_grad():
            self.stand.handle(self.sent(few_samples(first_batch(self.batches, "train"))))
        named = one_number(self.stand.runner.batch_metrics.get("loss"))
        loss = self.stand.losses[0] if self.stand.losses else named
        return None if loss is None else float(loss.detach())

    def evaluate(self) -> dict[str, Any]:
        """Return the outputs for the first validation batch in evaluation mode; none where they cannot be had."""
        given = first_batch(self.batches, "valid")
        if given is None:
            return {}
        recording = Recording(self.stand.models, of_layers=False)
        self.stand.begin(self._key("valid"), trains=False)
        with torch.no_grad(), recording.watching(), suppress(Exception), self.valid_dropouts, self.valid_entries:
            batch = self.sent(few_samples(given, most=_EVALUATED))
            outputs = self._run(batch)
            self.trains_in_valid = any(call.training for call in recording.calls)
            after = self.stand.runner.batch
            return outputs or outputs_of_calls(recording.calls, after, batch)
        return {}

    def named(self, output: Any, name: str) -> dict[str, Any]:
        """Return the parts of a model's output by name."""
        return dict(named_parts(output, name, self.output_keys))


def _value(term: Term) -> Tensor | None:
    with torch.no_grad(), suppress(Exception):
        return one_number(term.value())
    return None


def _weighted(found: TrainingPass) -> Tensor | None:
    """Return the weighted sum of the terms, and keep their values."""
    total: Tensor | None = None
    for term in found.terms:
        value = one_number(term.value())
        if value is None:
            return None
        found.term_losses[term.label] = float(value.detach())
        weighted = value * term.weight
        total = weighted if total is None else total + weighted
    return total


def _term_grads(found: TrainingPass) -> dict[str, float]:
    """Return the norm of the gradient of each term, weighted, by a backward pass of each."""
    parameters = [one for model in found.recording.models.values() for one in model.parameters() if one.requires_grad]
    norms = {}
    for term in found.terms:
        value = one_number(term.value())
        if value is None or not value.requires_grad:
            norms[term.label] = 0.0
            continue
        grads = torch.autograd.grad(value * term.weight, parameters, retain_graph=True, allow_unused=True)
        squares = [grad.detach().float().square().sum() for grad in grads if grad is not None]
        norms[term.label] = float(torch.stack(squares).sum().sqrt()) if squares else 0.0
    return norms


@contextmanager
def no_trace(runner: dl.IRunner) -> Iterator[None]:
    """Leave random numbers and the runner's own models as they are, whatever a user's code holds on to."""
    plain = plain_modules(runner)
    tensors = [
        one
        for model in plain.values()
        for one in (*model.parameters(), *model.buffers())
        if not isinstance(one, torch.nn.UninitializedParameter | torch.nn.UninitializedBuffer)
    ]
    # Only the code of a user's own may hold on to a model by another name, and run that one.
    kept = [one.detach().clone() for one in tensors] if kind_of(runner) == "own" else []
    grads = [one.grad for one in tensors]
    modes = [(module, module.training) for model in plain.values() for module in model.modules()]
    fresh = [one for one in raw_optimizers(runner.optimizer).values() if not one.state]
    state = RngState.take(torch.device(runner.engine.device))
    with ExitStack() as stack:
        stack.enter_context(alone(int(runner.engine.num_processes)))
        try:
            yield
        finally:
            state.restore()
            _put_back(tensors, kept)
            for tensor, grad in zip(tensors, grads, strict=True):
                if tensor.grad is not grad:
                    tensor.grad = grad
            for module, training in modes:
                module.training = training
            for optimizer in fresh:
                optimizer.state.clear()


def _put_back(tensors: Sequence[Tensor], kept: Sequence[Tensor]) -> None:
    for tensor, before in zip(tensors, kept, strict=False):
        if not torch.equal(tensor, before):
            tensor.data.copy_(before)


__all__ = ["Passes", "TrainingPass", "eager", "no_trace"]
