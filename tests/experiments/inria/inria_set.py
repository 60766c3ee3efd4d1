"""A small data set of random pixels in the layout of the real one."""

import numpy as np

from assay.experiments.inria.generator import write_tiff

NAMES = ("aix1", "aix2", "aix6", "bern3", "bern7", "bern10")
HEIGHT, WIDTH = 70, 90


def write_set(root):
    rng = np.random.default_rng(0)
    for part in ("train/images", "train/gt", "test/images"):
        (root / part).mkdir(parents=True)
    for number, name in enumerate(NAMES):
        image, mask = rng.integers(0, 256, (HEIGHT, WIDTH, 3)), 255 * rng.integers(0, 2, (HEIGHT, WIDTH))
        write_tiff(root / "train/images" / f"{name}.tif", image.astype(np.uint8), number)
        write_tiff(root / "train/gt" / f"{name}.tif", mask.astype(np.uint8), number + 1)
    write_tiff(root / "test/images/chur1.tif", np.full((HEIGHT, WIDTH, 3), 7, np.uint8))
    return root
