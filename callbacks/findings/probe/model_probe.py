"""What was observed of a model: its parameters and layers, and what they do on the first batch, before any step."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ParameterProbe:
    """One parameter.

    Attributes:
        name: in the model.
        shape: of the parameter.
        dtype: as torch calls it, without ``torch.``.
        trains: its ``requires_grad``.
        optimized: whether an optimizer has it.
        mean: of its values.
        std: of its values.
        low: smallest value.
        high: largest value.
        alike_rows: whether all outputs of its layer have the same weights, [out, ...] compared along the first axis.
        norm: Euclidean.
        grad_norm: of its gradient on the first training batch; None: the loss does not reach it.
        finite: whether all values are.
        before_norm: whether it is a bias whose layer is followed by a normalization, where its gradient is 0 for good.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    trains: bool = True
    optimized: bool = True
    mean: float = 0.0
    std: float = 1.0
    low: float = -1.0
    high: float = 1.0
    alike_rows: bool = False
    norm: float = 1.0
    grad_norm: float | None = 1.0
    finite: bool = True
    before_norm: bool = False


@dataclass(frozen=True)
class LayerProbe:
    """One module without children, or with parameters of its own, in the order in which it is first called.

    Attributes:
        name: in the model.
        kind: name of its class.
        training: its mode in a training step of the run.
        calls: in one forward pass.
        out_shape: of its output on the first batch; () where it is no tensor.
        out_mean: of the output in float64.
        out_std: of the output.
        out_largest: largest absolute value.
        out_zero: share of values that are exactly 0.
        dead: share of channels (axis 1) that are 0 for the whole batch.
        grad_std: of the gradient of the loss with respect to its output; None where none arrives.
        options: its settings where it has them: ``p``, ``momentum``, ``eps``, ``track_running_stats``, ``affine``,
            ``num_groups``, ``dim``, ``inplace``, ``bias``.
        values_per_channel: of a normalization over the batch, how many values each statistic is taken of.
    """

    name: str
    kind: str
    training: bool = True
    calls: int = 1
    out_shape: tuple[int, ...] = ()
    out_mean: float = 0.0
    out_std: float = 1.0
    out_largest: float = 1.0
    out_zero: float = 0.0
    dead: float = 0.0
    grad_std: float | None = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)
    values_per_channel: int | None = None


@dataclass(frozen=True)
class OutputProbe:
    """One output of the model on the first training batch, in the mode in which it trains.

    Attributes:
        key: its name.
        shape: of the output.
        dtype: as torch calls it, without ``torch.``.
        values: up to 4096 rows [n, C] float32: samples, or pixels drawn over all samples, by classes (axis 1).
        low: smallest value.
        high: largest value.
        sums: smallest and largest sum over each axis, by axis; empty where values are negative.
        exp_sums: the same of the exponentials of values of which none is above 0, as logarithms of probabilities are.
        requires_grad: whether the loss can train through it.
        has_loss: whether a term of the loss takes it.
        measured: whether a metric takes it.
        evaluated: smallest and largest value in evaluation mode, over the first validation batch; None: it is not
            given there.
        made_by: name of the operation that made it, as autograd calls it in small letters, such as ``sigmoid``,
            ``addmm`` or ``convolution``, without those that only change shapes; "" where it is unknown.
    """

    key: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    values: NDArray[np.float32] | None = None
    low: float = 0.0
    high: float = 0.0
    sums: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    exp_sums: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    requires_grad: bool = True
    has_loss: bool = True
    measured: bool = False
    evaluated: tuple[float, float] | None = None
    made_by: str = ""


@dataclass(frozen=True)
class EntryProbe:
    """What becomes of images between the call of a model and its first layer with weights: x * scale + offset.

    Attributes:
        scale: of each channel.
        offset: of each channel.
        low: smallest value of the images that the model is given; of a list of images, the median of theirs.
        high: largest value.
        kind: name of the class of that layer, or of the part of the model that normalizes.
    """

    scale: tuple[float, ...]
    offset: tuple[float, ...]
    low: float
    high: float
    kind: str


@dataclass(frozen=True)
class ModelProbe:
    """What was observed of a model.

    Attributes:
        parameters: in the order of the model.
        layers: in the order in which they are first called; uncalled ones are in ``uncalled``.
        outputs: by key.
        buffers_finite: whether all buffers are.
        uncalled: names of modules with parameters that the first batch never went through.
        plain_modules: modules, and parameters, that stand in a plain list, tuple or dict of a module, so that
            nobody trains or moves them, as ``module.attribute[0]``.
        late_parameters: names of parameters that did not exist before the first forward pass.
        detached: names of layers with trainable parameters whose output is used, yet no gradient comes back.
        leaks: largest share of the gradient of one sample's output that goes to the other samples' inputs, in
            evaluation mode, by output key; 0: none; None: it could not be observed.
        constant: by output key, whether all samples of the batch get the same output in evaluation mode.
        loss: of the first training batch; None where it could not be computed.
        term_losses: of the first training batch, by label, not weighted.
        term_grads: norm of the gradient that each term alone gives the model, weighted, by label.
        batch_size: samples of the batch it was observed on.
        pretrained: whether weights come from elsewhere, by what the model says of itself or is told.
        trains_in_eval: whether the run's training step leaves the whole model in evaluation mode.
        trains_in_valid: whether the run's step on a validation batch puts a whole model in training mode.
        dropouts: probability of functions of dropout that no layer shows, by where they stand in the code, such as
            ``forward (net.py, line 12)``, in training.
        valid_dropouts: those that drop something in evaluation mode too.
        broken_by: the operation that first makes the gradient of a finite loss NaN or infinite, and where it stands in
            the code, such as ``sqrt in forward (net.py, line 12)``; "" where gradients are finite or it is unknown.
        entry: how the model scales the images of the first training batch; None: it is not known.
        valid_entry: the same of the first validation batch, in evaluation mode.
        criterion_left_out: names of parameters of the criterion's own, such as a learned temperature or the centres of
            classes, that would train if an optimizer had them.
    """

    parameters: tuple[ParameterProbe, ...] = ()
    layers: tuple[LayerProbe, ...] = ()
    outputs: Mapping[str, OutputProbe] = field(default_factory=dict)
    buffers_finite: bool = True
    uncalled: tuple[str, ...] = ()
    plain_modules: tuple[str, ...] = ()
    late_parameters: tuple[str, ...] = ()
    detached: tuple[str, ...] = ()
    leaks: Mapping[str, float | None] = field(default_factory=dict)
    constant: Mapping[str, bool] = field(default_factory=dict)
    loss: float | None = None
    term_losses: Mapping[str, float] = field(default_factory=dict)
    term_grads: Mapping[str, float] = field(default_factory=dict)
    batch_size: int = 1
    pretrained: bool = False
    trains_in_eval: bool = False
    trains_in_valid: bool = False
    dropouts: Mapping[str, float] = field(default_factory=dict)
    valid_dropouts: Mapping[str, float] = field(default_factory=dict)
    broken_by: str = ""
    entry: EntryProbe | None = None
    valid_entry: EntryProbe | None = None
    criterion_left_out: tuple[str, ...] = ()
