"""How much the diagnostics show, by one word."""

from typing import Literal, get_args

Level = Literal["full", "light", "off"]
LEVELS: tuple[str, ...] = get_args(Level)
