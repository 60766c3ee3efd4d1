"""``Finding``: one thing that is wrong, where, by what evidence, and what to do."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Where:
    """The place of a fault; what does not apply is None.

    Attributes:
        loader: key of a loader, or several as ``train, valid``.
        key: of the batch or of the model's outputs.
        samples: ids of up to eight samples.
        layer: name of a module or a parameter.
        field: the setting that decides, as an argument or flag of the experiment is called.
    """

    loader: str | None = None
    key: str | None = None
    samples: tuple[str, ...] = ()
    layer: str | None = None
    field: str | None = None


@dataclass(frozen=True)
class Labelled:
    """A sample and its label.

    Attributes:
        loader: its key.
        sample_id: of the sample.
        label: class number, or a 0 or 1 of each label.
    """

    loader: str
    sample_id: str
    label: tuple[int, ...]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        severity: ``error`` where the run is worthless, ``warning`` where it is probably harmed, else ``note``.
        what: one clause that a newcomer understands: the cause and the place, with the numbers that show it.
        do: what to do, as an imperative without a full stop.
        where: the place, for programs.
        evidence: what was measured and expected, by name.
        rule: name of the rule, which ``examine`` fills in.
        epoch: after which epoch it was found; 0: before the first one had ended.
        groups: samples that show the same but have different labels, for programs; up to 1,000 groups.
    """

    severity: Severity
    what: str
    do: str
    where: Where = field(default_factory=Where)
    evidence: Mapping[str, Any] = field(default_factory=dict)
    rule: str = ""
    epoch: int = 0
    groups: tuple[tuple[Labelled, ...], ...] = ()

    @property
    def sentence(self) -> str:
        """What is wrong and what to do, on one line."""
        return f"{self.what}: {self.do}."

    @property
    def identity(self) -> tuple[str, Where]:
        """What makes it the same finding as one of another epoch."""
        # The samples that show it may be others from epoch to epoch.
        return self.rule, replace(self.where, samples=())

    def as_dict(self) -> dict[str, Any]:
        """Return it as ``findings.json`` holds it."""
        where = {name: value for name, value in asdict(self.where).items() if value not in (None, ())}
        groups = [[asdict(one) | {"label": list(one.label)} for one in group] for group in self.groups]
        return {
            "severity": self.severity, "rule": self.rule, "where": where, "what": self.what,
            "evidence": dict(self.evidence), "do": self.do, "epoch": self.epoch,
            **({"groups": groups} if groups else {}),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "Finding":
        """Return the finding of which ``as_dict`` was taken."""
        where = dict(state["where"])
        place = Where(**{**where, "samples": tuple(where.get("samples", ()))})
        groups = tuple(
            tuple(Labelled(one["loader"], one["sample_id"], tuple(one["label"])) for one in group)
            for group in state.get("groups", ())
        )
        return cls(**{**state, "where": place, "groups": groups})
