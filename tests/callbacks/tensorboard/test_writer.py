import re
import threading
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from assay.callbacks import UsageError
from assay.callbacks.tensorboard.hparams_summaries import session_start
from assay.callbacks.tensorboard.projector_files import Embedding
from assay.callbacks.tensorboard.tracked_writer import TrackedWriter
from assay.callbacks.tensorboard.trackers import Outbox
from assay.callbacks.tensorboard.writer import Histogram, Writer

WAIT_S = 20


class ListSink:
    """Keeps what is written, and how often it was flushed and closed."""

    def __init__(self):
        self.written = []
        self.flushed = self.closed = 0

    def add_scalar(self, tag, scalar_value, global_step=None):
        self.written.append((tag, scalar_value, global_step))

    def add_summary(self, summary, step=None):
        self.written.append((summary.value[0].tag, summary.value[0].image, step))

    def add_text(self, tag, text_string, global_step=None):
        self.written.append((tag, text_string, global_step))

    def flush(self):
        self.flushed += 1

    def close(self):
        self.closed += 1


def break_in_the_thread():
    raise ZeroDivisionError("drawing failed")


def test_pieces_of_work_are_written_in_the_order_of_the_calls():
    sink = ListSink()
    writer = Writer(sink)
    for step in range(300):
        writer.scalars({"a": step, "b": -step}, step)
        writer.text("note", str(step), step)
    writer.close()
    expected = [(("a", i, i), ("b", -i, i), ("note", str(i), i)) for i in range(300)]
    assert sink.written == [entry for entries in expected for entry in entries]


def test_the_work_is_done_in_another_thread():
    writer, seen = Writer(ListSink()), []
    writer.submit(lambda sink: seen.append(threading.current_thread()))
    writer.close()
    assert seen[0] is not threading.current_thread()
    assert seen[0].name.startswith("assay-writer")


def test_a_call_returns_before_its_work_is_done():
    sink, gate = ListSink(), threading.Event()
    writer = Writer(sink)
    writer.submit(lambda sink: gate.wait(WAIT_S))
    writer.scalars({"a": 1.0}, 1)
    assert sink.written == []
    gate.set()
    writer.drain()
    assert sink.written == [("a", 1.0, 1)]
    writer.close()


def test_the_caller_waits_while_the_queue_is_full():
    sink, gate, passed = ListSink(), threading.Event(), threading.Event()
    writer = Writer(sink, queue_size=3)
    for _ in range(3):
        writer.submit(lambda sink: gate.wait(WAIT_S))
    caller = threading.Thread(target=lambda: (writer.scalars({"a": 1.0}, 1), passed.set()))
    caller.start()
    assert not passed.wait(0.2)
    gate.set()
    assert passed.wait(WAIT_S)
    caller.join()
    writer.close()
    assert sink.written == [("a", 1.0, 1)]


def test_an_error_in_the_thread_is_raised_by_the_next_call_with_its_own_traceback():
    writer, failed = Writer(ListSink()), threading.Event()
    writer.submit(lambda sink: break_in_the_thread())
    writer._thread.submit(failed.set)
    assert failed.wait(WAIT_S)
    with pytest.raises(ZeroDivisionError, match="drawing failed") as caught:
        writer.scalars({"a": 1.0}, 1)
    assert "break_in_the_thread" in "".join(traceback.format_tb(caught.value.__traceback__))
    writer.close()


def test_an_error_in_the_thread_is_raised_by_drain_and_what_was_queued_behind_it_is_dropped():
    sink, gate = ListSink(), threading.Event()
    writer = Writer(sink)
    writer.scalars({"before": 1.0}, 1)
    writer.submit(lambda sink: gate.wait(WAIT_S))
    writer.submit(lambda sink: break_in_the_thread())
    writer.scalars({"behind": 1.0}, 1)
    gate.set()
    with pytest.raises(ZeroDivisionError) as caught:
        writer.drain()
    assert "break_in_the_thread" in "".join(traceback.format_tb(caught.value.__traceback__))
    assert sink.written == [("before", 1.0, 1)]
    writer.close()
    assert sink.closed == 1


def test_an_error_is_raised_once_and_later_work_is_dropped():
    sink = ListSink()
    writer = Writer(sink)
    writer.submit(lambda sink: break_in_the_thread())
    with pytest.raises(ZeroDivisionError):
        writer.drain()
    writer.scalars({"later": 1.0}, 1)
    writer.drain()
    assert sink.written == []
    writer.close()


