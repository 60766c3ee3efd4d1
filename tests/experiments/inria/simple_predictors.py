"""How well the made-up tiles are segmented without looking at shapes: what the model's IoU is to be compared with."""

import cv2
import numpy as np

_BINS = 16


def read_tiles(folder, numbers):
    """Return images [P, 3] and truth [P], bool, of all pixels of the tiles with these numbers."""
    paths = [
        path
        for path in sorted((folder / "images").iterdir())
        if int("".join(filter(str.isdigit, path.stem))) in numbers
    ]
    images = [cv2.imread(str(path)).reshape(-1, 3) for path in paths]
    truths = [cv2.imread(str(folder / "gt" / path.name), cv2.IMREAD_GRAYSCALE).reshape(-1) > 0 for path in paths]
    return np.concatenate(images), np.concatenate(truths)


def iou(found, true):
    return (found & true).sum() / max(1, (found | true).sum())


def simple_ious(folder):
    """Return the IoU on tiles 1 to 5 of predictors that see a pixel's place in no picture.

    The thresholds are chosen on the tiles 1 to 5 themselves, the best there are; the classifier by colour learns on
    the other tiles how often each of 4,096 colours is a house.
    """
    pixels, true = read_tiles(folder, range(1, 6))
    known_pixels, known = read_tiles(folder, range(6, 100))
    found = {
        "nothing": iou(np.zeros_like(true), true),
        "everything": iou(np.ones_like(true), true),
        "random": iou(np.random.default_rng(0).random(len(true)) < 0.5, true),
    }
    hsv = cv2.cvtColor(pixels[None], cv2.COLOR_BGR2HSV)[0]
    channels = {name: pixels[:, i] for i, name in enumerate(("blue", "green", "red"))}
    channels |= {name: hsv[:, i] for i, name in enumerate(("hue", "saturation", "value"))}
    found |= {f"threshold of {name}": best_threshold(values, true) for name, values in channels.items()}
    cells, known_cells = (cell_of(part) for part in (pixels, known_pixels))
    share = np.bincount(known_cells, known, _BINS**3) / np.maximum(1, np.bincount(known_cells, minlength=_BINS**3))
    found["colour classifier"] = best_threshold(np.round(255 * share[cells]).astype(np.uint8), true)
    return found


def best_threshold(values, true):
    """Return the largest IoU of ``values >= t`` or ``values < t`` over all t, of values 0 to 255."""
    counts = np.stack([np.bincount(values[~true], minlength=256), np.bincount(values[true], minlength=256)])
    best = 0.0
    for false, hits in (counts[:, ::-1].cumsum(axis=1), counts.cumsum(axis=1)):
        best = max(best, (hits / (true.sum() + false)).max())
    return best


def cell_of(pixels):
    return (pixels // (256 // _BINS)).astype(np.int64) @ np.array([1, _BINS, _BINS**2])
