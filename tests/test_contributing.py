"""The steps of CONTRIBUTING.md, followed."""

import re
import subprocess
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pytest
import torch
from kit import Given, fit
from rank_processes import Ranks
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from assay.callbacks.base.diagnostic import Diagnostic
from assay.callbacks.measures.measure import Measure, Reductions, reduce_measure
from assay.runner import DictRunner

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
NEWEST = "Calibration"
MOST_LINES, MOST_FILES_WITH_ITS_NAME = 140, 6


def tracked():
    """Return the files of the project, as git knows them or does not ignore them."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def test_every_path_on_the_page_exists():
    paths = {path.replace("NAME", NEWEST.lower()) for path in re.findall(r"`([\w.]+/[\w./]+|\w+\.(?:md|py))`", PAGE)}
    paths = {path if "/" not in path or (ROOT / path.split("/")[0]).exists() else f"callbacks/{path}" for path in paths}
    assert len(paths) > 8
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_newest_diagnostic_takes_three_short_files():
    files = [path for path in tracked() if re.fullmatch(rf"callbacks/\w+/{NEWEST.lower()}\.py", path)]
    assert len(files) == 3
    assert sum(len((ROOT / path).read_text().splitlines()) for path in files) <= MOST_LINES


def test_the_newest_diagnostic_is_named_in_few_files():
    texts = [path for path in tracked() if path.endswith((".py", ".pyi", ".md", ".cfg", ".json"))]
    own = Path(__file__).relative_to(ROOT).as_posix()  # which names it to say which it is
    named = [path for path in texts if path != own and re.search(rf"\b{NEWEST}\b", (ROOT / path).read_text())]
    assert 3 <= len(named) <= MOST_FILES_WITH_ITS_NAME, named


class Brightness:
    """A measure by the page: the largest value of a loader."""

    reductions: ClassVar[Reductions] = {"largest": "max"}

    def __init__(self, device):
        self.state = {"largest": torch.zeros((), device=device)}

    def update(self, image):
        torch.maximum(self.state["largest"], image.amax(), out=self.state["largest"])


def draw_brightness(value):
    """A drawing by the page: a grey square."""
    return np.full((8, 8, 3), np.uint8(255 * value))


class BrightnessMonitor(Diagnostic):
    """A callback by the page, which joins the two."""

    own_tags = ("9_brightness",)

    def begin(self, runner):
        self.measure_ = Brightness(runner.engine.device)

    def observe(self, runner):
        self.measure_.update(runner.batch["image"])

    def report(self, runner, writer):
        value = float(reduce_measure(self.measure_)["largest"])
        writer.image(self.full_tag("9_brightness"), lambda: draw_brightness(value), runner.epoch_step)


def show_brightness(rank, folder):
    """Train on images of which the brightest is in one place of the loader, so that one rank alone sees it."""
    images = [torch.full((3,), value) for value in (0.0, 0.2, 1.0, 0.4)]
    items = [{"image": image, "target": 0} for image in images]
    fit(DictRunner(), Given(), {"train": items}, [BrightnessMonitor()], batch=1, lr=0.0, logdir=folder)


@pytest.mark.parametrize("size", [1, 2])
def test_a_diagnostic_by_the_page_sees_all_ranks_and_writes_once(rank_processes, tmp_path, size):
    assert isinstance(Brightness("cpu"), Measure)
    Ranks(rank_processes, size).run(show_brightness, str(tmp_path))
    events = EventAccumulator(str(tmp_path / "train")).Reload()
    (image,) = events.Images("9_brightness")
    assert (image.width, image.height, image.step) == (8, 8, 1)
    picture = cv2.imdecode(np.frombuffer(image.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(picture, draw_brightness(1.0))
