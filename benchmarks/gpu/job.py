"""What a part of the command is told, and what it returns."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

# ``state`` and ``what``, a line in words; ``seconds``; and whatever else a part has found.
Part = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """What a part is told.

    Args:
        device: ``cuda``, or ``cpu`` for a small version that shows whether the command works.
        limit_s: the seconds that the part may take.
        logs: folder for what its processes say.
    """

    device: str
    limit_s: float
    logs: Path

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"

    @property
    def variables(self) -> dict[str, str]:
        """Of the environment of the part's processes: tiny sizes are slower on several threads."""
        return {} if self.on_gpu else {"OMP_NUM_THREADS": "1"}
