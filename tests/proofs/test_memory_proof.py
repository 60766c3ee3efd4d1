"""The proof of memory, on small cases."""

import logging
from dataclasses import replace

import pytest
import torch

from proofs import memory

SMALL = memory.Case(side=600, classes=3, k=2, batch=2, samples=4, most_mib=100.0, per_sample=True)


@pytest.fixture(autouse=True)
def process_as_before():
    """Undo what a proof sets for a process of its own: quiet warnings and one thread."""
    logger, threads = logging.getLogger("assay"), torch.get_num_threads()
    level = logger.level
    yield
    logger.setLevel(level)
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("per_sample", "expected"), [(True, 25.0), (False, 100.0)])
def test_what_is_added_is_counted_per_sample_kept_or_in_all(per_sample, expected):
    assert replace(SMALL, per_sample=per_sample).added_mib(300.0, 400.0) == expected


@pytest.mark.parametrize(("full", "code"), [(699.0, 0), (701.0, 1)])
def test_a_case_above_its_bar_fails(tmp_path, monkeypatch, capsys, full, code):
    peaks = {"off": 300.0, "full": full}
    monkeypatch.setattr(memory, "RESULT", tmp_path / "memory.json")
    monkeypatch.setattr(memory, "CASES", {"small": SMALL})
    monkeypatch.setattr(memory, "apart", lambda function, level, **case: peaks[level])
    assert memory.main([]) == code
    assert '"proved": ' in (tmp_path / "memory.json").read_text()
    assert "small" in capsys.readouterr().out


def test_a_case_is_trained_and_its_peak_is_that_of_this_process():
    case = {"side": 600, "classes": 3, "k": 1, "batch": 2, "samples": 2, "most_mib": 1.0, "per_sample": True}
    first = memory.peak_mib("off", **case)
    assert memory.peak_mib("full", **case) >= first > 50
