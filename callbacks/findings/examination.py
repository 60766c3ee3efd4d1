"""What rules have found in a run so far: by moments, with what is silenced and what could not be looked at."""

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import unknown_name
from .probe.finding import SEVERITIES, Finding
from .probe.probe import Probe
from .probe.rule import FAILED, MOMENTS, Moment, examine
from .rules import all_rules

_NOT_AGAIN: tuple[Moment, ...] = ("model", "steps", "epoch")


class Examination:
    """Lets the rules look at each moment of a run, and keeps what they find.

    A later look replaces what was found before at the same moment: a finding holds until its rule looks again without
    finding it.

    Args:
        silence: names of rules that do not look.

    Attributes:
        silenced: those names.
        left_out: of rules that could not look, why, by name.

    Raises:
        UsageError: there is no rule of a name.
    """

    def __init__(self, silence: Iterable[str] = ()):
        self.silenced = tuple(sorted(set(silence)))
        names = [rule.name for rule in all_rules()]
        for name in self.silenced:
            if name not in names:
                raise unknown_name("rule", name, names)
        self.left_out: dict[str, str] = {}
        self._looked: set[str] = set()
        self._failed: set[str] = set()
        self._found: dict[Moment, tuple[Finding, ...]] = {}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What holds, the worst first."""
        found = [finding for moment in MOMENTS for finding in self._found.get(moment, ())]
        return tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity)))

    @property
    def looked(self) -> int:
        """How many rules have looked."""
        return len(self._looked)

    def look(self, moment: Moment, probe: Probe, epoch: int = 0) -> tuple[Finding, ...]:
        """Have the rules of a moment look, and return what was not known before.

        Args:
            moment: whose rules.
            probe: what was observed.
            epoch: the last one that has ended, 0 before.
        """
        known = self.findings
        rules = [rule for rule in all_rules() if rule.at == moment]
        others = [finding for of, found in self._found.items() if of != moment for finding in found]
        examined = examine(rules, probe, known=others, silenced=self.silenced, epoch=epoch)
        missing = examined.left_out
        self.left_out = {name: why for name, why in self.left_out.items() if name not in self._looked} | dict(missing)
        self._looked |= {rule.name for rule in rules} - {*missing, *self.silenced}
        before = {finding.identity: finding for finding in known}
        # What is found again keeps the epoch in which it was found first.
        self._found[moment] = tuple(before.get(finding.identity, finding) for finding in examined.findings)
        return tuple(finding for finding in examined.findings if finding.identity not in before)

    def take_failed(self) -> dict[str, str]:
        """Return why rules have failed that had not before, by name."""
        failed = {name: why for name, why in self.left_out.items() if why.startswith(FAILED)}
        fresh = {name: why for name, why in failed.items() if name not in self._failed}
        self._failed |= fresh.keys()
        return fresh

    def state_dict(self) -> dict[str, Any]:
        """Return what was found that a run that goes on does not look at again, in plain values."""
        found = {moment: self._found.get(moment, ()) for moment in _NOT_AGAIN}
        return {moment: [finding.as_dict() for finding in of] for moment, of in found.items() if of}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        rules = {rule.name: rule for rule in all_rules() if rule.name not in self.silenced}
        order = {name: number for number, name in enumerate(rules)}
        for moment in _NOT_AGAIN:
            former = [Finding.from_dict(one) for one in state.get(moment, ()) if one["rule"] in rules]
            # Settings have been looked at again; weights are not.
            kept = [it for it in former if moment != "model" or {"model", "trial"} & {*rules[it.rule].needs}]
            found = [*self._found.get(moment, ()), *kept]
            self._found[moment] = tuple(sorted(found, key=lambda it: (SEVERITIES.index(it.severity), order[it.rule])))
