"""What each term of the loss makes of outputs that are known: right, wrong, blank."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .settings_probe import CriterionProbe


@dataclass(frozen=True)
class TermTrial:
    """One term, given outputs in the shape of the model's and the targets of the first training batch.

    What could not be tried, as no right output is known, is None.

    Attributes:
        label: of the term.
        actual: its value on the model's own outputs.
        blank: its value on outputs of 0 for every class or number.
        right: its value where the output of the true class is 8 and the others are -8 (numbers: the target itself).
        wrong: the same with the next class in the place of the true one (numbers: the target's negative plus 1).
        right_probabilities: its value where the output of the true class is 0.999 and the others share the rest.
        wrong_probabilities: the same for the next class.
        half: its value on the model's own outputs for the first half of the batch; ``other_half`` for the rest.
        other_half: see ``half``.
        of_class: mean value for the samples (pixels) of each class on blank outputs, by class.
        shifted: its value on the model's own outputs plus 1 for all classes: equal to ``actual`` for a softmax.
        output_shape: of the model's output.
        target_shape: of the target.
        target_dtype: as torch calls it, without ``torch.``.
        target_low: smallest target.
        target_high: largest target.
        target_std: of the targets.
        output_std: of the outputs.
        error: message of a criterion that failed on the model's own outputs.
        output: key of the model's output; "" where nobody tells.
        target: key of the target; "" where nobody tells.
        weight: its factor in the loss, of a term that nobody declares.
        criterion: what it computes, as far as it was seen at work.
        takes: kind of the function of torch's that takes the output itself, whatever is made of its value; "": unknown.
        made_by: operation that made the output, see ``OutputProbe``.
        spread: shapes of an output and of a target that were repeated along each other.
        softmax_axes: over which it takes softmaxes of the output.
    """

    label: str
    actual: float | None = None
    blank: float | None = None
    right: float | None = None
    wrong: float | None = None
    right_probabilities: float | None = None
    wrong_probabilities: float | None = None
    half: float | None = None
    other_half: float | None = None
    of_class: Mapping[int, float] = field(default_factory=dict)
    shifted: float | None = None
    output_shape: tuple[int, ...] = ()
    target_shape: tuple[int, ...] = ()
    target_dtype: str = "int64"
    target_low: float = 0.0
    target_high: float = 0.0
    target_std: float = 0.0
    output_std: float = 0.0
    error: str = ""
    output: str = ""
    target: str = ""
    weight: float = 1.0
    criterion: CriterionProbe | None = None
    takes: str = ""
    made_by: str = ""
    spread: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    softmax_axes: tuple[int, ...] = ()


@dataclass(frozen=True)
class TrialProbe:
    """The trials of all terms, by label, and the number of samples of the batch."""

    terms: Mapping[str, TermTrial]
    batch_size: int = 1
