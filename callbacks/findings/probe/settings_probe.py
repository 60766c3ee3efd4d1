"""Settings of a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class CriterionProbe:
    """A criterion.

    Attributes:
        name: of its class or function.
        kind: what it computes: ``cross_entropy``, ``nll``, ``bce_logits``, ``bce``, ``mse``, ``l1``, ``smooth_l1``,
            ``dice``, ``focal``, ... by the name of the field; "" where it is of the user's own.
        reduction: ``mean``, ``sum`` or ``none``; None where it is unknown.
        class_weights: of each class, as given; None: there are none.
        pos_weight: of each label; None: there is none.
        ignore_index: target that does not count; None: every one counts.
        label_smoothing: share.
    """

    name: str
    kind: str = ""
    reduction: str | None = None
    class_weights: tuple[float, ...] | None = None
    pos_weight: tuple[float, ...] | None = None
    ignore_index: int | None = None
    label_smoothing: float = 0.0


@dataclass(frozen=True)
class TermProbe:
    """One term of the loss: ``weight * criterion(output, target)``; ``label`` is what it is logged as."""

    label: str
    output: str
    target: str
    weight: float
    criterion: CriterionProbe


@dataclass(frozen=True)
class GroupProbe:
    """One group of an optimizer's parameters.

    Attributes:
        lr: learning rate at the start, before any warm-up.
        weight_decay: 0 where there is none.
        momentum: of SGD; the first beta of Adam and its like.
        beta2: the second beta of Adam and its like; None elsewhere.
        parameters: names of its parameters in the model.
        maximize: whether its steps make the loss larger.
    """

    lr: float
    weight_decay: float = 0.0
    momentum: float = 0.0
    beta2: float | None = None
    parameters: tuple[str, ...] = ()
    maximize: bool = False


@dataclass(frozen=True)
class MonitorProbe:
    """A metric that decides on the best epoch."""

    loader: str
    metric: str
    minimize: bool


@dataclass(frozen=True)
class MetricProbe:
    """A callback that measures: its class's name, its keys, and what it was told of the data; None: nothing."""

    callback: str
    output_key: str | None = None
    target_key: str | None = None
    image_key: str | None = None
    num_classes: int | None = None
    ignore_index: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    task: str | None = None


@dataclass(frozen=True)
class SettingsProbe:
    """Settings of a run.

    Attributes:
        runner: name of the runner's class.
        of_experiment: whether ``assay train`` runs it, so that the fields of an experiment are what to change.
        epochs: how many are to be trained.
        batch_size: samples per batch of the training loader; None where it has no batches of one size.
        accumulate_steps: batches per optimizer step.
        steps_per_epoch: optimizer steps.
        clip_grad_norm: None: gradients are not clipped by norm.
        clip_grad_value: None: gradients are not clipped by value.
        optimizer: name of its class; several, joined by commas; "" where there is none.
        groups: of its parameters.
        lr_plan: factor on the learning rate at each of up to 400 evenly spaced steps of the whole run, the first one
            and the last one among them, as the scheduler plans it; empty where there is no scheduler or its plan
            depends on metrics, or nothing tells when the scheduler steps.
        lr_plans: by ``batch`` and by ``epoch``, what ``lr_plan`` would be if the scheduler stepped so.
        scheduler: name of its class; "" where there is none.
        scheduler_step: ``batch`` or ``epoch``.
        scheduler_length: how many of its steps the schedule is made for, as its arguments say; None where they do not.
        monitors: the first one decides on the best epoch.
        input_keys: what the models take of a batch.
        terms: of the loss; where the runner does not say, none before the model was looked at, then those at work.
        metrics: callbacks that measure.
        class_names: empty where nobody has named the classes.
        num_classes: as callbacks or the experiment know them; None where nobody does.
        precision: such as ``fp32``, ``bf16``, ``fp16``.
        task: ``multiclass``, ``binary``, ``multilabel``, ``regression``, ``segmentation``, ``detection`` or "", as far
            as criteria and callbacks tell; masks of several labels are ``multilabel``.
        ema_decay: of a moving average of the weights that is validated; None: there is none.
        ranks: how many processes.
        frozen_on_purpose: names of parameters that the run was told to freeze, as ``--freeze`` does.
        loaded: names of parameters that come from a file or from pretrained weights.
        fields: other settings by name, of an experiment.
    """

    runner: str = "DictRunner"
    of_experiment: bool = False
    epochs: int = 1
    batch_size: int | None = None
    accumulate_steps: int = 1
    steps_per_epoch: int = 1
    clip_grad_norm: float | None = None
    clip_grad_value: float | None = None
    optimizer: str = ""
    groups: tuple[GroupProbe, ...] = ()
    lr_plan: tuple[float, ...] = ()
    lr_plans: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    scheduler: str = ""
    scheduler_step: str = "epoch"
    scheduler_length: int | None = None
    monitors: tuple[MonitorProbe, ...] = ()
    input_keys: tuple[str, ...] = ("image",)
    terms: tuple[TermProbe, ...] = ()
    metrics: tuple[MetricProbe, ...] = ()
    class_names: tuple[str, ...] = ()
    num_classes: int | None = None
    precision: str = "fp32"
    task: str = ""
    ema_decay: float | None = None
    ranks: int = 1
    frozen_on_purpose: frozenset[str] = frozenset()
    loaded: frozenset[str] = frozenset()
    fields: Mapping[str, object] = field(default_factory=dict)
