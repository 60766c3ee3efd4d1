"""Taking the time of one diagnostic: in the loop, and in the thread that writes."""

import numpy as np
import pytest
from kit import Clock

from assay.callbacks.base.meter import Meter, MeteredWriter
from assay.callbacks.errors import UsageError
from assay.callbacks.measures.overhead_budget import FIXED, LOOP, PICTURES, STEPS, Label, Laps
from assay.callbacks.measures.phase_times import HostTimer
from assay.callbacks.tensorboard.writer import Writer


class Sink:
    """Keeps what is written."""

    def __init__(self):
        self.seen, self.closed = [], False

    def add_scalar(self, tag, value, step):
        self.seen.append((tag, value, step))

    def add_text(self, tag, text, step):
        self.seen.append((tag, text, step))

    def _get_file_writer(self):
        return self

    def add_summary(self, summary, step=None):
        self.seen.append((summary.value[0].tag, "picture", step))

    def flush(self):
        pass

    def close(self):
        self.closed = True


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def laps(clock):
    return Laps(HostTimer(clock))


def test_a_lap_within_another_goes_back_to_it(clock, laps):
    outer, inner = Meter("Outer", laps, None), Meter("Inner", laps, None)
    laps.begin(Label("train", LOOP))
    clock.ms += 1
    with outer.time():
        clock.ms += 2
        with inner.time(STEPS, 7):
            clock.ms += 4
        clock.ms += 8
    clock.ms += 16
    laps.begin(None)
    expected = {Label("train", LOOP): 17, Label("train", "Outer", FIXED): 10, Label("train", "Inner", STEPS, 7): 4}
    assert laps.total_ms == pytest.approx(expected)


def test_a_lap_ends_where_what_it_takes_the_time_of_fails(clock, laps):
    laps.begin(Label("train", LOOP))
    with pytest.raises(ZeroDivisionError), Meter("Fails", laps, None).time():
        clock.ms += 2
        raise ZeroDivisionError
    assert laps.label == Label("train", LOOP)


def test_no_time_is_taken_while_the_laps_are_of_nothing(clock, laps):
    with Meter("One", laps, None).time():
        clock.ms += 2
    assert not laps.total_ms
    assert laps.label is None


@pytest.fixture
def written(clock, laps):
    """Return a writer that takes time of a clock, its meter, and what its thread writes."""
    sink = Sink()
    meter = Meter("Painter", laps, clock)
    writer = MeteredWriter(Writer(sink), "valid", meter)
    yield writer, meter, sink
    if not sink.closed:
        writer.close()


def draw(clock, ms):
    clock.ms += ms
    return np.zeros((2, 2, 3), np.uint8)


def test_what_the_thread_does_is_kept_with_its_kind_and_epoch(clock, written):
    writer, meter, sink = written
    meter.epoch = 3
    writer.image("picture", lambda: draw(clock, 5), 3)
    writer.text("words", lambda: str(draw(clock, 7).shape), 3)
    writer.scalars({"number": 1.0}, 3)
    writer.drain()
    kinds = [PICTURES, FIXED, FIXED]
    assert [label for label, _, _ in meter.drawn] == [Label("valid", "Painter", kind) for kind in kinds]
    assert [ms for _, ms, _ in meter.drawn] == pytest.approx([5, 7, 0])
    assert {epoch for _, _, epoch in meter.drawn} == {3}
    assert [tag for tag, *_ in sink.seen] == ["picture", "words", "number"]


def test_in_an_epoch_that_draws_none_pictures_are_left_out_and_all_else_is_written(clock, written):
    writer, meter, sink = written
    meter.draws = False
    writer.image("picture", lambda: draw(clock, 5), 3)
    writer.text("words", "x", 3)
    writer.drain()
    assert sink.seen == [("words", "x", 3)]
    assert clock.ms == 0


def test_a_picture_that_comes_once_is_never_left_out_and_counts_as_fixed(clock, written):
    writer, meter, sink = written
    meter.draws = False
    writer.image("picture", lambda: draw(clock, 5), 1, once=True)
    writer.drain()
    assert [tag for tag, *_ in sink.seen] == ["picture"]
    assert list(meter.drawn) == [(Label("valid", "Painter", FIXED), 5, 0)]


def test_without_a_clock_of_the_thread_nothing_of_it_is_kept(clock, laps):
    meter = Meter("Painter", laps, None)
    writer = MeteredWriter(Writer(Sink()), "valid", meter)
    writer.image("picture", lambda: draw(clock, 5), 1)
    writer.close()
    assert not meter.drawn


def test_what_fails_in_the_thread_is_raised_and_closing_closes_the_file(clock, written):
    writer, _, sink = written

    def fail():
        raise UsageError("cannot draw")

    writer.image("picture", fail, 1)
    with pytest.raises(UsageError, match="cannot draw"):
        writer.drain()
    writer.close()
    assert sink.closed
