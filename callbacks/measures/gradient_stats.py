"""Statistics of each parameter's gradient over an epoch, counted without waiting for the device."""

from collections.abc import Collection, Mapping, Sequence
from itertools import chain, islice
from typing import ClassVar

import torch
from torch import Tensor

from .measure import Reductions, is_on_cpu

_HALF_TYPES = (torch.float16, torch.bfloat16)
_SMALL = 16384  # up to here it is cheaper to copy gradients of one size together than to reduce each by itself
_PIECE = 1 << 18  # what a CPU takes the norm of at once: in float32 it loses 4e-4 over ten million
_BLOCK = 1 << 19  # what a CPU reads from memory once and reduces in its cache


class GradientStats:
    """Statistics of the gradients of several parameters over the steps they were observed at.

    The standard deviation follows from norm and mean, in float64: it is good to about 3e-4 of the root mean square.

    For each parameter a step is *finite* (every value of its gradient is), *broken* (some value is NaN or infinite) or
    *missing* (the gradient is None). All statistics are of the finite steps; broken and missing ones are counted apart.

    A step is taken in two parts: ``reduce`` makes a few numbers of each gradient where the gradients are, ``add``
    counts them, wherever they are by then. So a GPU computes what only it can, and its host adds up a small table that
    was copied without waiting. The state, float64 [P] each, is valid before the first step.

    Args:
        sizes: number of values of each parameter, at least 1 each.
        device: where the numbers are that are added.
    """

    reductions: ClassVar[Reductions] = {
        "min": "min",
        "max": "max",
        **dict.fromkeys(("mean", "std", "norm", "zeros", "non_finite", "update_ratio"), "sum"),
        **dict.fromkeys(("finite_steps", "broken_steps", "counted_steps", "missing_steps", "ratio_steps"), "sum"),
    }

    def __init__(self, sizes: Sequence[int], device: torch.device | str = "cpu"):
        self.sizes = torch.tensor(sizes, dtype=torch.float64, device=device)
        self.state = {name: torch.zeros_like(self.sizes) for name in self.reductions}
        # What a minimum and a maximum over ranks leave as it is, for a rank without a step.
        self.state["min"] += torch.inf
        self.state["max"] -= torch.inf
        self._by_size = _BySize(sizes)

    def update(
        self, gradients: Sequence[Tensor | None], *, suspects: Collection[int] = (), scale: Tensor | None = None
    ) -> None:
        """Add one step of gradients that are where the state is, see ``reduce``."""
        missing = [index for index, gradient in enumerate(gradients) if gradient is None]
        self.add(self.reduce(gradients, suspects=suspects, scale=scale), missing=missing, suspects=suspects)

    @torch.no_grad()
    def reduce(
        self, gradients: Sequence[Tensor | None], *, suspects: Collection[int] = (), scale: Tensor | None = None
    ) -> Tensor:
        """Return what ``add`` takes of one step: minimum, maximum, sum, norm and number of non-zeros of each gradient.

        Args:
            gradients: one per parameter, dense or sparse, of any floating point type; None where there is none. Of a
                sparse one the implied zeros count; adding up its repeated entries waits for a GPU.
            suspects: indices of the parameters whose NaN and infinite values are counted, which takes another pass over
                their gradients.
            scale: what the gradients were multiplied by (by a ``GradScaler``), of one element; None: by nothing.

        Returns:
            float64, [5, P] on the device of the gradients; with ``suspects`` [6, P], their counts last.
        """
        some = next((gradient for gradient in gradients if gradient is not None), self.sizes)
        # Only where one is missing, or not to be counted: making it is one more launch.
        unused = not suspects and all(gradient is not None for gradient in gradients)
        zero = some if unused else torch.zeros((), dtype=some.dtype, device=some.device)
        rows = self._by_size.reduce(gradients, zero) if is_on_cpu(some) else _reduce_together(gradients, zero)
        if scale is not None:
            # Four numbers per parameter are unscaled here, not all values of the gradients.
            rows[:4] /= scale
        return rows if not suspects else torch.cat([rows, _count_non_finite(gradients, suspects, zero)])

    @torch.no_grad()
    def add(self, rows: Tensor, *, missing: Collection[int] = (), suspects: Collection[int] = ()) -> Tensor:
        """Add one step, and return which gradients were broken, bool [P].

        Args:
            rows: what ``reduce`` returned.
            missing: indices of the parameters that had no gradient.
            suspects: those that ``reduce`` was given.
        """
        low, high, total, norm, nonzero = rows[:5]
        mean = total / self.sizes
        present = ~self._mask(missing)
        finite = present & low.isfinite() & high.isfinite()
        broken: Tensor = present & ~finite
        self._add("mean", mean, finite)
        self._add("std", (norm**2 / self.sizes - mean**2).clamp(min=0).sqrt(), finite)
        self._add("norm", norm, finite)
        self._add("zeros", 1 - nonzero / self.sizes, finite)
        self.state["min"] = torch.minimum(self.state["min"], torch.where(finite, low, torch.inf))
        self.state["max"] = torch.maximum(self.state["max"], torch.where(finite, high, -torch.inf))
        for name, steps in (("finite", finite), ("broken", broken), ("missing", ~present)):
            self.state[f"{name}_steps"] += steps
        if suspects:
            counted = broken & self._mask(suspects)
            self._add("non_finite", rows[5] / self.sizes, counted)
            self.state["counted_steps"] += counted
        return broken

    def update_ratio(self, before: Sequence[Tensor], after: Sequence[Tensor]) -> None:
        """Add how far one step moved weights that are where the state is, see ``reduce_update``."""
        self.add_ratio(self.reduce_update(before, after))

    @staticmethod
    @torch.no_grad()
    def reduce_update(before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
        """Return what ``add_ratio`` takes of one step: the norms of the weights and of the update, float64 [2, P].

        Args:
            before: the weights before the step, one per parameter; overwritten with the difference.
            after: the weights after it.
        """
        old = _norms(before)
        # In place, as the copies are not needed any more and another one would take as much memory as the model.
        torch._foreach_sub_(list(before), list(after))
        return torch.stack([*old, *_norms(before)]).to(torch.float64).reshape(2, -1)

    @torch.no_grad()
    def add_ratio(self, norms: Tensor) -> None:
        """Add how far one step moved the weights, relative to their norm; a step from norm 0 has no ratio."""
        ratio = norms[1] / norms[0]
        self._add("update_ratio", ratio, ratio.isfinite())
        self.state["ratio_steps"] += ratio.isfinite()

    def pack(self, state: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return all of the state, or of a reduced one, as one tensor [len(reductions), P], for ``summarize``."""
        state = state or self.state
        return torch.stack([state[name] for name in self.reductions])

    @classmethod
    def summarize(cls, packed: Tensor) -> dict[str, Tensor]:
        """Return the statistics of the epoch, [P] each, of a state that was packed.

        Returns:
            ``min`` of mins, ``max`` of maxes; the means over steps of ``mean``, ``std``, ``norm`` and ``zeros`` (share
            of values that are zero): all NaN without a finite step. ``non_finite``: the mean share of values that are
            NaN or infinite, over the broken steps at which the parameter was a suspect; NaN where there were none but
            broken ones, 0 where no step was broken. ``finite_steps``, ``broken_steps``, ``counted_steps`` (broken
            ones of a suspect), ``missing_steps``, ``ratio_steps``: their numbers.
        """
        state = dict(zip(cls.reductions, packed.unbind(), strict=True))
        finite, broken = state["finite_steps"], state["broken_steps"]
        for name in ("mean", "std", "norm", "zeros"):
            state[name] = state[name] / finite
        for name in ("min", "max"):
            state[name] = torch.where(finite > 0, state[name], torch.nan)
        state["non_finite"] = torch.where(broken > 0, state["non_finite"] / state["counted_steps"], 0.0)
        state["update_ratio"] = state["update_ratio"] / state["ratio_steps"]
        return state

    def _add(self, name: str, row: Tensor, counts: Tensor) -> None:
        self.state[name] += torch.where(counts, row, 0.0)

    def _mask(self, indices: Collection[int]) -> Tensor:
        mask = torch.zeros_like(self.sizes, dtype=torch.bool)
        if indices:
            mask[list(indices)] = True
        return mask


def find_troubles(
    summary: Mapping[str, Tensor], *, vanished_below: float, exploded_above: float
) -> dict[str, list[int]]:
    """Return the indices of the parameters whose gradients went wrong in an epoch, by kind of trouble.

    Args:
        summary: what ``GradientStats.summarize`` returned, on the host.
        vanished_below: share of the median norm of all parameters that have a gradient other than zero.
        exploded_above: multiple of that median, or of 1 where the median is smaller.
    """
    norm, finite = summary["norm"], summary["finite_steps"] > 0
    dead = finite & (summary["zeros"] == 1)
    alive = finite & ~dead
    median = norm[alive].quantile(0.5) if alive.any() else norm.new_tensor(0.0)
    troubles = {
        "missing": (summary["missing_steps"] > 0) & ~finite & (summary["broken_steps"] == 0),
        "dead": dead,
        "vanished": alive & (norm < vanished_below * median),
        "exploded": alive & (norm > exploded_above * median.clamp(min=1)),
        "broken": summary["broken_steps"] > 0,
    }
    return {kind: mask.nonzero().flatten().tolist() for kind, mask in troubles.items() if mask.any()}


class _BySize:
    """Reduces gradients on a CPU, where small ones of one size are reduced together and large ones in its cache.

    Args:
        sizes: number of values of each parameter.
    """

    def __init__(self, sizes: Sequence[int]):
        self._large = [index for index, size in enumerate(sizes) if size > _SMALL]
        self._groups: dict[int, list[int]] = {}
        for index, size in enumerate(sizes):
            if size <= _SMALL:
                self._groups.setdefault(size, []).append(index)
        order = [*chain(*self._groups.values()), *self._large]
        # Where each parameter is among the results, which come by size.
        self._places = torch.tensor(sorted(range(len(order)), key=order.__getitem__))

    def reduce(self, gradients: Sequence[Tensor | None], zero: Tensor) -> Tensor:
        """Return minimum, maximum, sum, norm and number of non-zeros of each gradient, [5, P]."""
        columns: list[tuple[Tensor, ...]] = []
        # Small gradients of one size are reduced together: a call per gradient would cost more than its values.
        for size, indices in self._groups.items():
            rows = torch.stack([_flat(gradients[index], zero, size) for index in indices])
            rows = rows.to(_wide_type(rows))
            norms = torch.linalg.vector_norm(rows, dim=1)
            columns.append((*rows.aminmax(dim=1), rows.sum(dim=1), norms, rows.count_nonzero(dim=1)))
        large = (_extremes_and_sums(_dense_values(gradients[index], zero)) for index in self._large)
        columns += [tuple(number.reshape(1) for number in numbers) for numbers in large]
        rows_of = (torch.cat(row).to(torch.float64) for row in zip(*columns, strict=True))
        return torch.stack(list(rows_of)).index_select(1, self._places)


def _reduce_together(gradients: Sequence[Tensor | None], zero: Tensor) -> Tensor:
    """Return what ``_BySize.reduce`` does on a GPU, by as many launches for a thousand gradients as for one.

    All reductions but the maximum are norms, as there are no others of a list. They take one copy of the gradients for
    a while, as torch's own optimizers do.
    """
    values = [_dense_values(gradient, zero) for gradient in gradients]
    highs, flipped = torch._foreach_max(values), torch._foreach_neg(values)
    extremes = torch.stack([*torch._foreach_max(flipped), *highs]).reshape(2, -1)
    torch._foreach_clamp_min_(flipped, 0)
    # In float64, in which no sum of float32 overflows.
    sums = [_foreach_norm(flipped, 1), _foreach_norm(values, 1), _foreach_norm(values, 2)]
    del flipped  # before the next copy
    sums.append(_foreach_norm(torch._foreach_sign(values), 1))
    negative, total, norm, nonzero = torch.stack([*chain(*sums)]).reshape(4, -1)
    # NaN wherever a value is not finite: a sum of absolute values cannot hide one.
    extremes = torch.where(total < torch.inf, extremes, torch.nan)
    extremes[0].neg_()
    # What is positive is the sum of absolute values less what is negative.
    total.sub_(negative, alpha=2)
    return torch.cat([extremes, torch.stack([total, norm, nonzero])])


def _foreach_norm(values: Sequence[Tensor], order: int) -> Sequence[Tensor]:
    norms: Sequence[Tensor] = torch._foreach_norm(list(values), order, dtype=torch.float64)
    return norms


def _count_non_finite(gradients: Sequence[Tensor | None], suspects: Collection[int], zero: Tensor) -> Tensor:
    """Return how many values of each suspect are NaN or infinite, [1, P]; 0 for the others."""
    counts = [zero] * len(gradients)
    for index in suspects:
        counts[index] = (~_dense_values(gradients[index], zero).isfinite()).sum()
    return torch.stack(counts).to(torch.float64)[None]


def _flat(gradient: Tensor | None, zero: Tensor, size: int) -> Tensor:
    if gradient is None:
        return zero.expand(size)
    return (gradient.to_dense() if gradient.is_sparse else gradient).reshape(-1)


def _dense_values(gradient: Tensor | None, zero: Tensor) -> Tensor:
    """Return values that have the extremes, sum, norm and number of non-zeros of the gradient."""
    if gradient is None:
        return zero.reshape(1)
    if not gradient.is_sparse:
        return gradient
    values = gradient.coalesce().values().flatten()
    # One zero stands for all that a sparse tensor implies: more of them change none of these numbers.
    implied = values.new_zeros(1 if values.numel() < gradient.numel() else 0)
    return torch.cat([values, implied])


def _extremes_and_sums(value: Tensor) -> tuple[Tensor, ...]:
    """Return minimum, maximum, sum, norm and number of non-zeros."""
    wide, pieces = _wide_type(value), _split_on_cpu(_in_memory_order(value), _BLOCK)
    rows = []
    # Block by block on a CPU, so that the five passes read memory once.
    for piece in pieces:
        total, norm = piece.sum(dtype=wide), torch.linalg.vector_norm(piece, dtype=wide)
        rows.append((*torch.aminmax(piece), total, norm, torch.count_nonzero(piece)))
    if len(rows) == 1:
        return rows[0]
    lows, highs, totals, norms, counts = (torch.stack(numbers).to(torch.float64) for numbers in zip(*rows, strict=True))
    return lows.amin(), highs.amax(), totals.sum(), torch.linalg.vector_norm(norms), counts.sum()


def _in_memory_order(value: Tensor) -> Tensor:
    """Return all values in one dimension, without a copy for tensors in ``channels_last``."""
    if value.ndim == 4 and value.is_contiguous(memory_format=torch.channels_last):
        value = value.permute(0, 2, 3, 1)
    return value.reshape(-1)


def _wide_type(value: Tensor) -> torch.dtype:
    # The sum of squares of float16 overflows in its own type, and bfloat16 has 8 bits.
    return torch.float32 if value.dtype in _HALF_TYPES else value.dtype


def _norms(values: Sequence[Tensor]) -> list[Tensor]:
    """Return the norm of each tensor; those of one type by one call."""
    by_type: dict[torch.dtype, list[int]] = {}
    for index, value in enumerate(values):
        by_type.setdefault(value.dtype, []).append(index)
    norms: dict[int, Tensor] = {}
    for indices in by_type.values():
        pieces = [_split_on_cpu(values[index], _PIECE) for index in indices]
        found = iter(torch._foreach_norm(list(chain(*pieces)), 2.0, dtype=_wide_type(pieces[0][0])))
        for index, parts in zip(indices, pieces, strict=True):
            of_parts = list(islice(found, len(parts)))
            norms[index] = of_parts[0] if len(parts) == 1 else torch.linalg.vector_norm(torch.stack(of_parts))
    return [norms[index] for index in range(len(values))]


def _split_on_cpu(value: Tensor, size: int) -> Sequence[Tensor]:
    """Return a tensor in pieces of about ``size`` values on a CPU, and whole on a GPU."""
    if not is_on_cpu(value) or value.numel() <= size:
        return (value,)
    pieces: Sequence[Tensor] = value.split(max(1, size * len(value) // value.numel()))
    return pieces
