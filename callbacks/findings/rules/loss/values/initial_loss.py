"""A loss that begins far from what knowing nothing costs.

Source: "verify loss @ init" of A. Karpathy's recipe, 2019.
Cost: one call of the criterion with outputs of 0.
Risk: heads on pretrained features begin at up to twice the loss of chance, and a trained model far below it, which is
left out. Five times is beyond what any usual initialization gives. Cosines that are scaled on purpose begin higher, and
a model that is given the target makes its loss harder by a margin, as ArcFace does.
"""

from collections.abc import Iterator
from math import isfinite, log

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ..seen_terms import SeenTerm, with_trials

_KINDS = ("cross_entropy", "bce_logits", "focal")
_HIGH = 5.0
# Of outputs that a factor makes larger: cosines times 30 begin at six times the loss of chance.
_SCALED = 10.0
# A fresh model that is this sure of the right answers has been told them.
_LOW = 0.3
_CAUSES = (
    "large-weights", "exploding-signal", "unnormalized", "scale-0-255", "outputs-not-finite", "weights-not-finite",
    "different-scale", "label-base", "output-count", "softmax-before-loss", "sigmoid-before-loss", "relu-before-loss",
    "labels-outside", "inverted-loss", "summed-loss", "void-not-ignored", "mask-scale",
)  # fmt: skip


@rule("initial-loss", at="model", needs=["trial"], explained_by=_CAUSES)
def initial_loss(probe: Probe) -> Iterator[Finding]:
    """Find terms over classes that begin far above, or as a fresh model far below, the loss of chance."""
    fresh = not (probe.settings.loaded or probe.model is None or probe.model.pretrained)
    for term, trial in with_trials(probe):
        actual, chance = trial.actual, trial.blank
        if term.kind not in _KINDS or actual is None or chance is None or not isfinite(actual) or chance <= 0:
            continue
        if actual > _limit(term) * chance and term.target_key not in probe.settings.input_keys:
            yield Finding(
                "warning",
                f"term {term.label!r} begins at {actual:.3g}, and {chance:.3g} is the loss of knowing nothing: the "
                f"outputs {_named(term)}are far too large (standard deviation {trial.output_std:.3g} instead of about "
                "1), so the model begins sure of wrong answers",
                "give the last layer smaller initial weights, or normalize what it is given",
                Where(key=term.output_key or None),
                {"actual": actual, "chance": chance, "output_std": trial.output_std},
            )
        elif fresh and _tells_classes(term) and actual < _LOW * chance:
            yield Finding(
                "note",
                f"term {term.label!r} begins at {actual:.3g} before any step, and knowing nothing costs {chance:.3g}: "
                "the model may be given the answers as an input",
                "look at the inputs of the model for the target",
                Where(key=term.output_key or None),
                {"actual": actual, "chance": chance},
            )


def _limit(term: SeenTerm) -> float:
    return _SCALED if term.output is not None and term.output.made_by == "mul" else _HIGH


def _named(term: SeenTerm) -> str:
    return f"{term.output_key!r} " if term.output_key else ""


def _tells_classes(term: SeenTerm) -> bool:
    """Whether the first batch holds several classes of one per sample: else a bias alone explains a low loss."""
    trial = term.trial
    if trial is None or term.kind != "cross_entropy" or len(trial.output_shape) != 2:
        return False
    return len(trial.of_class) > max(2, term.classes / 2) and (trial.blank or 0) > log(2) * 0.9
