"""Whether wrong masks are found in drawn scenes: ``python -m proofs.wrong_masks`` writes ``benchmarks/results/``."""

import argparse
import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from assay.callbacks import SampleHistory
from assay.runner import DictRunner, Engine
from benchmarks.results import FOLDER, machine
from proofs.epoch_copies import EpochCopies

RESULT = FOLDER / "wrong-masks-proof.json"
KINDS = ("missing", "extra", "swapped", "cut", "shifted")
SEEDS, EPOCHS, AT = (0,), 10, (3, 10)
SHARES = {"5% wrong": 0.05, "sound": 0.0}
COUNTS = {"train": 400, "valid": 200}
OTHERS = ("loss of the epoch", "IoU of the epoch", "mean IoU")
NEEDED = {"precision": 0.9, "recall": 0.7, "flagged of sound": 0.01}
"""Asked for after the last epoch: of the list, and the largest share of sound samples that it may name."""

_SIDE, _CROP, _CLASSES = 64, 56, 4
_COLOURS = np.array([[0, 0, 0], [0.9, 0.2, -0.1], [0.5, 0.8, 0.1], [0.1, 0.6, 0.7]])


@dataclass
class Scene:
    """A picture of one to four ellipses and rectangles of three classes on a ground, blurred and under noise.

    Attributes:
        seed: of all chance.
        wrong: one of ``KINDS``, by which the mask is wrong; empty: it is right.
    """

    seed: int
    wrong: str = ""
    image: np.ndarray = field(init=False)
    mask: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.draw = np.random.default_rng(self.seed)
        self.mask, self.objects = np.zeros((_SIDE, _SIDE), np.int64), []
        for _ in range(self.draw.integers(1, 5)):
            shape = self._free_shape()
            if shape is not None:
                self.objects.append((shape, int(self.draw.integers(1, _CLASSES))))
                self.mask[shape] = self.objects[-1][1]
        image = _COLOURS[self.mask] * self.draw.uniform(0.7, 1.2) + self.draw.normal(0, 0.3, 3)
        image += self.draw.normal(0, 0.25, 3) * np.linspace(-1, 1, _SIDE)[:, None, None]
        image = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1.0)
        self.image = (image + self.draw.normal(0, 0.45, image.shape)).transpose(2, 0, 1).astype(np.float32)
        if self.wrong:
            getattr(self, f"_{self.wrong}")()

    def _free_shape(self) -> np.ndarray | None:
        """Return an ellipse or a rectangle where nothing is, [H, W] bool; None: there is no room."""
        rows, columns = np.mgrid[:_SIDE, :_SIDE]
        for _ in range(50):
            tall, wide = self.draw.integers(9, 26, 2)
            y, x = (
                rows - self.draw.uniform(tall / 2, _SIDE - tall / 2),
                columns - self.draw.uniform(wide / 2, _SIDE - wide / 2),
            )
            angle = self.draw.uniform(0, np.pi)
            u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
            u, v = abs(u) / (wide / 2), abs(v) / (tall / 2)
            shape = np.asarray(u**2 + v**2 <= 1 if self.draw.random() < 0.5 else (u <= 1) & (v <= 1))
            if not self.mask[shape].any():
                return shape
        return None

    def _missing(self) -> None:
        shape, _ = self.objects[self.draw.integers(len(self.objects))]
        self.mask[shape] = 0

    def _extra(self) -> None:
        shape = self._free_shape()
        if shape is None:
            self._missing()
        else:
            self.mask[shape] = self.draw.integers(1, _CLASSES)

    def _swapped(self) -> None:
        shape, label = self.objects[self.draw.integers(len(self.objects))]
        self.mask[shape] = 1 + (label - 1 + self.draw.integers(1, _CLASSES - 1)) % (_CLASSES - 1)

    def _cut(self) -> None:
        shape, _ = max(self.objects, key=lambda of: of[0].sum())
        lower = shape.copy()
        lower[: int(np.median(np.nonzero(shape)[0]))] = False
        self.mask[lower] = 0

    def _shifted(self) -> None:
        down, right = self.draw.choice([-1, 1], 2) * self.draw.integers(6, 10, 2)
        moved = np.roll(self.mask, (down, right), (0, 1))
        rows, columns = np.mgrid[:_SIDE, :_SIDE]
        inside = (rows - down >= 0) & (rows - down < _SIDE) & (columns - right >= 0) & (columns - right < _SIDE)
        self.mask = np.where(inside, moved, 0)


class Scenes:
    """Scenes of a loader; those for training are flipped and cropped at random.

    Args:
        loader: ``train`` or ``valid``.
        share: of scenes with a wrong mask, of each kind as many.
        seed: of all chance.
    """

    def __init__(self, loader: str, share: float, seed: int):
        self.loader, self.draw, count = loader, np.random.default_rng([seed, 7]), COUNTS[loader]
        chosen = np.random.default_rng([seed, 1]).choice(count, round(share * count), replace=False)
        self.wrong = {int(index): KINDS[place % len(KINDS)] for place, index in enumerate(chosen)}
        first = (2 * seed + (loader == "valid")) * 10_000
        self.scenes = [Scene(first + index, self.wrong.get(index, "")) for index in range(count)]

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image, mask = self.scenes[index].image, self.scenes[index].mask
        if self.loader == "train":
            top, left = self.draw.integers(0, _SIDE - _CROP + 1, 2)
            steps = self.draw.choice([-1, 1], 2)
            place = np.s_[..., top : top + _CROP, left : left + _CROP]
            image, mask = (of[place][..., :: steps[0], :: steps[1]] for of in (image, mask))
        return {"image": torch.tensor(image.copy()), "target": torch.tensor(mask.copy()), "sample_id": index}


