"""The state of a run, as checkpoints hold it: a table of its parts, each with how it is saved and restored."""

import logging
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from assay.callbacks.errors import UsageError, listing
from assay.callbacks.support.distributed import gather_objects
from assay.callbacks.support.unwrap import by_name, inside, load_weights, plain_module, weights_of

from ...data.seeding import rng_state, set_rng_state
from ...recipe.criteria import criterion_state, load_criterion_state
from ...saving.callback_states import collect_states, share_out_states
from ..parts.run_view import RunView
from .settings import compare_with_checkpoint
from .taken_states import naming_state
from .unfinished_epoch import UnfinishedEpoch, known_metrics, state_of_rank, unfinished_epoch
from .unfreezing import freeze_as_before, frozen_parameters, load_optimizer

_log = logging.getLogger("assay")
State = Mapping[str, Any]


@dataclass(frozen=True)
class StatePart:
    """One entry of a checkpoint.

    Attributes:
        key: of the entry.
        save: returns it, of a run.
        load: restores it in a run, from a whole checkpoint; the entry may be missing in an older one.
        name: named in the error where it cannot be restored; None: ``load`` names what it restores itself.
    """

    key: str
    save: Callable[[RunView], Any]
    load: Callable[[RunView, State], None]
    name: str | None = None

    def restore(self, run: RunView, state: State) -> None:
        """Restore the entry; raise with its name where that fails."""
        with nullcontext() if self.name is None else naming_state(self.name):
            self.load(run, state)


# -- models, criteria, optimizers and schedulers ----------------------------------------------------------------------


def load_models(models: Any, state: State, engine: Any = None) -> None:
    """Load the weights of one model, or of several by name: the ``model`` entry of a checkpoint.

    Args:
        models: as they are built, or as the engine has prepared them.
        state: weights by model.
        engine: that has prepared the models; None: nothing is wrapped around them.
    """
    parts = by_name(models)
    _check_names("model", parts, state)
    for name, model in parts.items():
        try:
            load_weights(model if engine is None else plain_module(engine, model), state[name])
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise UsageError(f"the checkpoint does not fit this model: {reason}") from error


def _save_models(run: RunView) -> dict[str, Any]:
    # Not the moving average, which stands in for the model in validation and has an entry of its own.
    trained = by_name(run.trained_model)
    return {name: weights_of(plain_module(run.engine, model)) for name, model in trained.items()}


def _save_optimizers(run: RunView) -> dict[str, Any]:
    return {name: dict(optimizer.state_dict()) for name, optimizer in by_name(run.optimizer).items()}


def _load_optimizers(run: RunView, state: State) -> None:
    parts = by_name(run.optimizer)
    _check_names("optimizer", parts, state["optimizer"])
    for name, optimizer in parts.items():
        load_optimizer(optimizer, state["optimizer"][name])


def _save_schedulers(run: RunView) -> dict[str, Any]:
    return {name: dict(scheduler.state_dict()) for name, scheduler in by_name(run.scheduler).items()}


def _load_schedulers(run: RunView, state: State) -> None:
    parts = by_name(run.scheduler)
    _check_names("scheduler", parts, state["scheduler"])
    for name, scheduler in parts.items():
        scheduler.load_state_dict(state["scheduler"][name])


def _load_frozen(run: RunView, state: State) -> None:
    if (frozen := state.get("frozen")) is not None:
        freeze_as_before(run, frozen)


def _check_names(kind: str, parts: Mapping[str, Any], state: State) -> None:
    if parts.keys() != state.keys():
        saved, own = ("one" if list(names) == [""] else listing(names) for names in (state, parts))
        raise UsageError(f"the checkpoint does not fit: as {kind} it holds {saved}, the run has {own}.")


# -- how the run goes -------------------------------------------------------------------------------------------------


def _compare_settings(run: RunView, state: State) -> None:
    within_epoch = state.get("unfinished") is not None
    for warning in compare_with_checkpoint(state.get("settings") or {}, run.settings_, within_epoch=within_epoch):
        if run.engine.is_main_process:
            _log.warning("%s", warning)


def _load_average(run: RunView, state: State) -> None:
    if run.ema_ is None:
        return
    if state["ema"] is None:  # of a run that had none
        run.ema_.restart()
    else:
        run.ema_.load_state_dict(state["ema"])


def _load_scaler(run: RunView, state: State) -> None:
    if run.engine.scaler is not None and state["scaler"] is not None:
        run.engine.scaler.load_state_dict(state["scaler"])


def _counter(key: str) -> StatePart:
    """Return the part that is a number of the run, under the name that it has there."""
    return StatePart(key, lambda run: getattr(run, key), lambda run, state: setattr(run, key, state[key]))


def _save_history(run: RunView) -> dict[int, dict[str, dict[str, float]]]:
    return {epoch: {key: dict(of) for key, of in by_loader.items()} for epoch, by_loader in run.history.items()}


