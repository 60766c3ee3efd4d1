"""Weights of classes that are larger for frequent classes than for rare ones.

Source: weights that are the counts, not their inverse; ``pos_weight`` is negatives by positives, not the reverse.
Cost: a count of labels.
Risk: weights that say what mistakes cost; so most classes must follow their frequency, and it must differ by half.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.wording import class_name
from ..seen_terms import SeenTerm, seen_terms
from ..values.occurring import occurring

# Frequencies and weights that are nearer to each other say nothing.
_RATIO = 1.5
# Correlation of the logarithms; counts in the place of their inverse give 1.
_CORRELATION = 0.7
# A label this rare needs more weight, not half of it.
_RARE, _LESS = 1 / 3, 0.7


@rule("class-weights-inverted", at="model", needs=["settings", "loaders"])
def class_weights_inverted(probe: Probe) -> Iterator[Finding]:
    """Compare the weights of each criterion with how often its classes occur in training."""
    for term in seen_terms(probe):
        shares = occurring(probe, term)
        if term.criterion.class_weights is not None:
            yield from _weights(probe, term, shares)
        elif term.criterion.pos_weight is not None:
            yield from _positive(probe, term, shares)


def _weights(probe: Probe, term: SeenTerm, shares: Mapping[int, float]) -> Iterator[Finding]:
    given = term.criterion.class_weights or ()
    known = [index for index, weight in enumerate(given) if weight > 0 and shares.get(index)]
    if len(known) < 2:
        return
    parts, weights = np.array([shares[index] for index in known]), np.array([given[index] for index in known])
    most, least = known[int(parts.argmax())], known[int(parts.argmin())]
    if parts.max() < _RATIO * parts.min() or given[most] < _RATIO * given[least]:
        return
    if np.corrcoef(np.log(parts), np.log(weights))[0, 1] < _CORRELATION:
        return
    names = probe.settings.class_names
    yield Finding(
        "warning",
        f"the class weights of term {term.label!r} are the wrong way round: class {class_name(most, names)}, the most "
        f"frequent ({shares[most]:.0%}), has {given[most]:.3g}, and {class_name(least, names)}, the rarest "
        f"({shares[least]:.1%}), has {given[least]:.3g}",
        "give rare classes the larger weights, such as 1 / count",
        Where(key=term.target_key or None, field="class_weights"),
        {"weights": list(given)[:64], "shares": [shares.get(index, 0.0) for index in range(min(64, len(given)))]},
    )


def _positive(probe: Probe, term: SeenTerm, shares: Mapping[int, float]) -> Iterator[Finding]:
    given = term.criterion.pos_weight or ()
    ones = {0: shares.get(1, 0.0)} if len(given) == 1 and 0 in shares and term.classes <= 1 else shares
    known = {index: (weight, ones[index]) for index, weight in enumerate(given) if 0 < ones.get(index, 0.0) < 1}
    rare = {index: it for index, it in known.items() if it[1] < _RARE}
    wrong = [index for index, (weight, _) in rare.items() if weight < _LESS]
    if not wrong or len(wrong) <= len(rare) / 2:
        return
    weight, part = known[wrong[0]]
    which = f"label {class_name(wrong[0], probe.settings.class_names)}" if len(given) > 1 else "class 1"
    yield Finding(
        "warning",
        f"the pos_weight of term {term.label!r} is the wrong way round: {which} is rare ({part:.1%}) and its weight "
        f"is {weight:.3g}, below 1",
        f"set pos_weight to negatives / positives, here {(1 - part) / part:.3g}",
        Where(key=term.target_key or None, field="pos_weight"),
        {"pos_weight": weight, "share": part},
    )
