"""What the parts of a run ask of the runner that they belong to."""

from collections.abc import Mapping
from typing import Any, Protocol

from torch.utils.data import DataLoader

from assay.callbacks.support.runner_view import BatchPlace

from ...data.sharding import RankBatch
from ...recipe.losses import LossTerm
from ...recipe.monitor import Monitor
from ...recipe.weight_average import MovingAverage
from ..checks.target_checks import TargetChecks
from .loader_loss import LoaderLoss


# The parts import this file and never the runner, which imports them: so there is no circle, and each part shows what
# it depends on. Components are Any, as Catalyst takes one or several by name.
class RunView(Protocol):
    """A ``DictRunner`` as its parts see it."""

    # What the runner was made with.
    losses: tuple[LossTerm, ...]
    options_of_steps: tuple[str, ...]
    accumulate_steps: int
    ema_decay: float | None
    scheduler_step: str
    scheduler_monitor: Monitor
    log_every_steps: int

    # What a run is made of.
    engine: Any
    model: Any
    criterion: Any
    optimizer: Any
    scheduler: Any
    ema_: MovingAverage | None
    loaders: dict[str, DataLoader[Any]]
    all_loaders: dict[str, DataLoader[Any]]
    callbacks: dict[str, Any]
    loggers: dict[str, Any]
    stock_: Any
    settings_: dict[str, Any]
    targets: TargetChecks
    keys_of_samples: set[str]

    # Other parts, of which none imports another: those would be a circle.
    optimizer_step: Any
    run_state: Any
    unfreezing: Any

    # Where the run is.
    epoch_step: int
    epoch_rounds: int
    batch_step: int
    sample_step: int
    history: dict[int, dict[str, dict[str, float]]]
    epoch_metrics: dict[str, dict[str, float]]
    need_early_stop: bool

    # Of the loader that is being run, and its batch.
    loader_key: str
    loader: DataLoader[Any]
    loader_loss: LoaderLoss
    loader_metrics: dict[str, float]
    loader_batches: int
    loader_batch_size: int
    loader_batch_len: int
    loader_sample_len: int
    loader_batch_step: int
    loader_sample_step: int
    is_train_loader: bool
    rank_batches: list[RankBatch]
    place: BatchPlace
    batch: Any
    batch_size: int
    batch_metrics: dict[str, Any]

    # Catalyst's Runner keeps under these names what ``train`` was given, before anything is set up.
    _model: Any
    _criterion: Any
    _optimizer: Any
    _scheduler: Any
    _callbacks: Any
    _loggers: Any
    _logdir: str | None
    _resume: str | None
    _valid_loader: str | None
    _valid_metric: str | None
    _minimize_valid_metric: bool | None
    _load_best_on_end: bool
    _verbose: bool

    @property
    def seed(self) -> int:
        """Seed of the run."""

    @property
    def num_epochs(self) -> int:
        """How many epochs the run is to have."""

    @property
    def loader_rounds(self) -> int:
        """Rounds of the loader so far."""

    @property
    def computes_loss(self) -> bool:
        """Whether the loader that is being run has a loss."""

    @property
    def trained_model(self) -> Any:
        """The model that the optimizer steps, or several by name, also while validation uses their average."""

    def get_loaders(self) -> Mapping[str, DataLoader[Any]]:
        """Return the loaders as ``train`` was given them."""

    def handle_batch(self, batch: Mapping[str, Any]) -> None:
        """Run the model on a batch that counts, and take the step."""

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return the named outputs of a batch."""

    def load_model_state(self, state: Mapping[str, Any]) -> None:
        """Load the weights of the models."""

    def close_log(self) -> None:
        """Close the loggers."""

    def _run_event(self, event: str) -> None: ...
    def _take_step(self) -> None: ...
