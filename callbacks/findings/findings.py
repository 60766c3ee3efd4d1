"""``Findings``: says what is wrong with a training, before it and in its first epochs."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from catalyst import dl

from ..base.diagnostic import Diagnostic
from ..base.order import FINDINGS
from ..errors import UsageError, unknown_name
from ..keys import SAMPLE_ID_KEY
from ..support.atomic_files import save_text
from ..support.distributed import from_main_rank
from ..support.runner_view import is_resumed, logdir_of
from ..tensorboard.find_writer import find_writer, has_writer
from ..tensorboard.writer import Writer
from .examination import Examination
from .page import line, page
from .probe.finding import Finding
from .probe.probe import Probe
from .probe.rule import Moment
from .watch import Watch

Check = Literal["quick", "full"]
FILE = "findings.json"
TAG = "0_findings/list"
LAST_EPOCH = 5  # the last one after which rules look; what shows later, curves show as well

_log = logging.getLogger("assay")


class FindingsError(UsageError):
    """Errors that make a run worthless were found; ``findings`` holds them."""

    def __init__(self, message: str = "", findings: Sequence[Finding] = ()):
        super().__init__(message)
        self.findings = tuple(findings)


class Findings(Diagnostic):
    """Says what is wrong with data, model, loss and settings, before the first step and in the first epochs.

    It reads samples in a process of their own and tries out copies of the model and the loss, so that the run trains
    bit by bit as it would without it. A finding is an error where the run is worthless, a warning where it is probably
    harmed, or a note. Errors end the run; warnings are logged, and all of them stand in ``findings.json`` in the run
    folder and in TensorBoard. ``docs/findings.md`` lists the rules.

    ======================= ==== ==========================================================
    tag, in train's folder  kind step and content
    ======================= ==== ==========================================================
    ``0_findings/list``     text epoch, 0 before the first; findings, the worst first
    ======================= ==== ==========================================================

    Args:
        check: ``quick`` reads samples for a second or two; ``full`` reads all of them, and takes 30 steps on a copy.
        silence: names of rules that do not look.
        stop: whether errors end the run.
        image_key: of the image in a batch; None: what the runner gives the model.
        target_key: of the target; None: that of the loss.
        sample_id_key: of the ids.
        fields: settings by name that findings may tell to change, as those of an experiment.

    Attributes:
        found_: what was found so far and holds, the worst first.

    Raises:
        UsageError: ``check`` is unknown, or there is no rule of a name.
        FindingsError: there are errors, and ``stop`` is true.
    """

    one_a_run = True
    observed = ()  # a run that goes on within an epoch looks again after the next one
    counts_as_overhead = False  # it has a bound of its own
    watch_: Watch

    def __init__(
        self,
        check: str = "quick",
        *,
        silence: Sequence[str] = (),
        stop: bool = True,
        image_key: str | int | None = None,
        target_key: str | int | None = None,
        sample_id_key: str | int = SAMPLE_ID_KEY,
        fields: Mapping[str, object] | None = None,
    ):
        super().__init__(order=FINDINGS)
        if check not in ("quick", "full"):
            raise unknown_name("check", check, ("quick", "full"))
        self.check = check
        self.silence = [silence] if isinstance(silence, str) else list(silence)
        self.stop = stop
        self.keys: dict[str, Any] = {"image_key": image_key, "target_key": target_key, "sample_id_key": sample_id_key}
        self.fields = fields
        self.examination_ = Examination(self.silence)

    @property
    def found_(self) -> tuple[Finding, ...]:
        """What was found so far and holds, the worst first."""
        return self.examination_.findings

    def named_samples(self, loader: str) -> Sequence[str]:
        """Return the ids of the samples of a loader that findings name."""
        places = [one.where for one in self.found_]
        return [name for where in places if loader in str(where.loader).split(", ") for name in where.samples]

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        self.examination_ = Examination(self.silence)
        self.whole_: set[str] = set()  # the loaders of the epoch that were seen from their start on
        self.writers_ = {}
        self.watch_ = Watch(runner, full=self.check == "full", fields=self.fields, **self.keys)
        self.is_mute_ = not has_writer(runner)
        if not self.is_mute_:
            self.writers_["run"] = find_writer(runner, None, asked_by=type(self).__name__)
        # Without an optimizer a loader called so is evaluated.
        self.trains_ = runner.optimizer is not None and any(key.startswith("train") for key in runner.loaders)
        self.watch_.look_ahead(tries=self.trains_ and not is_resumed(runner))
        found = self._look(runner, "data", self.watch_.data)
        if self.trains_:
            found += self._look(runner, "model", self.watch_.settings if is_resumed(runner) else self.watch_.model)
            if self.check == "full" and not is_resumed(runner):
                found += self._look(runner, "steps", self.watch_.rehearsal)  # until the real steps are there
        if not is_resumed(runner):  # what was written by the run that it continues stands there still
            self._write(runner, whole=True)
        # After all that can be said before the first step, so that it need not be found one by one.
        self._stop_at_errors(found)

    def on_epoch_start(self, runner: dl.IRunner) -> None:
        super().on_epoch_start(runner)
        self.whole_ = set()

    def on_loader_start(self, runner: dl.IRunner) -> None:
        self.whole_.add(runner.loader_key)
        self.watch_.begin_loader()

    def on_batch_start(self, runner: dl.IRunner) -> None:
        self.watch_.begin_batch()

    def on_batch_end(self, runner: dl.IRunner) -> None:
        self.watch_.end_batch()
        # Of several ranks one may have no batch in a round, and all of them look together.
        if runner.engine.num_processes == 1:
            self._look_at_steps(runner)

    def on_loader_end(self, runner: dl.IRunner) -> None:
        self.watch_.end_loader()
        self._look_at_steps(runner)

    def _look_at_steps(self, runner: dl.IRunner) -> None:
        if self.watch_.take_steps():
            self._stop_at_errors(self._look(runner, "steps", self.watch_.steps))

    def on_epoch_end(self, runner: dl.IRunner) -> None:
        if runner.epoch_step <= LAST_EPOCH:
            self.watch_.end_epoch()
            if self.whole_ == set(runner.loaders):
                self._stop_at_errors(self._look(runner, "epoch", self.watch_.epoch, runner.epoch_step))
            self._write(runner)
        super().on_epoch_end(runner)

    def on_experiment_end(self, runner: dl.IRunner) -> None:
        super().on_experiment_end(runner)
        if runner.engine.is_main_process and self.trains_ and runner.epoch_step:
            for finding in self.found_:
                if finding.severity != "note":
                    _log.warning("still holds: %s", line(finding))

    def release(self, runner: dl.IRunner) -> None:
        """Remove what was attached to the run."""
        if hasattr(self, "watch_"):  # otherwise the run has failed before it began
            self.watch_.release()

    def load_loader_state(self, runner: dl.IRunner, state: Any) -> None:
        """Take note that the loader goes on after a part that is not seen any more."""
        self.whole_.discard(runner.loader_key)

    def state_dict(self) -> dict[str, Any]:
        """Return what was found."""
        return self.examination_.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what was found of what is not looked at again."""
        self.examination_.restore(state)

    def _look(
        self, runner: dl.IRunner, moment: Moment, observe: Callable[[], Probe], epoch: int = 0
    ) -> tuple[Finding, ...]:
        """Have the rules of a moment look on the main process, tell all others, and return what is new."""
        fresh: tuple[Finding, ...] = ()
        if runner.engine.is_main_process:
            fresh = self.examination_.look(moment, observe(), epoch)
            self._tell(runner, fresh)
        fresh, self.examination_ = from_main_rank((fresh, self.examination_))
        return fresh

    def _stop_at_errors(self, found: Sequence[Finding]) -> None:
        errors = [finding for finding in found if finding.severity == "error"]
        if errors and self.stop:
            raise FindingsError(_end(errors), errors)

    def _tell(self, runner: dl.IRunner, fresh: Sequence[Finding]) -> None:
        for finding in fresh:
            # An error that ends the run stands in its message.
            if finding.severity == "warning" or (finding.severity == "error" and not self.stop):
                _log.warning(line(finding))
        for name, why in self.examination_.take_failed().items():
            _log.warning("rule %s %s: please report it", name, why)
        folder = logdir_of(runner)
        if folder is not None:
            save_text(folder / FILE, json.dumps([it.as_dict() for it in self.found_], indent=2, default=str) + "\n")

    def _write(self, runner: dl.IRunner, *, whole: bool = False) -> None:
        """Write a page to TensorBoard; ``whole``: with the rules that could not look."""
        writer: Writer | None = self.writers_.get("run")
        if writer is not None:
            done = self.examination_
            # Those of the first steps and epochs have their turn later.
            text = page(done.findings, done.silenced, done.left_out if whole else {})
            writer.text(TAG, text, runner.epoch_step)


def _end(errors: Sequence[Finding]) -> str:
    names = sorted({finding.rule for finding in errors})
    flags = " ".join(names)
    return (
        f"stopped, as the run would be worthless: {' '.join(finding.sentence for finding in errors)} To go on all the "
        f"same, silence what does not apply by --silence {flags} (Findings(silence=[...])), or pass --check off."
    )
