"""A loss that is larger for right answers than for wrong ones.

Source: a sign that is missing or doubled; "dice" in the place of "1 - dice"; a check of A. Karpathy's recipe, 2019.
Cost: two calls of the criterion.
Risk: outputs that are no answers, as embeddings or similarities; there both made outputs cost much the same. A negative
weight of one term beside others may be meant (an adversary), and is left out. An output whose logarithm or exponential
is compared with a number costs most where it is the number itself; so a right number has to cost no more than a score.
A distance is small for what is alike; so an output of 0 and above is an answer only if a sigmoid or the like makes it.
"""

from collections.abc import Iterator
from math import prod

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.trial_probe import TermTrial
from ..seen_terms import SeenTerm, seen_terms

# Of the larger of both: answers that are sure differ by far in what they cost.
_MARGIN = 0.5
# Of a score that is taken for a loss, as a correlation; a negative error is 0.
_BEST_SCORE = 1.0
_OF_SHARES = ("sigmoid", "softmax", "exp", "clamp", "hardsigmoid", "relu")


@rule("inverted-loss", at="model", needs=["trial"], explained_by=[
    "logits-for-probabilities", "outputs-not-finite", "broadcast-shapes",
])  # fmt: skip
def inverted_loss(probe: Probe) -> Iterator[Finding]:
    """Find terms of which a right answer costs more than a wrong one, or whose weight is negative."""
    terms = seen_terms(probe)
    for term in terms:
        costs = _costs(term, term.trial)
        if costs is not None and costs[0] > costs[1] + _MARGIN * max(map(abs, costs)):
            right, wrong = costs
            yield Finding(
                "error",
                f"term {term.label!r} of the loss is larger for right answers ({right:.3g}) than for wrong ones "
                f"({wrong:.3g}): training makes the model worse",
                "change the sign, or take 1 minus the score",
                Where(key=term.output_key or None),
                {"right": right, "wrong": wrong},
            )
        elif all(it.weight < 0 for it in terms) and costs is not None and costs[0] < costs[1]:
            yield Finding(
                "error",
                f"term {term.label!r} has the weight {term.weight:g}, so that right answers cost more than wrong ones",
                "give the term a positive weight",
                Where(key=term.output_key or None),
                {"weight": term.weight},
            )


def _costs(term: SeenTerm, trial: TermTrial | None) -> tuple[float, float] | None:
    """Return what right and wrong answers cost, in the form in which the model gives its answers."""
    if trial is None or _is_no_score(trial) or _is_distance(term, trial):
        return None
    scores, shares = (trial.right, trial.wrong), (trial.right_probabilities, trial.wrong_probabilities)
    if term.output is None or term.output.low < 0 or term.output.high > 1:
        known = scores
    else:
        known = shares if None not in shares else scores
    right, wrong = known
    return None if right is None or wrong is None else (right, wrong)


def _is_no_score(trial: TermTrial) -> bool:
    """Return whether what a right number costs, as there are no probabilities of it, is more than a score can be."""
    return trial.right is not None and trial.right_probabilities is None and trial.right > _BEST_SCORE


def _is_distance(term: SeenTerm, trial: TermTrial) -> bool:
    """Return whether an output of a loss of the user's own is 0 and more, one for each label, and no share."""
    output = term.output
    alone = not term.kind and prod(trial.output_shape) == prod(trial.target_shape)
    shares = output is not None and (not output.made_by or any(one in output.made_by for one in _OF_SHARES))
    return alone and output is not None and output.low >= 0 and not shares
