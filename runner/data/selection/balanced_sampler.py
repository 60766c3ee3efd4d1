"""Draw items so that every class comes equally often."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler

from assay.callbacks.errors import UsageError, at_least_one
from assay.callbacks.keys import TARGET_KEY

from ..readers.item_list import ItemList


class BalancedSampler(Sampler[int]):
    """Draws as many items per epoch of each class, up to one; a class that is not there is left out.

    Within a class no item is drawn again before each other one was drawn as often: a rare class is repeated evenly, and
    of a frequent one each epoch sees another part. A runner seeds it by seed and epoch, so that each rank takes its
    batches of the same order, and a run that is resumed within an epoch goes on in it.

    Args:
        targets: the class of each item, integers [N].
        samples: how many to draw per epoch; by default as many as there are items.
        generator: draws the order; None: seeded by torch's own.

    Raises:
        UsageError: the targets are no class numbers, or there are none.

    Example:
        >>> torch.bincount(torch.tensor([0, 0, 0, 0, 0, 1])[list(BalancedSampler([0, 0, 0, 0, 0, 1]))]).tolist()
        [3, 3]
    """

    def __init__(
        self,
        targets: Sequence[Any] | Tensor,
        *,
        samples: int | None = None,
        generator: torch.Generator | None = None,
    ):
        numbers = torch.as_tensor(targets)
        if numbers.ndim != 1 or numbers.is_floating_point() or len(numbers) == 0:
            raise UsageError(
                f"targets must be one class number per item, got {str(numbers.dtype)[6:]} {list(numbers.shape)}."
            )
        self.samples = len(numbers) if samples is None else at_least_one("samples", samples)
        self.generator = generator
        self.by_class = [torch.nonzero(numbers == one).flatten() for one in numbers.unique()]

    @classmethod
    def of(cls, items: ItemList) -> "BalancedSampler":
        """Return the sampler of a data set with one class per item.

        Raises:
            UsageError: an item may have several classes, or none.
        """
        if items.task not in ("multiclass", "binary"):
            raise UsageError(
                f"sampler balanced needs one class per image, and those of {items.task} have any number: leave it out."
            )
        return cls(items.column(TARGET_KEY))

    def __len__(self) -> int:
        return self.samples

    def __iter__(self) -> Iterator[int]:
        drawn = torch.cat([self._draw(of, share) for of, share in zip(self.by_class, self._shares(), strict=True)])
        return iter(drawn[self._permutation(len(drawn))].tolist())

    def _shares(self) -> list[int]:
        """Return how many items to draw of each class; chance decides which classes get one more."""
        each, more = divmod(self.samples, len(self.by_class))
        shares = torch.full((len(self.by_class),), each)
        shares[self._permutation(len(shares))[:more]] += 1
        return shares.tolist()

    def _draw(self, indices: Tensor, count: int) -> Tensor:
        rounds, rest = divmod(count, len(indices))
        return torch.cat([indices.repeat(rounds), indices[self._permutation(len(indices))[:rest]]])

    def _permutation(self, count: int) -> Tensor:
        return torch.randperm(count, generator=self.generator)