def _load_history(run: RunView, state: State) -> None:
    run.history = {epoch: dict(by_loader) for epoch, by_loader in state["history"].items()}


def _load_rng(run: RunView, state: State) -> None:
    rank = run.engine.process_index
    if rank < len(state["rng"]):  # a run may go on with more processes
        set_rng_state(state["rng"][rank])


# -- callbacks and loggers --------------------------------------------------------------------------------------------


def _save_callbacks(run: RunView) -> dict[str, list[Any]]:
    stateful = [it for it in map(inside, run.callbacks.values()) if hasattr(it, "state_dict")]
    return collect_states(stateful, lambda callback: callback.state_dict())


def _save_loggers(run: RunView) -> dict[str, Any]:
    return {name: dict(it.state_dict()) for name, it in run.loggers.items() if hasattr(it, "state_dict")}


def _load_loggers(run: RunView, state: State) -> None:
    for name, logger in run.loggers.items():
        if name not in state["loggers"]:
            continue
        with naming_state(f"the logger {name!r}"):
            if hasattr(logger, "load_history"):
                logger.load_history(known_metrics(state), state["loggers"][name])
            elif hasattr(logger, "load_state_dict"):
                logger.load_state_dict(state["loggers"][name])


def _later(run: RunView, state: State) -> None:
    """Leave an entry to ``RunState``, which restores it when the run is so far."""


# These there are from the start of the run on, so that what no checkpoint can hold is found before the first epoch.
COMPONENTS = (
    StatePart("model", _save_models, lambda run, state: run.load_model_state(state["model"])),
    StatePart(
        "criterion",
        lambda run: criterion_state(run.criterion),
        lambda run, state: load_criterion_state(run.criterion, state.get("criterion") or {}),
        "the criterion",
    ),
    StatePart("optimizer", _save_optimizers, _load_optimizers, "the optimizer"),
    StatePart("scheduler", _save_schedulers, _load_schedulers, "the scheduler"),
    # After the optimizer: to fit a state without frozen parameters into it, those frozen by the user count.
    StatePart("frozen", frozen_parameters, _load_frozen, "what is frozen"),
)

# In the order in which they are restored.
PARTS = (
    # First: a run of other settings may be refused, and must not be half changed by then.
    StatePart("settings", lambda run: run.settings_, _compare_settings),
    *COMPONENTS,
    # After the models, from which an average begins anew where the checkpoint has none.
    StatePart(
        "ema",
        lambda run: None if run.ema_ is None else run.ema_.state_dict(),
        _load_average,
        "the moving average of the weights",
    ),
    StatePart(
        "scaler",
        lambda run: None if run.engine.scaler is None else run.engine.scaler.state_dict(),
        _load_scaler,
        "the loss scaler",
    ),
    _counter("batch_step"),
    _counter("sample_step"),
    StatePart("history", _save_history, _load_history),
    # Each rank draws for itself, and the main rank writes the file: a collective.
    StatePart("rng", lambda run: gather_objects(rng_state()), _load_rng, "the random generators"),
    StatePart("callbacks", _save_callbacks, _later),
    StatePart("loggers", _save_loggers, _load_loggers),
)


class RunState:
    """Saves the state of a run, and restores it: most of it at once, the rest when the run is so far.

    Args:
        run: set up but for its state.

    Attributes:
        unfinished: the epoch that a resumed run goes on within, until its loader has started; else None.
    """

    def __init__(self, run: RunView):
        self.run = run
        self.unfinished: UnfinishedEpoch | None = None
        self._callbacks: Mapping[str, list[Any]] = {}

    def save(self, *, within_epoch: bool) -> dict[str, Any]:
        """Return all that the next step depends on. A collective."""
        return {
            **{part.key: part.save(self.run) for part in PARTS},
            # It counts the epochs that are over; one that goes on is kept beside it.
            "epoch": self.run.epoch_step - within_epoch,
            "unfinished": unfinished_epoch(self.run) if within_epoch else None,
        }

    def load(self, state: State) -> None:
        """Restore a run that has been set up from what ``save`` returned."""
        for part in PARTS:
            part.restore(self.run, state)
        self.run.epoch_step = state["epoch"]
        self._callbacks = dict(state["callbacks"])
        self.unfinished = state_of_rank(state, self.run.engine.process_index)

    def restore_callbacks(self) -> None:
        """Restore the callbacks, once; they make themselves new when the run starts, so it is done after that."""
        states, self._callbacks = self._callbacks, {}
        taking = [it for it in map(inside, self.run.callbacks.values()) if hasattr(it, "load_state_dict")]
        for callback, state in share_out_states(taking, states):
            with naming_state(f"the callback {type(callback).__name__}"):
                callback.load_state_dict(state)

    def take_unfinished(self) -> UnfinishedEpoch | None:
        """Return the epoch to go on within, once: what comes after its loader starts from its own beginning."""
        unfinished, self.unfinished = self.unfinished, None
        return unfinished
