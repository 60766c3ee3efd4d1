"""Time is counted as on a machine with nothing else to do."""

import multiprocessing
import os
import time

from assay.callbacks.findings.observe.data import own_time
from assay.callbacks.findings.observe.data.own_time import OwnTime


def spin(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def spin_beside_others(sender, most):
    """Keep a processor busy for a second, which three others want as well, and tell how long that was."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    others = [multiprocessing.get_context("fork").Process(target=spin, args=(2.0,)) for _ in range(3)]
    for other in others:
        other.start()
    clock = OwnTime(most)
    before, start = clock(), time.monotonic()
    spin(1.0)
    sender.send((clock() - before, time.monotonic() - start))
    for other in others:
        other.kill()
        other.join()


def measured(most):
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=spin_beside_others, args=(sender, most))
    child.start()
    found = receiver.recv()
    child.join()
    return found


def test_time_in_which_others_have_the_processor_is_not_counted():
    own, wall = measured(most=60.0)
    assert own < 0.6 * wall


def test_waiting_is_left_out_up_to_a_limit():
    own, wall = measured(most=0.1)
    assert wall - 0.1 - 0.01 < own < wall


def test_sleep_is_counted():
    clock = OwnTime(0.0)
    before = clock()
    time.sleep(0.2)
    assert clock() - before >= 0.2


def test_where_the_kernel_keeps_no_waiting_times_all_time_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(own_time, "_FILE", tmp_path / "none")
    clock = OwnTime(60.0)
    before, start = clock(), time.monotonic()
    spin(0.1)
    assert abs((clock() - before) - (time.monotonic() - start)) < 0.01
