"""GradientStats: statistics of the gradients of every parameter, per epoch."""

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import compress
from typing import Any

import numpy as np
from catalyst import dl
from torch import Tensor

from ..base.diagnostic import Diagnostic
from ..drawings.gradient_stats import draw_flow, draw_map
from ..errors import UsageError, at_least_one
from ..measures.overhead_budget import STEPS
from ..support.unwrap import raw_optimizers
from ..tensorboard.writer import Writer
from .gradient_warnings import GradientWarnings
from .gradient_watch import GradientWatches

_SCALARS = ("min", "mean", "max", "std", "norm", "zeros")


@dataclass(frozen=True)
class EndedEpoch:
    """The gradients of an epoch of a loader.

    Attributes:
        epoch: its number.
        names: of the parameters, [P].
        summary: their statistics, [P] each, on the host; see ``measures.gradient_stats``.
        troubles: names of parameters whose gradients went wrong, by kind.
        update_ratio: whether it was measured.
    """

    epoch: int
    names: Sequence[str]
    summary: Mapping[str, Tensor]
    troubles: Mapping[str, Sequence[str]]
    update_ratio: bool

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[str, list[float], str]]:
        """Yield the name of each parameter, its numbers, NaN where they are not known, and its troubles as a text.

        The norm of a parameter with a broken step is infinite, as in the map.
        """
        values = {name: self.summary[name].tolist() for name in columns}
        if not self.update_ratio:
            values["update_ratio"] = [math.nan] * len(self.names)
        broken = self.summary["broken_steps"].tolist()
        observed = (self.summary["finite_steps"] + self.summary["broken_steps"]).tolist()
        for place, name in enumerate(self.names):
            row = [of[place] if observed[place] else math.nan for of in values.values()]
            if broken[place]:
                row[columns.index("norm")] = math.inf
            yield name, row, " ".join(kind for kind, names in self.troubles.items() if name in names)


