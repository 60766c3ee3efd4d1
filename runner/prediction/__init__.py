"""Predict files: read, tile, augment, call the models, merge, and write what they found.

Names are imported when they are first used.
"""

from typing import TYPE_CHECKING

from assay.callbacks.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from ..experiment.prediction_spec import BoxPrediction as BoxPrediction
    from ..experiment.prediction_spec import ClassPrediction as ClassPrediction
    from ..experiment.prediction_spec import MaskPrediction as MaskPrediction
    from ..experiment.prediction_spec import Prediction as Prediction
else:
    __getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
