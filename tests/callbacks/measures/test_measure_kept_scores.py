import math

import numpy as np
import pytest
import sklearn.metrics as sk
import torch

from assay.callbacks.measures import kept_scores
from assay.callbacks.measures.binned_scores import BinnedScores
from assay.callbacks.measures.kept_scores import KeptScores
from assay.callbacks.measures.score_curves import summarize_scores
from assay.callbacks.support.checkpoint_values import from_plain, to_plain


def measure_of(task, classes, bins=16, ignore_index=None, device="cpu"):
    # So few bins that no number of them is near the exact one.
    return KeptScores(BinnedScores(task, classes, bins, ignore_index, device))


def batches_of(task, classes, sizes, extra=()):
    generator = torch.Generator().manual_seed(0)
    for size in sizes:
        shape = (size, *extra) if task == "binary" else (size, classes, *extra)
        # Multiples of a quarter, so that there are equal scores too.
        output = (torch.randn(shape, generator=generator) * 8).round() / 4
        limit = classes if task == "multiclass" else 2
        target = torch.randint(0, limit, (size, *extra) if task == "multiclass" else shape, generator=generator)
        yield output, target


def reference(task, output, target):
    """Scores and truths of each class by another way: log p - log(1 - p) in float64."""
    output = output.double()
    if task == "binary":
        return output.reshape(1, -1).numpy(), target.reshape(1, -1).numpy()
    rows = output.movedim(1, -1).reshape(-1, output.shape[1])
    if task == "multilabel":
        return rows.T.numpy(), target.movedim(1, -1).reshape(-1, output.shape[1]).T.numpy()
    others = [torch.cat([rows[:, :c], rows[:, c + 1 :]], dim=1).logsumexp(dim=1) for c in range(rows.shape[1])]
    scores = torch.stack([rows[:, c] - other for c, other in enumerate(others)])
    # Equal logits give equal scores; the way here rounds them apart.
    return scores.round(decimals=9).numpy(), (target.reshape(1, -1) == torch.arange(len(scores))[:, None]).numpy()


def summary(measure):
    exact = measure.exact()
    return summarize_scores(exact.counts, exact.edges)


@pytest.mark.parametrize("extra", [(), (3, 2)])
@pytest.mark.parametrize(("task", "classes"), [("binary", 1), ("multilabel", 3), ("multiclass", 2), ("multiclass", 5)])
def test_areas_and_thresholds_equal_scikit_learn_without_a_bound(task, classes, extra):
    measure, batches = measure_of(task, classes), list(batches_of(task, classes, (7, 20, 20, 3), extra))
    for output, target in batches:
        measure.update(output, target)
    found = summary(measure)
    scores, truths = reference(task, *map(torch.cat, zip(*batches, strict=True)))
    for index, (score, truth) in enumerate(zip(scores, truths, strict=True)):
        assert found.roc_auc[index].item() == pytest.approx(sk.roc_auc_score(truth, score), abs=1e-12)
        assert found.average_precision[index].item() == pytest.approx(
            sk.average_precision_score(truth, score), abs=1e-12
        )
        precision, recall, _ = sk.precision_recall_curve(truth, score)
        best = (2 * precision * recall / np.maximum(precision + recall, 1e-300)).max()
        assert found.best_f1[index].item() == pytest.approx(best, abs=1e-12)
        # The threshold reaches it.
        assert sk.f1_score(truth, score >= found.logit[index].item()) == pytest.approx(best, abs=1e-12)
    for name in ("roc_auc_bound", "average_precision_bound", "best_f1_bound"):
        assert (getattr(found, name) == 0).all()


@pytest.mark.parametrize("task", ["binary", "multilabel", "multiclass"])
@pytest.mark.parametrize("most", [0, 30, 10_000])
def test_the_counts_are_those_of_the_bins_alone_whatever_is_kept(task, most, monkeypatch):
    monkeypatch.setattr(kept_scores, "MOST_ROWS", most)
    classes = 1 if task == "binary" else 3
    measure, plain = measure_of(task, classes), BinnedScores(task, classes, 16)
    for output, target in batches_of(task, classes, (8, 8, 12, 40)):
        measure.update(output, target)
        plain.update(output, target)
        if len(output) == 12:
            assert all(torch.equal(measure.state[name], value) for name, value in plain.state.items())
    assert all(torch.equal(measure.state[name], value) for name, value in plain.state.items())
    assert (measure.exact() is None) == (most < 68)
    if most < 68:
        assert not measure.kept


