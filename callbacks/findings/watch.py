"""``Watch``: what the observers have seen of a run, as the ``Probe`` of each moment."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from tqdm import tqdm

from ..keys import IMAGE_KEY, TARGET_KEY
from ..support.runner_view import given_loaders, history_of, seeds_items
from .observe.data.loaders import observe_data
from .observe.data.sample_reader import Keys
from .observe.loss.at_work import terms_at_work
from .observe.passes.model import observe_model_and_trial
from .observe.passes.rehearsal import rehearse
from .observe.settings.settings import observe_settings
from .observe.training.epochs import EpochWatch
from .observe.training.features import FeatureWatch
from .observe.training.steps import StepsWatch
from .probe.epoch_probe import EpochProbe
from .probe.model_probe import ModelProbe
from .probe.probe import Probe
from .probe.settings_probe import SettingsProbe
from .probe.trial_probe import TrialProbe

_SECONDS = 1.25  # of reading samples in a quick check, so that it ends within two
_FEATURES_AFTER = 1  # the epoch


class Watch:
    """Observes a run and returns what was seen of it at each moment.

    Args:
        runner: that has started its experiment.
        full: whether to read all samples.
        fields: settings of an experiment by name; None: the run is none of an experiment.
        image_key: see ``Findings``.
        target_key: see ``Findings``.
        sample_id_key: see ``Findings``.
    """

    def __init__(
        self,
        runner: Any,
        *,
        full: bool,
        fields: Mapping[str, object] | None,
        image_key: str | int | None,
        target_key: str | int | None,
        sample_id_key: str | int,
    ):
        self.runner, self.full = runner, full
        settings = observe_settings(runner)
        of_experiment = fields is not None or settings.of_experiment
        settings = replace(settings, of_experiment=of_experiment, fields=fields or settings.fields)
        self.keys = _keys(settings, image_key, target_key, sample_id_key)
        self.probe = Probe(settings=settings)
        self._steps = StepsWatch(sample_id_key=sample_id_key)
        self._epoch, self._features = EpochWatch(), FeatureWatch()
        self._watches = (self._steps, self._epoch, self._features)
        self._took_steps = False
        self._batches: Mapping[str, tuple[Any, ...]] = {}
        self._tried: tuple[ModelProbe | None, TrialProbe | None] = (None, None)

    def look_ahead(self, *, tries: bool) -> None:
        """Read samples in processes of their own. A collective: each rank reads a share for the main one.

        Args:
            tries: whether the main rank tries out copies of model and loss meanwhile.
        """
        with tqdm(desc="check", unit="sample", leave=False, disable=not self._shows_progress) as bar:
            seen = observe_data(
                given_loaders(self.runner),
                keys=self.keys,
                full=self.full,
                seconds=_SECONDS,
                by_chance=seeds_items(self.runner),
                on_progress=partial(_advance, bar),
                meanwhile=self._try if tries else None,
            )
        self._batches = seen.batches if self.full else {}
        self.probe = replace(self.probe, loaders=seen.loaders)

    def data(self) -> Probe:
        """Return what was seen of the data."""
        return self.probe

    def settings(self) -> Probe:
        """Return what is known of a run that goes on, whose weights are not looked at again."""
        return self.probe

    def _try(self, batches: Mapping[str, tuple[Any, ...]]) -> None:
        self._tried = observe_model_and_trial(self.runner, batches, self.probe.settings)

    def model(self) -> Probe:
        """Return what was seen of copies of model and loss."""
        model, trial = self._tried
        settings = self.probe.settings
        if not settings.terms and trial is not None:
            settings = replace(settings, terms=terms_at_work(trial))
        self.probe = replace(self.probe, settings=settings, model=model, trial=trial)
        return self.probe

    def rehearsal(self) -> Probe:
        """Take steps on copies of model, loss and optimizer, and return what was seen of them."""
        batches, self._batches = self._batches, {}
        self.probe = replace(self.probe, steps=rehearse(self.runner, batches, self.probe.settings))
        return self.probe

    def steps(self) -> Probe:
        """Return what was seen of the first steps."""
        self.probe = replace(self.probe, steps=self._steps.probe)
        return self.probe

    def epoch(self) -> Probe:
        """Return what was seen of the epoch that has ended."""
        return self.probe

    def take_steps(self) -> bool:
        """Return once whether the first steps are there for ``steps``; at the end of a loader alike on every rank."""
        is_new = not self._took_steps and self._steps.probe is not None
        self._took_steps |= is_new
        return is_new

    @property
    def _shows_progress(self) -> bool:
        return self.full and bool(self.runner.engine.is_main_process) and sys.stderr.isatty()

    def begin_loader(self) -> None:
        """Begin to watch a loader."""
        for watch in self._watches:
            watch.on_loader_start(self.runner)

    def begin_batch(self) -> None:
        """Watch a batch before it is handled."""
        for watch in (self._steps, self._features):
            watch.on_batch_start(self.runner)

    def end_batch(self) -> None:
        """Watch a batch after it was handled."""
        for watch in self._watches:
            watch.on_batch_end(self.runner)

    def end_loader(self) -> None:
        """Watch the end of a loader."""
        for watch in self._watches:
            watch.on_loader_end(self.runner)

    def end_epoch(self) -> None:
        """Keep what was seen of an epoch. A collective."""
        epoch = self._epoch.probe(self.runner)
        features = self._features.probes() if self.runner.epoch_step == _FEATURES_AFTER else self.probe.features
        if epoch is not None:
            former = self.probe.epochs or self._former_epochs(epoch.epoch)
            self.probe = replace(self.probe, epochs=(*former, epoch), features=features)

    def _former_epochs(self, epoch: int) -> tuple[EpochProbe, ...]:
        """Return the epochs of a run that goes on, of which nothing is known but their metrics."""
        history = history_of(self.runner)
        return tuple(EpochProbe(of, history[of]) for of in sorted(history) if of < epoch)

    def release(self) -> None:
        """Remove what was attached to the run."""
        for watch in self._watches:
            watch.release()


def _keys(
    settings: SettingsProbe, image_key: str | int | None, target_key: str | int | None, sample_id_key: str | int
) -> Keys:
    targets = [term.target for term in settings.terms] or [it.target_key for it in settings.metrics if it.target_key]
    image = image_key if image_key is not None else next(iter(settings.input_keys), IMAGE_KEY)
    first = target_key if target_key is not None else next(iter(targets), TARGET_KEY)
    others = tuple(dict.fromkeys(key for key in targets if key is not None and key != first))
    return Keys(image_key=image, target_key=first, sample_id_key=sample_id_key, further=others)


def _advance(bar: Any, done: int, total: int) -> None:
    bar.total, bar.n = total, done
    bar.refresh()
