"""The fields that every experiment has, by purpose. They are the flags, the YAML and the help text at once."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from assay.callbacks.levels import Level

from ..choices import SCHEDULERS, Device, OnBadImage, OnSaveError, Precision
from .marks import Mark
from .ranges import AtLeast, AtMost, GreaterThan, LessThan, OneOf

LARGEST_SEED = 2**31 - 1  # Catalyst adds rank and epoch to it, and NumPy takes 32 bits


@dataclass(kw_only=True)
class Training:
    """Training."""

    epochs: Annotated[int, AtLeast(1), Mark.RESUMABLE] = 10
    """How many times the training data is gone through."""
    batch_size: Annotated[int, AtLeast(1)] = 32
    """Samples a step, of each process."""
    accumulate_steps: Annotated[int, AtLeast(1)] = 1
    """Batches an optimizer step: the gradient is that of all of them together."""
    clip_grad_norm: Annotated[float | None, GreaterThan(0)] = None
    """Largest norm of the gradient of all parameters together."""
    clip_grad_value: Annotated[float | None, GreaterThan(0)] = None
    """Largest absolute value of an element of the gradient."""
    seed: Annotated[int, AtLeast(0), AtMost(LARGEST_SEED)] = 42
    """All chance follows from it: initial weights, order and augmentation."""
    overfit_batches: Annotated[int | None, AtLeast(1)] = None
    """Train and validate on the same batches, so many of each process, drawn by the seed and not augmented, and say at
    the end whether the model could learn them by heart: to a metric of 0.95, or a tenth of the first loss."""
    limit_batches: Annotated[int | None, AtLeast(1)] = None
    """Dry run: take at most so many batches of each loader, of each process."""
    sanity_batches: Annotated[int, AtLeast(0), Mark.RESUMABLE] = 1
    """Batches of each loader for validation, of each process, that are tried out before the first epoch, so that an
    error in validation costs no epoch; 0: none."""
    patience: Annotated[int | None, AtLeast(1), Mark.OBSERVING] = None
    """Stop after so many epochs without a better value of the first monitor."""
    ema_decay: Annotated[float | None, GreaterThan(0), LessThan(1)] = None
    """Decay of a moving average of the weights, such as 0.999, which is validated and saved beside them."""
    non_finite: Literal["stop", "skip", "off"] = "stop"
    """What NaN or Inf in a loss, an output or a gradient does: stop the run, skip the step, or nothing (off)."""
    detect_anomaly: Annotated[bool, Mark.OBSERVING] = False
    """Find the operation whose backward pass gives NaN, by torch's anomaly mode; several times slower."""


@dataclass(kw_only=True)
class Optimization:
    """Optimizer."""

    optimizer: str = "AdamW"
    """An optimizer of torch.optim."""
    lr: Annotated[float, GreaterThan(0)] = 1e-3
    """Learning rate, the largest one of the schedule."""
    lr_batch_size: Annotated[int | None, AtLeast(1)] = None
    """Samples a step that lr is meant for: it is scaled to those of a step of all processes; by default it is not."""
    weight_decay: Annotated[float | None, AtLeast(0)] = None
    """Weight decay; by default the optimizer's own."""
    momentum: Annotated[float | None, AtLeast(0)] = None
    """Momentum, or the first of the betas; by default the optimizer's own."""
    optimizer_options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the optimizer, such as '{nesterov: true}'."""


@dataclass(kw_only=True)
class Schedule:
    """Schedule of the learning rate."""

    scheduler: Annotated[str, OneOf(SCHEDULERS)] = "cosine"
    """none, cosine, one-cycle, multi-step, cyclic or plateau."""
    warmup_epochs: Annotated[float, AtLeast(0)] = 0.0
    """Length of a linear warm-up; of one-cycle, of its rising part."""
    lr_min: Annotated[float, AtLeast(0)] = 0.0
    """cosine, cyclic, plateau: the smallest learning rate."""
    milestones: list[int] = field(default_factory=list)
    """multi-step: epochs after which the learning rate is multiplied by gamma."""
    gamma: Annotated[float, GreaterThan(0)] = 0.1
    """multi-step, plateau: the factor."""
    cycle_epochs: Annotated[float, GreaterThan(0)] = 4.0
    """cyclic: length of a cycle in epochs."""
    plateau_patience: Annotated[int, AtLeast(0)] = 3
    """plateau: epochs without a better value of the first monitor before the learning rate drops."""
    scheduler_options: dict[str, Any] = field(default_factory=dict)
    """one-cycle, cyclic, plateau: further arguments of torch's scheduler."""


@dataclass(kw_only=True)
class FineTuning:
    """Fine-tuning."""

    pretrained: bool = False
    """Start from pretrained weights, which are downloaded unless they are on this machine."""
    weights: Annotated[str | None, Mark.PER_MACHINE] = None
    """Start from the weights of a run, of its best epoch, or of a .pt, .pth or .safetensors file. What does not fit,
    such as a head of another size, is listed and starts anew."""
    freeze: str | None = None
    """Leave parameters as they are whose names match this regular expression anywhere, such as '^encoder', and the
    statistics of BatchNorm in parts that are frozen as a whole."""
    unfreeze_epoch: Annotated[int | None, AtLeast(2)] = None
    """First epoch that trains what --freeze names; by default none does."""
    lr_decay: Annotated[float | None, GreaterThan(0), LessThan(1)] = None
    """Factor of the learning rate from each layer to the one before it, such as 0.75; the last one has lr."""
    lr_head: Annotated[float | None, GreaterThan(0)] = None
    """Learning rate of what starts anew where the rest is pretrained or loaded; where all or nothing is, of the
    head."""


