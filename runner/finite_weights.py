"""Refusing weights that hold NaN or infinite values: whatever follows from them would be wrong without a word."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from assay.callbacks.non_finite_report import NonFiniteError
from assay.callbacks.unwrapped import eager_name

_STATISTICS = ("running_mean", "running_var")


class BrokenWeightsError(NonFiniteError):
    """A model's weights are not finite; the message names the first of them and where they are from."""


def check_finite_weights(models: Mapping[str, nn.Module], source: str) -> None:
    """Raise where a parameter or a buffer is not finite. Reads the device once for each.

    An infinite value is let through in a buffer, where it may mask something out, but not in a running statistic.

    Args:
        models: by name, ``""`` for the only one.
        source: where the weights are from, for the error.

    Raises:
        BrokenWeightsError: it names the first tensor, and the number of its values that are not finite.
    """
    for key, model in models.items():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            broken = _broken(name, tensor, isinstance(tensor, nn.Parameter))
            if broken:
                full = eager_name(f"{key}.{name}" if key else name)
                raise BrokenWeightsError(
                    f"the weights of {source} are broken: {broken} of the {tensor.numel()} values of {full!r} are NaN "
                    "or infinite; choose another checkpoint, of an epoch before."
                )


def _broken(name: str, tensor: Tensor, is_parameter: bool) -> int:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return 0
    broken = ~tensor.isfinite() if is_parameter or name.endswith(_STATISTICS) else tensor.isnan()
    return int(torch.count_nonzero(broken))