class GradientStats(Diagnostic):
    """Shows where the gradients of the trained parameters vanish, explode, die or are missing, every epoch.

    Gradients are observed at the optimizer's step: unscaled, accumulated over the whole group of batches, and after the
    all-reduce. With ``DictRunner`` they are those before clipping, with other runners those that the optimizer gets.
    Only training loaders are observed. For an optimizer that computes gradients within its step (LBFGS), those of the
    step before are shown.

    ====================================== ====== ======================================================================
    tag, in the train loader's folder      kind   step and content
    ====================================== ====== ======================================================================
    ``9_gradients/map``                    image  epoch; parameters x epochs so far, log10 of the mean norm
    ``9_gradients/flow``                   image  epoch; by depth: min, mean, max, std, norm, share of zeros; share of
                                                  non-finite values if there are any, and the update ratio if asked for;
                                                  with ``clip_grad_norm`` (``DictRunner``) the mean total norm before
                                                  and after clipping
    ``9_gradients/PARAMETER/min``          scalar epoch; smallest value of all steps
    ``9_gradients/PARAMETER/mean``         scalar epoch; mean over steps of the mean
    ``9_gradients/PARAMETER/max``          scalar epoch; largest value of all steps
    ``9_gradients/PARAMETER/std``          scalar epoch; mean over steps of the standard deviation
    ``9_gradients/PARAMETER/norm``         scalar epoch; mean over steps of the L2 norm
    ``9_gradients/PARAMETER/zeros``        scalar epoch; mean over steps of the share of zeros, 0 to 1
    ``9_gradients/PARAMETER/non_finite``   scalar epoch; share of values that are NaN or infinite, 0 to 1, mean over the
                                                  broken steps at which they were counted
    ``9_gradients/PARAMETER/update_ratio`` scalar epoch; mean over steps of ||w_after - w_before|| / ||w_before||, at
                                                  least 0 (``update_ratio=True``); none while the weights are 0
    ====================================== ====== ======================================================================

    The scalars are written with ``per_parameter=True``, except those that are not known. A step at which the gradient
    of a parameter holds NaN or infinite values is counted and marked, and left out of the parameter's other numbers.
    The values themselves are counted from the second such step of a parameter on. Problems are also logged by parameter
    (logger ``assay``), once for each new set of names. A resumed run continues the map.

    Nothing is read from the device within a step, except that coalescing a sparse gradient makes the host wait for a
    GPU.

    Args:
        every_n_steps: observe one in so many optimizer steps, beginning with the first of each epoch; 1: all of them.
            An ``OverheadBudget`` in the run may observe fewer; the pictures show how many were observed.
        per_parameter: whether to write scalars, seven or eight per parameter.
        update_ratio: whether to compare the weights before and after each observed step. This keeps one copy of them on
            the device. A skipped step has the ratio 0.
        history_epochs: how many of the last epochs the map shows.
        vanished_below: a norm below this share of the median norm has vanished.
        exploded_above: a norm above this multiple of the median norm, or of 1 where that is smaller, has exploded.
        prefix: added to the tags, as ``TAG/PREFIX``; a second callback of this kind needs one.

    Raises:
        UsageError: an argument is out of range; at the start of the run, there is no optimizer to train with, or no
            TensorBoard logger.
    """

    def __init__(
        self,
        every_n_steps: int = 1,
        *,
        per_parameter: bool = False,
        update_ratio: bool = False,
        history_epochs: int = 100,
        vanished_below: float = 1e-3,
        exploded_above: float = 1e3,
        prefix: str = "",
    ):
        super().__init__(prefix=prefix)
        self.every_n_steps = at_least_one("every_n_steps", every_n_steps)
        self.per_parameter = per_parameter
        self.update_ratio = update_ratio
        self.history_epochs = at_least_one("history_epochs", history_epochs)
        self.thresholds = {"vanished_below": vanished_below, "exploded_above": exploded_above}
        self._start_anew()

    def _start_anew(self) -> None:
        self.every_n_steps_ = self.every_n_steps  # a budget may raise it for this run
        self.watches_: GradientWatches | None = None
        self.suspects_: set[str] = set()  # parameters whose gradients were not finite before
        self.warnings_ = GradientWarnings(**self.thresholds)
        self.history_: dict[str, deque[tuple[int, dict[str, float]]]] = {}
        self.ended_: dict[str, EndedEpoch] = {}  # the last one of each loader

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        super().on_experiment_start(runner)
        if not raw_optimizers(runner.optimizer) and any(key.startswith("train") for key in runner.loaders):
            raise UsageError("GradientStats needs a runner with an optimizer, got optimizer=None.")
        self._start_anew()

    def tags(self, loader_key: str) -> tuple[str, ...]:
        return ("9_gradients/map", "9_gradients/flow") if loader_key.startswith("train") else ()

    def begin(self, runner: dl.IRunner) -> None:
        self._release()
        if runner.is_train_loader:
            self.watches_ = GradientWatches(
                runner,
                self.every_n_steps_,
                self.suspects_,
                update_ratio=self.update_ratio,
                timed=partial(self.timed, STEPS),
            )

    def observe_every(self, n_steps: int) -> None:
        """Observe the first of so many optimizer steps from now on, within a loader too; the same on every rank."""
        self.every_n_steps_ = n_steps
        if self.watches_ is not None:
            self.watches_.observe_every(n_steps)

    def observe(self, runner: dl.IRunner) -> None:
        """Do nothing: gradients are observed at the optimizer's step."""

    def report(self, runner: dl.IRunner, writer: Writer) -> None:
        watches = self.watches_
        self._release()
        # A collective: the summary is reduced over ranks, and reads the device once.
        names, summary, total_norms = ([], {}, []) if watches is None else watches.summarize()
        if not names:
            return
        # Counting NaN and infinite values takes another pass, so only parameters that had some before are counted.
        self.suspects_.update(compress(names, summary["broken_steps"].tolist()))
        self._write_pictures(runner, writer, names, summary, total_norms)
        if self.per_parameter:
            values = {self.full_tag(tag): value for tag, value in _scalars(names, summary).items()}
            writer.scalars(values, runner.epoch_step)
        self.ended_[runner.loader_key] = EndedEpoch(
            runner.epoch_step, names, summary, self.warnings_.find(names, summary), self.update_ratio
        )
        place = f"{runner.loader_key} epoch {runner.epoch_step}"
        self.warnings_.warn(writer, names, summary, place, first_epoch=runner.epoch_step == 1)

    def release(self, runner: dl.IRunner) -> None:
        self._release()

    def loader_state(self, runner: dl.IRunner) -> dict[str, Any] | None:
        """Return what was observed of a train loader so far."""
        return None if self.watches_ is None else self.watches_.state_dict()

    def load_loader_state(self, runner: dl.IRunner, state: dict[str, Any] | None) -> None:
        """Continue from what ``loader_state`` returned."""
        if self.watches_ is not None and state is not None:
            self.watches_.load_state_dict(state)

    def _release(self) -> None:
        if self.watches_ is not None:
            self.watches_.remove()
        self.watches_ = None

    def state_dict(self) -> dict[str, Any]:
        """Return what the next epoch's pictures and warnings depend on, in types that ``weights_only=True`` loads."""
        return {
            "history": {key: [[epoch, dict(norms)] for epoch, norms in past] for key, past in self.history_.items()},
            "suspects": sorted(self.suspects_),
            "said": [list(names) for names in sorted(self.warnings_.logged)],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what ``state_dict`` returned."""
        for key, past in state["history"].items():
            epochs = ((epoch, dict(norms)) for epoch, norms in past)
            self.history_[key] = deque(epochs, maxlen=self.history_epochs)
        self.suspects_.update(state["suspects"])
        self.warnings_.logged = {tuple(names) for names in state["said"]}

    def _write_pictures(
        self,
        runner: dl.IRunner,
        writer: Writer,
        names: list[str],
        summary: Mapping[str, Tensor],
        total_norms: list[float],
    ) -> None:
        step, key = runner.epoch_step, runner.loader_key
        arrays = {name: values.numpy() for name, values in summary.items()}
        if not self.update_ratio:
            del arrays["update_ratio"]
        # A broken step has no norm. The map must show it all the same, and has a colour for infinity.
        norms = np.where(arrays["broken_steps"] > 0, np.inf, arrays["norm"])
        history = self.history_.setdefault(key, deque(maxlen=self.history_epochs))
        history.append((step, dict(zip(names, norms.tolist(), strict=True))))
        epochs = [epoch for epoch, _ in history]
        # A parameter that was not trained in an epoch, as one that was frozen then, has no norm in it.
        table = np.array([[of.get(name, np.nan) for _, of in history] for name in names])
        steps = int((arrays["finite_steps"] + arrays["broken_steps"] + arrays["missing_steps"]).max())
        heading = f"gradients of {self.place(key)}, epoch {step}, {steps} steps observed"
        clipping = (
            ["total norm before clipping {:.3g}, after {:.3g}, means".format(*total_norms)] if total_norms else []
        )
        writer.image(
            self.full_tag("9_gradients/map"), partial(draw_map, table, names, epochs, [f"mean norm: {heading}"]), step
        )
        writer.image(self.full_tag("9_gradients/flow"), partial(draw_flow, arrays, names, [heading, *clipping]), step)


def _scalars(names: list[str], summary: Mapping[str, Tensor]) -> dict[str, float]:
    rows = {kind: summary[kind].tolist() for kind in (*_SCALARS, "non_finite", "update_ratio")}
    observed = (summary["finite_steps"] + summary["broken_steps"]).tolist()
    values = {
        f"9_gradients/{name}/{kind}": row[i]
        for i, name in enumerate(names)
        if observed[i]
        for kind, row in rows.items()
    }
    return {tag: value for tag, value in values.items() if not math.isnan(value)}
