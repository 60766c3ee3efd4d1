"""How an experiment runs: engine, runner, checkpoints, command line.

Names are imported when they are first used, so that ``assay --help`` does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from assay.callbacks.errors import UsageError
from assay.callbacks.keys import IMAGE_KEY, OUTPUT_KEY, SAMPLE_ID_KEY, TARGET_KEY

if TYPE_CHECKING:
    from .commands.train import train
    from .data.augmented import Augmented
    from .data.chance import current_epoch
    from .data.files.image_errors import BadImageError
    from .data.files.images import read_image
    from .data.files.mask_files import read_mask
    from .engine.catalyst_names import CPUEngine, DataParallelEngine, DistributedDataParallelEngine, GPUEngine
    from .engine.engine import Engine
    from .experiment.base import Experiment
    from .experiment.prediction_spec import BoxPrediction, ClassPrediction, MaskPrediction
    from .loop.dict_runner import DictRunner
    from .loop.progress import Progress
    from .recipe.early_stopping import EarlyStopping
    from .recipe.losses import LossTerm
    from .recipe.monitor import Monitor
    from .revival import revive
    from .saving.best_checkpoint import BestCheckpoint
    from .saving.checkpoint_files import load_checkpoint
    from .saving.checkpoints import Checkpoints
    from .saving.loggers import MetricsCsv, TensorBoardLogger

_HOMES = {
    "Augmented": "data.augmented",
    "BadImageError": "data.files.image_errors",
    "BestCheckpoint": "saving.best_checkpoint",
    "BoxPrediction": "experiment.prediction_spec",
    "CPUEngine": "engine.catalyst_names",
    "Checkpoints": "saving.checkpoints",
    "ClassPrediction": "experiment.prediction_spec",
    "DataParallelEngine": "engine.catalyst_names",
    "DictRunner": "loop.dict_runner",
    "DistributedDataParallelEngine": "engine.catalyst_names",
    "EarlyStopping": "recipe.early_stopping",
    "Engine": "engine.engine",
    "Experiment": "experiment.base",
    "GPUEngine": "engine.catalyst_names",
    "LossTerm": "recipe.losses",
    "MaskPrediction": "experiment.prediction_spec",
    "MetricsCsv": "saving.loggers",
    "Monitor": "recipe.monitor",
    "Progress": "loop.progress",
    "TensorBoardLogger": "saving.loggers",
    "current_epoch": "data.chance",
    "load_checkpoint": "saving.checkpoint_files",
    "read_image": "data.files.images",
    "read_mask": "data.files.mask_files",
    "revive": "revival",
    "train": "commands.train",
}

__all__ = [
    "IMAGE_KEY",
    "OUTPUT_KEY",
    "SAMPLE_ID_KEY",
    "TARGET_KEY",
    "Augmented",
    "BadImageError",
    "BestCheckpoint",
    "BoxPrediction",
    "CPUEngine",
    "Checkpoints",
    "ClassPrediction",
    "DataParallelEngine",
    "DictRunner",
    "DistributedDataParallelEngine",
    "EarlyStopping",
    "Engine",
    "Experiment",
    "GPUEngine",
    "LossTerm",
    "MaskPrediction",
    "MetricsCsv",
    "Monitor",
    "Progress",
    "TensorBoardLogger",
    "UsageError",
    "current_epoch",
    "load_checkpoint",
    "read_image",
    "read_mask",
    "revive",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
