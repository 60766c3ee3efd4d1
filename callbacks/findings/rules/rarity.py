"""Classes that are thirty times rarer than the most frequent one."""

from collections import Counter
from collections.abc import Iterator

from ..probe.finding import Finding, Where
from ..probe.loader_probe import LoaderProbe
from ..probe.probe import Probe
from ..probe.settings_probe import SettingsProbe
from ..probe.wording import class_name
from .class_counts import imbalance

# From here on plain cross-entropy tends to leave the rare class out; 1 to 10 is common and harmless.
_RATIO = 30
_SHOWN = 3


def weighted(settings: SettingsProbe, train: LoaderProbe) -> bool:
    """Return whether the loss or the sampler gives rare classes more weight."""
    criteria = [term.criterion for term in settings.terms]
    by_loss = any(
        one.class_weights is not None or one.pos_weight is not None or one.kind in ("focal", "dice") for one in criteria
    )
    sampler = train.sampler.lower()
    return by_loss or any(word in sampler for word in ("weighted", "balanc", "class", "stratif"))


def rare_classes_of(probe: Probe, train: LoaderProbe, counts: Counter[int], *, complete: bool) -> Iterator[Finding]:
    """Yield a finding where a class is that rare, beyond what the number of samples leaves open."""
    if sum(number > 0 for number in counts.values()) < 2:
        return
    most, _ = imbalance(counts)
    rare = {
        label: number
        for label, number in counts.items()
        if number and _at_most(number, complete=complete) * _RATIO <= counts[most]
    }
    if rare:
        yield _finding(probe, train, rare, (most, counts[most]))


def _at_most(number: int, *, complete: bool) -> float:
    """Return the count that a larger part of the data may show in place of this one, by three standard errors."""
    return number if complete else float(number + 3 * (number + 1) ** 0.5)


def _finding(probe: Probe, train: LoaderProbe, rare: dict[int, int], most: tuple[int, int]) -> Finding:
    names = probe.settings.class_names
    few = sorted(rare.items(), key=lambda item: item[1])
    shown = ", ".join(f"{number:,} of class {class_name(label, names)}" for label, number in few[:_SHOWN])
    more = f" and {len(few) - _SHOWN} more such classes" if len(few) > _SHOWN else ""
    return Finding(
        "warning",
        f"{train.key} has {shown}{more} against {most[1]:,} of class {class_name(most[0], names)}, up to"
        f" {most[1] / few[0][1]:.0f} to 1, and neither the loss nor the sampler evens it out",
        "give the loss class weights, or draw rare classes more often",
        Where(train.key, train.target_key),
        {"rare": {str(label): number for label, number in few[:20]}, "most": most[1]},
    )