def test_close_raises_the_error_and_closes_the_file_all_the_same():
    sink = ListSink()
    writer = Writer(sink)
    writer.submit(lambda sink: break_in_the_thread())
    with pytest.raises(ZeroDivisionError):
        writer.close()
    assert sink.closed == 1


def test_many_errors_do_not_block_a_full_queue():
    writer = Writer(ListSink(), queue_size=2)
    raised = 0
    for _ in range(20):
        try:
            writer.submit(lambda sink: break_in_the_thread())
        except ZeroDivisionError:
            raised += 1
    try:
        writer.drain()
    except ZeroDivisionError:
        raised += 1
    assert raised == 1
    writer.close()


def test_a_closed_writer_takes_nothing_and_can_be_closed_again():
    sink = ListSink()
    writer = Writer(sink)
    writer.close()
    writer.scalars({"late": 1.0}, 1)
    writer.drain()
    writer.close()
    assert (sink.written, sink.closed) == ([], 1)


def test_a_writer_without_sink_drops_everything_without_drawing():
    drawn = []
    writer = Writer(None)
    writer.image("picture", lambda: drawn.append(1), 1)
    writer.scalars({"a": 1.0}, 1)
    writer.scalars_later(["a"], torch.ones(1), 1)
    writer.text("note", "x", 1)
    writer.drain()
    writer.close()
    assert drawn == []


def test_numbers_written_later_are_those_of_the_moment_of_the_call():
    sink, gate = ListSink(), threading.Event()
    writer, values = Writer(sink), torch.tensor([1.5, -2.0])
    writer.submit(lambda sink: gate.wait(WAIT_S))
    writer.scalars_later(["loss/batch", "accuracy/batch"], values, 32)
    values.zero_()
    gate.set()
    writer.close()
    assert sink.written == [("loss/batch", 1.5, 32), ("accuracy/batch", -2.0, 32)]


def test_fewer_names_than_numbers_are_an_error():
    writer = Writer(ListSink())
    writer.scalars_later(["loss"], torch.ones(2), 1)
    with pytest.raises(ValueError, match="zip"):
        writer.close()


