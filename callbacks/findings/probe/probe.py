"""``Probe``: all that was observed of a run, as rules read it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .epoch_probe import EpochProbe, FeatureProbe
from .loader_probe import LoaderProbe
from .model_probe import ModelProbe
from .settings_probe import SettingsProbe
from .steps_probe import StepsProbe
from .trial_probe import TrialProbe


@dataclass(frozen=True)
class Probe:
    """What was observed of a run; a part that is None or empty could not be observed, or not yet.

    Attributes:
        settings: of the run.
        loaders: samples and first batches of each loader, by its key.
        model: its parameters, layers and outputs on the first batch, before any step.
        trial: what the loss makes of outputs that are right, wrong or blank.
        steps: the first optimizer steps.
        epochs: those that have ended, in order.
        features: by loader, what the model makes of samples after an epoch.
    """

    settings: SettingsProbe = field(default_factory=SettingsProbe)
    loaders: Mapping[str, LoaderProbe] = field(default_factory=dict)
    model: ModelProbe | None = None
    trial: TrialProbe | None = None
    steps: StepsProbe | None = None
    epochs: tuple[EpochProbe, ...] = ()
    features: Mapping[str, FeatureProbe] = field(default_factory=dict)

    @property
    def train(self) -> LoaderProbe | None:
        """The first loader for training."""
        return next((loader for loader in self.loaders.values() if loader.trains), None)

    @property
    def valid(self) -> LoaderProbe | None:
        """The first loader for validation."""
        return next((loader for key, loader in self.loaders.items() if key.startswith("valid")), None)
