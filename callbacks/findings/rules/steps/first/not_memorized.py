"""One batch that cannot be learned by heart.

Source: "overfit one batch" of A. Karpathy's recipe, 2019.
Cost: thirty steps on a copy, in a full check.
Risk: low learning rates and heavy dropout; so it is a note, and speaks only beside another finding, which it supports.
"""

from collections.abc import Iterator

from ....probe.finding import Finding
from ....probe.probe import Probe
from ....probe.rule import rule

# What thirty steps at a usable learning rate always gain.
_LEFT = 0.95
_FEWEST = 20


@rule("not-memorized", at="steps", needs=["steps"], only_beside_others=True, explained_by=[
    "group-rate-too-high",
    "learning-rate-too-high", "learning-rate-too-low", "weights-do-not-change", "schedule-at-zero", "constant-loss",
])  # fmt: skip
def not_memorized(probe: Probe) -> Iterator[Finding]:
    """Find copies whose loss on the one batch that they are trained on does not fall."""
    steps = probe.steps
    if steps is None or steps.memorized is None or len(steps.steps) < _FEWEST:
        return
    before, after = steps.memorized
    if before > 0 and after > _LEFT * before:
        yield Finding(
            "note",
            f"a copy of the model does not learn one batch by heart: {len(steps.steps)} steps on it bring its loss "
            f"from {before:.3g} to {after:.3g}",
            "look at the other findings, and at the learning rate",
            evidence={"before": before, "after": after},
        )
