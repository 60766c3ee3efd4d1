"""What is run: data, model, loss and the numbers that decide how it is trained."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from catalyst import dl
from catalyst.core.logger import ILogger
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

from assay.callbacks.errors import UsageError, listing
from assay.callbacks.keys import IMAGE_KEY
from assay.callbacks.support.distributed import world_size
from assay.callbacks.support.unwrap import by_name

from ..data.augmented import one_thread
from ..data.bad_images import Collate, WithoutBadImages
from ..data.readers.item_list import ItemList
from ..data.selection.sample_marks import SampleMarks
from ..recipe.fine_tuning.groups import parameter_groups
from ..recipe.fine_tuning.loaded import named_parameters
from ..recipe.losses import LossTerm
from ..recipe.monitor import parse_monitors
from ..recipe.optimizers import make_optimizer
from ..recipe.schedulers import make_scheduler, steps_by
from .experiment_fields import ExperimentFields
from .generated_data import make_once
from .ignored_fields import has_use
from .prediction_spec import Prediction

_Items = TypeVar("_Items", bound=Sequence[Mapping[str, Any]])


@dataclass(kw_only=True)
class Experiment(ExperimentFields):
    """Base of all experiments.

    An experiment is a dataclass: its fields, with a docstring each, become flags, YAML and help. It says what to
    train on (``get_loaders``) and what to train (``get_model``); the other methods have defaults that suit most.
    """

    losses: ClassVar[Sequence[LossTerm]] = (LossTerm(),)
    """Terms of the loss; see ``DictRunner``."""
    input_key: ClassVar[Any] = IMAGE_KEY
    """What the model is given; see ``DictRunner``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.run_folder: Path | None = None
        """The folder of the run that is trained, resumed, evaluated or predicted with; None outside of one."""

    def make_data(self, folder: Path) -> None:
        """Fill an empty folder with a small data set in the layout and formats of the real one, the same each time.

        An experiment that fills this in is trained without a ``data_dir`` too: ``data_folder`` has the data made then.
        """
        raise NotImplementedError

    @property
    def makes_data(self) -> bool:
        """Whether there is a ``make_data``."""
        return type(self).make_data is not Experiment.make_data

    @property
    def generated(self) -> bool:
        """Whether the data is made up; it is noted in ``environment.json``."""
        return self.makes_data and self.data_dir is None

    @property
    def generated_folder(self) -> Path:
        """Where generated data is."""
        return Path("data") / f"{type(self).__name__.lower()}-generated"

    def data_folder(self) -> Path:
        """Return the folder with the data: ``data_dir``, or that of generated data, which is made if it is not there.

        Raises:
            UsageError: ``data_dir`` is not a folder.
        """
        if self.generated:
            return make_once(self.generated_folder, self.make_data)
        if self.data_dir is None:
            raise UsageError("data_dir is needed: this experiment cannot make data.")
        if not Path(self.data_dir).is_dir():
            raise UsageError(f"data_dir must be a folder, got {self.data_dir!r}.")
        return Path(self.data_dir)

    @cached_property
    def sample_marks(self) -> SampleMarks:
        """What the fields ``exclude`` and ``relabel`` change about the samples."""
        return SampleMarks(self.exclude, self.relabel, self.run_folder)

    def marked(self, parts: Mapping[str, _Items], class_names: Sequence[str] | None = None) -> dict[str, _Items]:
        """Return the items of each loader as ``exclude`` and ``relabel`` leave them; call it in ``get_loaders``.

        Args:
            parts: lists of dicts with a ``sample_id`` and, to relabel, a class number as ``target``; or ``ItemList``s.
                By the key of the loader, of all loaders together.
            class_names: one name per class, by which marks may name it.

        Raises:
            UsageError: see ``SampleMarks``.
        """
        return self.sample_marks.apply(parts, class_names)

    def describe_data(self) -> list[str]:
        """Return lines about the data, such as what was found and how it is split, to print before training."""
        return []

    def files_of_run(self) -> dict[str, str]:
        """Return texts to write into the run folder by file name; ``run_folder`` gives them back when a run goes on."""
        return {}

    def get_loaders(self) -> dict[str, DataLoader[Any]]:
        """Return the loaders by name; names begin with ``train``, ``valid`` or ``infer``."""
        raise NotImplementedError

    def get_held_back_loaders(self) -> dict[str, DataLoader[Any]]:
        """Return loaders for ``assay evaluate`` alone, such as that of a test part; names begin with ``valid``."""
        return {}

    def get_model(self) -> nn.Module | dict[str, nn.Module]:
        """Return a module that returns a dict of named outputs, or several by name."""
        raise NotImplementedError

    def get_losses(self) -> Sequence[LossTerm]:
        """Return the terms of the loss: ``losses``, unless they depend on fields."""
        return self.losses

    def get_criterion(self) -> Any:
        """Return the loss function, or several by name for ``losses``."""
        return nn.CrossEntropyLoss()

    def parameter_groups(self, model: Any) -> list[Any]:
        """Return what an optimizer trains of one model or several by name: frozen ones too, as they may be unfrozen.

        Without ``lr_decay`` and ``lr_head`` these are the parameters, else groups of them with learning rates of their
        own. A ``get_optimizer`` of your own that makes its optimizer of them keeps these fields in use.
        """
        models = by_name(model)
        if self.lr_decay is None and self.lr_head is None:
            # Integers have no gradient in torch.
            return [it for _, it in named_parameters(models) if it.is_floating_point() or it.is_complex()]
        lr_head = None if self.lr_head is None else self.lr_head * self.scaled_lr / self.lr
        return parameter_groups(models, lr=self.scaled_lr, lr_decay=self.lr_decay, lr_head=lr_head)

    def get_optimizer(self, model: Any) -> torch.optim.Optimizer:
        """Return the optimizer that the fields describe, for all parameters: frozen ones may be unfrozen later.

        A criterion's own parameters join as a group of their own, unless the optimizer has them.
        """
        return make_optimizer(
            self.optimizer,
            self.parameter_groups(model),
            lr=self.scaled_lr,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            **self.optimizer_options,
        )

    @property
    def scaled_lr(self) -> float:
        """The learning rate for a step of all processes: ``lr`` itself, or scaled in proportion to ``lr_batch_size``.

        The linear rule is that of P. Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 2.1.
        """
        if self.lr_batch_size is None:
            return self.lr
        return self.lr * self.batch_size * self.accumulate_steps * world_size() / self.lr_batch_size

    def get_scheduler(self, optimizer: torch.optim.Optimizer, steps_per_epoch: int) -> Any:
        """Return the schedule that the fields describe, or None; it steps by ``scheduler_step``."""
        # Those that an experiment has by default are of its own schedule: another one may take none.
        options = self.scheduler_options if has_use("scheduler_options", self.scheduler) else {}
        return make_scheduler(
            self.scheduler,
            optimizer,
            epochs=self.epochs,
            steps_per_epoch=steps_per_epoch,
            warmup_epochs=self.warmup_epochs,
            lr_min=self.lr_min,
            milestones=self.milestones,
            gamma=self.gamma,
            cycle_epochs=self.cycle_epochs,
            plateau_patience=self.plateau_patience,
            minimize=parse_monitors(self.monitor)[0].minimize,
            lr=None if self.lr_decay is None and self.lr_head is None else self.scaled_lr,
            **options,
        )

    @property
    def scheduler_step(self) -> str:
        """Whether the schedule steps by ``batch`` or by ``epoch``."""
        return steps_by(self.scheduler)

    def get_callbacks(self) -> list[dl.Callback]:
        """Return metrics and diagnostics, as many as the field ``diagnostics`` asks for.

        ``classification_diagnostics`` and its like return a list that fits a task. Checkpoints, logs, progress,
        hyper-parameters and the guard against NaN are there anyway.
        """
        return []

    def get_loggers(self) -> dict[str, ILogger]:
        """Return loggers beside TensorBoard and ``metrics.csv``, by name; they get what callbacks write as well.

        For example ``{"wandb": dl.WandbLogger(project="mine")}``. It is called on the main process alone. A resumed run
        calls it again: what it returns goes on where its own settings say, which for W&B are ``id`` and ``resume``.
        """
        return {}

    def get_prediction(self) -> Prediction:
        """Return how the model is used on images without a target, for ``assay predict``.

        It is a ``ClassPrediction``, ``MaskPrediction`` or ``BoxPrediction``.
        """
        raise UsageError(f"{type(self).__name__} does not say how to predict: give it a method get_prediction.")

    def get_truth_loader(self, items: ItemList) -> DataLoader[Any] | None:
        """Return a loader of images with their truth, prepared as for validation, for ``assay predict --truth``.

        None, the default, has images read and transformed as ``get_prediction`` says. Override it where validation
        prepares them in another way.

        Args:
            items: with ``image``, a path, ``sample_id``, and ``target``: a class number, [C] of 0 and 1, or the path of
                a mask; of a detection with ``bboxes`` and ``labels`` in its place.
        """
        return None

    def make_loader(
        self,
        dataset: Dataset[Any],
        *,
        shuffle: bool = False,
        sampler: Sampler[Any] | Iterable[Any] | None = None,
        batch_sampler: Sampler[list[Any]] | Iterable[list[Any]] | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        drop_last: bool = False,
    ) -> DataLoader[Any]:
        """Return a loader with this experiment's batch size and workers, set up to be fast.

        With ``on_bad_image="skip"`` it leaves out the samples for which the data set raises an error.

        Args:
            dataset: the data set.
            shuffle: whether the order is drawn anew in each epoch.
            sampler: decides on the order in place of ``shuffle``.
            batch_sampler: decides on batches and their order in place of all the others and of ``batch_size``.
            collate_fn: makes a batch of a list of items; by default torch's ``default_collate``.
            drop_last: whether to leave out the last batch where it is not full.

        Raises:
            UsageError: arguments do not go together, or are not what they are to be.
        """
        order = {"shuffle": shuffle, "sampler": sampler, "batch_sampler": batch_sampler, "drop_last": drop_last}
        batching = _batching(dataset, self.batch_size, order)
        if collate_fn is not None and not callable(collate_fn):
            raise UsageError(f"make_loader: collate_fn must be a function of a list of items, got {collate_fn!r}.")
        skips = self.on_bad_image == "skip"
        return DataLoader(
            WithoutBadImages(dataset) if skips else dataset,
            collate_fn=Collate(collate_fn) if skips else collate_fn,
            **batching,
            num_workers=self.workers,
            # Starting workers takes seconds: they stay from epoch to epoch.
            persistent_workers=self.workers > 0,
            # A copy from pinned memory to a GPU does not make the host wait.
            pin_memory=self.device != "cpu" and torch.cuda.is_available(),
            worker_init_fn=one_thread,
        )


def _batching(dataset: Any, batch_size: int, given: dict[str, Any]) -> dict[str, Any]:
    """Return those arguments of a loader that decide on its batches, where they go together."""
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        kind = type(dataset).__name__
        raise UsageError(f"make_loader: dataset must have a length and items by number, got one of {kind}.")
    if len(dataset) == 0:
        given["shuffle"] = False  # torch's own sampler would refuse first, and the runner names the loader
    for one, others in (("batch_sampler", ("sampler", "shuffle", "drop_last")), ("sampler", ("shuffle",))):
        if given[one] is None:
            continue
        if isinstance(given[one], type) or not hasattr(given[one], "__iter__"):
            raise UsageError(f"make_loader: {one} must be a sampler or a list, got {given[one]!r}.")
        if clash := [name for name in others if given[name] not in (None, False)]:
            raise UsageError(f"make_loader: {one} decides on the batches alone; leave out {listing(clash)}.")
    if given["batch_sampler"] is not None:
        return {"batch_sampler": given["batch_sampler"]}
    return {"batch_size": batch_size, **given}
