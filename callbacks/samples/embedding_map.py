"""EmbeddingMap: samples as points of a plane, by t-SNE, UMAP or PCA of an output of the model."""

from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from catalyst import dl

from ..drawings.canvas.fonts import shown_names
from ..drawings.embedding_map import draw_embedding_map
from ..errors import UsageError, unknown_name
from ..keys import OUTPUT_KEY, SAMPLE_ID_KEY, TARGET_KEY
from ..measures.projection import METHODS, project
from ..tensorboard.writer import Writer
from .embeddings import Cloud, Embeddings


class EmbeddingMap(Embeddings):
    """Shows samples as points of a plane, close to those with a similar output, by t-SNE, UMAP or PCA.

    =============================== ===== ==============================================================================
    tag, in the loader's folder     kind  step and content
    =============================== ===== ==============================================================================
    ``5_predictions/embedding_map`` image epoch; [H, W, 3] uint8 RGB: the points in the colours of their true and of
                                          their predicted classes, wrong ones with a ring
    =============================== ===== ==============================================================================

    Of larger loaders ``max_samples`` samples are shown, spread evenly and chosen by their position: the same ones in
    every epoch and on any number of ranks. Vectors that are not finite are left out, and the title counts them. Loaders
    for training are left out unless named, loaders for inference always. ``Embeddings`` shows the same points in
    TensorBoard's projector.

    Nothing is read from the device within a step. Memory: ``max_samples`` vectors. The picture is drawn in the thread
    that writes. For 500 samples ``pca`` takes milliseconds, ``tsne`` about 1.5 seconds of one core, and ``umap`` about
    2, and 25 more the first time, when it is compiled.

    Args:
        method: ``tsne``, ``umap`` (needs the package umap-learn) or ``pca``.
        max_samples: how many samples are shown at most.
        every_n_epochs: draw after every so many epochs, and after the last; None: only at the end of the run.
        options: further options of ``sklearn.manifold.TSNE`` or ``umap.UMAP``, such as ``{"n_neighbors": 30}``.
        loader: the loader to show; None: every loader for validation.
        embedding_key: key of the embeddings in the batch: [N, D, ...], floating point. Axes after D are averaged. None:
            ``output_key``.
        output_key: key of the outputs in the batch: logits [N, C], [N] or [N, 1], for the predicted class. It may be
            missing.
        target_key: key of the targets in the batch: class numbers [N], or distributions [N, C] that add up to 1, of
            which the largest share counts, for the true class. The batch may lack it.
        sample_id_key: key of the sample ids in the batch; without it, samples are named by their position in the
            loader.
        class_names: one name per class; None: classes are shown by number.
        tag: another name, for a second callback of this kind; letters, digits, ``-`` and ``_``.
        prefix: added to the tag, as ``TAG/PREFIX``; a second callback of this kind needs one.

    Raises:
        UsageError: an argument is out of range, or umap-learn is missing; at the start of the run, when there is no
            such loader, two callbacks share a tag, or there is no TensorBoard logger; at a batch, when a key is missing
            or a shape does not fit.
    """

    def __init__(
        self,
        method: str = "tsne",
        max_samples: int = 500,
        every_n_epochs: int | None = 1,
        *,
        options: Mapping[str, Any] | None = None,
        loader: str | None = None,
        embedding_key: str | None = None,
        output_key: str = OUTPUT_KEY,
        target_key: str = TARGET_KEY,
        sample_id_key: str = SAMPLE_ID_KEY,
        class_names: Sequence[str] | None = None,
        tag: str = "embedding_map",
        prefix: str = "",
    ):
        super().__init__(
            max_samples,
            every_n_epochs,
            loader=loader,
            embedding_key=embedding_key,
            output_key=output_key,
            target_key=target_key,
            sample_id_key=sample_id_key,
            class_names=class_names,
            tag=tag,
            prefix=prefix,
        )
        if method not in METHODS:
            raise unknown_name("method", method, METHODS)
        # Without an import: it takes seconds, and only the thread that draws needs it.
        if method == "umap" and find_spec("umap") is None:
            raise UsageError(
                "EmbeddingMap(method='umap') needs the package umap-learn: pip install umap-learn, or take 'tsne'."
            )
        if options and method == "pca":
            raise UsageError(f"options are for the methods 'tsne' and 'umap', got {dict(options)!r} with 'pca'.")
        self.method, self.options = method, dict(options or {})

    # Points have no thumbnail, so that the batch needs no images.
    def _images(self, runner: dl.IRunner, rows: list[int]) -> dict[str, Any]:
        return {}

    def tags(self, loader_key: str) -> tuple[str, ...]:
        return tuple(f"5_predictions/{tag}" for tag in super().tags(loader_key))

    def _write(self, writer: Writer, cloud: Cloud) -> None:
        # First, so that a run that fails at its end does not draw it again.
        del self.last_[cloud.loader]
        writer.image(self.full_tag(f"5_predictions/{self.tag}"), partial(self._draw, cloud), cloud.epoch)

    def _draw(self, cloud: Cloud) -> np.ndarray:
        # In the thread of the writer; the loop has handed over host arrays.
        vectors = np.stack([sample["vector"] for sample in cloud.samples])
        finite = np.isfinite(vectors).all(axis=1)
        title = [
            f"{self.place(cloud.loader)} {self.embedding_key} by {self.method}, epoch {cloud.epoch}",
            self._count_samples(finite),
        ]
        if not finite.any():
            return draw_embedding_map(np.zeros((1, 2)), None, None, None, title)
        labels, predictions = (self._classes_of_points(cloud, part, finite) for part in ("label", "prediction"))
        # A name that no font can draw is replaced by the number of its class.
        names = None if self.class_names is None else shown_names(self.class_names)
        points = project(vectors[finite], self.method, self.options)
        return draw_embedding_map(points, labels, predictions, names, title)

    def _count_samples(self, finite: np.ndarray) -> str:
        broken = int((~finite).sum())
        return f"{int(finite.sum()):,} samples" + (f", {broken:,} NOT FINITE and left out" if broken else "")

    def _classes_of_points(self, cloud: Cloud, part: str, finite: np.ndarray) -> np.ndarray | None:
        """Return the true or predicted classes of the points, if they are known."""
        if part not in cloud.samples[0]:
            return None
        classes: np.ndarray = np.array([sample[part] for sample in cloud.samples])[finite]
        return classes