@dataclass(kw_only=True)
class Data:
    """Data."""

    data_dir: Annotated[str | None, Mark.RESUMABLE, Mark.PER_MACHINE] = None
    """Folder with the data set."""
    exclude: Annotated[str | None, Mark.PER_MACHINE] = None
    """CSV file of marks, as the gallery saves them: samples marked skip are left out, and those marked wrong_label that
    --relabel does not correct."""
    relabel: Annotated[str | None, Mark.PER_MACHINE] = None
    """CSV file of marks, which may be the same: samples marked wrong_label get the class that stands there."""
    workers: Annotated[int, AtLeast(0), Mark.RESUMABLE, Mark.PER_MACHINE] = 0
    """Processes that load the data; 0: the training process itself."""
    on_bad_image: OnBadImage = "raise"
    """What a sample that cannot be read does: end the run, or it is left out and listed at the end (skip)."""


@dataclass(kw_only=True)
class Machine:
    """Machine."""

    device: Annotated[Device, Mark.RESUMABLE, Mark.PER_MACHINE] = "auto"
    """Where to train; auto: a GPU where there is one."""
    precision: Precision = "fp32"
    """Precision of the forward pass; the weights stay in fp32."""
    threads: Annotated[int | None, AtLeast(1), Mark.RESUMABLE, Mark.PER_MACHINE] = None
    """Threads for computing on the CPU; by default torch's own number."""
    deterministic: bool = False
    """Use deterministic algorithms only; slower on a GPU."""
    channels_last: bool = False
    """Store what convolutions work on as [N, H, W, C]; faster on GPUs, in half precision above all."""
    compile: bool = False
    """Compile the model with torch.compile; the first step of each shape takes longer."""
    sync_batchnorm: bool = False
    """Normalize batches over all processes together, on GPUs."""
    find_unused_parameters: bool = False
    """Several processes: let a step leave out some parameters; each step takes longer."""


@dataclass(kw_only=True)
class Saving:
    """Checkpoints and logs."""

    monitor: list[str] = field(default_factory=lambda: ["valid/loss:min"])
    """Metrics to choose the best epochs by, as LOADER/METRIC:min or :max; the first decides best.pt."""
    top_k: Annotated[int, AtLeast(1), Mark.OBSERVING] = 1
    """Best epochs to keep by each monitor."""
    save_every_steps: Annotated[int | None, AtLeast(1), Mark.RESUMABLE] = None
    """Save after so many optimizer steps too, within an epoch; by default at the end of each epoch alone."""
    save_every_minutes: Annotated[float | None, GreaterThan(0), Mark.RESUMABLE] = None
    """Save within an epoch too, when the last checkpoint is so old."""
    on_save_error: Annotated[OnSaveError, Mark.RESUMABLE] = "stop"
    """What a checkpoint that cannot be written does: stop the run, or warn and go on with those of before."""
    log_every_steps: Annotated[int, AtLeast(0), Mark.OBSERVING] = 10
    """How often metrics of a batch are logged; 0: never."""


@dataclass(kw_only=True)
class Diagnosing:
    """Diagnostics."""

    diagnostics: Annotated[Level, Mark.OBSERVING] = "full"
    """What TensorBoard shows of the model; off: metrics alone."""
    check: Annotated[Literal["quick", "full", "off"], Mark.OBSERVING] = "quick"
    """Say what is wrong with data, model, loss and settings before training and in its first epochs: quick looks at
    samples for a second or two, full reads them all; errors that make the run worthless end it."""
    silence: Annotated[list[str], Mark.OBSERVING] = field(default_factory=list)
    """Rules of check that do not look, by name; docs/findings.md lists them."""
    sample_history: Annotated[Literal["auto", "on", "off"], Mark.OBSERVING] = "auto"
    """Write what becomes of each sample, epoch by epoch, to samples/ of the run, where diagnostics is full; auto: of
    loaders with up to 200,000 samples."""
    # A share: the hint is for those who give a percentage.
    max_overhead: Annotated[float | None, GreaterThan(0), AtMost(1, "0.05 is 5%"), Mark.OBSERVING] = None
    """Most time that the diagnostics may take, as a share of the loop's, such as 0.05: the costly ones are thinned."""


GROUPS = (Training, Optimization, Schedule, FineTuning, Data, Machine, Saving, Diagnosing)

MOST_USED = (
    "epochs", "batch_size", "lr", "optimizer", "scheduler", "pretrained", "weights", "data_dir", "workers", "device",
    "precision", "monitor",
)  # fmt: skip
"""What the short help shows beside the fields of an experiment's own."""
