"""Run the trials of a search, each in a process of its own, until there are as many as were asked for."""

import contextlib
import math
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from typing import Any

import optuna
from optuna.trial import TrialState

from ...processes.early_stop import StoppedEarly
from ...processes.exit_codes import FAILED as FAILED_CODE
from ...processes.exit_codes import INTERRUPTED, PREEMPTED, USAGE, StoppedError
from ...processes.shell import command
from .report import ended_line, report_lines, write_table
from .request import Request
from .study import FAILED, Study
from .workers import at_work

_MOST_FAILURES = 3  # in a row: then it is no bad value, but something that all trials have in common
_HEARD_S = 0.5  # after a Ctrl-C, which a terminal sends to the trial as well
_BY_SIGNAL = (INTERRUPTED, PREEMPTED, -signal.SIGINT, -signal.SIGTERM)

Target = Callable[..., None]


class Search:
    """The trials that this process runs, one after another.

    Args:
        request: the search.
        target: trains a trial in a process of its own, and ends it with the exit code of ``assay train``. It is given
            the experiment's name, the flags, and a connection that takes (epoch, value) after each epoch and answers
            whether to stop.
        preloaded: modules that the trials need, imported once for all of them.
    """

    def __init__(self, request: Request, target: Target, preloaded: list[str]):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.request = request
        self.target = target
        # A process that has imported everything and started nothing, of which each trial is a copy: a trial begins at
        # once, and leaves neither memory nor settings of torch to the next one.
        self.processes = multiprocessing.get_context("forkserver")
        self.processes.set_forkserver_preload(preloaded)
        self.study = Study(request)

    def run(self) -> tuple[list[str], int]:
        """Run trials until there are as many as were asked for.

        Returns:
            What to print at the end, and the exit code.

        Raises:
            StoppedError: a signal ended the search; the trial of that time is marked as failed.
        """
        self._announce()
        failures, code = 0, 0
        with at_work(self.study.folder) as worker:
            while failures < _MOST_FAILURES and (chosen := self.study.next_trial(worker)) is not None:
                code = self._run_trial(*chosen)
                failures = 0 if code == 0 else failures + 1
                write_table(self.study)
                if code == USAGE and self._is_refused():
                    return [], USAGE
        lines = report_lines(self.study)
        if failures == _MOST_FAILURES:
            return [*lines, f"stopped: the last {_MOST_FAILURES} trials failed, with the errors above"], FAILED_CODE
        return lines, 0

    def _announce(self) -> None:
        print(f"study folder: {self.study.folder}")
        if (combined := self.study.combined) is not None:
            print(f"{len(combined)} combinations of values: each is tried once")
        if not self.study.is_new:
            print(f"{max(0, self.study.remaining())} trials remain of {self.study.trials}")

    def _is_refused(self) -> bool:
        """Whether the first trial was refused for what all have in common; then nothing is left behind."""
        is_first = self.study.is_new and len(self.study.all_trials(TrialState.FAIL, TrialState.COMPLETE)) == 1
        if is_first:
            self.study.run_folder.discard()
        return is_first

    def _run_trial(self, trial: optuna.Trial, words: Mapping[str, str]) -> int:
        """Train a trial and tell the study what came of it; return its exit code."""
        print(f"trial {trial.number}: {' '.join(f'{name}={value}' for name, value in words.items())}")
        sys.stdout.flush()  # before what the trial prints
        mine, other = self.processes.Pipe()
        arguments = [*self.request.flags(words), f"--run-dir={self.study.trial_folder(trial.number)}"]
        process = self.processes.Process(target=self.target, args=(self.request.experiment, arguments, other))
        process.start()
        other.close()  # so that the end of the process is the end of the connection
        try:
            values, is_pruned = self._listen(mine, trial)
            process.join()
        except (KeyboardInterrupt, StoppedEarly) as stopped:
            number = stopped.number if isinstance(stopped, StoppedEarly) else signal.SIGINT
            _end(process, number)
            raise self._stopped(trial, number) from stopped
        code = process.exitcode or 0
        if code in _BY_SIGNAL:
            raise self._stopped(trial, signal.SIGINT if code in (INTERRUPTED, -signal.SIGINT) else signal.SIGTERM)
        self._tell(trial, values, code, is_pruned=is_pruned)
        return code

    def _listen(self, connection: Any, trial: optuna.Trial) -> tuple[dict[int, float], bool]:
        """Return the value of each epoch, and whether the trial was stopped for being worse than the median."""
        values: dict[int, float] = {}
        is_pruned = False
        with connection, contextlib.suppress(ConnectionError):  # where the trial has ended
            while (reported := _received(connection)) is not None:
                epoch, value = reported
                values[epoch] = value
                trial.report(value, epoch)
                # The last epoch has nothing after it that could be spared.
                is_pruned = epoch < self.request.epochs and trial.should_prune()
                connection.send(is_pruned)
        return values, is_pruned

    def _tell(self, trial: optuna.Trial, values: Mapping[int, float], code: int, *, is_pruned: bool) -> None:
        finite = [value for value in values.values() if math.isfinite(value)]
        study = self.study.study
        if code == 0 and is_pruned:
            study.tell(trial, state=TrialState.PRUNED)
        elif code == 0 and finite:
            study.tell(trial, min(finite) if self.request.monitor.minimize else max(finite))
        else:
            name = self.request.monitor.name
            reason = f"{name} was NaN or infinite in every epoch" if code == 0 else _reason(code)
            trial.set_user_attr(FAILED, reason)
            study.tell(trial, state=TrialState.FAIL)
        print(ended_line(self.study, trial.number))

    def _stopped(self, trial: optuna.Trial, number: int) -> StoppedError:
        self.study.interrupt(trial)
        write_table(self.study)
        return StoppedError(
            f"stopped by {signal.Signals(number).name} in trial {trial.number}, which is marked as failed; go on with: "
            f"{self.command()}",
            number,
        )

    def command(self) -> str:
        """Return the command that goes on with the search."""
        request = self.request
        storage = [] if request.storage is None else ["--tune-storage", request.storage]
        search = ["--tune", *map(str, request.terms), "--trials", str(request.trials), *storage]
        return command(
            "assay", "train", request.experiment, *request.arguments, *search, "--run-dir", self.study.folder
        )


def _received(connection: Any) -> tuple[int, float] | None:
    try:
        epoch, value = connection.recv()
        return epoch, value
    except EOFError:  # the trial has ended
        return None


def _reason(code: int) -> str:
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return "its values were refused" if code == USAGE else "ended with an error"


def _end(process: BaseProcess, number: int) -> None:
    """Let a trial end by itself after a signal, which a terminal has sent it too; a second Ctrl-C ends it at once."""
    try:
        process.join(_HEARD_S)
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, number)
        process.join()
    except KeyboardInterrupt:
        process.kill()
        process.join()
