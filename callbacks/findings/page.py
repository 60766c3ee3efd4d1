"""Findings as people read them: lines for a terminal, and a page for TensorBoard."""

from collections.abc import Mapping, Sequence

from ..support.tables import escape_markdown
from .probe.finding import SEVERITIES, Finding


def line(finding: Finding) -> str:
    """Return a finding on one line, such as ``warning (rare-classes): ...``."""
    return f"{finding.severity} ({finding.rule}): {finding.sentence}"


def summary(findings: Sequence[Finding]) -> str:
    """Return how many findings there are of each severity, such as ``1 error, 2 notes``; "" for none."""
    counts = {severity: sum(finding.severity == severity for finding in findings) for severity in SEVERITIES}
    return ", ".join(f"{count} {severity}{'s' * (count > 1)}" for severity, count in counts.items() if count)


def page(findings: Sequence[Finding], silenced: Sequence[str], left_out: Mapping[str, str]) -> str:
    """Return a page of Markdown.

    Args:
        findings: the worst first.
        silenced: names of rules that did not look.
        left_out: of rules that could not look, why.
    """
    parts = [f"**{summary(findings) or 'nothing found'}**"]
    for finding in findings:
        when = f", after epoch {finding.epoch}" if finding.epoch else ""
        parts.append(f"**{finding.severity}** ({finding.rule}{when}): {escape_markdown(finding.sentence)}")
    if silenced:
        parts.append(f"Silenced: {', '.join(silenced)}.")
    parts += [f"Left out ({why}): {', '.join(names)}." for why, names in _by_reason(left_out).items()]
    return "\n\n".join(parts)


def _by_reason(left_out: Mapping[str, str]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for name, why in left_out.items():
        names.setdefault(why, []).append(name)
    return names
