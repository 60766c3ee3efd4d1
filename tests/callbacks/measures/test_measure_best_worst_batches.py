import math

import numpy as np
import pytest
import torch

from assay.callbacks.measures.best_worst_batches import BestWorstBatches, read_samples, select_samples
from assay.callbacks.support.host_copy import copy_tree

NAN, INF = math.nan, math.inf


def fed(scores, minimize=True, max_samples=4):
    """Return a measure that has seen batches of these scores, and the positions whose samples it asked for."""
    measure, asked = BestWorstBatches(minimize=minimize, max_samples=max_samples), []
    for position, score in enumerate(scores, start=1):

        def samples(position=position):
            asked.append(position)
            return {"loss": torch.tensor([2.0, 1.0, 3.0]), "number": torch.full((3,), position)}

        measure.update(score, position, samples)
    return measure, asked


@pytest.mark.parametrize("minimize", [True, False])
def test_best_and_worst_are_those_of_a_plain_loop(minimize):
    scores = torch.randn(200).tolist()
    measure, _ = fed(scores, minimize)
    best, worst = (min, max) if minimize else (max, min)
    assert (measure.best.score, measure.best.position) == (best(scores), scores.index(best(scores)) + 1)
    assert (measure.worst.score, measure.worst.position) == (worst(scores), scores.index(worst(scores)) + 1)


@pytest.mark.parametrize(
    ("scores", "best", "worst"),
    [
        ([0.5, 0.5, 0.5], 1, 1),
        ([0.5, 0.1, 0.1, 0.9, 0.9], 2, 4),
        ([0.3], 1, 1),
        ([0.3, NAN, 0.9], 1, 2),
        ([NAN, 0.9, 0.3], 3, 1),
        ([0.3, INF, NAN], 1, 2),
        ([-INF, 0.3, 0.2], 3, 1),
        ([NAN, NAN, INF], None, 1),
        ([], None, None),
    ],
)
@pytest.mark.parametrize("minimize", [True, False])
def test_the_first_of_equals_wins_and_what_is_not_finite_is_the_worst_and_never_the_best(scores, best, worst, minimize):
    measure, _ = fed([score if minimize else -score for score in scores], minimize)
    assert (measure.best and measure.best.position) == best
    assert (measure.worst and measure.worst.position) == worst


def test_only_batches_that_lead_are_asked_for_their_samples():
    _, asked = fed([5.0, 6.0, 5.5, 4.0, 4.5, 7.0])
    assert asked == [1, 2, 4, 6]


def test_the_worst_keeps_the_largest_losses_and_the_best_the_smallest():
    measure, _ = fed([1.0], max_samples=2)
    assert measure.worst.samples["loss"].tolist() == [3.0, 2.0]
    assert measure.best.samples["loss"].tolist() == [1.0, 2.0]


