"""``observe_model`` and ``observe_trial``: what the model and the loss of a live run do on its first batches."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from catalyst import dl

from ....support.unwrap import plain_modules
from ...probe.model_probe import ModelProbe, OutputProbe
from ...probe.settings_probe import SettingsProbe
from ...probe.trial_probe import TrialProbe
from .copies import eager
from .detached import detached_layers
from .layers import observe_layers, uncalled_modules
from .leaks import observe_influence
from .outputs import observe_output, tensors_of, value_range
from .parameters import (
    criterion_left_out,
    looks_trained,
    named_parameters,
    observe_parameters,
    optimized_names,
    unseen_modules,
)
from .passes import Passes, TrainingPass, no_trace
from .trial import try_terms

_log = logging.getLogger("assay")


def observe_model_and_trial(
    runner: dl.IRunner, batches: Mapping[str, Sequence[Any]], settings: SettingsProbe
) -> tuple[ModelProbe | None, TrialProbe | None]:
    """Take the first batches through copies of a run's models and loss, and return what was observed.

    The run itself stays as it is: weights, gradients, buffers, modes, hooks and random numbers.

    Args:
        runner: of a run that has started, with its models on the device.
        batches: of each loader, by its key, as the loader makes them.
        settings: of the run.

    Returns:
        None for both where the models cannot be copied, or their forward pass fails, as the run itself will say.
    """
    with no_trace(runner):
        try:
            return _observe(runner, batches, settings)
        except Exception as error:  # noqa: BLE001 - a model of the user's may raise anything
            _log.debug("the model was not looked at: %s: %s", type(error).__name__, error)
            return None, None


def _observe(
    runner: dl.IRunner, batches: Mapping[str, Sequence[Any]], settings: SettingsProbe
) -> tuple[ModelProbe | None, TrialProbe | None]:
    passes = Passes(runner, batches, settings)
    models = passes.stand.models
    before = frozenset(named_parameters(plain_modules(runner)))
    trained = looks_trained(plain_modules(runner)) or bool(settings.loaded)
    with eager(models):
        found = passes.train()
        if found is None:
            return None, None
        trial = try_terms(found, settings) if found.terms else None
        return _model_probe(runner, passes, found, before, trained), trial


def _model_probe(
    runner: dl.IRunner, passes: Passes, found: TrainingPass, before: frozenset[str], trained: bool
) -> ModelProbe:
    recording, models = found.recording, passes.stand.models
    parameters = observe_parameters(recording, optimized_names(runner))
    layers = observe_layers(recording, found.of_samples / max(found.samples, 1))
    backward = bool(recording.grad_norms)
    outputs = _outputs(passes, found)
    detached = detached_layers(recording, passes.loss_again) if backward else ()
    named = {it.name: it for it in parameters}
    broken = found.is_broken and passes.broken_operation()
    leaks, constant = observe_influence(models, recording.calls, passes.output_keys)
    evaluated = _with_evaluated(outputs, passes)
    return ModelProbe(
        parameters=tuple(_with_shift(it, recording.shifts) for it in parameters),
        layers=layers,
        outputs=evaluated,
        buffers_finite=_all_finite(runner),
        uncalled=uncalled_modules(recording, named),
        plain_modules=unseen_modules(models),
        late_parameters=tuple(name for name in named if name not in before),
        detached=detached,
        leaks={key: leak for key, leak in leaks.items() if key in outputs},
        constant={key: alike for key, alike in constant.items() if key in outputs},
        loss=None if found.loss is None else float(found.loss.detach()),
        term_losses=found.term_losses,
        term_grads=found.term_grads,
        batch_size=found.samples,
        pretrained=trained,
        criterion_left_out=criterion_left_out(runner),
        trains_in_valid=passes.trains_in_valid,
        broken_by=broken or "",
        dropouts=passes.dropouts.found,
        valid_dropouts=passes.valid_dropouts.found,
        entry=passes.entries.found(),
        valid_entry=passes.valid_entries.found(),
        trains_in_eval=bool(layers) and not any(layer.training for layer in layers),
    )


def _with_shift(parameter: Any, shifts: set[str]) -> Any:
    owner, _, last = parameter.name.rpartition(".")
    return replace(parameter, before_norm=True) if last == "bias" and owner in shifts else parameter


def _outputs(passes: Passes, found: TrainingPass) -> dict[str, OutputProbe]:
    settings = passes.settings
    taken = {term.output for term in settings.terms} | {term.output_key for term in found.terms}
    measured = {metric.output_key for metric in settings.metrics}
    return {
        key: observe_output(
            key, output, requires_grad=output.requires_grad,
            has_loss=key in taken or id(output) in found.recording.reached, measured=key in measured,
        )
        for key, output in tensors_of(found.outputs).items()
        if not output.is_complex()
    }  # fmt: skip


def _with_evaluated(outputs: dict[str, OutputProbe], passes: Passes) -> dict[str, OutputProbe]:
    evaluated = passes.evaluate()
    ranges = {key: value_range(evaluated[key]) for key in outputs if key in evaluated}
    return {key: replace(output, evaluated=ranges.get(key)) for key, output in outputs.items()}


@torch.no_grad()
def _all_finite(runner: dl.IRunner) -> bool:
    buffers = [one for model in plain_modules(runner).values() for one in model.buffers()]
    known = [one for one in buffers if not isinstance(one, torch.nn.UninitializedBuffer) and one.is_floating_point()]
    # What stands for a mask may be infinite.
    finite = [~one.isnan().any() for one in known]
    return bool(torch.stack([one.cpu() for one in finite]).all()) if finite else True