def test_what_does_not_count_is_left_out():
    output = torch.tensor([[2.0, 0.0], [math.nan, 1.0], [0.0, 1.0], [3.0, 1.0], [1.0, 0.0]])
    measure = measure_of("multiclass", 2, ignore_index=255)
    measure.update(output, torch.tensor([0, 0, 1, 255, 7]))
    exact = measure.exact()
    assert exact.counts.sum(dim=2).tolist() == [[1, 1], [1, 1]]
    labels = measure_of("multilabel", 2)
    labels.update(output, torch.tensor([[1, 0], [1, 0], [0, 1], [1, 1], [3, 0]]))
    # Label 0 loses what is NaN and what is neither 0 nor 1, label 1 nothing.
    assert labels.exact().counts.sum(dim=2).tolist() == [[1, 2], [3, 2]]


def test_infinite_scores_are_the_largest_and_the_smallest():
    measure = measure_of("binary", 1)
    measure.update(torch.tensor([math.inf, 0.0, -math.inf, math.inf]), torch.tensor([1, 0, 0, 1]))
    found = summary(measure)
    assert found.roc_auc.item() == sk.roc_auc_score([1, 0, 0, 1], [9, 0, -9, 9])
    assert found.logit.isfinite().all()


def test_a_threshold_lies_between_the_scores_that_it_divides():
    measure = measure_of("binary", 1)
    measure.update(torch.tensor([0.0, 1.0, 3.0, 4.0]), torch.tensor([0, 0, 1, 1]))
    assert summary(measure).logit.item() == 2.0
    # Between neighbouring numbers there is none.
    measure, one = measure_of("binary", 1), torch.tensor(1.0)
    above = torch.nextafter(one, torch.tensor(2.0))
    measure.update(torch.stack([one, above]), torch.tensor([0, 1]))
    assert one.item() < summary(measure).logit.item() <= above.item()


@pytest.mark.parametrize("empty", [True, False])
def test_without_samples_or_without_positives_there_is_no_number(empty):
    measure = measure_of("binary", 1)
    if not empty:
        measure.update(torch.randn(5), torch.zeros(5, dtype=torch.int64))
    found = summary(measure)
    assert found.roc_auc.isnan().all() and found.roc_auc_bound.isnan().all()


def test_what_is_kept_stays_as_it_was_when_the_batch_is_overwritten():
    output, target = torch.tensor([2.0, -1.0]), torch.tensor([1, 0])
    measure = measure_of("binary", 1)
    measure.update(output, target)
    output.fill_(9), target.fill_(1)
    assert measure.exact().counts.sum(dim=2).tolist() == [[1, 1]]


def test_of_many_classes_fewer_samples_are_kept():
    assert measure_of("multiclass", 10).most == 4096
    assert measure_of("multiclass", 1024).most == 512


def test_a_checkpoint_within_a_loader_holds_what_is_kept():
    batches = list(batches_of("multiclass", 3, (8, 8, 12)))
    straight, resumed = measure_of("multiclass", 3), measure_of("multiclass", 3)
    for output, target in batches:
        straight.update(output, target)
    resumed.update(*batches[0])
    assert resumed.state["counts"].sum() == 24  # counted, and not a second time
    resumed = from_plain(to_plain(resumed), measure_of("multiclass", 3))
    for output, target in batches[1:]:
        resumed.update(output, target)
    assert torch.equal(resumed.state["counts"], straight.state["counts"])
    assert torch.equal(resumed.exact().counts, straight.exact().counts)
    assert torch.equal(resumed.exact().edges, straight.exact().edges)


def test_a_step_copies_the_batch_and_reads_nothing_from_the_device():
    measure = measure_of("multiclass", 3, device="meta")
    measure.update(torch.zeros((8, 3), device="meta"), torch.zeros(8, dtype=torch.int64, device="meta"))
    assert len(measure.kept) == 1
    assert measure.state["counts"].device.type == "meta"
