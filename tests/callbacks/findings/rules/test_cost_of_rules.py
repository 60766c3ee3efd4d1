"""Rules look at thousands of samples before the first step: none may take long where there are many."""

import time
from dataclasses import replace

import pytest
from made_probes import loader, make_samples

from assay.callbacks.findings.probe.probe import Probe
from assay.callbacks.findings.rules import all_rules

SAMPLES = 3000
# Of a processor's time; a loop over pairs of samples takes many times as long.
SECONDS = 2.0


def many(key, first):
    """Return a loader of many samples, of which twelve are made anew and the rest are these under other names."""
    few = make_samples(12, first)
    samples = [
        replace(few[index % 12], index=index, name=f"{key}{index}", digest=b"%d of %d" % (index, first))
        for index in range(SAMPLES)
    ]
    return loader(key, samples)


@pytest.fixture(scope="module")
def probe():
    return Probe(loaders={"train": many("train", 0), "valid": many("valid", 500)})


@pytest.mark.parametrize("rule", [rule for rule in all_rules() if rule.at == "data"], ids=lambda rule: rule.name)
def test_a_rule_over_thousands_of_samples_takes_little_time(rule, probe):
    start = time.process_time()
    list(rule.find(probe))
    assert time.process_time() - start < SECONDS
