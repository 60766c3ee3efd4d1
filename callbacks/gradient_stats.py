"""What the gradients do in every layer, epoch by epoch."""

import logging
from collections import deque
from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from catalyst import dl
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from .diagnostic import Diagnostic
from .distributed import reduce_state
from .drawings.gradient_stats import draw_flow, draw_map
from .errors import UsageError, at_least_one
from .gradient_watch import GradientWatch, trained_parameters
from .host_copy import HostCopy
from .measures import gradient_stats as measures
from .unwrapped import raw_optimizers
from .writer import Writer

_SCALARS = ("min", "mean", "max", "norm")
_MOST_NAMES = 8
_SAYINGS = {
    "missing": "got no gradient",
    "dead": "died: all gradients are zero",
    "vanished": "vanished: the norm is below {vanished_below:g} of the median",
    "exploded": "exploded: the norm is above {exploded_above:g} times the median (or 1)",
    "broken": "have NaN or infinite gradients",
}

_log = logging.getLogger("assay")


class GradientStats(Diagnostic):
    """Shows the gradients of every parameter that an optimizer trains: where they vanish, explode, die or are missing.

    They are taken when the optimizer steps: unscaled, of the whole accumulation, after the all-reduce, and clipped
    where the runner clips. Only train loaders are looked at. An optimizer that computes gradients within its step
    (LBFGS) shows those of the step before.

    ================================== ======= ==============================================================
    tag, in the train loader's folder  kind    step and content
    ================================== ======= ==============================================================
    ``gradients/map``                  image   epoch; parameters x epochs so far, log10 of the mean norm
    ``gradients/flow``                 image   epoch; by depth: min, mean, max, std, norm, share of zeros
    ``gradients/PARAMETER/min``        scalar  epoch; smallest value of all steps (``per_parameter=True``)
    ``gradients/PARAMETER/mean``       scalar  epoch; mean over steps of the mean (``per_parameter=True``)
    ``gradients/PARAMETER/max``        scalar  epoch; largest value of all steps (``per_parameter=True``)
    ``gradients/PARAMETER/norm``       scalar  epoch; mean over steps of the L2 norm (``per_parameter=True``)
    ================================== ======= ==============================================================

    Steps whose gradient holds NaN or infinite values are counted and marked, and left out of a parameter's numbers.
    What goes wrong is also logged by name (logger ``assay``), once for each new set of names.

    Nothing is read from the device within a step, except that a GPU waits where a sparse gradient is coalesced.

    Args:
        every_n_steps: observe the first of so many optimizer steps, counted in each epoch; 1: all of them.
        per_parameter: whether to write scalars, four a parameter.
        history_epochs: how many epochs the map shows, the last ones; it starts anew in a resumed run.
        vanished_below: a norm below this share of the median norm has vanished.
        exploded_above: a norm above this multiple of the median norm, or of 1 where that is smaller, has exploded.

    Raises:
        UsageError: an argument is out of range; at the start of the run, when there is no optimizer to train with, or
            no TensorBoard logger.
    """

    def __init__(
        self,
        every_n_steps: int = 1,
        *,
        per_parameter: bool = False,
        history_epochs: int = 100,
        vanished_below: float = 1e-3,
        exploded_above: float = 1e3,
    ):
        super().__init__()
        self.every_n_steps = at_least_one("every_n_steps", every_n_steps)
        self.per_parameter = per_parameter
        self.history_epochs = at_least_one("history_epochs", history_epochs)
        self.thresholds = _check_thresholds(vanished_below, exploded_above)
        self._start_anew()

    def _start_anew(self) -> None:
        self.watches_: list[GradientWatch] = []
        self.hooks_: list[RemovableHandle] = []
        self.order_: list[str] = []
        self.suspects_: set[str] = set()
        self.said_: set[tuple[str, ...]] = set()
        self.history_: dict[str, deque[tuple[int, dict[str, float]]]] = {}

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        super().on_experiment_start(runner)
        if not raw_optimizers(runner.optimizer) and any(key.startswith("train") for key in runner.loaders):
            raise UsageError("GradientStats needs a runner with an optimizer, got optimizer=None.")
        self._start_anew()

    def begin(self, runner: dl.IRunner) -> None:
        self._release()
        if not runner.is_train_loader:
            return
        parameters = trained_parameters(runner)
        for optimizer in raw_optimizers(runner.optimizer).values():
            held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
            own = {name: parameter for name, parameter in parameters.items() if id(parameter) in held}
            if own:
                watch = GradientWatch(own, self.every_n_steps, self.suspects_)
                self.watches_.append(watch)
                self.hooks_.append(optimizer.register_step_pre_hook(watch))
        self.order_ = list(parameters)

    def observe(self, runner: dl.IRunner) -> None:
        """Do nothing: gradients are observed when the optimizer steps."""

    def report(self, runner: dl.IRunner, writer: Writer) -> None:
        watches = self.watches_
        self._release()
        if not watches:
            return
        names, summary = self._summarize(watches)
        self.suspects_.update(np.array(names)[summary["broken_steps"].numpy() > 0].tolist())
        step = runner.epoch_step
        self._write_pictures(runner, writer, names, summary)
        if self.per_parameter:
            writer.scalars(_scalars(names, summary), step)
        for kind, indices in measures.find_troubles(summary, **self.thresholds).items():
            self._say(writer, kind, [names[index] for index in indices], f"{runner.loader_key} epoch {step}")

    def on_experiment_end(self, runner: dl.IRunner) -> None:
        self._release()
        super().on_experiment_end(runner)

    def on_exception(self, runner: dl.IRunner) -> None:
        self._release()
        super().on_exception(runner)

    def _release(self) -> None:
        for hook in self.hooks_:
            hook.remove()
        self.hooks_, self.watches_ = [], []

    def _summarize(self, watches: list[GradientWatch]) -> tuple[list[str], dict[str, Tensor]]:
        """Return parameter names in the order of the model, and their statistics: one copy to the host."""
        states = [watch.measure.pack(reduce_state(watch.measure.state, watch.measure.reductions)) for watch in watches]
        packed = HostCopy(torch.cat(states, dim=1)).read()
        names = [name for watch in watches for name in watch.parameters]
        order = sorted(range(len(names)), key=lambda index: self.order_.index(names[index]))
        return [names[index] for index in order], measures.GradientStats.summarize(packed[:, order])

    def _write_pictures(
        self, runner: dl.IRunner, writer: Writer, names: list[str], summary: Mapping[str, Tensor]
    ) -> None:
        step, key = runner.epoch_step, runner.loader_key
        arrays = {name: values.numpy() for name, values in summary.items()}
        norms = np.where(arrays["broken_steps"] > 0, np.inf, arrays["norm"])
        history = self.history_.setdefault(key, deque(maxlen=self.history_epochs))
        history.append((step, dict(zip(names, norms.tolist(), strict=True))))
        epochs = [epoch for epoch, _ in history]
        table = np.array([[of.get(name, np.nan) for _, of in history] for name in names])
        steps = int((arrays["finite_steps"] + arrays["broken_steps"] + arrays["missing_steps"]).max())
        heading = f"gradients of {key}, epoch {step}, {steps} steps observed"
        writer.image("gradients/map", partial(draw_map, table, names, epochs, [f"mean norm: {heading}"]), step)
        writer.image("gradients/flow", partial(draw_flow, arrays, names, [heading]), step)

    def _say(self, writer: Writer, kind: str, names: list[str], when: str) -> None:
        if (kind, *names) in self.said_:
            return
        self.said_.add((kind, *names))
        listed = ", ".join(names[:_MOST_NAMES]) + (f" and {len(names) - _MOST_NAMES} more" * (len(names) > _MOST_NAMES))
        saying = _SAYINGS[kind].format(**self.thresholds)
        # By way of the writer, which drops what does not belong to this rank.
        writer.submit(lambda _: _log.warning("gradients, %s: %d %s: %s", when, len(names), saying, listed))


def _scalars(names: list[str], summary: Mapping[str, Tensor]) -> dict[str, float]:
    rows = {kind: summary[kind].tolist() for kind in _SCALARS}
    seen = [index for index, steps in enumerate(summary["finite_steps"].tolist()) if steps]
    return {f"gradients/{names[index]}/{kind}": row[index] for index in seen for kind, row in rows.items()}


def _check_thresholds(vanished_below: float, exploded_above: float) -> dict[str, float]:
    if not 0 <= vanished_below < 1:
        raise UsageError(f"vanished_below must be at least 0 and less than 1, got {vanished_below!r}.")
    if not exploded_above > 1:
        raise UsageError(f"exploded_above must be greater than 1, got {exploded_above!r}.")
    return {"vanished_below": vanished_below, "exploded_above": exploded_above}
