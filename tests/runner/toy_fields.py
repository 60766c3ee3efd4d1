"""An experiment with a field of every kind."""

from dataclasses import dataclass, field
from typing import Literal

from assay.runner import Experiment


@dataclass(kw_only=True)
class Toy(Experiment):
    """A toy."""

    lr: float = 0.25
    sizes: list[int] = field(default_factory=lambda: [3, 5])
    """Sizes of things."""
    names: list[str] | None = None
    """Names of things."""
    crop: tuple[int, int] = (4, 4)
    """Height and width."""
    kind: Literal["round", "square"] = "round"
    """What kind of thing."""
