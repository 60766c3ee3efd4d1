"""``Dropouts``: calls of torch's functions of dropout, which no layer shows."""

import sys
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

_FUNCTIONS = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout)
_OWN = Path(__file__).parents[4]
_NOT_OF_USER = ("/torch/", f"{_OWN / 'callbacks'}/", f"{_OWN / 'runner'}/")
_OF_LAYER = "/torch/nn/modules/"


class Dropouts(TorchFunctionMode):
    """Takes note of functions of dropout that drop something; those that layers call are left out.

    Attributes:
        found: where each stands, as ``forward (net.py, line 12)``, and its probability.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, float] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _FUNCTIONS:
            self._note(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _note(self, input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> None:
        place = _caller()
        if training and p > 0 and place:
            self.found[place] = max(p, self.found.get(place, 0.0))


def _caller() -> str:
    """Return where the user's code calls a function of torch's; "" where a layer of torch's does."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if _OF_LAYER in name:
            return ""
        if not any(part in name for part in _NOT_OF_USER):
            return f"{frame.f_code.co_name} ({Path(name).name}, line {frame.f_lineno})"
        frame = frame.f_back  # type: ignore[assignment]
    return ""
