"""What is found in small real trainings: a planted fault by its cause and place, and nothing in healthy ones."""

from collections import Counter

import pytest
from findings_catalogue.case import FAULTS, named_by, run
from findings_catalogue.faults import data  # noqa: F401
from findings_catalogue.healthy import HEALTHY
from findings_catalogue.not_named import NOT_NAMED

LONG = pytest.mark.long("a part of the catalogue runs each time, the whole takes minutes")
# Of each kind of fault, and so many healthy trainings; all together take a quarter of a minute.
QUICK, HEALTHY_QUICK = 2, 8


def _faults():
    taken = Counter()
    for fault in FAULTS:
        if fault.name not in NOT_NAMED:
            is_quick = fault.quick and taken[fault.kind] < QUICK
            taken[fault.kind] += is_quick
            yield pytest.param(fault, id=fault.name, marks=() if is_quick else LONG)


def test_the_catalogue_is_large_and_names_each_training_once():
    assert set(Counter(fault.kind for fault in FAULTS)) == set(range(1, 9))
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 90
    assert {fault.name for fault in FAULTS} > NOT_NAMED
    assert len(HEALTHY) >= 30


def _healthy():
    taken = 0
    for name, (make, quick) in HEALTHY.items():
        is_quick = quick and taken < HEALTHY_QUICK
        taken += is_quick
        yield pytest.param(make, id=name, marks=() if is_quick else LONG)


@pytest.mark.parametrize("make", _healthy())
def test_nothing_is_to_be_warned_of_in_a_healthy_training(make):
    found, error = run(make())
    assert error is None
    assert [finding.sentence for finding in found if finding.severity != "note"] == []


@pytest.mark.parametrize("fault", _faults())
def test_a_planted_fault_is_named_by_its_cause_and_place(fault):
    found, _ = run(fault.case())
    assert named_by(fault, found) is not None, [finding.sentence for finding in found]
