"""An epoch that is not at its end: what a checkpoint keeps of it, and what a resumed run takes back of that."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assay.callbacks.support.checkpoint_values import from_plain, to_plain
from assay.callbacks.support.distributed import gather_objects
from assay.callbacks.support.unwrap import listening

from ...saving.callback_states import collect_states, share_out_states
from ..parts.run_view import RunView

_OF_EPOCH = "_epoch_"  # Catalyst keeps metrics of the epoch under this key among those of the loaders


@dataclass(frozen=True)
class UnfinishedEpoch:
    """What one rank has of an epoch that was interrupted.

    Attributes:
        finished: metrics of the loaders that are done, by loader.
        epoch_rounds: rounds of the epoch so far, over its loaders.
        loader_rounds: rounds of the loader that was interrupted.
        means: state of the loss over that loader, as ``to_plain`` made it.
        callbacks: states of callbacks on that loader.
        rng: states of the generators.
    """

    finished: Mapping[str, Mapping[str, float]]
    epoch_rounds: int
    loader_rounds: int
    means: Mapping[str, Any]
    callbacks: Mapping[str, list[Any]]
    rng: Mapping[str, Any]

    @property
    def finished_loaders(self) -> list[str]:
        """The loaders that are done."""
        return [key for key in self.finished if key != _OF_EPOCH]


def unfinished_epoch(run: RunView) -> dict[str, Any]:
    """Return what the rest of the epoch depends on, at the end of a round. A collective.

    Callbacks keep what they have observed of the loader by ``loader_state(runner)``.
    """
    states = collect_states(_with_loader_state(run), lambda callback: callback.loader_state(run))
    # On the host, in the types that ``weights_only=True`` loads: as such objects checkpoints and messages hold them.
    own = {"means": to_plain(run.loader_loss.means.state), "callbacks": states}
    return {
        "loader": run.loader_key,
        "loader_rounds": run.loader_rounds,
        "epoch_rounds": run.epoch_rounds,
        "finished": {key: dict(metrics) for key, metrics in run.epoch_metrics.items()},
        # The main rank alone writes the file, and each rank has seen batches of its own.
        "ranks": gather_objects(own),
    }


def state_of_rank(state: Mapping[str, Any], rank: int) -> UnfinishedEpoch | None:
    """Return what a rank needs of a checkpoint's unfinished epoch; None where the epoch was at its end."""
    unfinished = state.get("unfinished")
    if unfinished is None:
        return None
    own = unfinished["ranks"][rank]
    return UnfinishedEpoch(
        finished=unfinished["finished"],
        epoch_rounds=unfinished["epoch_rounds"],
        loader_rounds=unfinished["loader_rounds"],
        means=own["means"],
        callbacks=own["callbacks"],
        rng=state["rng"][rank],
    )


def restore_loader(run: RunView, unfinished: UnfinishedEpoch) -> None:
    """Restore what loss and callbacks had observed of the loader, after it has started."""
    run.loader_loss.means.load(from_plain(unfinished.means))
    for callback, state in share_out_states(_with_loader_state(run), unfinished.callbacks):
        callback.load_loader_state(run, state)


def known_metrics(state: Mapping[str, Any]) -> dict[tuple[int, str], dict[str, float]]:
    """Return the metrics that a checkpoint holds by epoch and loader, those of an unfinished epoch too."""
    known = {(epoch, key): dict(of) for epoch, loaders in state["history"].items() for key, of in loaders.items()}
    finished = (state.get("unfinished") or {}).get("finished", {})
    return known | {(state["epoch"] + 1, key): dict(of) for key, of in finished.items() if key != _OF_EPOCH}


def _with_loader_state(run: RunView) -> list[Any]:
    return [callback for callback in listening(run.callbacks.values()) if hasattr(callback, "loader_state")]
