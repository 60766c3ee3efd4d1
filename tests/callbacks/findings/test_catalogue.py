"""What is found in small real trainings: a planted fault by its cause and place, and nothing in healthy ones."""

from collections import Counter

from findings_catalogue.case import FAULTS
from findings_catalogue.faults import data  # noqa: F401
from findings_catalogue.healthy import HEALTHY


def test_the_catalogue_is_large_and_names_each_training_once():
    assert set(Counter(fault.kind for fault in FAULTS)) == set(range(1, 9))
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 90
    assert len(HEALTHY) >= 30
