"""PseudoLabels: labels the samples that the model is sure of, for the next epoch to train on."""

from collections.abc import Callable
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from catalyst import dl
from torch import Tensor
from torch.utils.data import DistributedSampler, RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from ..base.naming import Named
from ..base.order import DIAGNOSTICS
from ..errors import UsageError, unknown_name
from ..keys import OUTPUT_KEY, pick
from ..metrics.batch_metrics import TASKS
from ..support.distributed import gather_objects
from ..support.host_copy import copy_tree, is_read_at_once, read_tree
from ..support.runner_view import batch_size, place_in_loader, samplers_of
from .task_scores import probabilities_of

_NONE = -1  # marks a sample without a label
# An order of their own, or one share per rank: the position in the loader is not the index then.
_SHUFFLES = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler, DistributedSampler)


class PseudoLabels(Named):
    """Labels the samples of a loader at the end of each epoch, for the next one to train on.

    A sample is labelled if the model gives it a probability of at least ``min_probability``: for its largest class
    (``multiclass``), or for yes or no (``binary``, and each label of ``multilabel`` by itself). All others get
    ``unlabelled``. The data set decides what to do with the labels: ``set_target(index, target)`` is called for each
    sample, on every rank, with a number, or with an array [C], int64, for ``multilabel``.

    The loader must return the data set in order (``shuffle=False``), as the position in the loader is the index. Name
    it ``infer...``, so that no loss and no metric is computed for it, and put it last, so that the labels come from the
    weights at the end of the epoch. Other loaders must not keep their workers over epochs (``persistent_workers``), as
    those would not see the labels.

    ================================ ====================================================================
    written to                       content
    ================================ ====================================================================
    ``runner.loader_metrics``        ``pseudo_labels/share``: share of labelled samples, 0 to 1
    ``runner.loader_metrics``        ``pseudo_labels/probability``: their mean probability; NaN if none
    ``runner.loader_metrics``        ``pseudo_labels/changed``: share of changed labels among those given
                                     in this epoch and the one before; NaN if there are none
    ================================ ====================================================================

    All values are exact over ranks. Nothing is read from the device within a step. Memory: 12 bytes per label on each
    rank.

    Args:
        dataset: the data set to label; it has ``set_target(index, target)``.
        loader: name of the loader whose samples are labelled.
        min_probability: the smallest probability at which a label is given; above 0.5 for ``binary`` and
            ``multilabel``.
        task: ``multiclass`` (logits [N, C]), ``binary`` (logits [N] or [N, 1]) or ``multilabel`` (logits [N, C]).
        unlabelled: the target of all other samples, usually the ``ignore_index`` of the criterion.
        output_key: key of the outputs in the batch.
        prefix: added in front of the names, as ``PREFIX/NAME``; a second callback of this kind needs one.

    Raises:
        UsageError: an argument is out of range; at the start of the run, there is no such loader, it shuffles, or
            workers would not see the labels; at a batch, the output is missing or has another shape; at the end of the
            loader, it has returned more or fewer samples than its data set has.
    """

    minor_metrics = ("pseudo_labels/share", "pseudo_labels/probability", "pseudo_labels/changed")

    def __init__(
        self,
        dataset: Any,
        loader: str = "infer",
        min_probability: float = 0.9,
        *,
        task: str = "multiclass",
        unlabelled: int = -100,
        output_key: str = OUTPUT_KEY,
        prefix: str = "",
    ):
        super().__init__(DIAGNOSTICS, prefix)
        if not callable(getattr(dataset, "set_target", None)):
            raise UsageError(f"dataset must have set_target(index, target), got a {type(dataset).__name__}.")
        if task not in TASKS:
            raise unknown_name("task", task, TASKS)
        # Yes or no has at least 0.5 in any case.
        least = 0.0 if task == "multiclass" else 0.5
        if not least < min_probability <= 1:
            raise UsageError(
                f"min_probability must be above {least:g} and at most 1 for {task!r}, got {min_probability!r}."
            )
        self.dataset, self.loader, self.min_probability = dataset, loader, min_probability
        self.task, self.unlabelled, self.output_key = task, unlabelled, output_key
        self.seen_: list[tuple[int, np.ndarray, np.ndarray]] = []
        self.before_: np.ndarray | None = None  # the labels of the epoch before
        self.pending_: Callable[[], None] | None = None

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        self.before_ = None
        pick(runner.loaders, self.loader, f"PseudoLabels(loader={self.loader!r})", source_name="run's loaders")
        if any(isinstance(sampler, _SHUFFLES) for sampler in samplers_of(runner, self.loader)):
            raise UsageError(
                f"PseudoLabels: loader {self.loader!r} does not go through its data set in order; make it with "
                "shuffle=False and without a sampler, the engine shares it among ranks."
            )
        for key, other in runner.loaders.items():
            if key != self.loader and getattr(other, "persistent_workers", False):
                raise UsageError(
                    f"PseudoLabels: the workers of loader {key!r} live over epochs and do not see new labels; make it "
                    "with persistent_workers=False."
                )

    def metrics_written(self, loader_key: str) -> tuple[str, ...]:
        return ("pseudo_labels/share",) if loader_key == self.loader else ()

    def on_loader_start(self, runner: dl.IRunner) -> None:
        super().on_loader_start(runner)
        self.seen_, self.pending_ = [], None

    @torch.no_grad()
    def on_batch_end(self, runner: dl.IRunner) -> None:
        if runner.loader_key != self.loader:
            return
        size, first = batch_size(runner), place_in_loader(runner).first_sample
        copies = copy_tree(list(self._decide(runner, size)))
        self._settle()
        self.pending_ = partial(self._keep_labels, first, copies)
        if is_read_at_once(runner):
            self._settle()

    def on_loader_end(self, runner: dl.IRunner) -> None:
        if runner.loader_key != self.loader:
            return
        self._settle()
        # A collective. Every rank labels its own copy of the data set, so each needs the labels of all.
        parts = sorted((part for of_rank in gather_objects(self.seen_) for part in of_rank), key=itemgetter(0))
        self.seen_ = []
        certain = np.concatenate([part[2] for part in parts])
        labels = np.where(certain >= self.min_probability, np.concatenate([part[1] for part in parts]), _NONE)
        self._check_count(runner, len(labels))
        self.write_metrics(runner, runner.loader_metrics, self._metrics(labels, certain))
        self.before_ = labels
        for index, label in enumerate(np.where(labels == _NONE, self.unlabelled, labels)):
            self.dataset.set_target(index, label if self.task == "multilabel" else int(label[0]))

    def _check_count(self, runner: dl.IRunner, count: int) -> None:
        size = len(runner.loaders[self.loader].dataset)
        if count != size:
            raise UsageError(
                f"PseudoLabels: loader {self.loader!r} gave {count} of the {size} samples of its data set, so that the "
                "place of one is not its index; make it with shuffle=False, no sampler and drop_last=False, and "
                "without a limit of batches."
            )

    def _settle(self) -> None:
        # One step later, as the copies have reached the host by then and the loop need not wait for them.
        if self.pending_ is not None:
            self.pending_()
            self.pending_ = None

    def _keep_labels(self, first: int, copies: Any) -> None:
        labels, certain = read_tree(copies)
        # Copied, so that what is kept holds on to nothing of the batch.
        self.seen_.append((first, np.array(labels), np.array(certain)))

    def _decide(self, runner: dl.IRunner, size: int) -> tuple[Tensor, Tensor]:
        """Return labels, int64, and their probabilities, [N, 1], or [N, C] for ``multilabel``, on the device."""
        output = pick(runner.batch, self.output_key, type(self).__name__)
        flat = output.reshape(size, -1) if output.ndim in (1, 2) and len(output) == size else output
        if flat.ndim != 2 or (flat.shape[1] == 1) != (self.task == "binary"):
            wanted = {"multiclass": "[N, C]", "binary": "[N] or [N, 1]"}.get(self.task, "[N, C]")
            raise UsageError(
                f"PseudoLabels(task={self.task!r}) needs an output {wanted}, got {self.output_key} "
                f"{tuple(output.shape)}."
            )
        probabilities = probabilities_of(flat, self.task)
        if self.task == "multiclass":
            certain, labels = probabilities.max(dim=1, keepdim=True)
        else:
            certain, labels = torch.maximum(probabilities, 1 - probabilities), (probabilities >= 0.5).long()
        return labels, certain

    def _metrics(self, labels: np.ndarray, certain: np.ndarray) -> dict[str, float]:
        given = labels != _NONE
        found = {
            "pseudo_labels/share": float(given.mean()),
            "pseudo_labels/probability": float(certain[given].mean(dtype=np.float64)) if given.any() else float("nan"),
            "pseudo_labels/changed": float("nan"),
        }
        # Only labels of both epochs can have changed; those that come and go are seen in the share.
        if self.before_ is not None and self.before_.shape == labels.shape:
            both = given & (self.before_ != _NONE)
            if both.any():
                found["pseudo_labels/changed"] = float((labels != self.before_)[both].mean())
        return found