def test_a_kept_batch_does_not_change_with_the_tensors_it_came_from():
    losses, measure = torch.tensor([1.0, 2.0]), BestWorstBatches()
    measure.update(0.5, 1, lambda: {"loss": losses})
    losses.zero_()
    assert measure.best.samples["loss"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("largest_loss", [True, False])
@pytest.mark.parametrize("count", [1, 3, 7, 50])
def test_selected_samples_are_those_of_the_largest_or_smallest_loss_in_its_order(count, largest_loss):
    loss = torch.tensor([0.5, -INF, INF, 2.0, NAN, 0.5, -1.0])  # of one of -inf nothing counts
    samples = {"loss": loss, "image": torch.arange(28).reshape(7, 4), "sample_id": list("abcdefg")}
    order = ([4, 2, 3, 0, 5, 6, 1] if largest_loss else [6, 0, 5, 3, 1, 2, 4])[:count]
    selected = select_samples(samples, count, largest_loss=largest_loss)
    assert selected["order"].tolist() == order
    assert torch.equal(selected["image"], samples["image"][order])
    read = read_samples(copy_tree(selected))
    assert read["sample_id"] == ["abcdefg"[i] for i in order]
    assert "order" not in read


def test_without_losses_the_first_samples_are_kept():
    selected = select_samples({"image": torch.arange(5), "sample_id": range(10, 15)}, 2, largest_loss=True)
    assert read_samples(copy_tree(selected)) == {"image": pytest.approx(np.array([0, 1])), "sample_id": [10, 11]}


def test_samples_without_any_tensor_are_kept_in_their_order():
    selected = select_samples({"sample_id": ["a", "b", "c"]}, 2, largest_loss=False)
    assert read_samples(copy_tree(selected)) == {"sample_id": ["a", "b"]}


def test_an_update_reads_nothing_from_the_device():
    samples = {
        "image": torch.zeros(8, 3, 4, 4, device="meta"),
        "target": torch.zeros(8, dtype=torch.int64, device="meta"),
        "loss": torch.zeros(8, device="meta"),
        "sample_id": [str(i) for i in range(8)],
    }
    measure = BestWorstBatches(max_samples=3)
    measure.update(0.5, 1, lambda: samples)
    assert measure.best.samples["image"].shape == (3, 3, 4, 4)
    assert measure.worst.samples["order"].device.type == "meta"


def test_selecting_without_losses_reads_nothing_from_the_device():
    selected = select_samples({"image": torch.zeros(8, 1, 2, 2, device="meta")}, 3, largest_loss=True)
    assert selected["image"].shape == (3, 1, 2, 2)
    assert selected["image"].device.type == "meta"


def test_keys_order_candidates_as_the_measure_does():
    measure, _ = fed([0.4, NAN, 0.2, 0.2])
    keys = {}
    for position, score in ((1, 0.4), (2, NAN), (3, 0.2), (4, 0.2), (5, 0.9)):
        other, _ = fed([score])
        candidate = type(other.worst)(score, position, {})
        keys[position] = (measure.best_key(candidate), measure.worst_key(candidate))
    assert sorted(keys, key=lambda p: keys[p][0]) == [3, 4, 1, 5, 2]
    assert sorted(keys, key=lambda p: keys[p][1]) == [2, 5, 1, 3, 4]


@pytest.mark.parametrize("largest_loss", [True, False])
def test_of_many_equal_losses_the_first_samples_are_kept(largest_loss):
    loss = torch.tensor([0.5, 1.0]).repeat(2000)
    order = select_samples({"loss": loss}, 50, largest_loss=largest_loss)["order"]
    assert order.tolist() == list(range(int(largest_loss), 100, 2))


def test_lists_of_tensors_and_of_dicts_are_cut_to_the_kept_samples_and_do_not_change_with_the_batch():
    images = [torch.full((1, size, size), float(size)) for size in (1, 2, 3)]
    boxes = [{"boxes": torch.full((size, 4), float(size), dtype=torch.float16)} for size in (0, 1, 2)]
    ids = ["a", "b", "c"]
    samples = {"image": images, "target": boxes, "sample_id": ids, "loss": torch.tensor([0.5, 3.0, 1.0])}
    selected = select_samples(samples, 2, largest_loss=True)
    images[1].zero_()
    read = read_samples(copy_tree(selected))
    assert read["sample_id"] == ["b", "c"]
    assert [image.tolist() for image in read["image"]] == [np.full((1, s, s), s).tolist() for s in (2, 3)]
    assert [target["boxes"].shape for target in read["target"]] == [(1, 4), (2, 4)]
    assert read["target"][1]["boxes"].dtype == np.float32


def test_without_losses_no_more_of_a_list_is_kept_than_is_shown():
    parts = {"image": [torch.zeros(1, 2, 2)] * 9, "target": {"mask": torch.arange(9), "name": list("abcdefghi")}}
    selected = select_samples(parts, 2, largest_loss=True)
    assert len(selected["image"]) == 2
    read = read_samples(copy_tree(selected))
    assert read["target"]["mask"].tolist() == [0, 1]
    assert read["target"]["name"] == ["a", "b"]


def test_lists_of_tensors_are_kept_without_reading_the_device():
    parts = {"image": [torch.zeros(1, 2, 2, device="meta")] * 4, "loss": torch.zeros(4, device="meta")}
    assert len(select_samples(parts, 2, largest_loss=True)["image"]) == 4
