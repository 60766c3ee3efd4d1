"""What was observed of the first optimizer steps."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class StepProbe:
    """One optimizer step.

    Attributes:
        loss: of its last batch, on the main rank; NaN, though ``finite``, where no metric of the batch is called one.
        grad_norm: total norm of the gradients before clipping; None where it was not seen.
        lr: of each group, as the step used it.
        update: norm of the change of each watched parameter, by name; of a large one, estimated by its first rows; of a
            large model empty, as ``weight`` is, at some of the steps after the third.
        weight: norm of each watched parameter before the step, by name.
        grads: norm of the gradient of each watched parameter before clipping, by name.
        not_zeroed: whether gradients of before were still there when the first backward pass of the step began.
        finite: whether loss and gradients were.
        scale: of a gradient scaler; None where there is none.
        broken: names of up to eight samples whose part of a batch held NaN or infinity, by the key of the part.
    """

    loss: float
    grad_norm: float | None = None
    lr: tuple[float, ...] = ()
    update: Mapping[str, float] = field(default_factory=dict)
    weight: Mapping[str, float] = field(default_factory=dict)
    grads: Mapping[str, float] = field(default_factory=dict)
    not_zeroed: bool = False
    finite: bool = True
    scale: float | None = None
    broken: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class StepsProbe:
    """The first steps.

    Attributes:
        steps: in order, up to 30.
        on_copy: whether they were taken on a copy, on the first batch again and again.
        memorized: of steps on a copy, the loss on the one batch before the first step and before the last one; None
            elsewhere, and where a loss was not finite.
        buffers_moved: whether the statistics of normalization layers changed; None where there are none.
        modes: names of normalization and dropout layers in evaluation mode in training steps, but for those within a
            part of which no parameter is trained.
    """

    steps: tuple[StepProbe, ...]
    on_copy: bool = False
    memorized: tuple[float, float] | None = None
    buffers_moved: bool | None = None
    modes: tuple[str, ...] = ()
