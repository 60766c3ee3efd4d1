"""Training in the same order in each epoch.

Source: ``DataLoader`` does not shuffle by default; Y. Bengio, "Practical Recommendations for Gradient-Based Training of
Deep Architectures", 2012.
Cost: two orders of indices.
Risk: data may be mixed already, so it is a note.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.loader_probe import LoaderProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.wording import count


@rule("unshuffled-training", at="data", explained_by=["ordered-labels"])
def unshuffled_training(probe: Probe) -> Iterator[Finding]:
    """Find training loaders that give their samples in the same order in each epoch."""
    for loader in probe.loaders.values():
        if loader.trains and loader.batches > 1 and _same_order(loader):
            yield Finding(
                "note",
                f"{loader.key} gives its {count(loader.length, 'sample')} in the same order in each epoch",
                "shuffle it (shuffle=True), unless the order matters",
                Where(loader.key),
                {"shuffles": loader.shuffles},
            )


def _same_order(loader: LoaderProbe) -> bool:
    if len(loader.order) and len(loader.later_order):
        return [*loader.order] == [*loader.later_order]
    return loader.shuffles is False
