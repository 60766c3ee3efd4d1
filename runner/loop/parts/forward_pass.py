"""The forward pass of one model, or of several of which each may use the outputs of those before it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from assay.callbacks.errors import UsageError, listing
from assay.callbacks.keys import pick
from assay.callbacks.support.unwrap import by_name, plain_module, without_ddp

from ..checks.finite_weights import check_finite_weights

Keys = str | Sequence[str]


def call_models(
    models: Any, input_key: Keys | Mapping[str, Keys], batch: Mapping[str, Any], engine: Any
) -> dict[str, Any]:
    """Return the named outputs of all models together.

    Args:
        models: one, or several by name, called in their order.
        input_key: what a model is given: one key of the batch, handed over as the only argument, or several, handed
            over by name. Of several models, a mapping from the model's name to its key or keys.
        batch: its parts by name.
        engine: that has prepared the models.

    Raises:
        UsageError: a key is missing; outputs are no dict, or are named like a part of the batch.
    """
    outputs: dict[str, Any] = {}
    for name, model in by_name(models).items():
        keys = input_key
        if isinstance(keys, Mapping):
            keys = pick(keys, name, "the model", source_name="mapping input_key")
        if not torch.is_grad_enabled():
            # Without a backward pass DDP has nothing to reduce, and would wait for ranks that may have no batch.
            model = without_ddp(engine, model)
        outputs.update(_call_model(model, keys, {**batch, **outputs}, engine))
    return outputs


def prepare_to_predict(models: Any, engine: Any, name: str) -> Any:
    """Return one model, or several by name, prepared for evaluation, however often they were prepared before.

    Args:
        models: with or without what was wrapped around them for training.
        engine: prepares them.
        name: in the error, for what their weights come from.

    Raises:
        BrokenWeightsError: weights are not finite.
    """
    prepared = {key: engine.prepare_anew(model, evaluation_mode=True).eval() for key, model in by_name(models).items()}
    check_finite_weights(prepared, name)
    return prepared if isinstance(models, Mapping) else prepared[""]


def _call_model(model: nn.Module, keys: Keys, batch: Mapping[str, Any], engine: Any) -> dict[str, Any]:
    if isinstance(keys, str):
        outputs = model(pick(batch, keys, f"input_key={keys!r}"))
    else:
        outputs = model(**{key: pick(batch, key, f"input_key={list(keys)!r}") for key in keys})
    if not isinstance(outputs, Mapping):
        raise UsageError(
            f"the model must return a dict of named outputs, got a {type(outputs).__name__} from "
            f"{type(plain_module(engine, model)).__name__}: return {{'logits': ...}} instead."
        )
    # Callbacks find both in one dict: an output would hide a part of the batch.
    if shared := outputs.keys() & batch.keys():
        raise UsageError(f"the model returns {listing(shared)}, which the batch holds too: rename one of them.")
    return dict(outputs)
