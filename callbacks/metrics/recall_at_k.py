"""RecallAtK: how well an embedding finds samples of the same class among its nearest neighbours."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from catalyst import dl
from torch import Tensor

from ..base.naming import Named
from ..base.order import METRICS
from ..errors import UsageError, at_least_one, unknown_name
from ..keys import OUTPUT_KEY, SAMPLE_ID_KEY, TARGET_KEY, pick
from ..measures.embeddings import SampleChoice, pool, position_hash, take
from ..measures.recall_at_k import DISTANCES, recall_at_k
from ..measures.targets import NO_CLASS, class_of_distribution
from ..support.checkpoint_values import from_plain, to_plain
from ..support.distributed import winners_over_ranks
from ..support.host_copy import copy_tree, read_tree
from ..support.runner_view import positions_in_loader, samples_of_keys


class RecallAtK(Named):
    """Computes recall@k of an embedding over each validation loader.

    Each sample is a query once, and all others of the loader are searched: recall@k is the share of queries with a
    sample of their own class among the k nearest. See ``measures.recall_at_k`` for ties and for classes of one sample.

    =========================== ======================================================================
    written to                  content
    =========================== ======================================================================
    ``runner.loader_metrics``   ``recall@1`` and so on, 0 to 1; NaN if no two samples share a class
    =========================== ======================================================================

    The value is exact over all samples and ranks for loaders of up to ``max_samples`` samples. Of a larger loader, so
    many samples are used as queries and searched: they are spread evenly and chosen by position, the same in every
    epoch and on any number of ranks. With fewer samples to search, the value is slightly higher than for all.

    Nothing is read from the device within a step: the chosen vectors are copied without blocking, and read one step
    later. Memory, on the host: ``max_samples`` times D numbers of four bytes on each rank while the loader runs, and
    three times that when it ends; 10,000 vectors of 128 take 5 MiB. Time grows with the square of ``max_samples``.

    Args:
        k: how many neighbours to look at, one number or several.
        distance: ``cosine`` or ``euclidean``.
        max_samples: how many samples to hold at most.
        name: name of the metric before the ``@``; a second embedding needs another one.
        embedding_key: key of the embeddings in the batch, [N, D, ...], floating point; axes after D are averaged. None:
            ``output_key``.
        output_key: key of the outputs in the batch, used without ``embedding_key``.
        target_key: key of the targets in the batch: class numbers [N], or distributions over classes [N, C], soft or
            one-hot, whose largest share counts.
        sample_id_key: key of the sample ids in the batch; a sample that comes twice counts once. Without it, samples
            are identified by their position in the loader.
        prefix: added in front of the names, as ``PREFIX/NAME``; a second callback of this kind needs one.

    Raises:
        UsageError: an argument is out of range; at a batch, a key is missing or a shape does not fit; one batch later,
            targets [N, C] do not add up to 1, as those of several labels.
    """

    def __init__(
        self,
        k: int | Sequence[int] = 1,
        *,
        distance: str = "cosine",
        max_samples: int = 10_000,
        name: str = "recall",
        embedding_key: str | None = None,
        output_key: str = OUTPUT_KEY,
        target_key: str = TARGET_KEY,
        sample_id_key: str = SAMPLE_ID_KEY,
        prefix: str = "",
    ):
        super().__init__(METRICS, prefix)
        self.k = [at_least_one("k", one) for one in ([k] if isinstance(k, int) else k)]
        if not self.k:
            raise UsageError("k must be one number or several, got none.")
        if distance not in DISTANCES:
            raise unknown_name("distance", distance, DISTANCES)
        self.distance = distance
        self.max_samples = at_least_one("max_samples", max_samples)
        self.name = name
        self.embedding_key = output_key if embedding_key is None else embedding_key
        self.target_key, self.sample_id_key = target_key, sample_id_key
        self.choice_: SampleChoice | None = None
        self.pending_: Callable[[], None] | None = None

    def metrics_written(self, loader_key: str) -> list[str]:
        return self._value_names() if loader_key.startswith("valid") else []

    def _value_names(self) -> list[str]:
        return [f"{self.name}@{one}" for one in self.k]

    def on_loader_start(self, runner: dl.IRunner) -> None:
        super().on_loader_start(runner)
        self.choice_ = SampleChoice(self.max_samples) if runner.is_valid_loader else None
        self.pending_ = None

    @torch.no_grad()
    def on_batch_end(self, runner: dl.IRunner) -> None:
        if self.choice_ is None:
            return
        positions = positions_in_loader(runner, samples_of_keys(runner, [self.embedding_key]))
        # By position alone, which the host knows: the choice reads nothing from the device.
        rows = self.choice_.choose(positions)
        # The copies start before those of the last step are read, so that they travel meanwhile.
        parts = copy_tree(self._parts(runner.batch, positions, rows)) if rows else None
        self._settle()
        if parts is not None:
            self.pending_ = partial(self._keep_samples, self.choice_, [positions[row] for row in rows], parts)

    def on_loader_end(self, runner: dl.IRunner) -> None:
        if self.choice_ is None:
            return
        self._settle()
        mine, self.choice_ = list(self.choice_.kept.items()), None
        # A collective. Padding may give a sample to two ranks; by its id it counts once, and is no neighbour of itself.
        samples = winners_over_ranks(mine, self.max_samples, _rank_by_hash, itemgetter(1), lambda item: item[1]["id"])
        values = [math.nan] * len(self.k)
        if samples:
            vectors = torch.from_numpy(np.stack([sample["vector"] for sample in samples]))
            labels = torch.tensor([sample["label"] for sample in samples])
            values = recall_at_k(vectors, labels, self.k, self.distance)
        found = dict(zip(self._value_names(), values, strict=True))
        self.write_metrics(runner, runner.loader_metrics, found)

    def loader_state(self, runner: dl.IRunner) -> Any:
        """Return what was observed of the loader so far, in types that ``weights_only=True`` loads."""
        self._settle()
        return to_plain(self.choice_)

    def load_loader_state(self, runner: dl.IRunner, state: Any) -> None:
        """Continue from what ``loader_state`` returned."""
        self.choice_ = from_plain(state, self.choice_)

    def _settle(self) -> None:
        # One step later, as the samples have reached the host by then and the loop need not wait for them.
        if self.pending_ is not None:
            self.pending_()
            self.pending_ = None

    def _keep_samples(self, choice: SampleChoice, positions: Sequence[int], parts: Mapping[str, Any]) -> None:
        host = read_tree(parts)
        ids = host["id"].tolist() if isinstance(host["id"], np.ndarray) else host["id"]
        labels = host["label"].tolist()
        # Whether shares add up to 1 is only known here: on the device it would have had to be read.
        if NO_CLASS in labels:
            raise self._no_classes(f"{parts['kind']}, and something else for {ids[labels.index(NO_CLASS)]!r}")
        # Sample by sample and copied: a view would keep the vectors of the whole batch in memory.
        for index, position in enumerate(positions):
            sample = {"vector": host["vector"][index].copy(), "label": int(labels[index]), "id": ids[index]}
            choice.put(position, sample)

    def _parts(self, batch: Mapping[str, Any], positions: Sequence[int], rows: list[int]) -> dict[str, Any]:
        """Return vectors, labels and ids of the chosen samples of a batch, on the device."""
        vectors, labels = (pick(batch, key, "RecallAtK") for key in (self.embedding_key, self.target_key))
        if not isinstance(vectors, Tensor) or vectors.ndim < 2 or not vectors.is_floating_point():
            raise UsageError(
                f"embedding_key={self.embedding_key!r} must be [N, D, ...] of floating point, got {_describe(vectors)}."
            )
        ids = batch.get(self.sample_id_key, positions)
        return {
            "vector": pool(take(vectors, rows)),
            "label": self._labels(labels, len(vectors), rows),
            "kind": _describe(labels),  # for an error that comes a step later
            "id": take(ids, rows) if isinstance(ids, Tensor) else [ids[row] for row in rows],
        }

    def _labels(self, labels: Any, count: int, rows: list[int]) -> Tensor:
        """Return the classes of the chosen samples, int64, [len(rows)]; ``NO_CLASS`` for a target that is no class."""
        if isinstance(labels, Tensor) and not labels.is_complex() and len(labels) == count:
            if labels.numel() == count and not labels.is_floating_point():
                return take(labels.reshape(-1), rows)
            if labels.ndim == 2 and labels.shape[1] > 1:
                return class_of_distribution(take(labels, rows))
        raise self._no_classes(_describe(labels))

    def _no_classes(self, got: str) -> UsageError:
        return UsageError(
            f"target_key={self.target_key!r} must be class numbers [N], got {got}; distributions over classes, [N, C] "
            "that add up to 1, do too."
        )


def _rank_by_hash(item: tuple[int, Any]) -> int:
    # The hash spreads the chosen positions evenly over the loader, the same ones on any number of ranks.
    return position_hash(item[0])


def _describe(part: Any) -> str:
    return f"{part.dtype} {tuple(part.shape)}" if isinstance(part, Tensor) else type(part).__name__
