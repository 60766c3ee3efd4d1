"""What all parts have found: ``gpu-NAME.json``, and ``.md`` to read, written anew after each part."""

import json
import os
from pathlib import Path
from typing import Any

from ..results import machine
from . import bars, cost, experiments
from .job import Part

_SAME = ("commit", "gpu", "cpu")


class Report:
    """The results of the parts so far; those of an earlier call are kept if machine and commit are the same.

    Args:
        folder: where it is written.
        name: of the machine.
        device: ``cuda`` or ``cpu``.
    """

    def __init__(self, folder: Path, name: str, device: str):
        self.path, self.device = folder / f"gpu-{name}", device
        self.about = machine(device)
        # A copy of the files has no history of its own.
        self.about["commit"] = os.environ.get("COMMIT") or self.about["commit"] or "unknown"
        self.parts: dict[str, Part] = self._earlier()
        self.run: list[str] = []

    @property
    def passed(self) -> bool:
        """Whether all parts of this call have passed."""
        return all(self.parts[name]["state"] == "passed" for name in self.run)

    def add(self, name: str, part: Part) -> None:
        """Add what a part has found, and write everything."""
        self.parts[name] = part
        self.run.append(name)
        judged = bars.judge(self.parts, self.device)
        content = {"machine": self.about, "device": self.device, "bars": judged, "parts": self.parts}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        Path(f"{self.path}.json").write_text(json.dumps(content, indent=1) + "\n")
        Path(f"{self.path}.md").write_text("\n".join(self._page(judged)) + "\n")

    def line(self, name: str) -> str:
        """Return one line about a part."""
        part = self.parts[name]
        words = part["state"] if part["state"] == "passed" else part["state"].upper()
        return f"{name}: {words} in {part['seconds']:g} s: {part['what']}"

    def _earlier(self) -> dict[str, Part]:
        try:
            found: dict[str, Any] = json.loads(Path(f"{self.path}.json").read_text())
        except FileNotFoundError:
            return {}
        same = "bars" in found and all(found["machine"].get(key) == self.about[key] for key in _SAME)
        return found["parts"] if same and not self.about["changed_files"] else {}

    def _page(self, judged: list[dict[str, Any]]) -> list[str]:
        about = self.about
        packages = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
        changed = f", {about['changed_files']} files changed" if about["changed_files"] else ""
        lines = [f"# {about['gpu'] or about['cpu']}", ""]
        if self.device == "cpu":
            lines += ["A dry run without a GPU, of tiny sizes: no figure here says anything about a GPU.", ""]
        lines += [f"{about['date']}, commit {about['commit']}{changed}; Python {about['python']}, {packages}.", ""]
        lines += ["| part | | s | |", "|---|---|---|---|"]
        for name, part in self.parts.items():
            lines.append(f"| {name} | {part['state']} | {part['seconds']:g} | {_in_cell(part['what'])} |")
        for name, what in self.parts.get("tests", {}).get("failed", {}).items():
            lines.append(f"\nFailed: `{name}` {what}")
        lines += bars.page(judged)
        for kind in cost.KINDS:
            lines += cost.page(kind, self.parts.get(kind, {}))
        return lines + experiments.page(self.parts.get("experiments", {}).get("metrics", {}))


def _in_cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
