"""A schedule that a runner steps by itself, and does so never, twice, or in the wrong unit.

Source: ``scheduler.step()`` that is forgotten in a ``handle_batch`` of one's own, or stands in the wrong place.
Cost: none: schedulers count their steps.
Risk: one that begins later; so two epochs have to be over, and it would have to move the rate in this run. Where the
unit is seen, the rules on plans judge as they do where it is known before.
"""

from collections.abc import Iterator
from dataclasses import replace

from ...probe.finding import Finding, Where
from ...probe.probe import Probe
from ...probe.rule import rule
from ...probe.settings_probe import SettingsProbe
from ...probe.wording import count
from ..steps.settings import endless_warmup, schedule_ends_early, schedule_swings, schedule_unit

_EPOCHS = 2
_MOVES = 1.5  # between the lowest and the highest rate
# Steps in parts of the batches: one each, and two each; of few batches they are not told from those of epochs.
_EACH, _TWICE, _FEWEST = (0.8, 1.2), (1.8, 2.2), 6


@rule("own-schedule", at="epoch", needs=["epochs", "settings"], explained_by=["broken-epoch", "no-optimizer-step"])
def own_schedule(probe: Probe) -> Iterator[Finding]:
    """Count the steps of a scheduler of which nothing tells when it steps."""
    settings, last = probe.settings, probe.epochs[-1]
    made, epochs = last.scheduler_steps, last.epoch
    if made is None or settings.lr_plan or not settings.lr_plans or probe.epochs[0].epoch != 1:
        return
    train = probe.train
    batches = epochs * (train.batches if train is not None and train.batches else settings.steps_per_epoch)
    if not made and epochs >= _EPOCHS and _moves(settings):
        so = f"has made no step in {count(epochs, 'epoch')}: the learning rate stays where it began"
        yield _told(settings, so, "call scheduler.step()", made)
    elif batches >= _FEWEST * epochs and _TWICE[0] <= made / batches <= _TWICE[1]:
        so = f"has made {made:,} steps in {batches:,} batches, two in each: it is over in half of the run"
        yield _told(settings, so, "call scheduler.step() once", made)
    elif _EACH[0] <= made / batches <= _EACH[1]:
        yield from _judged(settings, "batch")
    elif epochs >= _EPOCHS and epochs - 1 <= made <= epochs:
        yield from _judged(settings, "epoch")
    elif epochs >= _EPOCHS and batches >= _FEWEST * epochs and 2 * epochs - 1 <= made <= 2 * epochs:
        so = f"has made {made:,} steps in {count(epochs, 'epoch')}, two in each: it is over in half of the epochs"
        yield _told(settings, so, "call scheduler.step() once per epoch, not after each loader", made)


def _moves(settings: SettingsProbe) -> bool:
    """Whether the rate would move if it was stepped."""
    return any(max(plan) > _MOVES * min(plan) for plan in settings.lr_plans.values())


def _told(settings: SettingsProbe, what: str, do: str, made: int) -> Finding:
    where = Where(field="scheduler")
    return Finding("warning", f"the scheduler {settings.scheduler} {what}", do, where, {"steps": made})


def _judged(settings: SettingsProbe, unit: str) -> Iterator[Finding]:
    """Yield what the rules on plans find in the unit that was seen, the first one alone."""
    probe = Probe(settings=replace(settings, lr_plan=settings.lr_plans.get(unit, ()), scheduler_step=unit))
    rules = (
        schedule_unit.schedule_unit, schedule_swings.schedule_swings, schedule_ends_early.schedule_ends_early,
        endless_warmup.endless_warmup,
    )  # fmt: skip
    yield from [finding for one in rules for finding in one.find(probe)][:1]
