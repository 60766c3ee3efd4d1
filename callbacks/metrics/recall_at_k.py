"""How well an embedding finds samples of the same class."""

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
    """Computes recall@k of an embedding over each validation loader: who is next to whom.

    Each sample is a query once, and all others of the loader are searched: recall@k is the share of queries that have
    a sample of their own class among the k nearest (see ``measures.recall_at_k`` for ties and single samples).

    =========================== ======================================================================
    written to                  content
    =========================== ======================================================================
    ``runner.loader_metrics``   ``recall@1`` and so on, 0 to 1; NaN where no two samples share a class
    =========================== ======================================================================

    It is exact over all samples and all ranks, as long as a loader has no more than ``max_samples``; of larger ones so
    many are queries and are searched, spread evenly and chosen by their position: the same in every epoch and on any
    number of ranks. With fewer to search the value is a little higher than it would be.

    Nothing is read from the device within a step: the chosen vectors are copied without blocking, and read one step
    later. Memory, on the host: ``max_samples`` times D numbers of four bytes on each rank while the loader runs, and
    three times that when it ends; 10,000 vectors of 128 take 5 MiB. Time grows with the square of ``max_samples``.

    Args:
        k: how many neighbours, one number or several.
        distance: ``cosine`` or ``euclidean``.
        max_samples: how many samples to hold at most.
        name: what the values are called before the ``@``, for a second embedding.
        embedding_key: of the batch; [N, D, ...], floating point. What comes after D is averaged. None: ``output_key``.
        output_key: of the batch; taken where there is no ``embedding_key``.
        target_key: of the batch; class numbers [N], or distributions over classes [N, C] (soft or one-hot), of which
            the largest share counts.
        sample_id_key: of the batch; a sample that comes twice counts once. Without it in the batch, the position in
            the loader serves.
        prefix: stands before the names, ``PREFIX/NAME``, for a second callback of this kind in the run.

    Raises:
        UsageError: an argument is out of range; at a batch, when a key is missing or a shape does not fit; one batch
            later, when a target [N, C] does not add up to 1, as several labels do not.
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
        rows = self.choice_.choose(positions)
        parts = copy_tree(self._parts(runner.batch, positions, rows)) if rows else None
        self._settle()
        self.pending_ = (
            None if parts is None else partial(self._keep, self.choice_, [positions[row] for row in rows], parts)
        )

    def on_loader_end(self, runner: dl.IRunner) -> None:
        if self.choice_ is None:
            return
        self._settle()
        mine, self.choice_ = list(self.choice_.kept.items()), None
        samples = winners_over_ranks(mine, self.max_samples, _chosen_by, itemgetter(1), lambda item: item[1]["id"])
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
        """Keep the samples of the step before: they have reached the host by now."""
        if self.pending_ is not None:
            self.pending_()
            self.pending_ = None

    def _keep(self, choice: SampleChoice, positions: Sequence[int], parts: Mapping[str, Any]) -> None:
        """Keep what has reached the host by now, sample by sample, so that the rest of the batch is free to go."""
        host = read_tree(parts)
        ids = host["id"].tolist() if isinstance(host["id"], np.ndarray) else host["id"]
        labels = host["label"].tolist()
        if NO_CLASS in labels:
            raise self._no_classes(f"{parts['kind']}, and something else for {ids[labels.index(NO_CLASS)]!r}")
        for index, position in enumerate(positions):
            sample = {"vector": host["vector"][index].copy(), "label": int(labels[index]), "id": ids[index]}
            choice.put(position, sample)

    def _parts(self, batch: Mapping[str, Any], positions: Sequence[int], rows: list[int]) -> dict[str, Any]:
        """Return what is kept of the chosen samples of a batch, on the device."""
        vectors, labels = (pick(batch, key, "RecallAtK") for key in (self.embedding_key, self.target_key))
        if not isinstance(vectors, Tensor) or vectors.ndim < 2 or not vectors.is_floating_point():
            raise UsageError(
                f"embedding_key={self.embedding_key!r} must be [N, D, ...] of floating point, got {_kind(vectors)}."
            )
        ids = batch.get(self.sample_id_key, positions)
        return {
            "vector": pool(take(vectors, rows)),
            "label": self._labels(labels, len(vectors), rows),
            "kind": _kind(labels),
            "id": take(ids, rows) if isinstance(ids, Tensor) else [ids[row] for row in rows],
        }

    def _labels(self, labels: Any, count: int, rows: list[int]) -> Tensor:
        """Return the classes of the chosen samples, int64, [len(rows)]; ``NO_CLASS`` where it is not one."""
        if isinstance(labels, Tensor) and not labels.is_complex() and len(labels) == count:
            if labels.numel() == count and not labels.is_floating_point():
                return take(labels.reshape(-1), rows)
            if labels.ndim == 2 and labels.shape[1] > 1:
                return class_of_distribution(take(labels, rows))
        raise self._no_classes(_kind(labels))

    def _no_classes(self, got: str) -> UsageError:
        return UsageError(
            f"target_key={self.target_key!r} must be class numbers [N], got {got}; distributions over classes, [N, C] "
            "that add up to 1, do too."
        )


def _chosen_by(item: tuple[int, Any]) -> int:
    return position_hash(item[0])


def _kind(part: Any) -> str:
    return f"{part.dtype} {tuple(part.shape)}" if isinstance(part, Tensor) else type(part).__name__
