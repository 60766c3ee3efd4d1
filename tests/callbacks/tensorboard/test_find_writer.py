import resource
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from catalyst import dl
from kit import fit
from torch import nn

from assay.callbacks import OptimizerMonitor
from assay.callbacks.errors import UsageError
from assay.callbacks.tensorboard.find_writer import find_writer
from assay.runner import MetricsCsv, TensorBoardLogger


def runner_with(is_main_process=True, **loggers):
    return SimpleNamespace(engine=SimpleNamespace(is_main_process=is_main_process), loggers=loggers)


def test_our_logger_gives_its_own_writer(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    runner = runner_with(csv=MetricsCsv(tmp_path / "metrics.csv"), tensorboard=logger)
    assert find_writer(runner, "valid", "Test") is logger.get_writer("valid")
    logger.close_log()


def test_the_stock_logger_gets_one_writer_a_loader_however_many_callbacks_ask(tmp_path):
    logger = dl.TensorboardLogger(str(tmp_path))
    runner = runner_with(console=dl.ConsoleLogger(), tb=logger)
    writer = find_writer(runner, "train", "One")
    assert find_writer(runner, "train", "Two") is writer
    assert find_writer(runner, "valid", "One") is not writer
    logger.close_log()


def test_what_goes_through_a_stock_logger_lands_in_the_folder_of_the_loader(tmp_path, read_events):
    logger = dl.TensorboardLogger(str(tmp_path))
    writer = find_writer(runner_with(tb=logger), "valid", "Test")
    for step in range(1, 21):
        writer.scalars({"loss": 0.5 * step}, step)
        writer.drain()  # tensorboardX's own flush leaves behind what its worker has not written yet
        found = [(event.step, event.value) for event in read_events(tmp_path / "valid").Scalars("loss")]
        assert found == [(i, 0.5 * i) for i in range(1, step + 1)]
    logger.close_log()
    writer.drain()


def test_two_stock_loggers_do_not_share_writers(tmp_path):
    loggers = [dl.TensorboardLogger(str(tmp_path / name)) for name in ("a", "b")]
    writers = [find_writer(runner_with(tb=logger), "train", "Test") for logger in loggers]
    assert writers[0] is not writers[1]
    for logger in loggers:
        logger.close_log()


def test_a_runner_without_tensorboard_is_an_error_that_lists_its_loggers(tmp_path):
    runner = runner_with(console=dl.ConsoleLogger(), csv=MetricsCsv(tmp_path / "metrics.csv"))
    with pytest.raises(UsageError) as caught:
        find_writer(runner, "train", "BestWorstBatches")
    message = str(caught.value)
    assert message.startswith("BestWorstBatches writes to TensorBoard, and the runner has no TensorBoard logger; it ")
    assert "it has 'console', 'csv'. Pass train() a logdir=..." in message


def test_a_runner_without_any_logger_is_told_that_it_has_nothing():
    with pytest.raises(UsageError, match="it has nothing"):
        find_writer(runner_with(), "train", "Test")


def test_a_process_that_is_not_the_main_one_drops_what_it_writes(tmp_path):
    logger = dl.TensorboardLogger(str(tmp_path))
    writer = find_writer(runner_with(is_main_process=False, tb=logger), "train", "Test")
    drawn = []
    writer.image("picture", lambda: drawn.append(1), 1)
    writer.drain()
    assert drawn == []
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_is_not_the_main_one_needs_no_logger():
    find_writer(runner_with(is_main_process=False), "train", "Test").scalars({"a": 1.0}, 1)
    assert find_writer(runner_with(is_main_process=False), "train", "Test")._sink is None


@contextmanager
def files_no_larger_than(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write(writer, count):
    for step in range(count):
        writer.text("words", "x" * 1000, step)


def by_the_next_call(logger, writer):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        write(writer, 1)


def by_the_stock_loggers_own_call(logger, writer):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        logger.loggers["train"].add_text("words", "x" * 1000, 1)


def by_the_end(logger, writer):
    write(writer, 50)
    writer.drain()


def by_the_close(logger, writer):
    write(writer, 50)
    writer.close()


@pytest.mark.parametrize("told", [by_the_next_call, by_the_stock_loggers_own_call, by_the_end, by_the_close])
def test_a_disk_that_takes_no_more_is_an_error_and_no_hang(tmp_path, told):
    logger = dl.TensorboardLogger(str(tmp_path))
    writer = find_writer(runner_with(tb=logger), "train", "Test")
    with files_no_larger_than(20_000):
        with pytest.raises(OSError, match=rf"File too large: '{tmp_path}/train'"):
            told(logger, writer)
        logger.close_log()
    assert all(file.stat().st_size <= 20_000 for file in (tmp_path / "train").iterdir())


class Talks(dl.Callback):
    def __init__(self):
        super().__init__(order=0)

    def on_batch_end(self, runner):
        writer = find_writer(runner, runner.loader_key, "Talks")
        writer.text("words", "x" * 1000, runner.batch_step)


def test_a_stock_run_on_a_full_disk_ends_with_the_error(tmp_path):
    model = nn.Linear(2, 2)
    runner = dl.SupervisedRunner(input_key="image", output_key="logits", target_key="target", loss_key="loss")
    items = [{"image": torch.ones(2), "target": 0}] * 400
    with files_no_larger_than(20_000), pytest.raises(OSError, match=rf"File too large: '{tmp_path}/train'"):
        fit(runner, model, {"train": items}, [Talks(), OptimizerMonitor()], batch=4, epochs=2, tensorboard=tmp_path)
