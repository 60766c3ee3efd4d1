import math

import numpy as np
import pytest
import torch

from assay.callbacks.measures.binned_scores import (
    BinnedScores,
    _Edges,
    chance_logit,
    default_bins,
    one_against_rest,
    score_edges,
)
from assay.callbacks.support.distributed import reduce_state


@pytest.fixture(autouse=True, params=["as a CPU does", "as a GPU does"])
def way(request, monkeypatch):
    """Find bins in both ways, which have to come to the same numbers."""
    if request.param == "as a GPU does":
        monkeypatch.setattr("assay.callbacks.measures.binned_scores.is_on_cpu", lambda tensor: False)


def slow_counts(task, classes, bins, scores, truth):
    """Count in float64 by searching the edges; scores [N, C], truth [N, C] of 0, 1 and -1 for left out."""
    edges = score_edges(task, classes, bins).numpy()
    counts = np.zeros((classes, 2, bins), dtype=np.int64)
    for n, c in zip(*np.nonzero(truth >= 0), strict=True):
        counts[c, truth[n, c], min(np.searchsorted(edges, scores[n, c], side="right") - 1, bins - 1)] += 1
    return counts


def almost_equal(found, expected):
    """Equal, but for scores that lie on an edge, as far as float32 can tell."""
    moved = (found.cumsum(-1) - expected.cumsum(-1)).__abs__().sum()
    return found.sum() == expected.sum() and moved <= 2


def split(measure, output, target, cuts=(0, 1, 4)):
    for start, end in zip(cuts, [*cuts[1:], len(output)], strict=True):
        measure.update(torch.as_tensor(output[start:end]), torch.as_tensor(target[start:end]))
    return measure.state


@pytest.mark.parametrize("shape", [(60,), (60, 1), (6, 1, 5, 4), (6, 5, 4), (5, 1, 2, 3, 2)])
@pytest.mark.parametrize("ignore_index", [None, 255])
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float32])
def test_binary_counts_equal_a_slow_loop(shape, ignore_index, dtype):
    output, target = (np.random.randn(*shape) * 5).astype(np.float32), np.random.randint(0, 2, shape)
    if ignore_index is not None:
        target[np.random.rand(*shape) < 0.3] = ignore_index
    state = split(BinnedScores("binary", 1, 256, ignore_index), output, target.astype(dtype))
    truth = np.where(target == 255, -1, target).reshape(-1, 1)
    assert almost_equal(state["counts"].numpy(), slow_counts("binary", 1, 256, output.reshape(-1, 1), truth))
    assert state["outside"] == 0
    assert state["nan"].sum() == 0


@pytest.mark.parametrize("shape", [(30, 4), (6, 3, 4, 5), (9, 1)])
@pytest.mark.parametrize("ignore_index", [None, -1])
def test_counts_of_labels_equal_a_slow_loop(shape, ignore_index):
    output, target = (np.random.randn(*shape) * 5).astype(np.float32), np.random.randint(0, 2, shape)
    if ignore_index is not None:
        target[np.random.rand(*shape) < 0.3] = ignore_index
    state = split(BinnedScores("multilabel", shape[1], 256, ignore_index), output, target)
    rows = [np.moveaxis(part, 1, -1).reshape(-1, shape[1]) for part in (output, target)]
    assert almost_equal(state["counts"].numpy(), slow_counts("multilabel", shape[1], 256, *rows))


def softmax_logits(output):
    """Of every class, log p - log(1 - p), by the sum over its rivals, in float64."""
    output, found = output.astype(np.float64), np.empty(output.shape)
    for c in range(output.shape[1]):
        rivals = np.delete(output, c, axis=1)
        top = rivals.max(axis=1, keepdims=True)
        found[:, c] = output[:, c] - (np.log(np.exp(rivals - top).sum(axis=1)) + top[:, 0])
    return found


@pytest.mark.parametrize("shape", [(40, 2), (40, 7), (5, 3, 4, 6), (4, 3, 2, 2, 3)])
@pytest.mark.parametrize("ignore_index", [None, 255])
def test_counts_of_classes_equal_a_slow_loop(shape, ignore_index, monkeypatch):
    for name in ("_MOST_AT_ONCE", "_MOST_AT_ONCE_ON_GPU"):  # so that pixels go in parts
        monkeypatch.setattr(f"assay.callbacks.measures.binned_scores.{name}", 30)
    output = (np.random.randn(*shape) * 5).astype(np.float32)
    target = np.random.randint(0, shape[1], (shape[0], *shape[2:]))
    if ignore_index is not None:
        target[np.random.rand(*target.shape) < 0.3] = ignore_index
    state = split(BinnedScores("multiclass", shape[1], 256, ignore_index), output, target)
    rows, flat = np.moveaxis(output, 1, -1).reshape(-1, shape[1]), target.reshape(-1)
    truth = np.where(flat[:, None] == 255, -1, flat[:, None] == np.arange(shape[1]))
    assert almost_equal(state["counts"].numpy(), slow_counts("multiclass", shape[1], 256, softmax_logits(rows), truth))


