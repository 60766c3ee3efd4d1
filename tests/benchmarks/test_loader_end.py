"""What the benchmark of the end of a loader measures, on a tiny run."""

import time
from dataclasses import asdict
from types import SimpleNamespace

import pytest
from catalyst import dl

from assay.callbacks import classification_diagnostics
from benchmarks import loader_end
from benchmarks.workload import Workload


@pytest.mark.long("trains with each diagnostic alone and with all of them")
def test_each_diagnostic_is_timed_at_the_end_of_both_loaders_but_for_the_first_epoch():
    small = Workload(side=32, batch_size=4, train_steps=2, valid_steps=2, epochs=3)
    found = loader_end.measure(asdict(small))
    names = {type(one).__name__ for one in classification_diagnostics("full", num_classes=3)} - {"Metrics"}
    assert set(found) == {"train", "valid"}
    for row in found.values():
        assert set(row["parts"]) == names
        for epoch in range(2):
            parts = sum(values[epoch] for values in row["parts"].values())
            assert abs(row["wall"][epoch] - parts) < 1e-6 and row["thread"][epoch] > 0
        assert [len(values) for values in row["parts"].values()] == [2] * len(names)


def test_the_time_is_that_of_the_callback_by_the_clock_and_of_its_thread():
    class Sleeps(dl.Callback):
        def on_loader_end(self, runner):
            time.sleep(0.05)

    ends = loader_end.Ends("cpu")
    ends.watch(Sleeps(order=0)).on_loader_end(SimpleNamespace(loader_key="valid"))
    ((wall, thread),) = ends.ms["valid"]["Sleeps"]
    assert wall >= 50 > thread
