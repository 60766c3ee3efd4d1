"""Remove or check stock callbacks that go backward, clip gradients or step an optimizer."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from catalyst import dl
from catalyst.core.callback import CallbackWrapper
from torch import nn
from torch.nn.utils import get_total_norm

from assay.callbacks.errors import UsageError, listing
from assay.callbacks.support.unwrap import by_name, inside, raw_optimizers

from ..parts.run_view import RunView

_STEPS = (dl.IBackwardCallback, dl.IOptimizerCallback)


@dataclass(frozen=True)
class _Clip:
    clip: Callable[[list[nn.Parameter]], Any] | None
    parameters: list[nn.Parameter]
    logged_as: str | None  # the norm before


class Clipping:
    """The gradient clipping of callbacks, applied where the runner clips.

    Args:
        runner: set up, with its callbacks.
    """

    def __init__(self, runner: RunView):
        callbacks = [inside(callback) for callback in runner.callbacks.values()]
        self._clips = [
            _clip_of(runner, callback)
            for kind in (dl.BackwardCallback, dl.OptimizerCallback)  # the order in which Catalyst calls them
            for callback in callbacks
            # Subclasses may clip in a way of their own: without_steps refuses them.
            if type(callback) is kind and (callback.grad_clip_fn or getattr(callback, "_log_gradient", False))
        ]

    def __bool__(self) -> bool:
        return bool(self._clips)

    def clip(self, metrics: dict[str, Any]) -> None:
        """Clip the gradients of an optimizer step, and add the norms that callbacks log before it to ``metrics``."""
        for one in self._clips:
            gradients = [parameter.grad for parameter in one.parameters if parameter.grad is not None]
            if one.logged_as is not None and gradients:  # before clipping, as Catalyst's clip function returns it
                metrics[one.logged_as] = get_total_norm(gradients)
            if one.clip is not None:
                one.clip(one.parameters)


def _clip_of(runner: RunView, callback: Any) -> _Clip:
    if isinstance(callback, dl.BackwardCallback):
        parameters = [part for model in by_name(runner.model).values() for part in model.parameters()]
        name = f"{callback._prefix_gradient}/norm" if callback._log_gradient else None
        return _Clip(callback.grad_clip_fn, parameters, name)
    optimizers = raw_optimizers(runner.optimizer)
    groups = optimizers[_key_of(optimizers, callback)].param_groups
    return _Clip(callback.grad_clip_fn, [part for group in groups for part in group["params"]], None)


class _LoggedRates(dl.Callback):
    """Logs the learning rate and momentum of an ``OptimizerCallback``, without its step."""

    def __init__(self, callback: Any):
        # At its place in the order, so that metrics are there for the callbacks after it.
        super().__init__(order=callback.order)
        self.callback = callback

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        self.callback.on_experiment_start(runner)

    def on_batch_end(self, runner: dl.IRunner) -> None:
        runner.batch_metrics.update(self._logged_values())

    def on_loader_end(self, runner: dl.IRunner) -> None:
        runner.loader_metrics.update(self._logged_values())

    def _logged_values(self) -> dict[str, float]:
        rates = self.callback._get_lr_momentum_stats()
        return {name: value for name, value in rates.items() if value is not None}  # Adagrad has no momentum


def without_steps(runner: RunView) -> None:
    """Remove callbacks that go backward or step, as the runner does so itself.

    Raises:
        UsageError: a callback requests something that the runner does differently.
    """
    kept: dict[str, dl.Callback] = {}
    stepping = []
    for name, callback in runner.callbacks.items():
        if isinstance(inside(callback), _STEPS):
            _check_callback(runner, callback)
        if isinstance(callback, dl.OptimizerCallback):
            stepping.append(callback)
            kept[name] = _LoggedRates(callback)
        elif not isinstance(callback, dl.IBackwardCallback):
            kept[name] = callback
    _check_optimizers(runner, stepping)
    runner.callbacks = kept


def _check_callback(runner: RunView, callback: Any) -> None:
    kind = type(inside(callback))
    wrapped = isinstance(callback, CallbackWrapper)  # which turns its callback off for some epochs or loaders
    if wrapped or kind not in (dl.BackwardCallback, dl.OptimizerCallback):
        raise UsageError(
            f"{kind.__name__}{' in a wrapper' if wrapped else ''} cannot take its own steps with DictRunner, which "
            "goes backward and steps itself after each batch: leave it out; register_gradient_hook calls a function "
            "before each step."
        )
    if callback.metric_key != "loss":
        raise UsageError(
            f"metric_key of {kind.__name__} must be 'loss' with DictRunner, which goes backward from the sum of its "
            f"losses, got {callback.metric_key!r}: pass losses=[LossTerm(...)] to DictRunner."
        )
    # 1 is Catalyst's default, and the same number asks for nothing else.
    steps = getattr(callback, "accumulation_steps", 1)
    if steps not in (1, runner.accumulate_steps):
        raise UsageError(
            f"accumulation_steps of OptimizerCallback is {steps}, but DictRunner accumulates itself, with "
            f"accumulate_steps={runner.accumulate_steps}: pass it accumulate_steps={steps}."
        )


def _check_optimizers(runner: RunView, callbacks: Iterable[Any]) -> None:
    """Raise where callbacks step only some of the optimizers, as the runner steps all of them."""
    optimizers = raw_optimizers(runner.optimizer)
    stepped = {_key_of(optimizers, callback) for callback in callbacks}
    if stepped and (left := optimizers.keys() - stepped):
        raise UsageError(
            f"DictRunner steps all optimizers of the run, and no OptimizerCallback steps {listing(left)}: leave the "
            "callbacks out, or pass train() only the optimizers that are to step."
        )


def _key_of(optimizers: Mapping[str, Any], callback: Any) -> str:
    key: str = callback.optimizer_key or ""
    if key not in optimizers:
        known = "a single one, which needs no key" if "" in optimizers else f"several, {listing(optimizers)}"
        known = known if optimizers else "none: pass optimizer=... to train()"
        raise UsageError(f"optimizer_key must name an optimizer of the run, got {key or None!r}: there is {known}.")
    return key
