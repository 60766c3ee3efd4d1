"""Runs of former versions go on with this one, within an epoch too, and come to the numbers of those versions.

``old_runs/runs.tar.xz`` holds what ``old_runs/write.py`` has written with each version: runs that ended early, and in
``numbers.json`` what a run that nobody interrupted has logged.
"""

import json
import re
import tarfile
from pathlib import Path

import pytest
from old_runs.write import EveryMeasure, numbers_of

from assay.runner import load_checkpoint, train

RUNS = Path(__file__).parent / "old_runs" / "runs.tar.xz"

# What is logged since, beside what was.
OF_BOXES = ("ap75", "ap50/1", "map_small")  # average precision by class and size
ADDED = {"c625354": ("coco_map/1", *OF_BOXES), "d862b3f": OF_BOXES}
# COCO's metrics, for which both versions took levels of recall in single precision: 3 of 20 boxes were less than 0.15.
COCO = re.compile(r"\b(ap50|coco_map|map)\b")


@pytest.fixture(scope="module")
def old_runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(RUNS) as archive:
        archive.extractall(folder, filter="data")
    return folder


def is_of(key, names):
    return any(name in key for name in names)


def near(key, value, rel, **options):
    """Return what equals a former value of a row or of a tag."""
    return pytest.approx(value, rel=0.03 if COCO.search(key) else rel, nan_ok=True, **options)


# A run goes on within its second epoch, of which each of its points comes anew, or after it.
@pytest.mark.parametrize(("moment", "first"), [("train", 2), ("valid", 2), ("epoch", 3)])
@pytest.mark.parametrize("version", ["c625354", "d862b3f"])
def test_a_run_of_a_former_version_goes_on_to_the_numbers_of_that_version(old_runs, version, moment, first):
    run = old_runs / version / moment
    assert (load_checkpoint(run)["unfinished"] is None) == (moment == "epoch")
    train(EveryMeasure(newer=version != "c625354"), name="every_measure", resume=run)
    expected, found = json.loads((old_runs / version / "numbers.json").read_text()), numbers_of(run)
    for kind, of in found.items():
        found[kind] = {key: value for key, value in of.items() if not is_of(key, ADDED[version])}
    # Weighted sums of terms are in float64 since c625354, which changes a loss by 1e-8.
    assert found["rows"] == {key: near(key, value, 1e-5) for key, value in expected["rows"].items()}

    # Its events are only of what came after: of an epoch all, of a batch those of later ones.
    def came_after(key):
        loader, tag, step = key.split(" ")
        trained = loader == "train" and moment == "valid"
        return not tag.endswith("/batch") and int(step) >= first + trained

    for kind in ("scalars", "texts"):
        epochs = {key: value for key, value in expected[kind].items() if came_after(key)}
        assert epochs and found[kind].keys() >= epochs.keys()
    assert found["scalars"] == {key: near(key, expected["scalars"][key], 1e-4, abs=1e-6) for key in found["scalars"]}
    assert found["texts"] == {key: expected["texts"][key] for key in found["texts"]}
