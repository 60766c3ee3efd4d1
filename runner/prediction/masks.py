"""Predict masks of images of any size, tile by tile, with memory that does not grow with the height."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from assay.callbacks.drawings.canvas.palette import class_colours
from assay.callbacks.errors import UsageError
from assay.callbacks.support.atomic_files import replacing

from ..data.files.image_errors import bad_image_errors
from ..data.files.image_windows import OpenImage, open_image, write_mask
from ..data.files.whole_images import check_size
from ..experiment.prediction_spec import MaskPrediction
from .inputs import Input
from .models import Models
from .outcome import Outcome, not_finite
from .scale import ArrayImage, ScaledImage, resize_bands
from .tiles import BandMerger, Tile, TileGrid
from .transform import Place, Placing, apply_transform

_TIFF = (".tif", ".tiff")
_TILE = 512  # default where neither the user nor the experiment sets it
_MOST_CLASSES = 256  # a mask has one byte per pixel


def mask_path(one: Input, output: Path) -> Path:
    """Return the path of an image's mask: a TIFF for a TIFF, otherwise a PNG."""
    return output / f"{one.stem}{'.tif' if one.path.suffix.lower() in _TIFF else '.png'}"


def predict_masks(
    models: Models,
    prediction: MaskPrediction,
    inputs: list[Input],
    output: Path,
    *,
    tile: int | None,
    overlap: int,
    batch_size: int,
    outcome: Outcome,
) -> None:
    """Write the mask of each image, in its exact size: 0 and 255, or the class numbers if there are several classes.

    Args:
        models: the models.
        prediction: how the experiment predicts.
        inputs: the images.
        output: the folder.
        tile: side of a tile; None: images are not cut.
        overlap: of neighbouring tiles.
        batch_size: tiles per batch.
        outcome: records the result for each image.
    """
    # One for all images: where an image lies is found once per size.
    placing = None if prediction.transform is None else Placing(prediction.transform)
    for one in inputs:
        path = mask_path(one, output)
        with outcome.naming([one.path]):
            path.parent.mkdir(parents=True, exist_ok=True)
            # The mask is written under a temporary name: where a tile fails, no half mask stays.
            with open_image(one.path, max_value=prediction.max_value) as image, replacing(path) as temporary:
                whole = predicted_bands(
                    models, prediction, image, one.path, tile=tile, overlap=overlap, batch_size=batch_size,
                    placing=placing, shown_as=one.name,
                )  # fmt: skip
                _write_bands(whole, prediction, image, path, temporary)
            outcome.add()


def predicted_bands(
    models: Models,
    prediction: MaskPrediction,
    image: OpenImage,
    path: Path,
    *,
    tile: int | None,
    overlap: int,
    batch_size: int,
    placing: Placing | None,
    shown_as: str | None = None,
) -> Iterator[Tensor]:
    """Yield the probabilities of an image at its own size, [C, h, W], in bands of rows from the top to the bottom.

    Args:
        models: the models.
        prediction: how the experiment predicts.
        image: the image.
        path: of the image, for errors.
        tile: side of a tile; None: images are not cut.
        overlap: of neighbouring tiles.
        batch_size: tiles per batch.
        placing: finds where an image lies after the transform, where there is one.
        shown_as: the name that a progress bar shows; None: there is none.
    """
    given, place = _prepare_image(image, prediction, path, placing)
    grid = _make_grid(given, prediction, tile, overlap, is_square=models.views.kind == "d4")
    hidden = True if shown_as is None else None  # None: shown where stderr is a terminal
    with tqdm(desc=shown_as, total=len(grid), unit="tile", leave=False, dynamic_ncols=True, disable=hidden) as bar:
        bands = merged_bands(models, prediction, given, grid, batch_size, bar)
        yield from resize_bands(_require_finite(bands, path), place, (image.height, image.width))


def tile_and_overlap(prediction: MaskPrediction, tile: int | None, overlap: int | None) -> tuple[int | None, int]:
    """Return side and overlap of tiles; the side is None where images go through a transform and are not cut.

    Args:
        prediction: of the experiment, whose tiles are the default.
        tile: that the user chooses; None: the experiment's.
        overlap: that the user chooses; None: the experiment's, or a quarter of the side.

    Raises:
        UsageError: there are no tiles to overlap, or the overlap is no less than the side.
    """
    side = tile or prediction.tile or (_TILE if prediction.transform is None else None)
    if side is None:
        if overlap is not None:
            raise UsageError("--overlap needs --tile here: this run's transform gives the model images as a whole.")
        return None, 0
    # The experiment's overlap belongs to the experiment's tile, not to one that the user chooses.
    given = None if tile is not None else prediction.overlap
    chosen = overlap if overlap is not None else side // 4 if given is None else given
    if chosen >= side:
        raise UsageError(f"--overlap must be less than --tile, {side}, got {chosen}.")
    return side, chosen


def _prepare_image(
    image: OpenImage, prediction: MaskPrediction, path: Path, placing: Placing | None
) -> tuple[OpenImage, Place]:
    """Return the image at the scale or transform of training, and where the original lies in it."""
    if placing is None:
        given = image if prediction.scale == 1 else ScaledImage(image, prediction.scale)
        return given, Place(0, 0, given.height, given.width)
    with bad_image_errors(path):
        check_size(image.height, image.width)
    picture = image.read(0, 0, image.height, image.width)
    tensor = apply_transform(placing.transform, picture, path)
    pixels = tensor.float().permute(1, 2, 0).numpy()
    return ArrayImage(pixels), placing(picture, tensor)


