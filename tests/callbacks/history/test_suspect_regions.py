"""Masks that are contradicted epoch after epoch: against a plain loop, and planted in the data of a run."""

import csv

import numpy as np
import polars as pl
import pytest
import torch
from kit import fit
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import SampleHistory
from assay.callbacks.history.suspect_regions import find_region_suspects
from assay.callbacks.measures.mask_regions import SURE, UNPACKED
from assay.runner import DictRunner

SIDE, COUNT, CLASSES = 32, 12, 4
MISSING, SWAPPED, RARE = 3, 5, (7, 8)  # samples with a wrong mask, and those of a class that the model never finds


def by_loop(count, newest_first, recognized, same_place):
    """Return the suspects and scores of samples, one by one."""
    found, scores = {}, []
    for number in range(count):
        seen = [
            {name: float(of[number]) for name, of in columns.items()}
            for columns in newest_first
            if np.isfinite(columns["contradicted"][number])
        ][:3]
        scores.append(sum(row["contradicted"] for row in seen) / len(seen) if seen else np.nan)
        if len(seen) < 3 or any(row["contradicted"] < SURE for row in seen):
            continue
        pairs = {(row["region_target"], row["region_seen"]) for row in seen}
        classes = [int(number) for number in pairs.pop()]
        if pairs or any(not recognized[one] >= 0.5 for one in classes):
            continue
        boxes = [[row[name] for name in UNPACKED[2:]] for row in seen]
        stays = all(overlap(box, boxes[0]) >= 0.3 for box in boxes)
        if stays or not same_place:
            where = " ".join(str(int(side)) for side in boxes[0]) if stays else ""
            found[number] = (*classes, where, scores[-1])
    if sum(bool(row[2]) for row in found.values()) < 0.5 * len(found):
        found = {number: (*row[:2], "", row[3]) for number, row in found.items()}
    return found, scores


def overlap(one, other):
    pixels = [{(x, y) for x in range(int(a), int(c)) for y in range(int(b), int(d))} for a, b, c, d in (one, other)]
    return len(pixels[0] & pixels[1]) / len(pixels[0] | pixels[1])


def drawn_epochs(count, epochs, seed):
    draw = np.random.default_rng(seed)
    found, middles = [], draw.integers(6, 14, (count, 2))
    for _ in range(epochs):
        columns = {"contradicted": draw.choice([0.95, 0.99, 0.6, np.nan], count, p=[0.45, 0.45, 0.05, 0.05])}
        columns["region_target"] = draw.choice([0, 1], count, p=[0.9, 0.1]).astype(float)
        columns["region_seen"] = draw.choice([2, 3], count).astype(float) * 0 + 2 + (np.arange(count) % 2)
        corner = middles - draw.integers(1, 6, (count, 2))
        sides = np.concatenate([corner, middles + draw.integers(1, 6, (count, 2))], axis=1)
        columns |= {name: sides[:, place].astype(float) for place, name in enumerate(UNPACKED[2:])}
        unsure = ~(columns["contradicted"] >= SURE)
        for name in UNPACKED:
            columns[name][unsure] = np.nan
        found.append(columns)
    return found


@pytest.mark.parametrize("same_place", [True, False])
@pytest.mark.parametrize("epochs", [2, 3, 5])
def test_suspects_are_those_of_a_loop_over_samples(epochs, same_place):
    count, recognized = 400, np.array([0.9, 0.6, 0.5, 0.8])
    for known in (recognized, np.array([0.9, np.nan, 0.5, 0.4])):
        newest_first = drawn_epochs(count, epochs, seed=epochs)
        wanted, scores = by_loop(count, newest_first, known, same_place)
        found, score = find_region_suspects(count, newest_first, known, same_place=same_place)
        np.testing.assert_allclose(score, scores)
        rows = zip(found.target.tolist(), found.likely.tolist(), found.places, found.score.tolist(), strict=True)
        assert dict(zip(found.index.tolist(), rows, strict=True)) == {
            number: (*row[:3], pytest.approx(row[3])) for number, row in wanted.items()
        }
        assert (len(found) > 20) == (epochs > 2)
        assert set(found.kinds) <= {"region"} and (np.diff(found.score) <= 0).all()


def test_epochs_of_a_version_without_regions_tell_nothing():
    found, score = find_region_suspects(3, [{"score": np.ones(3)}] * 3, same_place=True)
    assert len(found) == 0 and np.isnan(score).all()


def test_all_pairs_count_where_nobody_knows_which_classes_are_recognized():
    newest_first = drawn_epochs(50, 3, seed=0)
    all_known = find_region_suspects(50, newest_first, np.ones(CLASSES), same_place=True)[0]
    assert find_region_suspects(50, newest_first, None, same_place=True)[0].index.tolist() == all_known.index.tolist()


