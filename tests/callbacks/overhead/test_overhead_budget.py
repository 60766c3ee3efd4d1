"""The budget of the diagnostics: on clocks that stand still until they are told, and once on the real one."""

import logging
import math
import threading
import time
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from catalyst import dl
from host_reads import CountsSteps
from kit import Break, Keep, fit, scalars_of
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import (
    GradCAM,
    GradientStats,
    HParams,
    OptimizerMonitor,
    OverheadBudget,
    UsageError,
    classification_diagnostics,
)
from assay.callbacks.base.diagnostic import Diagnostic
from assay.callbacks.measures.phase_times import CudaTimer
from assay.callbacks.tensorboard.writer import Writer
from assay.callbacks.training.gradient_watch import GradientWatch
from assay.runner import Checkpoints, DictRunner

BATCH, TRAIN, VALID = 2, 20, 5  # batches
FORWARD, OBSERVATION = 100, 20  # ms
EPOCH = (TRAIN + VALID) * FORWARD


class Clock:
    """Stands still until it is told how much time passes, in ms; each thread has its own."""

    def __init__(self):
        self.of_thread = threading.local()

    def __call__(self):
        return getattr(self.of_thread, "ms", 0.0) / 1000

    def spend(self, ms):
        self.of_thread.ms = getattr(self.of_thread, "ms", 0.0) + ms


class Net(nn.Module):
    def __init__(self, clock, key=None):
        super().__init__()
        self.clock, self.key, self.layer = clock, key, nn.Linear(5, 3)

    def forward(self, image):
        self.clock.spend(FORWARD)
        logits = self.layer(image)
        return logits if self.key is None else {self.key: logits}


class Costly(Diagnostic):
    """Takes time where it is told to, in ms, and remembers the epochs of which it has drawn."""

    def __init__(self, clock, *, step=0, report=0, picture=0, text=0):
        super().__init__()
        self.clock, self.step, self.at_end, self.picture, self.text = clock, step, report, picture, text
        self.drawn = []

    def begin(self, runner):
        pass

    def observe(self, runner):
        self.clock.spend(self.step)

    def report(self, runner, writer):
        self.clock.spend(self.at_end)
        writer.text("words", self.say, runner.epoch_step)
        writer.image("picture", lambda: self.draw(runner.epoch_step), runner.epoch_step)

    def say(self):
        self.clock.spend(self.text)
        return "words"

    def draw(self, epoch):
        self.clock.spend(self.picture)
        self.drawn.append(epoch)
        return np.zeros((4, 4, 3), np.uint8)


class Drains(dl.Callback):
    """Has all pictures of an epoch drawn before it ends, so that what they took is known."""

    def __init__(self, *diagnostics):
        super().__init__(order=-1)
        self.diagnostics = diagnostics

    def on_epoch_end(self, runner):
        for writer in {id(writer): writer for one in self.diagnostics for writer in one.writers_.values()}.values():
            writer.drain()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(autouse=True)
def observed(monkeypatch, clock):
    """Let an observation of gradients take time of the clock; return the steps at which there were some."""
    observe, steps = GradientWatch._observe, []

    def slow(watch, optimizer):
        clock.spend(OBSERVATION)
        steps.append(watch.step)
        observe(watch, optimizer)

    monkeypatch.setattr(GradientWatch, "_observe", slow)
    return steps


def loader(batches):
    noise = torch.Generator().manual_seed(0)
    items = [{"image": torch.randn(5, generator=noise), "target": i % 3} for i in range(BATCH * batches)]
    return DataLoader(items, batch_size=BATCH)


def looking(stats):
    """Return a callback that keeps how often gradients are observed, at each step of training."""
    return Keep(lambda runner: stats.every_n_steps_, loader="train", order=1000)


