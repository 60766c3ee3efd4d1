"""``Rule``: a function of what was observed to findings, with its name, its moment and what it needs."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from .finding import Finding
from .probe import Probe

Moment = Literal["data", "model", "steps", "epoch"]
FAILED = "failed with"
MOMENTS: tuple[Moment, ...] = ("data", "model", "steps", "epoch")


@dataclass(frozen=True)
class Rule:
    """A rule.

    Attributes:
        name: by which it is silenced, and its page in the docs is called.
        at: when it looks: at ``data`` before training, at the ``model`` before its first step, after the first
            ``steps``, or after each ``epoch`` of the first ones.
        find: yields its findings.
        needs: the parts of the ``Probe`` that it reads, of which none may be missing.
        explained_by: rules of which a finding makes its own a symptom, which is not reported then.
        only_beside_others: whether it speaks only where another rule has found a warning or an error.
    """

    name: str
    at: Moment
    find: Callable[[Probe], Iterator[Finding]]
    needs: tuple[str, ...] = ("loaders",)
    explained_by: tuple[str, ...] = ()
    only_beside_others: bool = False


@dataclass(frozen=True)
class Examined:
    """What rules found.

    Attributes:
        findings: the worst first.
        left_out: of rules that could not look, why, by name.
    """

    findings: tuple[Finding, ...]
    left_out: Mapping[str, str]


def rule(
    name: str,
    *,
    at: Moment,
    needs: Sequence[str] = ("loaders",),
    explained_by: Sequence[str] = (),
    only_beside_others: bool = False,
) -> Callable[[Callable[[Probe], Iterator[Finding]]], Rule]:
    """Make a rule of the function below; see ``Rule`` for the arguments."""
    return lambda find: Rule(name, at, find, tuple(needs), tuple(explained_by), only_beside_others)


def examine(
    rules: Iterable[Rule],
    probe: Probe,
    *,
    known: Iterable[Finding] = (),
    silenced: Collection[str] = (),
    epoch: int = 0,
) -> Examined:
    """Let rules look at what was observed.

    Args:
        rules: those whose moment it is.
        probe: what was observed.
        known: findings of before, which may explain others.
        silenced: names of rules that are not to look.
        epoch: the last one that has ended, 0 before.
    """
    found: list[Finding] = []
    left_out: dict[str, str] = {}
    rules = [one for one in rules if one.name not in silenced]
    for one in rules:
        missing = [name for name in one.needs if not getattr(probe, name)]
        if missing:
            left_out[one.name] = f"no {' and no '.join(missing)} to look at"
            continue
        try:
            found += [replace(finding, rule=one.name, epoch=epoch) for finding in one.find(probe)]
        except Exception as error:  # a rule that fails must not end the run that it looks at
            left_out[one.name] = f"{FAILED} {type(error).__name__}: {error}"
    causes = {finding.rule for finding in [*known, *found] if finding.severity != "note"}
    symptoms = {one.name for one in rules if causes & {*one.explained_by}}
    supporting = {one.name for one in rules if one.only_beside_others}
    alone = supporting if causes <= supporting else set()
    kept = [finding for finding in found if finding.rule not in symptoms | alone]
    order = {"error": 0, "warning": 1, "note": 2}
    return Examined(tuple(sorted(kept, key=lambda finding: order[finding.severity])), left_out)
