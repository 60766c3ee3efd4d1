"""Suspects against a slow loop by the paper's definitions, and in runs with labels that are known to be wrong."""

import csv
import logging

import numpy as np
import pytest
import torch
from kit import Kill, Killed, Named, fit
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import SampleHistory
from assay.callbacks.history.suspects import find_suspects, rank_labels
from assay.runner import Checkpoints, DictRunner


def by_hand(labels, shares, least_score=0.2):
    """Return the numbers of suspects, as many as half again those of prune by noise rate of a confident joint."""
    classes, usual = range(len(shares[0])), {}
    for label in classes:
        own = [row[label] for row, given in zip(shares, labels, strict=True) if given == label]
        usual[label] = sum(own) / len(own) if own else float("inf")
    joint = {(label, other): 0 for label in classes for other in classes}
    for row, given in zip(shares, labels, strict=True):
        sure = [other for other in classes if row[other] >= usual[other]]
        if sure:
            joint[given, max(sure, key=lambda other: row[other])] += 1
    suspects = set()
    for label in classes:
        total = sum(joint[label, other] for other in classes)
        members = [index for index, given in enumerate(labels) if given == label]
        for other in classes:
            if other == label or not joint[label, other]:
                continue
            wrong = round(joint[label, other] * len(members) / total)
            excess = {index: shares[index][other] - shares[index][label] for index in members}
            suspects |= set(sorted(members, key=lambda index: -excess[index])[:wrong])
    score = [
        max(share for other, share in enumerate(row) if other != given) - row[given]
        for row, given in zip(shares, labels, strict=True)
    ]
    count = sum(score[index] >= least_score for index in suspects)
    ranked = sorted((index for index in range(len(labels)) if score[index] > 0), key=lambda index: -score[index])
    sure = [index for index in ranked if score[index] >= least_score][: round(1.5 * count)]
    return sure if len(sure) >= 5 else ranked[:5]


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_suspects_equal_those_of_a_loop(classes, seed):
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, classes, 150)
    labels = np.where(draw.random(150) < 0.2, draw.integers(0, classes, 150), truth)
    scores = draw.normal(0, 1, (150, classes))
    scores[np.arange(150), truth] += 2
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    found = find_suspects(labels, shares)
    assert found.index.tolist() == by_hand(labels.tolist(), shares.tolist()) != []
    assert (found.target == labels[found.index]).all()
    assert (found.likely == shares[found.index].argmax(axis=1)).all()
    assert (np.diff(found.score) <= 0).all()
    np.testing.assert_allclose(found.score, shares[found.index].max(axis=1) - shares[found.index, found.target])


@pytest.mark.parametrize("seed", range(3))
def test_suspects_by_the_likeliest_classes_are_those_of_all_classes_where_others_are_zero(seed):
    draw = np.random.default_rng(seed)
    target = draw.integers(0, 30, 400)
    shares = np.zeros((400, 30))
    # Of every sample its target and three others, in any order.
    classes = np.array([draw.permutation([of, *draw.choice(np.delete(np.arange(30), of), 3, False)]) for of in target])
    some = draw.dirichlet(np.ones(4), 400)
    np.put_along_axis(shares, classes, some, axis=1)
    whole, found = find_suspects(target, shares), find_suspects(target, some, classes)
    assert len(found) > 20
    for name in ("index", "target", "likely", "score"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))


def test_what_has_no_class_or_no_probabilities_is_no_suspect():
    shares = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9], [np.nan, np.nan], [0.9, 0.1]])
    found = find_suspects(np.array([0, 0, 1, 0, 0, -1]), shares)
    assert found.index.tolist() == [3]
    assert len(find_suspects(np.zeros(0, np.int64), np.zeros((0, 3)))) == 0


def test_two_wrong_labels_of_many_are_suspects_though_too_few_for_counts():
    labels = np.arange(300) % 3
    shares = np.full((300, 3), 0.1)
    shares[np.arange(300), labels] = 0.8
    # Likelier than the label, but not as likely as its class usually is.
    shares[[7, 90]] = [[0.5, 0.25, 0.25], [0.3, 0.45, 0.25]]
    found = find_suspects(labels, shares)
    assert found.index.tolist() == [7, 90]
    assert found.likely.tolist() == [0, 1]


