"""How an experiment runs: engine, runner, checkpoints, command line.

Names are imported when they are first used, so that ``assay --help`` does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from assay.callbacks.errors import UsageError
from assay.callbacks.keys import IMAGE_KEY, OUTPUT_KEY, SAMPLE_ID_KEY, TARGET_KEY

if TYPE_CHECKING:
    from .best_checkpoint import BestCheckpoint
    from .chance import current_epoch
    from .checkpoint_files import load_checkpoint
    from .checkpoints import Checkpoints
    from .data import Augmented
    from .dict_runner import DictRunner
    from .early_stopping import EarlyStopping
    from .engine import Engine
    from .engines import CPUEngine, DataParallelEngine, DistributedDataParallelEngine, GPUEngine
    from .experiment import Experiment
    from .image_errors import BadImageError
    from .images import read_image
    from .loggers import MetricsCsv, TensorBoardLogger
    from .losses import LossTerm
    from .mask_files import read_mask
    from .monitor import Monitor
    from .prediction import BoxPrediction, ClassPrediction, MaskPrediction
    from .progress import Progress
    from .revival import revive
    from .training import train

_HOMES = {
    "Augmented": "data",
    "BadImageError": "image_errors",
    "BestCheckpoint": "best_checkpoint",
    "BoxPrediction": "prediction",
    "CPUEngine": "engines",
    "Checkpoints": "checkpoints",
    "ClassPrediction": "prediction",
    "DataParallelEngine": "engines",
    "DictRunner": "dict_runner",
    "DistributedDataParallelEngine": "engines",
    "EarlyStopping": "early_stopping",
    "Engine": "engine",
    "Experiment": "experiment",
    "GPUEngine": "engines",
    "LossTerm": "losses",
    "MaskPrediction": "prediction",
    "MetricsCsv": "loggers",
    "Monitor": "monitor",
    "Progress": "progress",
    "TensorBoardLogger": "loggers",
    "current_epoch": "chance",
    "load_checkpoint": "checkpoint_files",
    "read_image": "images",
    "read_mask": "mask_files",
    "revive": "revival",
    "train": "training",
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
