"""What was observed of a loader: some samples, read twice, and its first batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .flat_probe import FlatProbe
from .jumps_probe import JumpsProbe
from .levels_probe import LevelsProbe
from .overlap_probe import OverlapProbe

SMALL = 32  # side of the small image of a sample
KEPT_SIDE = 256  # largest side of the images that are kept whole


@dataclass(frozen=True)
class SampleProbe:
    """One sample as its data set returns it.

    Attributes:
        index: in the data set.
        name: its id where the item has one, else its index, as text.
        digest: of the image as it is given, with its type and shape: equal digests are equal images.
        shape: of the image, [C, H, W], or [H, W] as given; () where there is no image.
        dtype: of the image, as NumPy calls it.
        mean: per channel, of the image as it is given.
        std: per channel.
        low: smallest value.
        high: largest value.
        small: the image by areas at SMALL x SMALL, [C, SMALL, SMALL] float32, in its own units.
        image: the image itself, [C, H, W] in its own type, its longer side at most KEPT_SIDE (by areas); None but for
            the first 64 samples of a loader, and only where there are masks or boxes.
        target: class number, [L] of labels, or numbers of a regression, as an array; None where it is a mask, boxes,
            or missing.
        mask: [H, W] of class numbers or [L, H, W] of labels, at the size of ``image`` (nearest pixel); None where there
            is none or it was not kept.
        mask_values: the distinct values of the whole mask, up to 300 of them.
        mask_shares: of each of ``mask_values``, the share of pixels.
        boxes: [n, 4] as given, in pixels of the whole image if they are right; None where there are none.
        box_labels: [n].
        targets: every further target by its key, as an array of at most 64 numbers.
        non_finite: whether the image holds NaN or infinity.
        jumps: how much neighbouring pixels of the image differ; None but for the first 64 samples of a loader.
        lows: smallest value per channel.
        highs: largest value per channel.
        levels: which values pixels have; None but for the first 64 samples of a loader.
        flat: how far the image is one colour from its edges on; None where it is so at none.
    """

    index: int
    name: str
    digest: bytes
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    low: float = 0.0
    high: float = 0.0
    small: NDArray[np.float32] | None = None
    image: NDArray[Any] | None = None
    target: NDArray[Any] | None = None
    mask: NDArray[Any] | None = None
    mask_values: tuple[float, ...] = ()
    mask_shares: tuple[float, ...] = ()
    boxes: NDArray[Any] | None = None
    box_labels: NDArray[Any] | None = None
    targets: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    non_finite: bool = False
    jumps: JumpsProbe | None = None
    lows: tuple[float, ...] = ()
    highs: tuple[float, ...] = ()
    levels: LevelsProbe | None = None
    flat: FlatProbe | None = None

    @property
    def is_blank(self) -> bool:
        """Whether the image has one value only, or one in each channel."""
        # The deviation of a constant image is off zero by rounding.
        rounding = 1e-5 * max(abs(self.low), abs(self.high))
        return self.high == self.low or max(self.std, default=1.0) < rounding

    @cached_property
    def label(self) -> int | None:
        """The class number; None where the target is none."""
        whole = self.target is not None and self.target.size == 1 and self.target.dtype.kind in "iub"
        return int(self.target.reshape(())) if whole and self.target is not None else None


@dataclass(frozen=True)
class BatchProbe:
    """One of the first batches, in the order in which the loader gives them in its first epoch.

    Attributes:
        indices: of its samples in the data set.
        names: of its samples.
        labels: class numbers, where targets are such, else empty.
        digests: of the images.
        shapes: by key.
        dtypes: by key, as torch calls them without ``torch.``.
        targets: digests of the targets, numbers of any type; empty where they do not stand one by one.
        item_digests: of the images of the items that it was made of, in the order of ``indices``.
        item_targets: digests of the targets of these items.
    """

    indices: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    digests: tuple[bytes, ...] = ()
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)
    targets: tuple[bytes, ...] = ()
    item_digests: tuple[bytes, ...] = ()
    item_targets: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class LoaderProbe:
    """What was observed of a loader.

    Attributes:
        key: of the loader.
        trains: whether it is trained on.
        length: samples in the data set.
        epoch_length: samples of an epoch; fewer or more where a sampler decides.
        batch_size: None where batches have no one size.
        batches: per epoch.
        shuffles: whether the order is drawn; None where its sampler does not tell.
        sampler: name of the sampler's class.
        drop_last: whether the last batch is left out where it is not full.
        workers: how many.
        image_key: of what the model sees; None where an item has no image.
        target_key: of the target by which the loss is computed; None where there is none.
        samples: those read, by index; all of them where ``complete``.
        complete: whether every sample was read.
        again: the same samples' digests, read a second time in another order and with other random numbers, by index;
            equal where the transform draws nothing.
        again_small: small images of that second reading, where they are others than those of the first.
        order: indices of the first epoch, as far as the sampler tells, up to 100,000; empty where it does not.
        later_order: the same of a second epoch.
        overlaps: which of its samples seem to be those of a loader of the other kind, by the key of that.
        drawable: how many samples its sampler can give; 0 where that is not known.
        left_out: class numbers of some samples that it cannot give, by index, where the data set holds no labels.
        ids: of all samples, where they could be read without reading images, else of ``samples``.
        labels: class numbers of all samples, by index, where the data set holds them (``targets``, ``labels``); else
            None.
        batches_seen: the first batches, made of items as the loader's own collate makes them.
        errors: messages of samples that could not be read, by index.
        reseeds: generators that reading an item sets to the same state each time: ``random``, ``numpy``, ``torch``.
        workers_alike: whether two workers draw the same for different samples; None where nothing is drawn.
    """

    key: str
    trains: bool
    length: int
    epoch_length: int = 0
    batch_size: int | None = None
    batches: int = 0
    shuffles: bool | None = None
    sampler: str = ""
    drop_last: bool = False
    workers: int = 0
    image_key: str | None = "image"
    target_key: str | None = "target"
    samples: Mapping[int, SampleProbe] = field(default_factory=dict)
    complete: bool = False
    again: Mapping[int, bytes] = field(default_factory=dict)
    again_small: Mapping[int, NDArray[np.float32]] = field(default_factory=dict)
    order: Sequence[int] = ()
    later_order: Sequence[int] = ()
    overlaps: Mapping[str, OverlapProbe] = field(default_factory=dict)
    drawable: int = 0
    left_out: Mapping[int, int] = field(default_factory=dict)
    ids: Sequence[str] = ()
    labels: NDArray[np.int64] | None = None
    batches_seen: tuple[BatchProbe, ...] = ()
    errors: Mapping[int, str] = field(default_factory=dict)
    reseeds: tuple[str, ...] = ()
    workers_alike: bool | None = None

    @property
    def augments(self) -> bool:
        """Whether reading a sample twice gave other images."""
        return any(
            self.samples[index].digest != digest for index, digest in self.again.items() if index in self.samples
        )

    def known_labels(self) -> NDArray[np.int64]:
        """Return the class numbers that are known: of all samples, or of those read; empty where there are none."""
        if self.labels is not None:
            return self.labels
        found = [sample.label for sample in self.samples.values()]
        return np.array([label for label in found if label is not None], dtype=np.int64)
