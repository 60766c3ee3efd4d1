"""Which of many tensors hold NaN or infinite values."""

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor


def flag_values(tensors: Sequence[Tensor]) -> Tensor:
    """Return for each tensor whether it holds a value that is not finite, exactly.

    Args:
        tensors: at least one, of any shapes and floating point types and devices.

    Returns:
        [len(tensors)], float32: 1 where a value is NaN or infinite, else 0; on the device of the first.
    """
    flags = [_holds_non_finite(tensor.detach()) for tensor in tensors]
    return torch.stack([flag.to(flags[0].device, non_blocking=True) for flag in flags]).float()


def flag_gradients(gradients: Sequence[Tensor]) -> Tensor:
    """Return for each gradient whether its norm is not finite, at half the cost of ``flag_values``.

    A gradient of finite values whose norm is above 1.8e19 is flagged too: its squares overflow in float32, and with
    them the state of optimizers that keep squares.

    Args:
        gradients: at least one, of any shapes, types and devices; a sparse one is coalesced, which waits for a
            GPU.

    Returns:
        [len(gradients)], float32: 1 where the square of the norm is NaN or infinite; on the device of the first.
    """
    dense = [_dense_reals(gradient.detach()) for gradient in gradients]
    # At least float32: a norm above 65,504 is infinite in float16, without a value that is.
    dtype = reduce(torch.promote_types, (gradient.dtype for gradient in dense), torch.float32)
    norms = torch._foreach_norm(dense, 2, dtype=dtype)
    together = torch.stack([norm.to(norms[0].device, non_blocking=True) for norm in norms])
    return (~torch.isfinite(together.float().square())).float()


def flag_samples(part: Tensor) -> Tensor:
    """Return for each entry along the first axis of [N, ...] whether it holds a value that is not finite: [N], bool."""
    return ~torch.isfinite(part.detach()).reshape(len(part), -1).all(dim=1)


def _holds_non_finite(tensor: Tensor) -> Tensor:
    plain = _dense_reals(tensor)
    if plain.numel() == 0:
        return torch.zeros((), dtype=torch.bool, device=plain.device)
    # One pass without a mask of the whole tensor; NaN wins in both extremes.
    smallest, largest = torch.aminmax(plain)
    return ~(torch.isfinite(smallest) & torch.isfinite(largest))


def _dense_reals(tensor: Tensor) -> Tensor:
    """Return the values as a dense tensor of real numbers."""
    dense = tensor.coalesce().values() if tensor.is_sparse else tensor
    return torch.view_as_real(dense) if dense.is_complex() else dense
