"""Losses against formulas in plain loops, what does not count in them, and labels that are not there."""

import math

import numpy as np
import pytest
import torch

from assay.callbacks.support.sample_losses import sample_losses
from assay.experiments.inria.data import UNLABELLED
from assay.experiments.inria.losses import LOSSES, loss_terms, make_criterion, near_edges
from assay.experiments.inria.tiles import IGNORED


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def cross_entropy(logit, truth):
    return -truth * math.log(sigmoid(logit)) - (1 - truth) * math.log(1 - sigmoid(logit))


def lovasz_hinge(logits, truths):
    """Section 3 of M. Berman et al., "The Lovasz-Softmax loss", 2018: errors in falling order, by gains of Jaccard."""
    order = sorted(range(len(logits)), key=lambda i: -(1 - logits[i] * (2 * truths[i] - 1)))
    total, before, positives = 0.0, 0.0, sum(truths)
    for count, i in enumerate(order, start=1):
        taken = order[:count]
        hits = positives - sum(truths[j] for j in taken)
        jaccard = 1 - hits / (positives + sum(1 - truths[j] for j in taken))
        total += max(0.0, 1 - logits[i] * (2 * truths[i] - 1)) * (jaccard - before)
        before = jaccard
    return total


def by_loop(name, logits, truths, edges):
    """The loss over pixels that all count, given as flat lists."""
    p = [sigmoid(x) for x in logits]
    pairs = list(zip(logits, truths, strict=True))
    if name == "bce":
        return np.mean([cross_entropy(*pair) for pair in pairs])
    if name == "soft_bce":
        return np.mean([cross_entropy(x, 0.9 if y else 0.1) for x, y in pairs])
    if name == "edge_bce":
        return np.average([cross_entropy(*pair) for pair in pairs], weights=[4.0 if near else 1.0 for near in edges])
    if name == "focal":
        return np.mean([(1 - (sigmoid(x) if y else 1 - sigmoid(x))) ** 2 * cross_entropy(x, y) for x, y in pairs])
    if name == "lovasz":
        return lovasz_hinge(logits, truths)
    both, sums = sum(a * b for a, b in zip(p, truths, strict=True)), sum(p) + sum(truths)
    return 1 - (2 * both / sums if name == "dice" else both / (sums - both))


@pytest.fixture
def batch():
    """Logits [3, 1, 9, 8], a truth with some pixels that do not count, and which count."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, (3, 9, 8)).astype(np.uint8)
    labels[rng.random(labels.shape) < 0.25] = IGNORED
    return torch.from_numpy(rng.normal(size=(3, 1, 9, 8))).float(), torch.from_numpy(labels)


def edges_by_loop(labels, reach=3):
    """Which pixels have both truths at most ``reach`` rows and columns away."""
    found = np.zeros(labels.shape, bool)
    for i, row, column in np.ndindex(*labels.shape):
        around = labels[i, max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
        found[i, row, column] = (around == 0).any() and (around == 1).any()
    return found


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_equals_its_formula_over_the_pixels_that_count(name, batch):
    logits, labels = batch
    keep = labels.numpy() <= 1
    edges = edges_by_loop(labels.numpy())
    flat = logits[:, 0].numpy()[keep].tolist(), labels.numpy()[keep].tolist(), edges[keep]
    assert float(make_criterion(name, 0.9)(logits, labels)) == pytest.approx(by_loop(name, *flat), rel=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_of_each_sample_is_that_of_a_batch_of_it_alone(name, batch):
    logits, labels = batch
    criterion = make_criterion(name, 0.9)
    alone = [float(criterion(logits[i : i + 1], labels[i : i + 1])) for i in range(3)]
    assert sample_losses(criterion, logits, labels).tolist() == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_pixels_that_do_not_count_get_no_gradient(name, batch):
    logits, labels = batch
    logits.requires_grad_()
    make_criterion(name, 0.9)(logits, labels).backward()
    gradient = logits.grad[:, 0]
    assert (gradient[labels == IGNORED] == 0).all() and (gradient[labels <= 1] != 0).any()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("label", [0, IGNORED])
def test_without_houses_or_without_truth_a_loss_is_a_number(name, label):
    logits = torch.randn(2, 1, 6, 6, requires_grad=True)
    loss = make_criterion(name, 0.9)(logits, torch.full((2, 6, 6), label, dtype=torch.uint8))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()
    assert label == 0 or loss == 0


@pytest.mark.parametrize("name", LOSSES)
def test_a_confident_prediction_stands_in_for_a_label_that_is_not_there(name):
    logits = torch.tensor([4.0, 1.0, -4.0, -1.0, 0.0, 3.0, -2.0, 2.0, -5.0]).reshape(1, 1, 3, 3)
    unlabelled = torch.full((1, 3, 3), UNLABELLED, dtype=torch.uint8)
    sure = logits[:, 0].abs() >= math.log(0.9 / 0.1)
    labels = torch.where(sure, logits[:, 0] > 0, IGNORED).to(torch.uint8)
    criterion = make_criterion(name, 0.9)
    assert float(criterion(logits, unlabelled)) == pytest.approx(float(criterion(logits, labels)))
    assert int(sure.sum()) == 4


def test_edges_are_where_both_truths_are_near():
    labels = torch.zeros(1, 1, 12, 12)
    labels[..., 6:] = 1
    near = near_edges(labels, torch.ones_like(labels), 2)
    assert near[0, 0, 0].tolist() == [0] * 4 + [1] * 4 + [0] * 4


def test_each_output_of_deep_supervision_has_each_loss_at_its_own_weight():
    terms = loss_terms({"bce": 1.0, "dice": 0.5}, {8: 0.2})
    found = {(term.output, term.criterion): (term.weight, term.label) for term in terms}
    assert found == {
        ("logits", "bce"): (1.0, "loss_bce"),
        ("logits", "dice"): (0.5, "loss_dice"),
        ("logits_8", "bce"): (0.2, "loss_bce_8"),
        ("logits_8", "dice"): (0.1, "loss_dice_8"),
    }


@pytest.mark.parametrize("name", LOSSES)
def test_a_mean_over_pixels_weighs_by_what_its_loss_divides_by(name):
    labels = torch.tensor(np.random.default_rng(0).choice([0, 1, 255], (2, 7, 9), p=[0.5, 0.3, 0.2]), dtype=torch.uint8)
    assert not hasattr(make_criterion(name, 0.9), "count_targets")  # it depends on what is predicted
    if name in ("dice", "jaccard", "lovasz"):
        return
    criterion = make_criterion(name)
    edges = edges_by_loop(labels.numpy()) if name == "edge_bce" else np.zeros(labels.shape)
    right = ((labels.numpy() < 2) * np.where(edges, 4, 1)).sum(axis=(1, 2))
    assert criterion.count_targets(labels).tolist() == right.tolist()
    logits = torch.randn(2, 1, 7, 9)
    alone = [criterion(logits[i : i + 1], labels[i : i + 1]).double() * right[i] for i in range(2)]
    assert torch.allclose(criterion(logits, labels).double(), sum(alone) / right.sum())


@pytest.mark.parametrize("name", LOSSES)
def test_where_all_is_labelled_a_loss_is_the_same_with_pseudo_labels_and_without(name, batch):
    assert torch.equal(make_criterion(name)(*batch), make_criterion(name, 0.9)(*batch))
