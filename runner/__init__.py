"""How an experiment runs: engine, runner, checkpoints, command line.

Names are imported when they are first used, so that ``assay --help`` does not wait for torch.
"""

from typing import TYPE_CHECKING

from assay.callbacks.errors import UsageError as UsageError
from assay.callbacks.keys import IMAGE_KEY as IMAGE_KEY
from assay.callbacks.keys import OUTPUT_KEY as OUTPUT_KEY
from assay.callbacks.keys import SAMPLE_ID_KEY as SAMPLE_ID_KEY
from assay.callbacks.keys import TARGET_KEY as TARGET_KEY
from assay.callbacks.lazy_exports import lazy_exports, require_catalyst

require_catalyst()

# The only list of what is exported.
if TYPE_CHECKING:
    from .commands.reopen import load_model as load_model
    from .commands.train import train as train
    from .data.augmentation import make_transform as make_transform
    from .data.augmented import Augmented as Augmented
    from .data.augmented import Items as Items
    from .data.augmented import Transform as Transform
    from .data.boxes import collate_boxes as collate_boxes
    from .data.chance import current_epoch as current_epoch
    from .data.files.image_errors import BadImageError as BadImageError
    from .data.files.image_errors import bad_image_errors as bad_image_errors
    from .data.files.image_windows import keep_mask_open as keep_mask_open
    from .data.files.image_windows import keep_open as keep_open
    from .data.files.image_windows import open_image as open_image
    from .data.files.images import images_in as images_in
    from .data.files.images import read_image as read_image
    from .data.files.mask_files import read_mask as read_mask
    from .data.mixing import Mixed as Mixed
    from .data.readers.box_table import read_box_table as read_box_table
    from .data.readers.class_folders import read_class_folders as read_class_folders
    from .data.readers.coco import read_coco as read_coco
    from .data.readers.item_list import ItemList as ItemList
    from .data.readers.label_table import read_label_table as read_label_table
    from .data.readers.masks.coco import read_coco_masks as read_coco_masks
    from .data.readers.masks.folders import read_mask_folders as read_mask_folders
    from .data.readers.masks.table import read_mask_table as read_mask_table
    from .data.readers.recognize import read_data as read_data
    from .data.readers.voc import read_voc as read_voc
    from .data.readers.yolo import read_yolo as read_yolo
    from .data.seeding import mix as mix
    from .data.selection.balanced_sampler import BalancedSampler as BalancedSampler
    from .data.selection.class_weights import class_weights as class_weights
    from .data.selection.class_weights import describe_weights as describe_weights
    from .data.selection.class_weights import weighed_names as weighed_names
    from .data.selection.data_summary import DataSummary as DataSummary
    from .data.selection.folds import parse_fold as parse_fold
    from .data.selection.run_data import RunData as RunData
    from .data.selection.split_files import write_split as write_split
    from .data.selection.splits import Split as Split
    from .data.selection.splits import make_split as make_split
    from .data.selection.splits import split_items as split_items
    from .engine.catalyst_names import CPUEngine as CPUEngine
    from .engine.catalyst_names import DataParallelEngine as DataParallelEngine
    from .engine.catalyst_names import DistributedDataParallelEngine as DistributedDataParallelEngine
    from .engine.catalyst_names import GPUEngine as GPUEngine
    from .engine.engine import Engine as Engine
    from .experiment.base import Experiment as Experiment
    from .experiment.marks import Mark as Mark
    from .experiment.prediction_spec import BoxPrediction as BoxPrediction
    from .experiment.prediction_spec import ClassPrediction as ClassPrediction
    from .experiment.prediction_spec import MaskPrediction as MaskPrediction
    from .experiment.ranges import AtLeast as AtLeast
    from .experiment.ranges import AtMost as AtMost
    from .experiment.ranges import GreaterThan as GreaterThan
    from .experiment.ranges import LessThan as LessThan
    from .experiment.ranges import MultipleOf as MultipleOf
    from .experiment.ranges import OneOf as OneOf
    from .experiment.ranges import check_range as check_range
    from .loop.dict_runner import DictRunner as DictRunner
    from .loop.progress import Progress as Progress
    from .prediction.trained_model import TrainedModel as TrainedModel
    from .recipe.early_stopping import EarlyStopping as EarlyStopping
    from .recipe.fine_tuning.pretrained import load_pretrained as load_pretrained
    from .recipe.loss_names import parse_loss as parse_loss
    from .recipe.losses import LossTerm as LossTerm
    from .recipe.mean_losses import MeanLoss as MeanLoss
    from .recipe.monitor import Monitor as Monitor
    from .recipe.named_losses import loss_terms as loss_terms
    from .recipe.named_losses import make_loss as make_loss
    from .recipe.named_losses import make_losses as make_losses
    from .revival import revive as revive
    from .saving.best_checkpoint import BestCheckpoint as BestCheckpoint
    from .saving.checkpoint_files import load_checkpoint as load_checkpoint
    from .saving.checkpoints import Checkpoints as Checkpoints
    from .saving.loggers import MetricsCsv as MetricsCsv
    from .saving.loggers import TensorBoardLogger as TensorBoardLogger
    from .version import __version__ as __version__
else:
    __getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
