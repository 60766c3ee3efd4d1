"""The running order of all callbacks within an event, as one list: lower numbers run first.

Callbacks of one number run in the order in which the run has them. Every callback of ``assay`` takes its ``order`` from
here, so that where a new one belongs is decided with all others in view. The multiples of 10 are Catalyst's own, of
``dl.CallbackOrder``.
"""

from collections.abc import Mapping
from typing import Any

from catalyst.core.callback import IBackwardCallback, ICriterionCallback, IOptimizerCallback, ISchedulerCallback

from ..support.unwrap import inside

# Before all others: what ends a run for a metric that does not exist, before another callback asks for it; what times
# the others; and what a checkpoint of the same event holds, such as the bad images that an epoch has found.
FIRST = 0

# Catalyst's place for what adds to the metrics. The diagnostics, the monitors and the log read them later.
METRICS = 10

# After the metrics, whose best values it keeps, and before the checkpoint, which holds those.
HPARAMS = 20

# Catalyst's callbacks of stock runners step the optimizer here.
OPTIMIZER = 40

# Right after the stock optimizer's callback, and before all that watch the optimizer: they see a step held back.
STEP_GUARD = 41

# After the step, whose change of the weights it sees, and before the diagnostics, as a run that it ends draws nothing.
FINDINGS = 42

# The pass of Grad-CAM is made before the diagnostics draw: their threads would share the processor with it.
EXPLANATIONS = 99

# After the metrics and the step, of which they show what there is. Early stopping decides here too, on the metrics.
DIAGNOSTICS = 100

# After the diagnostics, whose time its line on an epoch counts, and before the checkpoint, which holds its state.
PROGRESS = 101

# After the diagnostics of an epoch, whose pictures it collects, and before the checkpoint, to which these belong.
RESULTS = 102

# After everything that has a state or writes a file: what others remember and write belongs to the checkpoint.
CHECKPOINTS = 103

# After the checkpoint: the run ends here, and goes on from there.
STOP_ON_SIGNAL = 104

# After the callbacks of any order, also of a project's own: the time until then is that of the whole step.
LAST = 1000

_STEPPING = (ICriterionCallback, IBackwardCallback, IOptimizerCallback, ISchedulerCallback)


def surround(
    callbacks: Mapping[str, Any],
    *,
    first: Mapping[str, Any],
    after_step: Mapping[str, Any],
    last: Mapping[str, Any],
) -> dict[str, Any]:
    """Return a run's callbacks with others around them, whatever orders they have.

    Args:
        callbacks: of the run, by name, as they are sorted.
        first: come before all of them.
        after_step: come after the last of them that takes a part of the step, as those of stock runners do.
        last: come after all of them.
    """
    # A number cannot do this: a callback of any order may stand first or last, and the run has sorted them already.
    items = list(callbacks.items())
    ends = [index for index, (_, callback) in enumerate(items, 1) if isinstance(inside(callback), _STEPPING)]
    step = ends[-1] if ends else 0
    return {**first, **dict(items[:step]), **after_step, **dict(items[step:]), **last}
