"""Warnings of gradients that vanish, explode, die, break or are missing, once for each new set of parameters."""

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor

from ..errors import UsageError
from ..measures.gradient_stats import find_troubles
from ..support.distributed import world_size
from ..tensorboard.writer import Writer

_MOST_NAMES = 8  # of one kind, so that the line stays readable for a whole network
_MESSAGES = {
    "missing": "got no gradient (the loss does not depend on them, so they do not learn)",
    "dead": "died (all gradients are zero, so they do not learn)",
    # Residual blocks that begin as the identity, which timm's ResNets do, pass no gradient in the first step.
    "dead at first": "had gradients of zero in the first step, the only one that was observed (they died, unless their "
    "block begins at zero, as those of timm's ResNets do)",
    "vanished": "vanished (the norm is below {vanished_below:g} of the median, so they hardly learn)",
    "exploded": "exploded (the norm is above {exploded_above:g} times the median, or 1; --clip-grad-norm limits it)",
    "broken": "got NaN or infinite gradients (a smaller --lr often helps)",
}


class GradientWarnings:
    """Logs each problem of the gradients once for the same set of parameters.

    Args:
        vanished_below: a norm below this share of the median norm has vanished.
        exploded_above: a norm above this multiple of the median norm, or of 1 where that is smaller, has exploded.
    """

    def __init__(self, vanished_below: float, exploded_above: float):
        if not 0 <= vanished_below < 1:
            raise UsageError(f"vanished_below must be at least 0 and less than 1, got {vanished_below!r}.")
        if not exploded_above > 1:
            raise UsageError(f"exploded_above must be greater than 1, got {exploded_above!r}.")
        self._thresholds = {"vanished_below": vanished_below, "exploded_above": exploded_above}
        # The kind of each problem that was logged, with its parameters. Checkpoints hold it, so that a resumed run does
        # not log it again.
        self.logged: set[tuple[str, ...]] = set()

    def find(self, names: Sequence[str], summary: Mapping[str, Tensor]) -> dict[str, list[str]]:
        """Return the parameters whose gradients went wrong in an epoch, by kind of trouble; see ``find_troubles``."""
        found = {
            kind: [names[index] for index in indices]
            for kind, indices in find_troubles(summary, **self._thresholds).items()
        }
        if "vanished" in found:
            found["vanished"] = _without_idle_biases(found["vanished"], names)
        return {kind: chosen for kind, chosen in found.items() if chosen}

    def warn(
        self, writer: Writer, names: Sequence[str], summary: Mapping[str, Tensor], when: str, *, first_epoch: bool
    ) -> None:
        """Log the problems of an epoch that were not logged before.

        Args:
            writer: the writer of the loader.
            names: names of the parameters.
            summary: their statistics, see ``find_troubles``.
            when: the loader and its epoch, for the message.
            first_epoch: whether the first step of the run is among those that were observed.
        """
        for kind, chosen in self.find(names, summary).items():
            if kind == "dead" and first_epoch and _is_one_step(summary):
                kind = "dead at first"
            # The set of names is the key, not the kind: a layer that joins those that have vanished is news.
            if (kind, *chosen) not in self.logged:
                self.logged.add((kind, *chosen))
                message = _MESSAGES[kind].format(**self._thresholds)
                writer.warn(f"gradients, {when}: {_count(chosen)} {message}: {_list_names(chosen)}")


def _without_idle_biases(vanished: Sequence[str], names: Collection[str]) -> list[str]:
    """Return the vanished parameters without biases of layers whose weights learn.

    Such a bias has next to no gradient by construction: a normalization after it takes any constant out again, and
    where one output outweighs all others the gradient that is left is not that of the bias.
    """
    return [
        name
        for name in vanished
        if not name.endswith("bias")
        or (weight := f"{name.removesuffix('bias')}weight") not in names
        or weight in vanished
    ]


def _is_one_step(summary: Mapping[str, Tensor]) -> bool:
    # Each rank counts the steps that it has observed.
    return bool(summary["finite_steps"].max() <= world_size())


def _count(names: Sequence[str]) -> str:
    return f"{len(names)} parameter{'s' * (len(names) > 1)}"


def _list_names(names: Sequence[str]) -> str:
    listed = ", ".join(names[:_MOST_NAMES])
    return f"{listed} and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else listed
