"""What a run says while it runs: a bar that reads the device seldom, and a line an epoch."""

import math
import sys

import pytest
from catalyst import dl

from assay.runner import Monitor, Progress
from assay.runner.loop import progress as module


class Clock:
    """Stands still until it is told."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Tick(dl.Callback):
    """Lets each batch take ``step_s``; keeps the losses, and what the bar shows after each batch."""

    def __init__(self, clock, step_s, progress):
        super().__init__(order=progress.order + 1)
        self.clock, self.step_s, self.progress = clock, step_s, progress
        self.losses, self.shown = [], []

    def on_batch_start(self, runner):
        self.clock.now += self.step_s

    def on_batch_end(self, runner):
        self.losses.append(float(runner.batch_metrics["loss"]))
        if self.progress.bar_ is not None:
            self.shown.append((self.progress.bar_.n, self.progress.bar_.postfix))


@pytest.fixture
def copies(monkeypatch):
    """Count what is copied from the device, and read of it."""
    counts = {"made": 0, "read": 0}

    class Counting(module.HostCopy):
        def __init__(self, tensor):
            counts["made"] += 1
            super().__init__(tensor)

        def read(self):
            counts["read"] += 1
            return super().read()

    monkeypatch.setattr(module, "HostCopy", Counting)
    return counts


def show(make_net, make_loader, train, *, step_s, batches=40, **options):
    clock = Clock()
    progress = Progress(clock=clock, **options)
    tick = Tick(clock, step_s, progress)
    train(make_net(), {"train": make_loader(batches, 1)}, callbacks=[progress, tick])
    return tick


def test_the_loss_is_read_no_more_often_than_refresh_s(make_net, make_loader, train, copies, capsys):
    # 40 batches of 0.1 s, refreshed once 0.25 s have passed: at every third batch
    tick = show(make_net, make_loader, train, step_s=0.1, refresh_s=0.25, show_bar=True)
    assert copies == {"made": 13, "read": 12}
    assert [number for number, _ in tick.shown] == [3 * (i // 3) for i in range(1, 41)]
    assert "epoch 1/1 train" in capsys.readouterr().err


def test_the_loss_that_the_bar_shows_is_that_of_the_refresh_before(make_net, make_loader, train, copies, capsys):
    tick = show(make_net, make_loader, train, step_s=0.1, refresh_s=0.25, show_bar=True, batches=9)
    refreshed = tick.losses[2], tick.losses[5]
    assert [text for _, text in tick.shown] == [None] * 5 + 3 * [f"loss={refreshed[0]:.4g}"] + [
        f"loss={refreshed[1]:.4g}"
    ]


def test_a_batch_slower_than_refresh_s_refreshes_each_time(make_net, make_loader, train, copies, capsys):
    tick = show(make_net, make_loader, train, step_s=1.0, refresh_s=0.25, show_bar=True, batches=5)
    assert copies == {"made": 5, "read": 4}
    assert [number for number, _ in tick.shown] == [1, 2, 3, 4, 5]


def test_while_the_clock_stands_still_nothing_is_read(make_net, make_loader, train, copies, capsys):
    show(make_net, make_loader, train, step_s=0.0, show_bar=True)
    assert copies == {"made": 0, "read": 0}


def test_without_a_terminal_there_are_plain_lines_and_no_bar(make_net, make_loader, train, copies, capsys):
    tick = show(make_net, make_loader, train, step_s=0.5, batches=4)
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.splitlines() == [
        "             train",
        "              loss     time",
        f"epoch 1/1  {sum(tick.losses) / 4:7.4f}    2.0 s",
    ]
    assert "\r" not in captured.out
    assert copies == {"made": 0, "read": 0}


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_bar_is_shown_where_stderr_is_a_terminal(monkeypatch, is_terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    assert Progress().show_bar is is_terminal
    assert Progress(show_bar=not is_terminal).show_bar is not is_terminal


def test_the_bar_is_closed_when_the_loader_ends_and_when_the_run_fails(make_net, make_loader, train, capsys):
    progress, bars = Progress(show_bar=True), []

    class Fail(dl.Callback):
        def on_batch_start(self, runner):
            bars.append(progress.bar_)
            if runner.epoch_step == 2:
                raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        train(make_net(), {"train": make_loader(4)}, epochs=2, callbacks=[progress, Fail(order=0)])
    assert len(bars) == 2
    assert all(bar.disable for bar in bars)  # what tqdm calls closed
    assert progress.bar_ is None


class Adds(dl.Callback):
    """Adds metrics at the end of a loader, as diagnostics do."""

    def __init__(self):
        super().__init__(order=dl.CallbackOrder.External)

    def on_loader_end(self, runner):
        runner.loader_metrics.update({"roc_auc": 0.5, "roc_auc_bound": 0.01})


@pytest.mark.parametrize(
    ("asked", "names"), [((), ["loss", "loss"]), (("valid/roc_auc",), ["loss", "loss", "roc_auc"])]
)
def test_a_line_holds_what_each_batch_has_and_what_is_asked_for(make_net, make_loader, train, asked, names, capsys):
    loaders = {"train": make_loader(4), "valid": make_loader(4)}
    train(make_net(), loaders, callbacks=[Adds(), Progress(metrics=asked)])
    above, below, line = capsys.readouterr().out.splitlines()
    assert above.split() == ["train", "valid"]
    assert below.split() == [*names, "time"]
    assert len(line.split()) == 2 + len(names) + 2  # "epoch 1/1", and a time with its unit


def test_the_best_epoch_so_far_is_marked(make_net, make_loader, train, capsys):
    class Score(dl.Callback):
        def on_loader_end(self, runner):
            runner.loader_metrics["score"] = [0.0, 0.5, 0.3, 0.5, 0.7, math.nan][runner.epoch_step]

    monitor = Monitor("train", "score", minimize=False)
    train(make_net(), {"train": make_loader(2)}, epochs=5, callbacks=[Score(order=0), Progress(monitor=monitor)])
    legend, _, names, *lines = capsys.readouterr().out.splitlines()
    assert legend == "* best epoch so far by train/score"
    assert names.split() == ["loss", "score", "time"]
    assert [line.endswith(" *") for line in lines] == [True, False, False, True, False]
    assert all("\033" not in line for line in lines)
