"""TensorBoard and metrics.csv, read back as their readers read them."""

import time

import numpy as np
import pytest
import torch
from catalyst import dl
from kit import read_events, scalars_of
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from assay.runner import DictRunner, MetricsCsv, TensorBoardLogger, UsageError
from assay.runner.saving.loggers import read_metrics


class Record(dl.Callback):
    """Keeps the loss of each batch by samples seen, and adds a metric that is a plain number."""

    def __init__(self):
        super().__init__(order=dl.CallbackOrder.Metric)
        self.losses = {}

    def on_batch_end(self, runner):
        runner.batch_metrics["step"] = runner.loader_batch_step
        self.losses[runner.sample_step] = float(runner.batch_metrics["loss"])


# -- TensorBoard ------------------------------------------------------------------------------------------------------


def test_metrics_of_epochs_and_batches_are_written_by_epoch_and_by_samples_seen(make_net, make_loader, train, tmp_path):
    logger, record = TensorBoardLogger(tmp_path, log_every_steps=2), Record()
    loaders, callbacks = {"train": make_loader()}, [record]
    runner = train(make_net(), loaders, epochs=2, loggers={"tensorboard": logger}, callbacks=callbacks)
    events = read_events(tmp_path / "train")
    assert set(events.Tags()["scalars"]) == {"1_overview/loss", "9_by_samples_seen/loss", "9_by_samples_seen/step"}
    assert scalars_of(events)["1_overview/loss"] == pytest.approx(
        {epoch: runner.history[epoch]["train"]["loss"] for epoch in (1, 2)}, rel=1e-6
    )
    # every second of 6 batches; the last one of an epoch holds one sample
    seen = [8, 16, 21, 29, 37, 42]
    assert scalars_of(events)["9_by_samples_seen/loss"] == pytest.approx(
        {step: record.losses[step] for step in seen}, rel=1e-6
    )
    assert scalars_of(events)["9_by_samples_seen/step"] == dict(zip(seen, [2, 4, 6, 2, 4, 6], strict=True))


def test_each_loader_has_an_event_folder_of_its_own(make_net, make_loader, train, tmp_path):
    loaders = {"train": make_loader(4), "valid": make_loader(8, seed=1)}
    runner = train(make_net(), loaders, loggers={"tensorboard": TensorBoardLogger(tmp_path)})
    for key in loaders:
        loss = scalars_of(read_events(tmp_path / key))["1_overview/loss"]
        assert loss == pytest.approx({1: runner.history[1][key]["loss"]}, rel=1e-6)


def test_hyper_parameters_are_text_and_hparams_of_the_run(make_net, make_loader, train, tmp_path):
    hparams = {
        "lr": 0.1,
        "epochs": 3,
        "optimizer": "SGD",
        "nesterov": True,
        "monitor": ["valid/loss:min"],
        "none": None,
    }
    train(make_net(), {"train": make_loader(4)}, loggers={"it": TensorBoardLogger(tmp_path)}, hparams=hparams)
    events = read_events(tmp_path / "train")
    (text,) = events.Tensors("9_config/text_summary")
    assert text.step == 0
    assert text.tensor_proto.string_val[0].decode() == (
        "```yaml\nlr: 0.1\nepochs: 3\noptimizer: SGD\nnesterov: true\nmonitor:\n- valid/loss:min\nnone: null\n```"
    )
    content = events.summary_metadata[metadata.SESSION_START_INFO_TAG].plugin_data.content
    plain = HParamsPluginData.FromString(content).session_start_info.hparams
    assert {name: getattr(value, value.WhichOneof("kind")) for name, value in plain.items()} == {
        "lr": 0.1,
        "epochs": 3,
        "optimizer": "SGD",
        "nesterov": True,
        "monitor": "valid/loss:min",
        "none": "None",
    }
    assert metadata.SESSION_END_INFO_TAG not in events.summary_metadata  # how it ends is not known at the start


def test_without_hyper_parameters_there_is_no_run_folder(make_net, make_loader, train, tmp_path):
    train(make_net(), {"train": make_loader(4)}, loggers={"tensorboard": TensorBoardLogger(tmp_path)})
    assert [path.name for path in tmp_path.iterdir()] == ["train"]


def test_zero_log_every_steps_writes_no_batch_metrics(make_net, make_loader, train, tmp_path):
    train(make_net(), {"train": make_loader()}, loggers={"it": TensorBoardLogger(tmp_path, log_every_steps=0)})
    assert read_events(tmp_path / "train").Tags()["scalars"] == ["1_overview/loss"]


def test_log_every_steps_of_the_runner_reaches_the_logger_that_logdir_makes(make_net, make_loader, train, tmp_path):
    train(make_net(), {"train": make_loader()}, runner=DictRunner(log_every_steps=3), logdir=str(tmp_path))
    assert list(scalars_of(read_events(tmp_path / "train"))["9_by_samples_seen/loss"]) == [12, 21]


def test_catalysts_own_log_image_writes_into_the_loaders_folder(make_net, make_loader, train, tmp_path):
    picture = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)

    class Draw(dl.Callback):
        def on_loader_end(self, runner):
            runner.log_image("drawn", picture)

    callbacks, loggers = [Draw(order=0)], {"tensorboard": TensorBoardLogger(tmp_path)}
    train(make_net(), {"train": make_loader(4)}, callbacks=callbacks, loggers=loggers)
    (image,) = read_events(tmp_path / "train").Images("drawn")
    assert (image.step, image.height, image.width) == (1, 4, 5)