def test_a_drained_writer_has_everything_in_the_event_file(tmp_path, read_events):
    writer = Writer(SummaryWriter(str(tmp_path)))
    picture = np.random.randint(0, 256, (6, 9, 3), dtype=np.uint8)
    writer.scalars({"loss/epoch": 0.25}, 3)
    writer.scalars_later(["loss/batch"], torch.tensor([0.5]), 64)
    writer.image("batches/best/loss", lambda: picture, 3)
    writer.text("config", "lr: 0.1", 0)
    writer.drain()
    events = read_events(tmp_path)  # the file is still open
    assert [(e.step, e.value) for e in events.Scalars("loss/epoch")] == [(3, 0.25)]
    assert [(e.step, e.value) for e in events.Scalars("loss/batch")] == [(64, 0.5)]
    image = events.Images("batches/best/loss")[0]
    assert (image.step, image.height, image.width) == (3, 6, 9)
    assert events.Tensors("config/text_summary")[0].tensor_proto.string_val[0] == b"lr: 0.1"
    import cv2

    decoded = cv2.imdecode(np.frombuffer(image.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(decoded[:, :, ::-1], picture)
    writer.scalars({"loss/epoch": 0.125}, 4)
    writer.close()
    assert [e.step for e in read_events(tmp_path).Scalars("loss/epoch")] == [3, 4]


@pytest.mark.parametrize("picture", [np.zeros((4, 5), np.uint8), np.zeros((4, 5, 4), np.uint8), np.zeros((4, 5, 3))])
def test_what_is_no_rgb_picture_is_refused_by_its_tag(picture):
    writer = Writer(ListSink())
    writer.image("mine", lambda: picture, 1)
    with pytest.raises(UsageError, match=r"picture must be \[H, W, 3\] uint8, got .* for tag 'mine'"):
        writer.drain()
    writer.close()


def test_flush_does_not_wait_and_comes_after_what_was_queued():
    sink, gate = ListSink(), threading.Event()
    writer = Writer(sink)
    writer.submit(lambda sink: gate.wait(WAIT_S))
    writer.flush()
    assert sink.flushed == 0
    gate.set()
    writer.drain()
    assert sink.flushed == 2
    writer.close()


def test_a_queue_without_room_is_refused():
    with pytest.raises(UsageError, match="queue_size must be at least 1, got 0"):
        Writer(None, queue_size=0)


@pytest.mark.parametrize("as_function", [False, True])
def test_names_that_are_not_utf_8_are_written_as_text(tmp_path, as_function):
    text = "caf\udce9.png"  # as Python has the bytes of a name in Latin-1
    writer = Writer(SummaryWriter(tmp_path))
    writer.text("ids", (lambda: text) if as_function else text, 1)
    writer.close()
    (file,) = tmp_path.iterdir()
    assert b"caf\\xe9.png" in file.read_bytes()


def test_distributions_and_curves_are_in_the_event_file_as_they_were_counted(tmp_path, read_events):
    counts, limits = np.array([3.0, 0.0, 1.0]), np.array([0.25, 0.5, 1.0])
    histogram = Histogram(counts, limits, low=0.0, high=0.75, total=1.5, total_of_squares=0.75)
    curve = np.arange(30.0).reshape(6, 5)
    writer = Writer(SummaryWriter(str(tmp_path)))
    writer.histograms(lambda: {"mine": histogram}, 2)
    writer.pr_curves(lambda: {"pr/a": curve}, 3)
    writer.close()
    events = read_events(tmp_path)
    (event,) = events.Histograms("mine")
    found = event.histogram_value
    assert (event.step, found.num, found.min, found.max, found.sum, found.sum_squares) == (2, 4, 0, 0.75, 1.5, 0.75)
    assert found.bucket == list(counts)
    assert found.bucket_limit == list(limits)
    (event,) = events.Tensors("pr/a")
    assert event.step == 3
    values = np.frombuffer(event.tensor_proto.tensor_content, np.float32) if event.tensor_proto.tensor_content else None
    values = np.array(event.tensor_proto.float_val) if values is None else values
    assert np.array_equal(values.reshape(6, 5), curve)


def test_an_embedding_is_files_beside_the_event_file(tmp_path):
    cloud = Embedding(np.eye(2), ["id", "label"], [["a", "0"], ["b", "1"]], np.zeros((8, 8, 3), np.uint8), 4)
    writer = Writer(SummaryWriter(str(tmp_path)))
    writer.embedding("cloud:1", lambda: cloud)
    writer.close()
    assert (tmp_path / "cloud-1" / "metadata.tsv").read_text() == "id\tlabel\na\t0\nb\t1\n"
    assert np.array_equal(np.loadtxt(tmp_path / "cloud-1" / "tensors.tsv"), np.eye(2))
    assert 'tensor_name: "cloud:1"' in (tmp_path / "projector_config.pbtxt").read_text()


def test_trackers_get_scalars_pictures_and_texts_and_of_other_kinds_nothing(tmp_path):
    outbox = Outbox([], None, "valid")
    writer = TrackedWriter(Writer(SummaryWriter(str(tmp_path))), outbox)
    histogram = Histogram(np.ones(1), np.ones(1), low=0.0, high=1.0, total=0.5, total_of_squares=0.25)
    writer.histograms(lambda: {"mine": histogram}, 1)
    writer.pr_curves(lambda: {"pr/a": np.zeros((6, 5))}, 1)
    writer.summary(session_start({"lr": 0.1}))
    writer.image("picture", lambda: np.zeros((2, 2, 3), np.uint8), 1)
    writer.scalars({"a": 1.0}, 1)
    writer.text("note", "x", 1)
    writer.writer.drain()
    assert [(entry.kind, entry.tag) for entry in outbox._entries] == [
        ("picture", "picture"), ("scalar", "a"), ("text", "note")
    ]  # fmt: skip
    writer.close()


def test_a_warning_comes_after_what_was_queued_before_and_is_logged_as_it_is(caplog):
    sink, gate = ListSink(), threading.Event()
    writer = Writer(sink)
    writer.submit(lambda sink: gate.wait(WAIT_S))
    writer.warn("100% of 5 %s")
    assert caplog.messages == []
    gate.set()
    writer.close()
    assert caplog.messages == ["100% of 5 %s"]


def test_a_rank_that_does_not_write_warns_of_nothing(caplog):
    writer = Writer(None)
    writer.warn("twice")
    writer.close()
    assert caplog.messages == []


def test_nothing_goes_round_the_methods_of_the_writer():
    folder = Path(__file__).parents[3]
    own = {"writer.py", "tracked_writer.py"}
    found = [
        f"{path.relative_to(folder)}: {line.strip()}"
        for room in ("callbacks", "runner", "experiments")
        for path in sorted((folder / room).rglob("*.py"))
        if path.name not in own
        for line in path.read_text().splitlines()
        if re.search(r"submit\(", line) and "thread.submit(" not in line  # a ThreadPoolExecutor's
    ]
    assert not found
