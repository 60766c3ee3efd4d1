"""What was seen of each term of the loss: its criterion, its output and its trial."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import isclose, log

from ...probe.model_probe import OutputProbe
from ...probe.probe import Probe
from ...probe.settings_probe import CriterionProbe
from ...probe.trial_probe import TermTrial

# Shares and logs of floats that are equal but for rounding, in single and in half precision.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class SeenTerm:
    """One term; what was not seen of it is None.

    Attributes:
        label: what it is logged as.
        criterion: as far as settings tell.
        kind: of the criterion, or what its values show it to be.
        takes: kind of what takes the output itself: of a loss of the user's own, that of the function in it.
        weight: its factor in the loss.
        output: what the model gave.
        output_key: name of that.
        target_key: name of the target; "" where nobody tells.
        trial: its values on known outputs.
        samples: in the batch of the trial.
    """

    label: str
    criterion: CriterionProbe
    kind: str
    takes: str
    weight: float
    output: OutputProbe | None
    output_key: str
    target_key: str
    trial: TermTrial | None
    samples: int

    @property
    def classes(self) -> int:
        """Numbers that the model gives for each sample or pixel; 0 where they are not known."""
        shape = self.output.shape if self.output is not None else self.trial.output_shape if self.trial else ()
        return shape[1] if len(shape) > 1 else 0

    @property
    def name(self) -> str:
        """How sentences call its criterion."""
        return self.criterion.name or {"cross_entropy": "cross entropy"}.get(self.kind, "the loss")


def seen_terms(probe: Probe) -> list[SeenTerm]:
    """Return the terms that settings declare, or those that were seen at work in a run of the user's own."""
    trials = probe.trial.terms if probe.trial is not None else {}
    declared = {term.label: term for term in probe.settings.terms}
    return [_seen(probe, label, trials.get(label)) for label in declared or trials]


def _seen(probe: Probe, label: str, trial: TermTrial | None) -> SeenTerm:
    term = next((term for term in probe.settings.terms if term.label == label), None)
    criterion = term.criterion if term is not None else CriterionProbe("")
    if trial is not None and trial.criterion is not None and not criterion.kind:
        criterion = replace(trial.criterion, name=criterion.name or trial.criterion.name)
    key = term.output if term is not None else trial.output if trial is not None else ""
    output = _output(probe, key, trial)
    kind = criterion.kind or _shown_kind(trial)
    return SeenTerm(
        label,
        criterion,
        kind,
        kind or (trial.takes if trial is not None else ""),
        term.weight if term is not None else trial.weight if trial is not None else 1.0,
        output,
        output.key if output is not None else key,
        term.target if term is not None else trial.target if trial is not None else "",
        trial,
        probe.trial.batch_size if probe.trial is not None else 1,
    )


def _output(probe: Probe, key: str, trial: TermTrial | None) -> OutputProbe | None:
    outputs = probe.model.outputs if probe.model is not None else {}
    if key in outputs or trial is None:
        return outputs.get(key)
    alike = [output for output in outputs.values() if output.shape == trial.output_shape]
    return alike[0] if len(alike) == 1 and not key else None


def _shown_kind(trial: TermTrial | None) -> str:
    """Return ``cross_entropy`` where the values are those of one that takes a softmax itself, else ""."""
    if trial is None or trial.blank is None or len(trial.output_shape) < 2 or trial.output_shape[1] < 2:
        return ""
    even = isclose(trial.blank, log(trial.output_shape[1]), rel_tol=_TOLERANCE)
    return "cross_entropy" if even and is_softmax(trial) and not trial.target_dtype.startswith("float") else ""


def is_softmax(trial: TermTrial) -> bool:
    """Return whether outputs that are all larger by 1 cost the same."""
    if trial.actual is None or trial.shifted is None:
        return False
    return isclose(trial.actual, trial.shifted, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)


def with_outputs(probe: Probe) -> Iterator[tuple[SeenTerm, OutputProbe]]:
    """Yield the terms of which the model's output was seen, each with it."""
    for term in seen_terms(probe):
        if term.output is not None:
            yield term, term.output


def with_trials(probe: Probe) -> Iterator[tuple[SeenTerm, TermTrial]]:
    """Yield the terms that could be tried out, each with its trial."""
    for term in seen_terms(probe):
        if term.trial is not None:
            yield term, term.trial