def test_the_writer_of_a_loader_is_made_once_and_is_what_catalyst_calls_the_logger(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    writer = logger.get_writer("train")
    assert logger.get_writer("train") is writer
    assert logger.logger == {"train": writer}
    logger.close_log()


def test_flushing_puts_everything_into_the_file_soon_though_it_stays_open(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.get_writer("train").scalars({"a": 1.0}, 3)
    logger.flush_log()
    deadline = time.monotonic() + 10
    while not (tags := read_events(tmp_path / "train").Tags()["scalars"]) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert tags == ["a"]
    assert scalars_of(read_events(tmp_path / "train"))["a"] == {3: 1.0}
    logger.close_log()


def test_a_negative_log_every_steps_is_refused(tmp_path):
    with pytest.raises(UsageError, match="log_every_steps must be at least 0, got -1"):
        TensorBoardLogger(tmp_path, log_every_steps=-1)


# -- metrics.csv ------------------------------------------------------------------------------------------------------


def test_metrics_csv_has_a_row_for_each_epoch_loader_and_metric(make_net, make_loader, train, tmp_path):
    path = tmp_path / "new folder" / "metrics.csv"
    loaders = {"train": make_loader(4), "valid": make_loader(8, seed=1)}
    runner = train(make_net(), loaders, epochs=2, loggers={"csv": MetricsCsv(path)})
    expected = [
        f"{epoch},{loader},loss,{runner.history[epoch][loader]['loss']!r}"
        for epoch in (1, 2)
        for loader in ("train", "valid")
    ]
    assert path.read_text() == "\n".join(["epoch,loader,metric,value", *expected]) + "\n"


def test_metrics_are_read_back_as_they_were(make_net, make_loader, train, tmp_path):
    path = tmp_path / "metrics.csv"
    runner = train(make_net(), {"train": make_loader()}, epochs=2, loggers={"csv": MetricsCsv(path)})
    assert read_metrics(path) == {(epoch, "train", "loss"): runner.history[epoch]["train"]["loss"] for epoch in (1, 2)}


def test_values_that_are_not_finite_survive(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,loader,metric,value\n1,train,loss,nan\n2,train,loss,inf\n")
    values = read_metrics(path)
    assert np.isnan(values[1, "train", "loss"])
    assert values[2, "train", "loss"] == float("inf")


def test_metrics_of_batches_and_epochs_are_no_rows(tmp_path):
    logger = MetricsCsv(tmp_path / "metrics.csv")
    for scope in ("batch", "epoch"):
        logger.log_metrics({"loss": torch.tensor(1.0)}, scope, runner=None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rest", ["", "2,train,loss,0.25\n", "2", "2,tra"])
def test_resuming_cuts_the_rows_of_later_epochs_and_one_that_a_crash_left_unfinished(tmp_path, rest):
    path = tmp_path / "metrics.csv"
    whole = "epoch,loader,metric,value\n1,train,loss,0.5\n"
    path.write_text(whole)
    logger = MetricsCsv(path)
    state = logger.state_dict()
    path.write_text(whole + rest)
    logger.load_state_dict(state)
    assert path.read_text() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_resuming_without_a_file_makes_none(tmp_path):
    MetricsCsv(tmp_path / "metrics.csv").load_state_dict({"metrics.csv": 30})
    assert list(tmp_path.iterdir()) == []


# -- metrics.csv after a resume ---------------------------------------------------------------------------------------

KNOWN = {(1, "train"): {"loss": 0.5}, (1, "valid"): {"loss": 0.25, "a,b": 1.0}, (2, "train"): {"loss": 0.1}}
LINES = ["epoch,loader,metric,value\n", "1,train,loss,0.5\n", "1,valid,loss,0.25\n", '1,valid,"a,b",1.0\n']
LINES += ["2,train,loss,0.1\n"]
LATER = ["2,valid,loss,0.3\n", "3,train,loss,0.2\n"]


@pytest.mark.parametrize(
    ("content", "expected", "warning"),
    [
        (LINES, LINES, None),
        (LINES + LATER, LINES, None),
        ([LINES[0], LINES[1], LINES[4], *LATER], [LINES[0], LINES[1], LINES[4]], "was edited"),
        ([*LINES[:-1], "2,train,loss,0.123456\n", *LATER], [*LINES[:-1], "2,train,loss,0.123456\n"], "was edited"),
        ([*LINES[:-1], "2,train,lo"], LINES[:-1], "was edited"),
        (["mine\n", "\n", *LINES[1:], "2,train\n"], LINES, "was edited"),
        ([], LINES[:1], "was edited"),
        (None, LINES, "is missing: it is written again"),
    ],
)
def test_the_file_is_cut_at_the_end_of_a_line_whatever_became_of_it(tmp_path, caplog, content, expected, warning):
    path = tmp_path / "metrics.csv"
    if content is not None:
        path.write_text("".join(content))
    MetricsCsv(path).load_history(KNOWN, {"metrics.csv": len("".join(LINES))})
    assert path.read_text() == "".join(expected)
    assert [warning in message for message in caplog.messages] == ([] if warning is None else [True])
    assert all(str(path) in message for message in caplog.messages)


def test_a_checkpoint_without_the_file_leaves_it_out(tmp_path):
    MetricsCsv(tmp_path / "metrics.csv").load_history(KNOWN, {})
    assert list(tmp_path.iterdir()) == []