def test_right_labels_are_no_suspects():
    shares = np.full((60, 3), 0.1)
    labels = np.arange(60) % 3
    shares[np.arange(60), labels] = 0.8
    assert len(find_suspects(labels, shares)) == 0


def test_labels_are_ranked_by_the_best_other_class():
    score, likely = rank_labels(np.array([0, 2]), np.array([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]]))
    np.testing.assert_allclose(score, [-0.2, 0.3])
    assert likely.tolist() == [1, 1]


def digits(wrong=0.0, count=900):
    """Return samples and the ids of those with a wrong label."""
    pictures, labels = load_digits(return_X_y=True)
    draw = np.random.default_rng(0)
    chosen = set(np.flatnonzero(draw.random(count) < wrong).tolist())
    samples = [
        {
            "image": torch.tensor(picture / 16, dtype=torch.float32),
            "target": int(label + (index in chosen) * draw.integers(1, 10)) % 10,
            "sample_id": f"digit-{index:04}",
        }
        for index, (picture, label) in enumerate(zip(pictures[:count], labels, strict=False))
    ]
    return samples, {f"digit-{index:04}" for index in chosen}


def train(folder, samples, *more, epochs=6, **options):
    torch.manual_seed(0)
    model = Named(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)))
    loaders = {"train": DataLoader(samples, 32, shuffle=True), "valid": DataLoader(digits()[0][800:], 32)}
    saving = Checkpoints(folder / "checkpoints", every_n_steps=5)
    fit(
        DictRunner(), model, loaders, [SampleHistory(class_names=[f"n{i}" for i in range(10)]), saving, *more],
        optimizer=torch.optim.Adam(model.parameters(), 3e-3), epochs=epochs, logdir=str(folder), seed=1, **options,
    )  # fmt: skip
    path = folder / "results" / "suspects.csv"
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else None


def test_wrong_labels_are_found_ranked_and_told(tmp_path, caplog):
    samples, wrong = digits(0.1)
    with caplog.at_level(logging.INFO, "assay"):
        rows = train(tmp_path, samples, epochs=10)
    found = [row["sample_id"] for row in rows if row["loader"] == "train"]
    hits = sum(name in wrong for name in found)
    assert hits / len(found) > 0.85
    assert hits / len(wrong) > 0.7
    scores = dict.fromkeys((item["sample_id"] for item in samples), -1.0) | {
        row["sample_id"]: float(row["score"]) for row in rows
    }
    assert average_precision_score([name in wrong for name in scores], list(scores.values())) > 0.75
    truth = load_digits().target
    likely = [
        row["likely_label"] == f"n{truth[int(row['sample_id'][-4:])]}" for row in rows if row["sample_id"] in wrong
    ]
    assert np.mean(likely) > 0.9
    said = [record.getMessage() for record in caplog.records if "may be wrong" in record.getMessage()]
    first = rows[0]
    assert len(said) == len({row["loader"] for row in rows})
    assert said[0].startswith(
        f"{len(found)} labels of train may be wrong ({first['sample_id']} is {first['label']}, likely "
        f"{first['likely_label']}, "
    )
    assert said[0].endswith(f"see {tmp_path / 'results' / 'suspects.csv'}")


def test_before_the_third_epoch_there_are_none(tmp_path):
    assert train(tmp_path, digits(0.1, 200)[0], epochs=2) is None


@pytest.mark.parametrize(("epoch", "batch"), [(3, 5), (3, 9), (4, 8)])
def test_a_run_that_is_killed_and_resumed_has_the_same_suspects(epoch, batch, tmp_path):
    samples, _ = digits(0.2, 200)
    straight = train(tmp_path / "straight", samples, epochs=4)
    with pytest.raises(Killed):
        train(tmp_path / "killed", samples, Kill(epoch, batch), epochs=4)
    assert train(tmp_path / "killed", samples, epochs=4, resume=str(tmp_path / "killed")) == straight != []
