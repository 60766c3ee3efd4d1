"""Runs of former versions go on with this one, within an epoch too, and come to the numbers of those versions.

``old_runs/runs.tar.xz`` holds what ``old_runs/write.py`` has written with each version: runs that ended early, and in
``numbers.json`` what a run that nobody interrupted has logged.
"""

import json
import tarfile
from pathlib import Path

import pytest
from old_runs.write import EveryMeasure, numbers_of

from assay.runner import load_checkpoint, train

RUNS = Path(__file__).parent / "old_runs" / "runs.tar.xz"

# What is logged since, beside what was.
ADDED = {"c625354": ("coco_map/1",), "d862b3f": ()}  # average precision by class of boxes


@pytest.fixture(scope="module")
def old_runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(RUNS) as archive:
        archive.extractall(folder, filter="data")
    return folder


def is_of(key, names):
    return any(name in key for name in names)


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
    assert found["rows"] == pytest.approx(expected["rows"], rel=1e-5, nan_ok=True)

    # Its events are only of what came after: of an epoch all, of a batch those of later ones.
    def came_after(key):
        loader, tag, step = key.split(" ")
        trained = loader == "train" and moment == "valid"
        return not tag.endswith("/batch") and int(step) >= first + trained

    for kind in ("scalars", "texts"):
        epochs = {key: value for key, value in expected[kind].items() if came_after(key)}
        assert epochs and found[kind].keys() >= epochs.keys()
    assert found["scalars"] == pytest.approx(
        {key: expected["scalars"][key] for key in found["scalars"]}, rel=1e-4, abs=1e-6, nan_ok=True
    )
    assert found["texts"] == {key: expected["texts"][key] for key in found["texts"]}