class Sees(nn.Module):
    """Sees what is in the picture, whose values are classes, but for class 3."""

    def __init__(self, task):
        super().__init__()
        self.task, self.weight = task, nn.Parameter(torch.ones(()))

    def forward(self, image):
        seen = image[:, 0].long()
        if self.task == "binary":
            return {"logits": ((seen > 0) * 16.0 - 8)[:, None] * self.weight}
        seen = seen.where(seen != 3, 0)
        logits = nn.functional.one_hot(seen, CLASSES).permute(0, 3, 1, 2) * 8.0 * self.weight
        return {"logits": logits if self.task == "multiclass" else 2 * logits[:, 1:] - 8}


class Pictures:
    """Pictures of three squares, whose masks are right but for two; augmented ones are flipped."""

    def __init__(self, task, *, flips):
        self.task, self.flips, self.seen = task, flips, [0] * COUNT

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        image = torch.zeros(SIDE, SIDE, dtype=torch.int64)
        image[2:12, 3:13], image[18:30, 18:30] = 1, 2
        if index in RARE:
            image[2:12, 20:30] = 3
        mask = image.clone()
        if index == MISSING:
            mask[18:30, 18:30] = 0
        if index == SWAPPED:
            mask[2:12, 3:13] = 0 if self.task == "binary" else 2
        self.seen[index] += 1
        if self.flips and self.seen[index] % 2:
            image, mask = image.flip(1), mask.flip(1)
        if self.task != "multiclass":
            mask = (mask > 0)[None] if self.task == "binary" else torch.stack([mask == c for c in range(1, CLASSES)])
            mask = mask.float()
        return {"image": image[None].float(), "target": mask, "sample_id": f"s{index:02}"}


def train(folder, task, epochs=3):
    loaders = {
        key: DataLoader(Pictures(task, flips=key == "train"), 5, shuffle=key == "train") for key in ("train", "valid")
    }
    model = Sees(task)
    criterion = nn.CrossEntropyLoss() if task == "multiclass" else nn.BCEWithLogitsLoss()
    names = ["ground", "house", "road", "tree"][: 2 if task == "binary" else CLASSES]
    names = names[1:] if task == "multilabel" else names
    fit(
        DictRunner(), model, loaders, [SampleHistory(task, class_names=names, thumbnails=False)],
        optimizer=torch.optim.SGD(model.parameters(), lr=1e-6), criterion=criterion, logdir=str(folder), epochs=epochs,
    )  # fmt: skip
    with (folder / "results/suspects.csv").open(newline="") as file:
        return list(csv.DictReader(file))


LABELS = {
    "multiclass": {MISSING: ("ground", "road"), SWAPPED: ("road", "house")},
    "binary": {MISSING: ("ground", "house"), SWAPPED: ("ground", "house")},
    "multilabel": {MISSING: ("", "road"), SWAPPED: ("road", "")},
}


@pytest.mark.parametrize("task", LABELS)
def test_wrong_masks_of_a_run_are_listed_with_their_place_where_it_stays(task, tmp_path):
    rows = train(tmp_path, task)
    for loader in ("train", "valid"):
        found = {int(row["sample_id"][1:]): row for row in rows if row["loader"] == loader}
        assert found.keys() == {MISSING, SWAPPED}
        for number, row in found.items():
            assert row["kind"] == "region" and float(row["score"]) > 0.99 and row["epochs"] == "3"
            if (task, number) != ("multilabel", SWAPPED):
                assert (row["label"], row["likely_label"]) == LABELS[task][number]
            box = [int(side) for side in row["where"].split()]
            if loader == "train":
                assert not box
            elif number == MISSING:
                assert np.abs(np.subtract(box, [18, 18, 30, 30])).max() <= 1
            else:
                assert np.abs(np.subtract(box, [3, 2, 13, 12])).max() <= 1


def test_the_files_tell_of_regions_and_rank_all_samples(tmp_path):
    train(tmp_path, "multiclass")
    folder = tmp_path / "samples/valid"
    epoch = pl.read_parquet(folder / "epoch-000002.parquet").sort("index")
    sure = epoch["contradicted"] >= SURE
    assert np.flatnonzero(sure).tolist() == [MISSING, SWAPPED, *RARE]
    for name in UNPACKED:
        assert (epoch[name].is_not_null() == sure).all()
    assert epoch.filter(sure)["region_target"].to_list() == [0, 2, 3, 3]
    groups = pl.read_parquet(folder / "groups.parquet").sort("index")
    assert np.flatnonzero(groups["suspect_rank"].is_not_null()).tolist() == [MISSING, SWAPPED]
    assert groups["suspect_score"].null_count() == 0
    # Class 3 is never recognized, and the model contradicts it all the same.
    assert np.flatnonzero(groups["suspect_score"] > 0.9).tolist() == [MISSING, SWAPPED, *RARE]


@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_list_the_same(processes, rank_processes, tmp_path):
    # Which epochs flip a training sample depends on the process that loads it.
    alone, found = (
        [row for row in rows if row["loader"] == "valid"]
        for rows in (
            train(tmp_path / "one", "multiclass"),
            rank_processes.run(processes, train, tmp_path / "many", "multiclass")[0],
        )
    )
    assert len(alone) == 2 and found == alone
    files = [pl.read_parquet(tmp_path / of / "samples/valid/epoch-000003.parquet") for of in ("one", "many")]
    assert files[0].equals(files[1])
