"""Every measure over a loader, against the interface that they share."""

import importlib
import inspect
import pkgutil

import pytest
import torch
from measure_cases import CASES, to

from assay.callbacks import measures
from assay.callbacks.measures.measure import Measure

REDUCE = {"sum": torch.add, "min": torch.minimum, "max": torch.maximum}

NOT_MEASURES = {
    "BestWorstBatches": "keeps batches, of which the ranks send the best and the worst",
    "BestWorstSamples": "keeps samples, of which the ranks send the best and the worst",
    "BoxCounts": "counts on the host, by labels that it meets, and merges them",
    "ChosenSamples": "keeps samples, which the ranks send",
    "DataStatistics": "counts on the host, by labels that it meets, and merges them",
    "LabelOrder": "looks at labels that are on the host",
    "KeptScores": "keeps batches, and has the state of BinnedScores, by which its own test compares it",
    "PhaseTimes": "adds up time; its state waits for the device",
    "RegressionTotals": "knows the shapes of its state after the first batch, and merges means",
    "Spent": "is made of a whole loader at once",
    "WeightedAUC": "is a metric of torchmetrics, which reduces it",
}


def merged(measure, one, other):
    return {name: REDUCE[measure.reductions[name]](one[name], other[name]) for name in one}


def found_classes():
    for module in pkgutil.iter_modules(measures.__path__, f"{measures.__name__}."):
        for name, found in vars(importlib.import_module(module.name)).items():
            if inspect.isclass(found) and found.__module__ == module.name and found is not Measure:
                yield name, found


def test_every_class_that_counts_is_swept_or_says_why_not():
    counting = {name for name, found in found_classes() if {"update", "reductions"} & set(vars(found))}
    assert counting == CASES.keys() | NOT_MEASURES.keys()


@pytest.mark.parametrize("name", CASES)
def test_it_follows_the_interface(name):
    measure = CASES[name][0]("cpu")
    assert isinstance(measure, Measure)
    assert measure.state.keys() <= measure.reductions.keys()
    assert set(measure.reductions.values()) <= REDUCE.keys()
    assert all(isinstance(part, torch.Tensor) for part in measure.state.values())


@pytest.mark.parametrize("name", CASES)
def test_a_batch_reads_nothing_from_the_device_and_leaves_the_form_of_the_state(name):
    make, batch = CASES[name]
    measure = make("meta")
    forms = {name: (part.shape, part.dtype) for name, part in measure.state.items()}
    measure.update(*to("meta", list(batch())))
    assert {name: (part.shape, part.dtype) for name, part in measure.state.items()} == forms
    assert {part.device.type for part in measure.state.values()} == {"meta"}


@pytest.mark.parametrize("name", CASES)
def test_a_rank_without_a_batch_changes_nothing(name):
    make, batch = CASES[name]
    measure, empty = make("cpu"), make("cpu")
    measure.update(*batch())
    found = merged(measure, measure.state, empty.state)
    assert all(torch.equal(found[part], measure.state[part]) for part in found)


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_count_what_one_would(name):
    make, batch = CASES[name]
    ranks, alone, batches = (make("cpu"), make("cpu")), make("cpu"), (batch(), batch())
    for rank, parts in zip(ranks, batches, strict=True):
        rank.update(*to("cpu", list(parts)))
        alone.update(*to("cpu", list(parts)))
    found = merged(alone, *(rank.state for rank in ranks))
    for part, value in alone.state.items():
        torch.testing.assert_close(found[part], value)
    assert any(not torch.equal(found[part], make("cpu").state[part]) for part in found)