def test_classes_with_equal_logits_have_equal_scores():
    output = np.random.randint(-1, 2, (300, 4)).astype(np.float32)
    found = one_against_rest(torch.as_tensor(output)).double().numpy()
    assert np.abs(found - softmax_logits(output)).max() <= 1e-6
    measure = BinnedScores("multiclass", 4, 64)
    measure.update(torch.zeros(8, 4, 3), torch.randint(0, 4, (8, 3)))  # as of a model that starts with zeros
    assert measure.state["counts"].sum(dim=1)[:, 32].tolist() == [24] * 4


@pytest.mark.parametrize("most", [1, 50, 10**9])
@pytest.mark.parametrize("task", ["binary", "multilabel", "multiclass"])
def test_a_batch_that_goes_in_parts_counts_as_a_whole_one_does(task, most, monkeypatch):
    channels = 1 if task == "binary" else 3
    output = torch.randn(4, channels, 5, 7) * 5
    target = torch.randint(0, 2, output.shape) if task == "multilabel" else torch.randint(0, 2, (4, 5, 7))
    output[1, 0, 2, 3], target[3, 0] = math.nan, 9
    whole = BinnedScores(task, channels, 256)
    whole.update(output, target)
    for name in ("_MOST_AT_ONCE", "_MOST_AT_ONCE_ON_GPU"):
        monkeypatch.setattr(f"assay.callbacks.measures.binned_scores.{name}", most)
    found = BinnedScores(task, channels, 256)
    found.update(output, target)
    assert all(torch.equal(found.state[name], whole.state[name]) for name in ("outside", "nan"))
    assert almost_equal(found.state["counts"].numpy(), whole.state["counts"].numpy())
    assert whole.state["nan"].sum() == (3 if task == "multiclass" else 1)


@pytest.mark.parametrize("scale", [0.01, 1, 10, 90, 1000])
def test_the_score_against_the_rest_is_exact_where_probabilities_round_to_one(scale):
    output = (np.random.randn(200, 6) * scale).astype(np.float32)
    found = one_against_rest(torch.as_tensor(output)).double().numpy()
    assert np.abs(found - softmax_logits(output)).max() <= 1e-6 * (10 + np.abs(output).max())


@pytest.mark.parametrize("scale", [0.01, 1, 10, 90, 1000])
@pytest.mark.parametrize("classes", [2, 6, 300])
def test_searching_the_edges_finds_the_bins_of_exact_scores(scale, classes):
    output, bins = (np.random.randn(50, classes) * scale).astype(np.float32), 8192
    edges = _Edges("multiclass", classes, bins, torch.device("cpu"))
    found = edges.find_against_rest(torch.as_tensor(output))[1].numpy()
    exact = np.arcsinh(softmax_logits(output) - chance_logit("multiclass", classes))
    exact = (exact * bins / 2 / math.asinh(1000) + bins / 2).clip(0, bins - 1)
    # Within a hundredth of a bin's width of an edge it may be on either side.
    assert (found >= np.floor(exact - 0.01)).all() and (found <= np.floor(exact + 0.01)).all()


def test_of_two_classes_the_score_is_the_difference_of_logits():
    output = torch.randn(50, 2) * 30
    difference = output[:, 1] - output[:, 0]
    assert torch.allclose(one_against_rest(output), torch.stack([-difference, difference], dim=1), atol=1e-5)


def test_infinite_logits_are_in_the_outer_bins():
    counts = split(BinnedScores("binary", 1, 64), [-math.inf, math.inf, -1e30, 3e38], [0, 1, 0, 1])["counts"]
    assert counts[0, 0, 0] == 2
    assert counts[0, 1, -1] == 2
    measure = BinnedScores("multiclass", 3, 64)
    measure.update(torch.tensor([[math.inf, 0.0, -math.inf]]), torch.tensor([0]))
    assert measure.state["counts"][0, 1, -1] == 1
    assert measure.state["counts"][1:, 0, 0].tolist() == [1, 1]


@pytest.mark.parametrize("task", ["binary", "multilabel", "multiclass"])
def test_scores_that_are_nan_are_counted_apart(task):
    output = torch.randn(10, 1 if task == "binary" else 3)
    output[2, 0] = output[4, 0] = math.nan
    target = torch.randint(0, 2, output.shape if task == "multilabel" else (10,))
    flat = target if task != "multilabel" else target[:, 0]
    target[4] = 255  # not NaN: left out
    measure = BinnedScores(task, output.shape[1], 64, 255)
    measure.update(output, target)
    expected = {"binary": [1], "multilabel": [1, 0, 0], "multiclass": [1, 1, 1]}[task]
    assert measure.state["nan"].tolist() == expected
    assert measure.state["counts"].sum(dim=(1, 2)).tolist() == [9 - nan for nan in expected]
    assert len(flat) == 10


