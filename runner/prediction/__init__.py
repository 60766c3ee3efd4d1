"""Predict files: read, tile, augment, call the models, merge, and write what they found.

Names are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..experiment.prediction_spec import BoxPrediction, ClassPrediction, MaskPrediction, Prediction

_HOMES = {
    "BoxPrediction": "..experiment.prediction_spec",
    "ClassPrediction": "..experiment.prediction_spec",
    "MaskPrediction": "..experiment.prediction_spec",
    "Prediction": "..experiment.prediction_spec",
}

__all__ = ["BoxPrediction", "ClassPrediction", "MaskPrediction", "Prediction"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)
