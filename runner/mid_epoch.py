"""An epoch that is not at its end: what a checkpoint keeps of it, and going on with it."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from catalyst import dl

from assay.callbacks.distributed import gather_objects
from assay.callbacks.loader_state import from_plain, to_plain
from assay.callbacks.wrapped import inside, listening

from .callback_states import collect_states, share_out_states

if TYPE_CHECKING:
    from .dict_runner import DictRunner


def unfinished_epoch(runner: "DictRunner") -> dict[str, Any]:
    """Return what the rest of the epoch depends on, at the end of a round. A collective.

    Callbacks keep what they have observed of the loader by ``loader_state(runner)``.
    """
    states = collect_states(_with_loader_state(runner), lambda callback: callback.loader_state(runner))
    own = {"means": to_plain(runner.loader_means.state), "callbacks": states}
    return {
        "loader": runner.loader_key,
        "loader_rounds": runner.loader_rounds,
        "epoch_rounds": runner.epoch_rounds,
        "finished": {key: dict(metrics) for key, metrics in runner.epoch_metrics.items()},
        "ranks": gather_objects(own),
    }


def own_part(state: Mapping[str, Any], rank: int) -> dict[str, Any] | None:
    """Return what a rank needs of a checkpoint's unfinished epoch; None where the epoch was at its end."""
    unfinished = state.get("unfinished")
    if unfinished is None:
        return None
    return {**unfinished, **unfinished["ranks"][rank], "rng": state["rng"][rank]}


def begin_unfinished(runner: "DictRunner", unfinished: Mapping[str, Any] | None) -> Collection[str]:
    """Take back what the epoch had when it was interrupted, and return the loaders that are done."""
    if unfinished is None:
        return ()
    runner.epoch_metrics = {key: dict(metrics) for key, metrics in unfinished["finished"].items()}
    runner.epoch_rounds = unfinished["epoch_rounds"]
    return [key for key in unfinished["finished"] if key != "_epoch_"]


def go_on_within_loader(runner: "DictRunner", unfinished: Mapping[str, Any]) -> int:
    """Take back what the loader had when it was interrupted, behind its start, and return the number of rounds done."""
    rounds: int = unfinished["loader_rounds"]
    shard: Any = runner.loader.batch_sampler
    shard.first = rounds
    runner.loader_batch_step = rounds * runner.engine.num_processes
    runner.loader_sample_step = sum(turn.round_samples for turn in runner.turns[:rounds])
    runner.loader_means.load(from_plain(unfinished["means"]))
    for callback, state in share_out_states(_with_loader_state(runner), unfinished["callbacks"]):
        callback.load_loader_state(runner, state)
    return rounds


def known_metrics(state: Mapping[str, Any]) -> dict[tuple[int, str], dict[str, float]]:
    """Return the metrics that a checkpoint holds by epoch and loader, those of an unfinished epoch too."""
    known = {(epoch, key): dict(of) for epoch, loaders in state["history"].items() for key, of in loaders.items()}
    finished = (state.get("unfinished") or {}).get("finished", {})
    return known | {(state["epoch"] + 1, key): dict(of) for key, of in finished.items() if key != "_epoch_"}


def forgetful(runner: "DictRunner") -> list[str]:
    """Return the classes of the callbacks that look at each batch, and keep nothing of what they saw."""
    callbacks = [it for it in map(inside, runner.callbacks.values()) if not hasattr(it, "loader_state")]
    return sorted({type(it).__name__ for it in callbacks if type(it).on_batch_end is not dl.Callback.on_batch_end})


def _with_loader_state(runner: "DictRunner") -> list[Any]:
    return [callback for callback in listening(runner.callbacks.values()) if hasattr(callback, "loader_state")]