@pytest.mark.parametrize(("task", "ignore_index", "outside"), [("multiclass", None, 3), ("multiclass", 255, 2)])
def test_targets_that_are_no_class_are_counted_apart(task, ignore_index, outside):
    measure = BinnedScores(task, 3, 64, ignore_index)
    measure.update(torch.randn(5, 3), torch.tensor([0, 3, -1, 255, 2]))
    assert measure.state["outside"] == outside
    assert measure.state["counts"].sum(dim=(1, 2)).tolist() == [2, 2, 2]
    assert measure.state["counts"][:, 1].sum(dim=1).tolist() == [1, 0, 1]


def test_labels_other_than_0_and_1_are_outside():
    measure = BinnedScores("multilabel", 2, 64)
    measure.update(torch.randn(2, 2), torch.tensor([[0, 2], [1, 1]]))
    assert measure.state["outside"] == 1


@pytest.mark.parametrize("task", ["binary", "multilabel", "multiclass"])
def test_an_empty_batch_counts_nothing(task):
    measure = BinnedScores(task, 1 if task == "binary" else 3, 64)
    shape = {"binary": (0,), "multilabel": (0, 3), "multiclass": (0, 3)}[task]
    measure.update(torch.zeros(shape), torch.zeros(shape if task != "multiclass" else (0,)))
    assert measure.state["counts"].sum() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_other_precisions_count_as_float32_does(task, dtype):
    output, target = torch.randn(50, 3).to(dtype), torch.randint(0, 2, (50, 3))
    if task == "multiclass":
        target = target[:, 0]
    measures = [BinnedScores(task, 1 if task == "binary" else 3, 512) for _ in range(2)]
    measures[0].update(output, target)
    measures[1].update(output.float(), target)
    assert torch.equal(measures[0].state["counts"], measures[1].state["counts"])


@pytest.mark.parametrize("task", ["binary", "multilabel", "multiclass"])
@pytest.mark.parametrize("ignore_index", [None, 255])
def test_an_update_reads_nothing_from_the_device(task, ignore_index):
    measure = BinnedScores(task, 1 if task == "binary" else 3, 64, ignore_index, device="meta")
    output = torch.zeros((8, 1, 4, 4) if task == "binary" else (8, 3, 4, 4), device="meta")
    target = torch.zeros((8, 4, 4) if task == "multiclass" else output.shape, dtype=torch.int64, device="meta")
    measure.update(output, target)
    assert measure.state["counts"].device.type == "meta"


@pytest.mark.parametrize(("task", "classes"), [("binary", 1), ("multilabel", 200), ("multiclass", 1000)])
@pytest.mark.parametrize("bins", [16, 1024, 8192])
def test_edges_rise_and_are_finest_at_chance(task, classes, bins):
    edges = score_edges(task, classes, bins)
    assert len(edges) == bins + 1
    assert edges[0] == -math.inf
    assert edges[-1] == math.inf
    assert (edges.diff() > 0).all()
    assert edges[bins // 2] == chance_logit(task, classes)
    assert edges[1:-1].diff().argmin() in (bins // 2 - 2, bins // 2 - 1)


def test_confident_scores_stay_apart():
    logits = torch.cat([-torch.arange(20, 91), torch.arange(20, 91)]).float()
    measure = BinnedScores("binary", 1, default_bins(1))
    measure.update(logits, torch.ones(len(logits)))
    assert measure.state["counts"].max() == 1


@pytest.mark.parametrize(("classes", "bins"), [(1, 8192), (256, 8192), (1000, 2096), (100_000, 1024)])
def test_the_default_number_of_bins_keeps_counts_small(classes, bins):
    assert default_bins(classes) == bins


def counts_over_ranks(rank, output, target, size):
    measure = BinnedScores("multiclass", 4, 256, 255)
    for batch in (slice(0, 9), slice(9, 11), slice(11, None)):
        if size == 1 or rank < size - 1:  # of several ranks the last one has none
            measure.update(output[batch], target[batch])
    return reduce_state(measure.state, measure.reductions)


def test_counts_are_those_of_all_ranks(ranks):
    output, target = torch.randn(30, 4), torch.randint(0, 4, (30,))
    output[3, 0], target[5] = math.nan, 7
    size = ranks.size
    alone = counts_over_ranks(0, output, target, 1)
    for state in ranks.run(counts_over_ranks, output, target, size):
        assert all(torch.equal(state[name], alone[name]) for name in alone)
