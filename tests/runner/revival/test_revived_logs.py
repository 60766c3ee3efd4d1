"""What stock loggers and timers write."""

import time

import pytest
from catalyst import dl
from stock_projects import make_loader, make_model, train_stock
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData


def read(folder):
    return EventAccumulator(str(folder)).Reload()


def log_hparams(folder, callbacks=()):
    train_stock(
        make_model(),
        {"train": make_loader()},
        logdir=folder,
        hparams={"lr": 0.1, "net": {"depth": 3}},
        callbacks=callbacks,
    )


def test_hyper_parameters_are_in_the_event_file(revived, tmp_path):
    revived(1, log_hparams, str(tmp_path))
    metadata = read(tmp_path / "tensorboard" / "_epoch_").SummaryMetadata("_hparams_/session_start_info")
    started = HParamsPluginData.FromString(metadata.plugin_data.content).session_start_info
    assert {name: value.number_value for name, value in started.hparams.items()} == {"lr": 0.1, "net.depth": 3}


class Breaks(dl.Callback):
    def on_epoch_start(self, runner):
        if runner.epoch_step == 3:
            raise ZeroDivisionError("own error")


def break_off(folder):
    loggers = {"tensorboard": dl.TensorboardLogger(folder, log_batch_metrics=True)}
    try:
        train_stock(make_model(), {"train": make_loader()}, epochs=4, loggers=loggers, callbacks=[Breaks(order=1)])
    except ZeroDivisionError as error:
        return str(error)


def test_what_was_logged_before_an_error_is_kept(revived, tmp_path):
    assert revived(1, break_off, str(tmp_path)) == ["own error"]
    assert [point.step for point in read(tmp_path / "train").Scalars("loss/epoch")] == [1, 2]


class SlowBackward(dl.Callback):
    def on_batch_end(self, runner):
        time.sleep(0.05)


def time_phases():
    metrics = []

    class Notes(dl.TimerCallback):
        def on_batch_end(self, runner):
            super().on_batch_end(runner)
            metrics.append(dict(runner.batch_metrics))

    callbacks = [Notes(), SlowBackward(order=dl.CallbackOrder.backward)]
    train_stock(make_model(), {"train": make_loader()}, callbacks=callbacks)
    return [(batch["_timer/data_time"], batch["_timer/model_time"]) for batch in metrics]


def test_the_backward_pass_is_no_time_of_the_data(revived):
    (times,) = revived(1, time_phases)
    assert sum(model for _, model in times) >= 0.05 * len(times)
    assert sorted(data for data, _ in times)[len(times) // 2] < 0.05


@pytest.mark.parametrize("ours", [True])
def test_hparams_of_ours_stay_the_only_row(revived, tmp_path, ours):
    revived(1, log_hparams_twice, str(tmp_path))
    folders = [path.name for path in (tmp_path / "tensorboard").iterdir() if _has_row(path)]
    assert folders == ["train"]


def log_hparams_twice(folder):
    from assay.callbacks import HParams

    log_hparams(folder, [HParams("train/loss")])


def _has_row(folder):
    accumulator = read(folder)
    return any(tag.startswith("_hparams_") for tag in accumulator.summary_metadata)
