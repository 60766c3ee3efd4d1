"""The terms of a loss that nobody declares, as they were seen at work."""

from ...probe.settings_probe import CriterionProbe, TermProbe
from ...probe.trial_probe import TermTrial, TrialProbe


def terms_at_work(trial: TrialProbe) -> tuple[TermProbe, ...]:
    """Return the terms that were tried, as settings hold those that are declared."""
    return tuple(_term(one) for one in trial.terms.values())


def _term(trial: TermTrial) -> TermProbe:
    return TermProbe(trial.label, trial.output, trial.target, trial.weight, trial.criterion or CriterionProbe(""))