def _make_grid(
    image: OpenImage, prediction: MaskPrediction, tile: int | None, overlap: int, *, is_square: bool
) -> TileGrid:
    size = image.height, image.width
    # What a transform returns and is not cut has its size on purpose: it is not padded.
    is_whole = prediction.transform is not None and (tile is None or tile >= max(size))
    divisor = 1 if is_whole else prediction.divisor
    return TileGrid(*size, tile or max(size), overlap, divisor, is_square=is_square)


def _require_finite(bands: Iterator[Tensor], path: Path) -> Iterator[Tensor]:
    for band in bands:
        if not band.isfinite().all():
            raise not_finite(path)
        yield band


def merged_bands(
    models: Models, prediction: MaskPrediction, image: OpenImage, grid: TileGrid, batch_size: int, bar: Any
) -> Iterator[Tensor]:
    """Yield probabilities, [C, h, width], in bands of rows from the top to the bottom of the image."""
    merger = None  # made when the first output shows the number of classes
    rows = list(grid.rows())
    for row, below in zip(rows, [*rows[1:], None], strict=True):
        for start in range(0, len(row), batch_size):
            tiles = row[start : start + batch_size]
            values = _tile_probabilities(models, prediction, image, grid, tiles)
            merger = merger or BandMerger(grid, image.width, values.shape[1], values.device)
            for tile, of_tile in zip(tiles, values, strict=True):
                merger.add(tile, of_tile)
            bar.update(len(tiles))
        if merger is not None:  # rows above the next row of tiles are complete
            yield merger.take(image.height if below is None else below[0].top + below[0].kept[0].start)


def _tile_probabilities(
    models: Models, prediction: MaskPrediction, image: OpenImage, grid: TileGrid, tiles: list[Tile]
) -> Tensor:
    """Return the probabilities of tiles, [N, C, height, width], the mean over views and models."""
    pixels = torch.from_numpy(np.stack([grid.read(image, tile) for tile in tiles]))
    images = prediction.normalize(pixels.to(models.device, non_blocking=True))
    means = []
    for outputs in models.outputs(images):
        for output in outputs:
            _check_output(output, images, prediction.output_key)
        views = torch.cat([prediction.probabilities(output) for output in outputs])
        means.append(models.views.mean_of_masks(views))
    mean = torch.stack(means).mean(dim=0) if len(means) > 1 else means[0]
    return mean[..., : grid.shape[0], : grid.shape[1]]  # without what was filled up


def _check_output(output: Any, images: Tensor, output_key: str) -> None:
    expected = (len(images), *images.shape[2:])
    shape = tuple(output.shape) if isinstance(output, Tensor) else ()
    if len(shape) != 4 or (shape[0], *shape[2:]) != expected:
        raise UsageError(
            f"the model's output {output_key!r} must be [N, C, H, W] in the images' size, [{expected[0]}, C, "
            f"{expected[1]}, {expected[2]}] here; got {list(shape) or type(output).__name__}."
        )
    if shape[1] > _MOST_CLASSES:
        raise UsageError(f"a mask holds at most {_MOST_CLASSES} classes; {output_key!r} has {shape[1]}.")


def _write_bands(
    bands: Iterator[Tensor], prediction: MaskPrediction, image: OpenImage, path: Path, temporary: Path
) -> None:
    first = next(bands)  # shows the number of classes, which the file's palette needs
    palette = prediction.palette
    if len(first) > 1 and palette is None:
        palette = class_colours(len(first))
    with _open_mask(path, temporary, image, palette if len(first) > 1 else None) as file:
        for band in chain([first], bands):
            file.write(to_mask(band, prediction.threshold))


def to_mask(probabilities: Tensor, threshold: float) -> np.ndarray:
    """Return the mask, [H, W] uint8, of probabilities [C, H, W]."""
    if len(probabilities) == 1:
        return np.asarray(((probabilities[0] >= threshold).to(torch.uint8) * 255).cpu())
    return np.asarray(probabilities.argmax(dim=0).to(torch.uint8).cpu())


class _Rows(Protocol):
    def write(self, rows: np.ndarray) -> None: ...


def _open_mask(
    path: Path, temporary: Path, image: OpenImage, palette: np.ndarray | None
) -> AbstractContextManager[_Rows]:
    if path.suffix == ".tif":
        size = image.height, image.width
        return write_mask(temporary, *size, palette=palette, georeference=image.georeference)
    return _write_png(temporary, palette)


@contextmanager
def _write_png(path: Path, palette: np.ndarray | None) -> Iterator[_Rows]:
    # Pillow writes a PNG only as a whole; one byte per pixel is little beside the decoded image.
    rows = _RowBuffer()
    yield rows
    mask = Image.fromarray(np.concatenate(rows.bands))
    if palette is not None:
        mask.putpalette(palette.astype(np.uint8).tobytes())
    with open(path, "wb") as file:  # opened here, as it must be on the disk before it is renamed
        mask.save(file, format="png")
        file.flush()
        os.fsync(file.fileno())


class _RowBuffer:
    def __init__(self) -> None:
        self.bands: list[np.ndarray] = []

    def write(self, rows: np.ndarray) -> None:
        self.bands.append(rows)
