"""A model that says the same class of all samples.

Source: "unbalanced training data" of N. Humbatova et al., 2020; AUTOTRAINER (X. Zhang et al., 2021).
Cost: none beyond the counts of an epoch.
Risk: the first epoch of a small data set; so a hundred steps have to be made.
"""

from collections.abc import Iterator

from ...probe.finding import Finding, Where
from ...probe.probe import Probe
from ...probe.rule import rule
from ...probe.wording import class_name, share
from .valid_at_chance import CAUSES as CAUSES_OF_CHANCE

_PREDICTED, _LABELLED = 0.99, 0.6
_FEWEST, _FEWEST_STEPS = 50, 100
_CAUSES = (
    *CAUSES_OF_CHANCE, "rare-classes", "zero-weights", "constant-output", "learning-rate-too-low", "dead-units",
    "weights-do-not-change", "constant-loss", "ignored-class", "class-weights-inverted", "softmax-before-loss",
    "inverted-loss", "weights-not-finite", "outputs-not-finite", "non-finite-steps", "all-frozen", "small-weights",
    "softmax-over-wrong-axis", "relu-before-loss", "sigmoid-before-loss", "schedule-at-zero", "heavy-weight-decay",
)  # fmt: skip


@rule("one-class-predicted", at="epoch", needs=["epochs"], explained_by=_CAUSES)
def one_class_predicted(probe: Probe) -> Iterator[Finding]:
    """Find loaders with several classes of which one alone is predicted after an epoch."""
    last = probe.epochs[-1]
    for key, predicted in last.prediction_counts.items():
        labels = last.label_counts.get(key)
        if labels is None or min(labels.sum(), predicted.sum()) < _FEWEST or (last.steps or 0) < _FEWEST_STEPS:
            continue
        part, most = predicted.max() / predicted.sum(), labels.max() / labels.sum()
        if key.startswith("valid") and part >= _PREDICTED and most <= _LABELLED:
            name = class_name(int(predicted.argmax()), probe.settings.class_names)
            yield Finding(
                "warning",
                f"after epoch {last.epoch} the model predicts class {name} for {share(part, 1)} of {key}, where it is "
                f"{share(labels[int(predicted.argmax())], labels.sum())} of the labels",
                "look at the loss, the learning rate, and the model's mode in validation",
                Where(loader=key),
                {"predicted": float(part), "labelled": float(most)},
            )
