"""The diagnostics ask no more of the device than what is committed in ``benchmarks/results/counters.json``."""

import copy

import pytest
import torch
from catalyst import dl

from assay.callbacks.support.host_copy import HostCopy
from benchmarks import counters

COMMITTED = counters.read()
same_torch = pytest.mark.skipif(
    COMMITTED["torch"] != counters.torch_minor(),
    reason=f"operations were counted with torch {COMMITTED['torch']}, this is {counters.torch_minor()}",
)


LEVELS = [name for name in counters.rows() if not name.endswith(" alone")]
long = pytest.mark.long("measures each diagnostic alone; all of them together are measured by the quick tests")


@pytest.fixture(scope="module")
def measured():
    """What the levels ask for, each with all of its diagnostics."""
    return counters.measure(LEVELS)


@pytest.fixture(scope="module")
def alone():
    return counters.measure([name for name in counters.rows() if name not in LEVELS])


@pytest.fixture(scope="module")
def bare():
    return counters.count([])


class Probe(dl.Callback):
    """Does one thing more in each step."""

    def __init__(self, work):
        super().__init__(order=dl.CallbackOrder.External)
        self.work = work

    def on_batch_end(self, runner):
        self.work(runner.batch["logits"])


@same_torch
def test_the_diagnostics_ask_for_no_more_than_is_committed(measured):
    assert set(counters.rows()) == set(COMMITTED["rows"])
    found = counters.compare(measured, {name: COMMITTED["rows"][name] for name in measured})
    assert not found, "\n".join(found)


@long
@same_torch
def test_each_diagnostic_alone_asks_for_no_more_than_is_committed(alone):
    found = counters.compare(alone, {name: COMMITTED["rows"][name] for name in alone})
    assert not found, "\n".join(found)


def test_no_step_waits_for_the_device(measured):
    reads = {(row, place): counts["host_reads"] for row, of in measured.items() for place, counts in of.items()}
    assert {key: count for key, count in reads.items() if count and key[1].endswith("step")} == {}
    assert reads["full", "train loader"] > 0  # at a loader's end it may be


@long
def test_each_row_has_asked_for_something(measured, alone):
    rows = {**measured, **alone}
    idle = {row for row, places in rows.items() if not any(counts["operations"] for counts in places.values())}
    # What they show is known to the host.
    assert idle == {"Curves alone", "DataOverview alone"}


@pytest.mark.parametrize(
    ("work", "names"),
    [
        (lambda logits: logits + 1, {"operations", "allocations", "allocated_bytes"}),
        (lambda logits: logits.add_(0), {"operations"}),
        (lambda logits: torch.empty(1), {"allocations", "allocated_bytes"}),
        (lambda logits: logits[0, 0].item(), {"operations", "host_reads"}),
        (lambda logits: logits.cpu(), {"host_reads"}),
        (lambda logits: HostCopy(logits), {"operations", "allocations", "allocated_bytes", "host_copies"}),
    ],
    ids=["an operation", "one in place", "a tensor", "a read", "a blocking copy", "a copy"],
)
def test_one_call_more_in_a_step_is_found_and_named(bare, work, names):
    more = counters.count([Probe(work)])
    committed = {"off": counters.subtract(bare, bare)}
    found = counters.compare({"off": counters.subtract(more, bare)}, committed)
    places = {"train step", "valid step"}
    assert {line.split(":")[0] for line in found} == {f"off, {place}" for place in places}
    assert {line.split(": ")[1].split()[0] for line in found} == names
    assert all("committed 0.0 a step; accept it by: python -m benchmarks.counters --write" in line for line in found)


def one_row(**changes):
    counts = {"operations": 100, "allocations": 100, "allocated_bytes": 1000, "host_copies": 10, "host_reads": 0}
    return {"full": {"train step": {**counts, **changes}}}


def test_a_tenth_less_is_as_committed_and_still_less_is_to_be_written():
    assert counters.compare(one_row(operations=90, allocations=95), one_row()) == []
    (line,) = counters.compare(one_row(operations=89), one_row())
    assert line.startswith("full, train step: operations 8.9 a step, committed 10.0 a step; accept it by: ")


@pytest.mark.parametrize(("name", "count"), [("host_copies", 9), ("host_copies", 11), ("host_reads", 1)])
def test_copies_and_reads_have_to_be_equal(name, count):
    (line,) = counters.compare(one_row(**{name: count}), one_row())
    assert line.startswith(f"full, train step: {name} {count / 10:.1f} a step")


def test_rows_that_are_not_committed_are_named():
    (line,) = counters.compare({"new": {}}, one_row())
    assert line.startswith("the rows are ['new'], committed are ['full']; accept it by: ")


def test_the_command_shows_what_changed_and_writes_it_when_asked(measured, tmp_path, monkeypatch, capsys):
    on_gpu = {"gradients": {"dispatched": {"step": 3}}}
    monkeypatch.setattr(counters, "measure", lambda: measured)
    monkeypatch.setattr(counters.launches, "measure", lambda: on_gpu)
    monkeypatch.setattr(counters, "PATH", tmp_path / "benchmarks" / "results" / "counters.json")
    counters.PATH.parent.mkdir(parents=True)
    counters.main(["--write"])
    assert "written: benchmarks/results/counters.json" in capsys.readouterr().out
    assert counters.read()["rows"] == measured
    assert counters.read()["launches"] == on_gpu
    changed = copy.deepcopy(measured)
    changed["full"]["train step"]["operations"] += 10
    monkeypatch.setattr(counters, "measure", lambda: changed)
    counters.main([])
    old = measured["full"]["train step"]["operations"] / 10
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("full  "))
    assert f"{old + 1:,.1f} (was {old:,.1f})" in line
    assert counters.read()["rows"] == measured
