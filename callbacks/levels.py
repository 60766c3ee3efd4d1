"""How much the diagnostics of a task show, for what has to know it before torch is imported."""

from typing import Literal, get_args

Level = Literal["full", "light", "off"]
LEVELS: tuple[str, ...] = get_args(Level)
