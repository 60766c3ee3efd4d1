"""BatchNorm without running statistics: in evaluation samples are normalized by the others of their batch.

Source: torch's documentation of ``track_running_stats``.
Cost: none.
Risk: some generators and meta-learners want that; whoever does silences the rule.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ..parts import batch_norms, told, verb


@rule("no-running-stats", at="model", needs=["model"])
def no_running_stats(probe: Probe) -> Iterator[Finding]:
    """Find BatchNorm with ``track_running_stats=False``."""
    norms = batch_norms(probe.model) if probe.model else []
    names = [layer.name for layer in norms if layer.options.get("track_running_stats") is False]
    if names:
        yield Finding(
            "warning",
            f"{told(names, 'BatchNorm layer')} {verb(names, 'keeps', 'keep')} no running statistics "
            "(track_running_stats=False), so in evaluation a prediction depends on the other samples of its batch",
            "leave track_running_stats at True",
            Where(layer=names[0]),
            {"layers": names[:8], "count": len(names)},
        )