class Net(nn.Module):
    """A U-Net of three scales."""

    def __init__(self, width: int = 12):
        super().__init__()
        self.down = nn.ModuleList(_block(*of) for of in ((3, width), (width, 2 * width), (2 * width, 4 * width)))
        self.up = nn.ModuleList([_block(6 * width, 2 * width), _block(3 * width, width)])
        self.head = nn.Conv2d(width, _CLASSES, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        fine = self.down[0](image)
        middle = self.down[1](F.max_pool2d(fine, 2))
        found = self.down[2](F.max_pool2d(middle, 2))
        for block, beside in zip(self.up, (middle, fine), strict=True):
            found = block(torch.cat([beside, F.interpolate(found, scale_factor=2)], dim=1))
        return {"logits": self.head(found)}


def _block(channels: int, width: int) -> nn.Sequential:
    parts = [
        (nn.Conv2d(of, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()) for of in (channels, width)
    ]
    return nn.Sequential(*parts[0], *parts[1])


def measure(share: float, seed: int) -> dict[str, Any]:
    """Train with wrong masks, and return how well they are ranked and listed, by loader and epoch."""
    torch.manual_seed(seed)
    scenes = {loader: Scenes(loader, share, seed) for loader in COUNTS}
    model = Net()
    with tempfile.TemporaryDirectory() as name:
        folder, history = Path(name), SampleHistory(thumbnails=False)
        DictRunner().train(
            model=model,
            loaders={of: DataLoader(data, 8, shuffle=of == "train") for of, data in scenes.items()},  # type: ignore[arg-type]
            criterion=nn.CrossEntropyLoss(),
            optimizer=torch.optim.AdamW(model.parameters(), 3e-3),
            callbacks={"history": history, "after": EpochCopies(history, folder / "samples", folder, AT)},
            num_epochs=EPOCHS,
            logdir=str(folder),
            seed=seed,
            engine=Engine("cpu"),
        )
        return {
            of: {str(epoch): _figures(folder / f"epoch-{epoch}" / of, data.wrong) for epoch in AT}
            for of, data in scenes.items()
        }


def _figures(folder: Path, wrong: Mapping[int, str]) -> dict[str, Any]:
    ids = [int(of) for of in pq.read_table(folder / "ids.parquet")["id"].to_pylist()]
    is_wrong = np.array([index in wrong for index in ids])
    running, groups = (pq.read_table(folder / f"{name}.parquet") for name in ("running", "groups"))
    last = pq.read_table(max(folder.glob("epoch-*.parquet"))).sort_by("index")
    listed = groups["suspect_rank"].is_valid().to_numpy()
    if not wrong:
        return {"flagged of sound": float(listed.mean())}
    orders = {
        "contradicted": groups["suspect_score"].to_numpy(),
        "loss of the epoch": last["loss"].to_numpy(),
        "IoU of the epoch": -last["score"].to_numpy(),
        "mean IoU": -running["score"].to_numpy(),
    }
    return {
        **{name: float(average_precision_score(is_wrong, order)) for name, order in orders.items()},
        "precision": float(is_wrong[listed].mean()) if listed.any() else 1.0,
        "recall": float(listed[is_wrong].mean()),
        **{
            f"recall of {kind}": float(np.mean([listed[ids.index(of)] for of in wrong if wrong[of] == kind]))
            for kind in KINDS
        },
    }


def proved(name: str, means: Mapping[str, Mapping[str, Mapping[str, float]]]) -> bool:
    """Whether after the last epoch the list is right, and the order better than each of the others."""
    last = [of[str(AT[-1])] for of in means.values()]
    if name == "sound":
        return all(of["flagged of sound"] <= NEEDED["flagged of sound"] for of in last)
    is_listed = all(of["precision"] >= NEEDED["precision"] and of["recall"] >= NEEDED["recall"] for of in last)
    return is_listed and all(of["contradicted"] > max(of[other] for other in OTHERS) for of in last)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the result; return 1 if wrong masks are found less well than they are to be."""
    parser = argparse.ArgumentParser(prog="python -m proofs.wrong_masks", description=__doc__)
    parser.parse_args(arguments)
    rows: dict[str, Any] = {}
    for name, share in SHARES.items():
        runs = [measure(share, seed) for seed in SEEDS]
        means = {
            loader: {
                epoch: {of: round(float(np.mean([run[loader][epoch][of] for run in runs])), 4) for of in figures}
                for epoch, figures in by_epoch.items()
            }
            for loader, by_epoch in runs[0].items()
        }
        rows[name] = {"at epoch": means, "proved": proved(name, means)}
        print(f"{name:16} {json.dumps(rows[name])}", flush=True)
    content = {
        "machine": machine("cpu"),
        "data": f"{COUNTS['train']} drawn scenes for training, flipped and cropped at random, and {COUNTS['valid']} "
        f"for validation, {_SIDE} px, 4 classes; masks wrong in equal parts by {', '.join(KINDS)}",
        "values": f"average precision of the order of all samples, mean of {len(SEEDS)} seeds; precision and recall "
        "of the suspects that are listed; share of sound samples that are listed",
        "needed": NEEDED,
        "rows": rows,
    }
    RESULT.write_text(json.dumps(content, indent=1) + "\n")
    return int(not all(row["proved"] for row in rows.values()))


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    raise SystemExit(main())
