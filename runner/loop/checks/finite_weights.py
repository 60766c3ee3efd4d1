"""Reject weights with NaN or infinite values, from which every result would be silently wrong."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from assay.callbacks.non_finite.report import NonFiniteError
from assay.callbacks.support.unwrap import eager_name

_STATISTICS = ("running_mean", "running_var")  # buffers of normalization layers


class BrokenWeightsError(NonFiniteError):
    """A model's weights are not finite; the message names the first such tensor and the source."""


def check_finite_weights(models: Mapping[str, nn.Module], source: str) -> None:
    """Raise where a parameter or a buffer is not finite. Reads the device once per tensor.

    Args:
        models: by name; ``""`` for a single one.
        source: where the weights come from, for the message.

    Raises:
        BrokenWeightsError: the message names the first tensor, and how many of its values are not finite.
    """
    for key, model in models.items():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            broken = _count_broken(name, tensor, isinstance(tensor, nn.Parameter))
            if broken:
                full = eager_name(f"{key}.{name}" if key else name)
                raise BrokenWeightsError(
                    f"the weights of {source} are broken: {broken} of the {tensor.numel()} values of {full!r} are NaN "
                    "or infinite; choose a checkpoint of an earlier epoch."
                )


def _count_broken(name: str, tensor: Tensor, is_parameter: bool) -> int:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return 0
    # A buffer may hold infinity on purpose, as attention masks do; running statistics and parameters may not.
    broken = ~tensor.isfinite() if is_parameter or name.endswith(_STATISTICS) else tensor.isnan()
    return int(torch.count_nonzero(broken))
