"""How much the diagnostics of a task show, for what has to know it before torch is imported."""

LEVELS = ("full", "light", "off")
