import pytest
import torch

from assay.callbacks.measures.best_worst_batches import BestWorstBatches, read_samples
from assay.callbacks.support.distributed import (
    gather_objects,
    mean_over_ranks,
    reduce_state,
    winner_over_ranks,
    world_size,
)
from assay.callbacks.support.host_copy import copy_tree

REDUCTIONS = {
    "count": "sum",
    "total": "sum",
    "per_class": "sum",
    "low": "min",
    "high": "max",
    "first": "min",
    "empty": "sum",
}


def make_state(rank):
    generator = torch.Generator().manual_seed(rank)
    return {
        "count": torch.tensor(10 + rank, dtype=torch.int64),
        "total": torch.rand(3, generator=generator, dtype=torch.float64),
        "per_class": torch.randint(0, 9, (2, 4), generator=generator),
        "low": torch.randn(2, 2, generator=generator),
        "high": torch.randn(5, generator=generator),
        "first": torch.tensor([7 - rank, rank], dtype=torch.int32),
        "empty": torch.zeros(0, dtype=torch.float64),
    }


def reduce_made_state(rank):
    state = make_state(rank)
    reduced = reduce_state(state, REDUCTIONS)
    return {name: (part.tolist(), str(part.dtype), tuple(part.shape)) for name, part in reduced.items()}


def state_is_left_as_it_was(rank):
    state = make_state(rank)
    reduce_state(state, REDUCTIONS)
    return all(torch.equal(state[name], part) for name, part in make_state(rank).items())


def test_a_state_of_mixed_types_is_reduced_by_sum_min_and_max(ranks):
    answers = ranks.run(reduce_made_state)
    states = [make_state(rank) for rank in range(len(answers))]
    by_hand = {"sum": lambda parts: sum(parts[1:], parts[0]), "min": torch.minimum, "max": torch.maximum}
    for name, reduction in REDUCTIONS.items():
        parts = [state[name] for state in states]
        expected = parts[0]
        if len(parts) == 2:
            expected = by_hand[reduction](parts) if reduction == "sum" else by_hand[reduction](*parts)
        for answer in answers:
            assert answer[name] == (expected.tolist(), str(expected.dtype), tuple(expected.shape))


def test_reducing_leaves_the_state_of_the_rank_alone(ranks):
    assert all(ranks.run(state_is_left_as_it_was))


def report_world_size(rank):
    return world_size()


def test_world_size_is_the_number_of_processes(ranks):
    assert ranks.run(report_world_size) == [ranks.size] * ranks.size


def test_world_size_is_one_where_nothing_is_distributed():
    assert world_size() == 1


def mean_of_ranks(rank):
    return mean_over_ranks({"loss": torch.tensor(1.0 + rank), "count": rank}, torch.device("cpu"))


def test_means_over_ranks_are_plain_means(ranks):
    size = ranks.size
    count = sum(range(size)) / size
    assert ranks.run(mean_of_ranks) == [{"loss": 1.0 + count, "count": count}] * size


def gather_rank(rank):
    return gather_objects({"rank": rank})


def test_gathered_objects_come_in_the_order_of_ranks(ranks):
    size = ranks.size
    assert ranks.run(gather_rank) == [[{"rank": rank} for rank in range(size)]] * size


def winner_of(rank, items):
    made = []

    def payload(item):
        made.append(rank)
        return f"{item} of rank {rank}"

    return winner_over_ranks(items[rank], lambda item: item, payload), made


@pytest.mark.parametrize("items", [(3, 5), (5, 3), (3, None), (None, 3), (None, None), (4, 4), (0, None)])
def test_the_smallest_item_of_all_ranks_wins_and_only_its_payload_is_made(ranks, items):
    items = items[: ranks.size]
    present = [item for item in items if item is not None]
    answers = ranks.run(winner_of, items)
    if not present:
        assert answers == [(None, [])] * len(items)
        return
    winner = items.index(min(present))  # of equals the first rank
    assert [answer[0] for answer in answers] == [f"{items[winner]} of rank {winner}"] * len(items)
    assert [answer[1] for answer in answers] == [[winner] if rank == winner else [] for rank in range(len(items))]


def candidate_payload(candidate):
    return candidate.score, candidate.position, copy_tree(candidate.samples)


def extremes(rank, scores, minimize, world=None):
    """Feed this rank every ``world``-th batch, as a sharded loader would, and join the ranks."""
    world = world or world_size()
    measure = BestWorstBatches(minimize=minimize, max_samples=2)
    for index in range(rank, len(scores), world):
        losses = torch.tensor([3.0, 1.0, 2.0]) + index
        parts = {"loss": losses, "sample_id": [f"{index}-{i}" for i in range(3)]}
        measure.update(scores[index], index + 1, lambda parts=parts: parts)
    found = {}
    for kind, candidate, key in (
        ("best", measure.best, measure.best_key),
        ("worst", measure.worst, measure.worst_key),
    ):
        won = winner_over_ranks(candidate, key, candidate_payload)
        if won is not None:
            score, position, samples = won
            read = read_samples(samples)
            won = repr(score), position, read["sample_id"], read["loss"].tolist()
        found[kind] = won
    return found


@pytest.mark.parametrize("minimize", [True, False])
@pytest.mark.parametrize(
    "scores",
    [
        [0.5, 0.2, 0.9, 0.4, 0.3, 0.8],
        [0.5, 0.5, 0.5, 0.5],
        [0.7, 0.1, 0.1, 0.7],
        [0.3, float("nan"), float("inf"), 0.2],
        [float("nan"), float("nan")],
        [0.3],
        [0.9, 0.1, -float("inf")],
    ],
)
def test_best_and_worst_over_ranks_are_those_of_one_process(ranks, scores, minimize):
    alone = extremes(0, scores, minimize, world=1)
    assert ranks.run(extremes, scores, minimize) == [alone] * ranks.size
    finite = [(score if minimize else -score, i + 1) for i, score in enumerate(scores) if score - score == 0]
    assert (alone["best"] and alone["best"][1]) == (min(finite)[1] if finite else None)
