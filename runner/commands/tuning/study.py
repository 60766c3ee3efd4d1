"""A study of Optuna in a folder that several processes share: which trials there are, and which is next."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import yaml
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from assay.callbacks.errors import UsageError
from assay.callbacks.support.atomic_files import save_text

from ...experiment.catalog import label
from ...experiment.field_names import flag_of
from ...saving.run_folder import RunFolder
from ...saving.yaml_files import read_fields
from .request import Request
from .terms import combinations
from .workers import is_at_work, remove

_STUDY = "study.yaml"
_JOURNAL = "study.log"
_CHOOSING = "choosing"
FAILED = "failed"
"""The attribute of a trial that failed by itself, with the reason; one that was interrupted has none."""
_WORKER = "worker"


class Study:
    """What several processes know of one search.

    Args:
        request: the search.

    Raises:
        UsageError: the folder holds something else, or another search.
    """

    def __init__(self, request: Request):
        self.request = request
        self.run_folder = _open_folder(request)
        self.folder = self.run_folder.path
        with self._alone():
            self.is_new = not (self.folder / _STUDY).exists()
            self._describe()
            directions = optuna.study.StudyDirection
            direction = directions.MINIMIZE if request.monitor.minimize else directions.MAXIMIZE
            with _damage_named(request.storage or str(self.folder / _JOURNAL)):
                self.study = optuna.create_study(
                    storage=_open_storage(request.storage, self.folder),
                    pruner=optuna.pruners.MedianPruner(),
                    study_name=self.folder.resolve().name,
                    direction=direction,
                    load_if_exists=True,
                )
            self.combined = combinations(request.terms, request.trials)
            self._try_each_once()

    def next_trial(self, worker: str) -> tuple[optuna.Trial, dict[str, str]] | None:
        """Return a new trial and the value of each term; None where as many as were asked for are done or running.

        Args:
            worker: the name of this process.
        """
        with self._alone():
            self.fail_lost_trials()
            if self.remaining() <= 0:
                return None
            # The values follow from the seed and the number of the trial, in whichever process and start it is made.
            self.study.sampler = optuna.samplers.TPESampler(seed=self._seed(len(self.all_trials())))
            trial = self.study.ask()
            trial.set_user_attr(_WORKER, worker)
            return trial, {term.name: term.suggest(trial) for term in self.request.terms}

    def fail_lost_trials(self) -> None:
        """Mark as failed the trials whose processes are no more."""
        for trial in self.all_trials(TrialState.RUNNING):
            worker = str(trial.user_attrs.get(_WORKER))
            if not is_at_work(self.folder, worker):
                self.interrupt(trial)
                remove(self.folder, worker)

    def interrupt(self, trial: FrozenTrial | optuna.Trial) -> None:
        """Mark a trial that could not end as failed; its values are tried again."""
        self.study.tell(trial.number, state=TrialState.FAIL)
        if trial.params:
            self.study.enqueue_trial(trial.params)

    def remaining(self) -> int:
        """Return how many trials are neither done nor running."""
        if self.combined is not None:
            return len(self.all_trials(TrialState.WAITING))
        return self.request.trials - sum(counts(trial) for trial in self.all_trials())

    @property
    def trials(self) -> int:
        """How many there are to be in all."""
        return self.request.trials if self.combined is None else len(self.combined)

    def all_trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Return the trials in some states, or all of them, in the order of their numbers."""
        return self.study.get_trials(deepcopy=False, states=states or None)

    def trial_folder(self, number: int) -> Path:
        """Return the run folder of a trial."""
        return self.folder / f"trial-{number:04d}"

    def _describe(self) -> None:
        described = {
            "experiment": label(self.request.experiment),
            "--tune": [str(term) for term in self.request.terms],
            "--tune-storage": self.request.storage,
            "fields": dict(self.request.fields),
        }
        if self.is_new:
            save_text(self.folder / _STUDY, yaml.safe_dump(described, sort_keys=False))
        else:
            _check_same(self.folder, read_fields(self.folder / _STUDY, what="it"), described)

    def _try_each_once(self) -> None:
        """Where there are no more combinations than trials, try each of them: a second time it would be the same."""
        for values in self.combined or ():
            self.study.enqueue_trial(values, skip_if_exists=True)

    def _seed(self, number: int) -> int:
        return int(np.random.SeedSequence([self.request.seed, number]).generate_state(1)[0])

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from choosing a trial too; a lock that a killed process left ends after 30 seconds."""
        lock = JournalFileOpenLock(str(self.folder / _CHOOSING))
        lock.acquire()
        try:
            yield
        finally:
            lock.release()


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial is one of those that were asked for: not one that was interrupted, or waits."""
    if trial.state == TrialState.FAIL:
        return FAILED in trial.user_attrs
    return trial.state != TrialState.WAITING


def _open_folder(request: Request) -> RunFolder:
    if request.folder is not None and request.folder.is_dir():
        held = {path.name for path in request.folder.iterdir()}
        # The lock alone: another process is about to describe the search.
        if _STUDY in held or held == {f"{_CHOOSING}.lock"}:
            return RunFolder(request.folder)
    return RunFolder.create(request.folder, f"{label(request.experiment)}/tune")


def _check_same(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    for part in (before, now):
        part |= {flag_of(name): value for name, value in part.pop("fields", {}).items()}
    for name, value in now.items():
        if before.get(name) != value:
            raise UsageError(
                f"--run-dir {folder} holds a search with another {name}: it was {_said(before.get(name))}, got "
                f"{_said(value)}; give what it was, or another folder."
            )


def _said(value: Any) -> str:
    return repr(" ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else value)


def _open_storage(text: str | None, folder: Path) -> JournalStorage | RDBStorage:
    """Return the storage that ``--tune-storage`` names, by default a journal in the study's folder."""
    if text is not None and "://" in text:
        # Processes that report at the same time wait for each other.
        return RDBStorage(text, engine_kwargs={"connect_args": {"timeout": 60}})
    path = str(Path(text) if text is not None else folder / _JOURNAL)
    # Not the lock by a symbolic link, which is looked up relative to its own folder, and waits for ever.
    return JournalStorage(JournalFileBackend(path, lock_obj=JournalFileOpenLock(path)))


@contextmanager
def _damage_named(storage: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, optuna.exceptions.StorageInternalError) as error:
        raise UsageError(f"the search cannot be kept in {storage}, or it is damaged: {error}") from error