def train(clock, callbacks, folder=None, epochs=2, stock=False, budget=0.05, loaders=None, **options):
    """Train with the callbacks and a budget on the clock; return the budget."""
    overhead = OverheadBudget(budget, clock=clock, thread_clock=clock)
    torch.manual_seed(0)
    runner, logs = DictRunner(), {"logdir": str(folder)}
    if stock:
        runner = dl.SupervisedRunner(input_key="image", output_key="logits", target_key="target", loss_key="loss")
        logs = {"loggers": {"tensorboard": dl.TensorboardLogger(str(folder))}}
    model = Net(clock, None if stock else "logits")
    named = {str(i): callback for i, callback in enumerate(callbacks)}
    fit(
        runner, model, loaders or {"train": loader(TRAIN), "valid": loader(VALID)}, {**named, "budget": overhead},
        epochs=epochs, **logs, **options,
    )  # fmt: skip
    return overhead


def scalars(read_events, folder, loader_key, stock=False):
    """Return {tag: {epoch: value}} of the overhead's scalars."""
    events = read_events(folder / loader_key)
    return scalars_of(events, "9_overhead/")


def approx(values):
    return pytest.approx(values, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("stock", [False, True], ids=["ours", "stock"])
def test_gradients_are_observed_as_often_as_the_budget_allows(clock, tmp_path, read_events, observed, caplog, stock):
    stats = GradientStats()
    looks = looking(stats)
    train(clock, [stats, looks], tmp_path, stock=stock, budget=0.06)
    # Behind 8 measured steps it is known that one observation takes a fifth of a step, and one step later it is used.
    assert looks.kept == [1] * 9 + [4] * (2 * TRAIN - 9)
    assert observed == [*range(1, 11), 13, 17, *range(1, 21, 4)]
    share = 5 * OBSERVATION / EPOCH
    run = scalars(read_events, tmp_path, "train", stock)
    assert run["9_overhead/share_of_all_loaders"][2] == approx(share)
    assert share <= 0.06
    assert run["9_overhead/every_n_steps/GradientStats"] == {1: 4, 2: 4}
    written = scalars(read_events, tmp_path, "train", stock)
    assert written["9_overhead/GradientStats"][2] == written["9_overhead/share"][2] == approx(5 * 20 / (TRAIN * 100))
    assert scalars(read_events, tmp_path, "valid", stock)["9_overhead/share"] == {1: 0.0, 2: 0.0}
    assert caplog.messages == [
        "max_overhead=0.06: the diagnostics took 20.0% of the loop's time in epoch 1 so far. From now on every 4 "
        "optimizer steps instead of each: GradientStats."
    ]


def test_the_first_step_which_is_slow_does_not_count(clock, tmp_path, read_events):
    class Slow(Net):
        def forward(self, image):
            clock.spend(0 if hasattr(self, "warm") else 10_000)
            self.warm = True
            return super().forward(image)

    train(clock, [GradientStats()], tmp_path, epochs=1, budget=1.0, loaders={"train": loader(TRAIN)})
    assert scalars(read_events, tmp_path, "train")["9_overhead/share"][1] == approx(OBSERVATION / FORWARD)


def test_an_interval_is_never_below_the_one_asked_for_and_comes_down_with_the_cost(clock, tmp_path, monkeypatch):
    costs = iter([100.0] * 6 + [1.0] * 1000)
    observe = GradientWatch._observe

    def cheaper(watch, optimizer):
        clock.spend(next(costs) - OBSERVATION)
        observe(watch, optimizer)

    monkeypatch.setattr(GradientWatch, "_observe", cheaper)
    stats = GradientStats(2)
    looks = looking(stats)
    train(clock, [stats, looks], tmp_path, epochs=4)
    assert max(looks.kept) >= 18
    assert looks.kept[-1] == 2


def test_the_costliest_are_thinned_to_one_level(clock, tmp_path, read_events, caplog):
    large, small = Costly(clock, picture=155), Costly(clock, picture=2.5)
    stats = GradientStats()
    train(clock, [large, small, stats, Drains(large, small)], tmp_path, epochs=9)
    # Without thinning: 16%, 12.4% and 0.2% of the loop's time. 5% has room for 2.4% of the larger two.
    level = (0.05 - 5 / EPOCH) / 2
    epochs, steps = math.ceil(310 / EPOCH / level), math.ceil(400 / EPOCH / level)
    assert (epochs, steps) == (6, 7)
    assert sorted(large.drawn) == sorted(2 * [1, 2, 7, 9])
    assert sorted(small.drawn) == sorted(2 * list(range(1, 10)))
    assert stats.every_n_steps_ == steps
    run = scalars(read_events, tmp_path, "train")
    assert run["9_overhead/every_n_epochs/Costly"] == dict.fromkeys(range(3, 10), 6)
    assert run["9_overhead/every_n_epochs/Costly-2"] == dict.fromkeys(range(3, 10), 1)
    assert run["9_overhead/share_of_all_loaders"][5] <= 0.05 < run["9_overhead/share_of_all_loaders"][2]
    assert len(caplog.messages) == 2
    assert caplog.messages[1].endswith("From now on every 6 epochs instead of each: pictures of Costly.")
    words = read_events(tmp_path / "valid").Tensors("words/text_summary")
    assert [event.step for event in words] == sorted(2 * list(range(1, 10)))  # of both


def test_pictures_that_are_drawn_late_count_for_the_epoch_that_they_are_of(clock, tmp_path, read_events):
    class Late(dl.Callback):
        """Holds the thread of the writer up until the epoch has ended."""

        def on_loader_end(self, runner):
            self.go = threading.Event()
            painter.writers_["train"].writer.submit(lambda _: self.go.wait(60))

        def on_epoch_end(self, runner):
            self.go.set()
            painter.writers_["train"].drain()

    painter = Costly(clock, picture=300, text=7)
    overhead = train(clock, [painter, Late(order=50)], tmp_path, epochs=8, loaders={"train": loader(TRAIN + VALID)})
    assert overhead.plan_.pictures["Costly"].cost == approx(300 / EPOCH)
    assert scalars(read_events, tmp_path, "train")["9_overhead/Costly"][6] == approx(7 / EPOCH)
    assert painter.drawn == [1, 2, 3, 4, 7, 8]  # what epoch 2 took is known behind epoch 3; then each third one


def test_what_cannot_be_thinned_and_is_too_much_is_said_once(clock, tmp_path, caplog):
    slow, words, painter = Costly(clock, step=4), Costly(clock, report=50, text=25), Costly(clock, picture=20)
    stats = GradientStats()
    train(clock, [slow, words, painter, stats, Drains(slow, words, painter)], tmp_path, epochs=6)
    said = [message for message in caplog.messages if "cannot be kept" in message]
    assert said == [
        "max_overhead=0.05 cannot be kept: what cannot be done less often took 10.0% of the loop's time in epoch 2, "
        "most of it Costly-2 6.0%, Costly 4.0%, Costly-3 0.0%; leave these out (an experiment's --diagnostics light "
        "leaves out many), or raise max_overhead."
    ]
    assert sorted(painter.drawn) == [1, 1, 2, 2, 6, 6]
    assert stats.every_n_steps_ == TRAIN
    assert len(caplog.messages) == 3


def test_every_diagnostic_is_found_but_what_a_run_has_without_any(clock, tmp_path, read_events):
    wrapped = dl.ControlFlowCallbackWrapper(Costly(clock, step=10), loaders="valid")
    train(clock, [wrapped, HParams("valid/loss", True)], tmp_path, budget=1.0, hparams={"lr": 0.1})
    values = scalars(read_events, tmp_path, "valid")
    assert values.keys() == {"9_overhead/Costly", "9_overhead/share"}
    assert values["9_overhead/Costly"] == approx({1: 0.1, 2: 0.1})


class Uncounted(Costly):
    counts_as_overhead = False


def test_a_diagnostic_that_does_not_count_as_overhead_belongs_to_the_loop(clock, tmp_path, read_events):
    train(clock, [Costly(clock, step=10), Uncounted(clock, step=100)], tmp_path, budget=1.0)
    values = scalars(read_events, tmp_path, "valid")
    assert values.keys() == {"9_overhead/Costly", "9_overhead/share"}
    assert values["9_overhead/Costly"] == approx({1: 0.05, 2: 0.05})


class Images(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(4, 3)

    def forward(self, image):
        return {"logits": self.head(self.body(image))}


def all_diagnostics_under(max_overhead, folder, epochs):
    """Train a classifier with all its diagnostics; return these and the optimizer."""
    *callbacks, budget = classification_diagnostics(num_classes=3, k_samples=2, max_overhead=max_overhead)
    noise = torch.Generator().manual_seed(0)
    items = [{"image": torch.rand(3, 8, 8, generator=noise), "target": i % 3} for i in range(40)]
    model = Images()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    fit(
        DictRunner(), model, items, [*callbacks, Drains(*callbacks[1:]), budget], batch=2, optimizer=optimizer,
        epochs=epochs, logdir=str(folder),
    )  # fmt: skip
    return callbacks, optimizer


def test_all_diagnostics_of_a_task_run_under_a_budget_and_leave_no_trace(tmp_path, read_events):
    callbacks, optimizer = all_diagnostics_under(1e-6, tmp_path, epochs=5)
    events = read_events(tmp_path / "valid")
    for tag in (
        "9_batches/worst/loss",
        "6_samples/best/loss",
        "2_confusion_matrix",
        "5_predictions/roc",
        "5_predictions/distribution",
    ):
        assert [event.step for event in events.Images(tag)] == [1, 2, 5], tag
    for tag in (
        "1_overview/report/text_summary",
        "2_confusion_matrix/most_confused/text_summary",
        "5_predictions/precision_recall/0",
    ):
        assert [event.step for event in events.Tensors(tag)] == [1, 2, 3, 4, 5], tag
    assert len(events.Scalars("1_overview/metrics/accuracy")) == len(events.Scalars("9_overhead/share")) == 5
    assert all(callback.meter_ is None for callback in callbacks if isinstance(callback, Diagnostic))
    assert not optimizer._optimizer_step_post_hooks


def test_grad_cam_passes_through_the_model_only_in_epochs_that_are_drawn(tmp_path, monkeypatch, read_events):
    passes, maps = [], GradCAM._maps
    spied = lambda cam, runner, *rest: (passes.append(runner.epoch_step), maps(cam, runner, *rest))[1]  # noqa: E731
    monkeypatch.setattr(GradCAM, "_maps", spied)
    all_diagnostics_under(1e-6, tmp_path, epochs=5)
    assert passes == [1, 1, 2, 2, 5, 5]
    events = read_events(tmp_path / "valid")
    assert [event.step for event in events.Images("7_grad_cam/worst/loss")] == [1, 2, 5]


def test_the_norm_of_the_optimizer_monitor_counts(clock, tmp_path, monkeypatch, read_events):
    monkeypatch.setattr(
        "assay.callbacks.training.optimizer_monitor.total_norm", lambda _: (clock.spend(10), torch.zeros(()))[1]
    )
    train(clock, [OptimizerMonitor()], tmp_path, budget=1.0, loaders={"train": loader(TRAIN)})
    assert scalars(read_events, tmp_path, "train")["9_overhead/OptimizerMonitor"][2] == approx(0.1)


def test_hooks_and_meters_are_gone_when_a_run_fails(clock, tmp_path):
    stats = GradientStats()
    with pytest.raises(ZeroDivisionError):
        train(clock, [stats, Break(epoch=1, batch=12, order=1000)], tmp_path)
    assert stats.meter_ is None


def test_without_a_budget_nothing_is_measured(tmp_path, monkeypatch, read_events):
    def measured(*_):
        raise AssertionError("time is taken")

    monkeypatch.setattr("assay.callbacks.base.meter.Meter.time", measured)
    monkeypatch.setattr("assay.callbacks.measures.overhead_budget.Laps.begin", measured)
    stats, writers = GradientStats(), []
    looks = looking(stats)
    looks.on_loader_end = lambda runner: writers.append(type(stats.writers_[runner.loader_key]))
    model = Net(Clock(), "logits")
    fit(DictRunner(), model, {"train": loader(4)}, [stats, looks], logdir=str(tmp_path))
    assert writers == [Writer]
    assert isinstance(stats.timed(), nullcontext)
    assert not scalars(read_events, tmp_path, "train")


def test_on_a_gpu_the_time_is_that_of_its_queue_and_drawing_takes_none_of_it(clock):
    painter, overhead = Costly(clock), OverheadBudget(clock=clock)
    engine = SimpleNamespace(device=torch.device("cuda"), is_main_process=False)
    run = {"loaders": {"train": []}, "loggers": {}, "optimizer": None, "num_epochs": 1}
    overhead.on_experiment_start(SimpleNamespace(engine=engine, callbacks={"a": painter, "b": overhead}, **run))
    assert isinstance(overhead.laps_.timer, CudaTimer)
    assert painter.meter_.laps is overhead.laps_
    assert painter.meter_.thread_clock is None


def test_a_run_without_an_optimizer_has_no_time_taken(clock, tmp_path):
    overhead = OverheadBudget(clock=clock, thread_clock=clock)
    runner = DictRunner()
    fit(runner, Net(clock, "logits"), {"valid": loader(4)}, [overhead], optimizer=None, logdir=str(tmp_path))
    assert not overhead.laps_.total_ms


def test_a_resumed_run_goes_on_with_the_same_intervals(clock, tmp_path, caplog):
    first, second = [Costly(clock, picture=150), GradientStats()], [Costly(clock, picture=150), GradientStats()]
    overhead = train(clock, [*first, Drains(first[0])], tmp_path, epochs=3, budget=0.1)
    before = overhead.state_dict()
    said = len(caplog.messages)
    looks = looking(second[1])
    train(clock, [*second, Drains(second[0]), looks], tmp_path, epochs=6, budget=0.1, resume=str(tmp_path))
    assert before["steps"]["GradientStats"][0] == looks.kept[0] > 1
    assert before["pictures"]["Costly"][0] == 3
    assert second[0].drawn == [4, 4, 6, 6]
    assert len(caplog.messages) == said


def test_a_run_resumed_within_an_epoch_goes_on_with_the_same_intervals(clock, tmp_path, observed):
    def callbacks(*others):
        stats = GradientStats()
        return [stats, looking(stats), Checkpoints(tmp_path / "checkpoints", every_n_steps=1), *others]

    with pytest.raises(ZeroDivisionError):
        train(clock, callbacks(Break(epoch=1, batch=14, order=1000)), tmp_path)
    before = len(observed)
    resumed = callbacks()
    train(clock, resumed, tmp_path, resume=str(tmp_path))
    assert resumed[1].kept[0] == 4
    assert observed[before : before + 2] == [17, 1]


def test_a_diagnostic_that_came_or_went_before_a_run_was_resumed_does_not_matter(clock, tmp_path):
    overhead = train(clock, [GradientStats(), Costly(clock)], tmp_path, epochs=2)
    state = overhead.state_dict()
    state["steps"]["Gone"], state["pictures"]["Gone"] = [7, 0.5], [7, 0.5]
    del state["pictures"]["Costly"]
    overhead.load_state_dict(state)
    assert overhead.state_dict()["pictures"]["Costly"] == [1, 0.0]
    assert "Gone" not in overhead.state_dict()["steps"]


def on_rank(rank, folder):
    """Train on one rank, where an observation takes longer on rank 1; return the intervals and the pictures drawn."""
    clock, observe = Clock(), GradientWatch._observe

    def slow(watch, optimizer):
        clock.spend(OBSERVATION * (1 + rank))
        observe(watch, optimizer)

    GradientWatch._observe = slow
    try:
        stats, painter = GradientStats(), Costly(clock, picture=300)
        looks = looking(stats)
        train(clock, [stats, painter, looks, Drains(painter)], folder, epochs=4, loaders={"train": loader(2 * 12)})
    finally:
        GradientWatch._observe = observe
    return looks.kept, painter.draws, painter.drawn


def test_all_ranks_decide_alike(ranks, tmp_path, read_events):
    size = ranks.size
    answers = ranks.run(on_rank, str(tmp_path))
    seen, _, drawn = answers[0]
    assert all(answer[0] == seen for answer in answers)
    assert len(seen) == 4 * 24 // size
    assert seen[:10] == [1] * 9 + [{1: 4, 2: 8}[size]]
    assert seen[-1] > seen[9]
    assert drawn == [1, 2, 4]
    assert all(answer[2] == [] for answer in answers[1:])
    assert scalars(read_events, tmp_path, "train")["9_overhead/share"][1] > 0


class Counting(CountsSteps, DictRunner):
    pass


def test_a_budget_adds_no_read_by_the_host_to_any_step(tmp_path):
    def count(callbacks, folder):
        model, runner = Net(Clock(), "logits"), Counting()
        fit(runner, model, {"train": loader(TRAIN)}, callbacks, epochs=2, logdir=str(folder))
        return runner.steps

    with_budget = count([GradientStats(), OverheadBudget(0.01)], tmp_path / "on")  # which decides twice in epoch 1
    assert len(with_budget) == 2 * TRAIN
    assert with_budget == count([], tmp_path / "off")


class Sleeps(Costly):
    """Sleeps at each step, on the real clock."""

    def observe(self, runner):
        time.sleep(0.002)


@pytest.mark.parametrize("stock", [False, True], ids=["ours", "stock"])
def test_on_the_real_clock_slow_diagnostics_are_thinned(tmp_path, monkeypatch, read_events, caplog, stock):
    monkeypatch.setattr(GradientWatch, "_observe", lambda *_: time.sleep(0.05))
    monkeypatch.setattr(Net, "forward", lambda net, image: (time.sleep(0.01), forward(net, image))[1])
    stats, still = GradientStats(), Clock()
    overhead = OverheadBudget(0.5)
    monkeypatch.setattr("test_overhead_budget.OverheadBudget", lambda *_, **__: overhead)
    train(still, [stats, Sleeps(still)], tmp_path, epochs=3, stock=stock)
    run = scalars(read_events, tmp_path, "train", stock)
    assert stats.every_n_steps_ > 1
    assert run["9_overhead/share_of_all_loaders"][3] < 1.0  # 5 and more without thinning, and the machine may be busy
    assert "From now on every" in caplog.text
    assert scalars(read_events, tmp_path, "valid", stock)["9_overhead/Sleeps"][3] > 0.05


forward = Net.forward


@pytest.mark.parametrize("value", [0, -0.1, float("nan"), float("inf"), 1.5, "abc", True, None])
def test_a_budget_that_is_no_share_is_refused(value):
    with pytest.raises(UsageError, match=r"max_overhead must be greater than 0 and at most 1 \(0.05 is 5%\), got"):
        OverheadBudget(value)


@pytest.mark.parametrize("name", ["clock", "thread_clock"])
def test_a_clock_that_cannot_be_called_is_refused(name):
    with pytest.raises(UsageError, match=f"^{name} must be a function that returns seconds, got 3"):
        OverheadBudget(**{name: 3})


def test_two_budgets_in_a_run_are_refused(clock, tmp_path):
    with pytest.raises(UsageError, match="OverheadBudget stands twice in the run: give one max_overhead"):
        train(clock, [OverheadBudget()], tmp_path)


def test_messages_are_of_the_logger_assay(clock, tmp_path, caplog):
    train(clock, [GradientStats()], tmp_path, epochs=1)
    assert {(record.name, record.levelno) for record in caplog.records} == {("assay", logging.WARNING)}
