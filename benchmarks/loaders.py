"""Measure images per second of the experiments' training loaders, beside plain loops over the same files.

A plain loop is what one writes for one data set and one training (see ``plain_loaders``). An experiment's loader
beside draws the same with any number of workers and after an interruption, names each sample, and tells which file is
broken. With workers both are a loader of torch's.

================ ===================================================================================================
row              what is read
================ ===================================================================================================
``inria``        tiles of 384 x 384 pixels, uncompressed TIFF; crops of 96 x 96: the defaults of ``assay train inria``
``inria-real``   tiles of 5000 x 5000, crops of 512 x 512, augmentation medium: as the experiment's docstring advises
``alaska2``      JPEG files of 128 x 128, pixels without rounding: the defaults of ``assay train alaska2``
``alaska2-real`` files of 512 x 512, as in the competition
``wheat``        JPEG files of 192 x 192 with boxes: the defaults of ``assay train wheat``
================ ===================================================================================================
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import albumentations as A
import numpy as np

from assay.experiments.alaska2 import Alaska2
from assay.experiments.alaska2.data import CLASS_NAMES, find_covers, is_valid
from assay.experiments.alaska2.generator import make_data as make_covers
from assay.experiments.inria import Inria
from assay.experiments.inria.augmentation import make_transform
from assay.experiments.inria.generator import CITIES, make_tiles, write_tiff
from assay.experiments.inria.scene import draw_scene
from assay.experiments.wheat import Wheat
from assay.experiments.wheat.data import to_tensor
from assay.experiments.wheat.generator import make_data as make_fields
from assay.runner import Experiment
from assay.runner.data.seeding import seed_order
from benchmarks import results
from benchmarks.apart import apart
from benchmarks.plain_loaders import PlainBoxes, PlainCrops, PlainJpegs, join_boxes, plain_loader


@dataclass(frozen=True)
class Case:
    """An experiment with its files, and the plain loop over them.

    Attributes:
        make: fills a folder with the data set; the second argument is whether a few files are enough.
        experiment: takes the folder and the number of workers.
        plain: takes the experiment, the folder and the number of workers.
    """

    make: Callable[[Path, bool], None]
    experiment: Callable[[str, int], Experiment]
    plain: Callable[[Any, Path, int], Any]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loaders", description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--workers", nargs="+", type=int, default=[0, 2])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--small", action="store_true", help="make but a few files")
    options = parser.parse_args(arguments)
    rows: dict[str, Any] = {}
    for name in options.cases:
        with TemporaryDirectory() as folder:
            CASES[name].make(Path(folder), options.small)
            for workers in options.workers:
                row = rows[f"{name}, {workers} workers"] = measure(name, folder, workers, options)
                print(f"{name:12} {workers} workers: {describe(row)}", flush=True)
    results.write("loaders", "cpu", vars(options), rows)


def measure(name: str, folder: str, workers: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return images a second of both sides, measured in turn in processes of their own, and the ratio of the two."""
    rates: dict[str, list[float]] = {"ours": [], "plain": []}
    for repetition in range(options.repetitions):
        for side in sorted(rates, reverse=repetition % 2 == 1):
            task = {"name": name, "side": side, "folder": folder, "workers": workers, "seconds": options.seconds}
            rates[side].append(apart("benchmarks.loaders:images_per_s", **task))
    ratios = [ours / plain for ours, plain in zip(rates["ours"], rates["plain"], strict=True)]
    return {side: results.spread(values) for side, values in rates.items()} | {"ratio": results.spread(ratios)}


def describe(row: dict[str, Any]) -> str:
    ours, plain, ratio = (row[key] for key in ("ours", "plain", "ratio"))
    return (
        f"{ours['median']:.0f} images/s, plain loop {plain['median']:.0f}; "
        f"ratio {ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
    )


def images_per_s(name: str, side: str, folder: str, workers: int, seconds: float) -> float:
    """Read whole epochs for some seconds, after one that does not count."""
    case = CASES[name]
    experiment = case.experiment(folder, workers)
    is_ours = side == "ours"
    loader = experiment.get_loaders()["train"] if is_ours else case.plain(experiment, Path(folder), workers)
    epoch, images, start = 0, 0, time.perf_counter()
    while epoch < 2 or time.perf_counter() - start < seconds:
        epoch += 1
        if is_ours:
            seed_order(loader, 0, epoch)
        passed = sum(len(_images(batch)) for batch in loader)
        if epoch > 1:
            images += passed
        else:
            start = time.perf_counter()
    return images / (time.perf_counter() - start)


def _images(batch: Any) -> Any:
    return batch["image"] if isinstance(batch, dict) else batch[0]


def _make_large_tiles(folder: Path, small: bool) -> None:
    """Make tiles of the real size of one scene, next to each other again and again."""
    sides, repeats = (625, 2) if small else (1250, 4)
    for part in ("train/images", "train/gt"):
        (folder / part).mkdir(parents=True)
    for number in (1, 6, 7):
        scene = draw_scene(CITIES[0], sides, np.random.default_rng(number))
        write_tiff(folder / "train/images" / f"austin{number}.tif", np.tile(scene.image, (repeats, repeats, 1)), number)
        write_tiff(folder / "train/gt" / f"austin{number}.tif", np.tile(scene.mask, (repeats, repeats)), number)


def _crops(experiment: Inria, folder: Path, workers: int) -> Any:
    items = PlainCrops(folder, experiment.crop, make_transform(experiment.augmentation))
    return plain_loader(items, experiment.batch_size, workers)


def _jpegs(experiment: Alaska2, folder: Path, workers: int) -> Any:
    names = [name for name in find_covers(folder) if not is_valid(name)]
    items = PlainJpegs(folder, names, CLASS_NAMES, A.Compose([A.D4(), A.ToTensorV2()]))
    return plain_loader(items, experiment.batch_size, workers)


def _boxes(experiment: Wheat, folder: Path, workers: int) -> Any:
    ours = experiment.get_loaders()["train"].dataset
    names = list(ours.items.column("sample_id"))  # type: ignore[attr-defined]
    light = [A.D4(), A.RandomBrightnessContrast(0.2, 0.2), A.HueSaturationValue(8, 20, 0)]
    items = PlainBoxes(folder, names, to_tensor(light, experiment.image_size))
    return plain_loader(items, experiment.batch_size, workers, join_boxes)


def _given(experiment: type[Experiment], **fields: Any) -> Callable[[str, int], Experiment]:
    return lambda folder, workers: experiment(data_dir=folder, workers=workers, device="cpu", **fields)


CASES = {
    "inria": Case(lambda folder, small: make_tiles(folder), _given(Inria), _crops),
    "inria-real": Case(
        _make_large_tiles, _given(Inria, crop=512, window=1000, batch_size=16, augmentation="medium"), _crops
    ),
    "alaska2": Case(lambda folder, small: make_covers(folder, 20 if small else 160), _given(Alaska2), _jpegs),
    "alaska2-real": Case(lambda folder, small: make_covers(folder, 20 if small else 40, 512), _given(Alaska2), _jpegs),
    "wheat": Case(lambda folder, small: make_fields(folder, 20 if small else 200), _given(Wheat), _boxes),
}

if __name__ == "__main__":
    main()
