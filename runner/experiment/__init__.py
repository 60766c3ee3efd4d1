"""What is run: the class ``Experiment``, its fields, and how an experiment is found by name.

Names are imported when they are first used, so that ``assay list`` does not wait for torch.
"""

from typing import TYPE_CHECKING

from assay.callbacks.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from .base import Experiment as Experiment
else:
    __getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
