"""``assay check``: say what is wrong with an experiment's data, model, loss and settings, without training it."""

from assay.callbacks.findings.page import summary

from ..experiment.base import Experiment
from ..experiment.build import check_experiment, prepare_machine
from ..experiment.catalog import label
from ..experiment.ignored_fields import check_ignored
from ..processes.exit_codes import FAILED
from ..recipe.monitor import parse_monitors


def check(experiment: Experiment, *, name: str) -> tuple[list[str], int]:
    """Look at an experiment, and return lines and the exit code: that of failure where there are errors.

    What is found is logged as it is found, but for notes.

    Args:
        experiment: what to look at.
        name: of the experiment.

    Raises:
        UsageError: wrong use.
    """
    monitors = parse_monitors(experiment.monitor)
    check_ignored(experiment, label(name))
    engine = prepare_machine(experiment)
    findings = check_experiment(experiment, engine, monitors)
    if not engine.is_main_process:
        return [], 0
    found, done = findings.found_, findings.examination_
    notes = [f"note ({finding.rule}): {finding.sentence}" for finding in found if finding.severity == "note"]
    lines = [*notes, f"{summary(found) or 'nothing found'} by {done.looked} rules before training"]
    if done.silenced:
        lines.append(f"silenced: {', '.join(done.silenced)}")
    return lines, FAILED if any(finding.severity == "error" for finding in found) else 0
