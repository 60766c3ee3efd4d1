"""Pictures of a run's results, within a budget."""

import base64
import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

_QUALITY = 88


@dataclass(frozen=True)
class _Wanted:
    """A kind of picture: its section, which loaders show it, its file's pattern and its title."""

    section: str
    pattern: re.Pattern[str]
    title: str
    train: bool = True
    valid: bool = True


# The most telling first: later ones are left out where the budget ends.
_KINDS = (
    _Wanted("samples", re.compile(r"worst_samples_(.+)\.png"), "worst samples by {}", train=False),
    _Wanted("classes", re.compile(r"confusion_matrix\.png"), "confusion matrix", train=False),
    _Wanted("gradients", re.compile(r"gradients_flow\.png"), "gradients by depth", valid=False),
    _Wanted("samples", re.compile(r"samples_best_(.+)\.png"), "best samples by {}", train=False),
    _Wanted("samples", re.compile(r"grad_cam_worst_(.+)\.png"), "Grad-CAM of the worst samples by {}", train=False),
    _Wanted("gradients", re.compile(r"gradients_map\.png"), "gradients by epoch", valid=False),
    _Wanted("classes", re.compile(r"predictions_distribution\.png"), "distribution of predictions", train=False),
    _Wanted("classes", re.compile(r"(?:predictions_roc|calibration.*|.*boxes_curves.*)\.png"), "curves", train=False),
    _Wanted("samples", re.compile(r"worst_samples_(.+)\.png"), "worst samples by {}", valid=False),
    _Wanted("data", re.compile(r"data_augmentations\.png"), "augmented samples", valid=False),
    _Wanted("data", re.compile(r"data_statistics\.png"), "data", valid=False),
)


def read_figures(run: Path, budget: int) -> tuple[list[dict[str, Any]], int]:
    """Return pictures of the best epoch, or of the last one where none is best, and how many did not fit.

    Args:
        run: the run folder.
        budget: bytes of the page that they may take.
    """
    results = run / "results"
    which = "best" if (results / "best").is_dir() else "last"
    found: list[dict[str, Any]] = []
    left_out = 0
    for kind in _KINDS:
        for path in sorted((results / which).glob("*/*.png")):
            match = kind.pattern.fullmatch(path.name)
            is_train = path.parent.name.startswith("train")
            if match is None or not (kind.train if is_train else kind.valid):
                continue
            encoded = _encoded(path)
            if encoded is None or len(encoded[1]) > budget:
                left_out += 1
                continue
            budget -= len(encoded[1])
            named = [part for part in match.groups() if part]
            found.append(
                {
                    "section": kind.section, "loader": path.parent.name, "epoch": which,
                    "title": kind.title.format(*named) if named else kind.title, "type": encoded[0],
                    "data": encoded[1],
                }
            )  # fmt: skip
    return found, left_out


def _encoded(path: Path) -> tuple[str, str] | None:
    """Return the kind and the Base64 of a picture, as JPEG where that is smaller by half; None of a damaged one."""
    try:
        content, kind = path.read_bytes(), "image/png"
        with Image.open(io.BytesIO(content)) as picture:
            smaller = io.BytesIO()
            picture.convert("RGB").save(smaller, "JPEG", quality=_QUALITY, optimize=True)
    except (OSError, ValueError, SyntaxError):
        return None
    if 2 * smaller.tell() < len(content):
        content, kind = smaller.getvalue(), "image/jpeg"
    return kind, base64.b64encode(content).decode()


def read_worst(run: Path) -> list[dict[str, str]]:
    """Return the rows of ``results/worst.csv``: the worst samples of each loader by each score."""
    path = run / "results" / "worst.csv"
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return [{key: value or "" for key, value in row.items() if key} for row in csv.DictReader(file)]
    except (OSError, ValueError, csv.Error):
        return []
