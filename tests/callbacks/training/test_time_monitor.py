import resource
import sys

import pytest
import torch
from catalyst import dl
from kit import Clock, fit, scalars_of
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks.errors import UsageError
from assay.callbacks.measures.phase_times import PHASES, CudaTimer, HostTimer, PhaseTimes, summarize
from assay.callbacks.support.distributed import reduce_state
from assay.callbacks.training.time_monitor import TimeMonitor, _peak_mib
from assay.runner import DictRunner

SAMPLES, BATCH = 20, 4
# What each part of a step takes, in ms; sums of some of them are no sums of others.
DATA, FORWARD, LOSS, BACKWARD, STEP, START, DRAW, LATE = 100, 3, 1, 5, 20, 40, 700, 1000


class Net(nn.Module):
    def __init__(self, clock, key=None, fail_at=None):
        super().__init__()
        self.clock, self.key, self.fail_at, self.passes = clock, key, fail_at, 0
        self.layer = nn.Linear(5, 3)
        self.layer.bias.register_hook(lambda gradient: clock.spend(BACKWARD))

    def forward(self, image):
        self.clock.spend(FORWARD)
        self.passes += 1
        if self.passes == self.fail_at:
            raise ZeroDivisionError("the run's own error")
        logits = self.layer(image)
        return logits if self.key is None else {self.key: logits}


class Loss(nn.CrossEntropyLoss):
    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def forward(self, logits, target):
        self.clock.spend(LOSS)
        return super().forward(logits, target)


class Descent(torch.optim.Optimizer):
    def __init__(self, clock, parameters):
        super().__init__(parameters, {"lr": 0.1, "momentum": 0.0})  # stock runners log both
        self.clock = clock

    @torch.no_grad()
    def step(self, closure=None):
        self.clock.spend(STEP)


class Spend(dl.Callback):
    """Takes time at an event, and calls the model there as well if told to."""

    def __init__(self, clock, event, ms, order, calls=None):
        super().__init__(order=order)
        setattr(self, event, lambda runner: (clock.spend(ms), calls and calls(runner)))


class Kit:
    """One runner, and all that takes time in it."""

    def __init__(self, folder, stock=False, **options):
        self.clock = Clock(50.0)
        self.folder = folder
        self.stock, self.logdir = stock, folder
        self.model = Net(self.clock, None if stock else "logits", options.pop("fail_at", None))
        self.optimizer = Descent(self.clock, self.model.parameters())
        self.loss = Loss(self.clock)
        self.runner = DictRunner(**options)
        if stock:
            names = {"input_key": "image", "output_key": "logits", "target_key": "target", "loss_key": "loss"}
            self.runner = dl.SupervisedRunner(**names)
        self.first = 60 if stock else 0
        self.callbacks = {
            "start": Spend(self.clock, "on_batch_start", START, 5),
            "draw": Spend(self.clock, "on_batch_end", DRAW, self.first),
            "late": Spend(self.clock, "on_batch_end", LATE, 10_000),
            "loader_start": Spend(self.clock, "on_loader_start", 7000, 10_000),
            "loader_end": Spend(self.clock, "on_loader_end", 9000, 0),
            "time": TimeMonitor(clock=self.clock),
        }

    def loader(self):
        noise = torch.Generator().manual_seed(0)
        items = [{"image": torch.randn(5, generator=noise), "target": i % 3} for i in range(SAMPLES)]
        return DataLoader(items, batch_size=BATCH, collate_fn=self.collate)

    def collate(self, items):
        self.clock.spend(DATA)
        return torch.utils.data.default_collate(items)

    def train(self, epochs=1, loaders=("train", "valid")):
        logs = {"logdir": str(self.logdir)}
        if self.stock:
            logs = {"loggers": {"tensorboard": dl.TensorboardLogger(str(self.folder))}}
        fit(
            self.runner, self.model, {key: self.loader() for key in loaders}, self.callbacks,
            optimizer=self.optimizer, criterion=self.loss, epochs=epochs, **logs,
        )  # fmt: skip

    def hooks(self):
        kinds = (self.model._forward_hooks, self.model._forward_pre_hooks)
        return [*kinds, self.optimizer._optimizer_step_pre_hooks, self.optimizer._optimizer_step_post_hooks]


@pytest.fixture(params=[False, True], ids=["ours", "stock"])
def stock(request):
    return request.param


def written(read_events, folder, loader):
    return scalars_of(read_events(folder / loader), "9_time/", "9_memory/")


def approx(**values):
    return {f"9_time/{name}": pytest.approx(value, rel=1e-5) for name, value in values.items()}


TRAIN = {
    "data": DATA, "forward": FORWARD, "backward": LOSS + BACKWARD, "optimizer": STEP, "diagnostics": DRAW + LATE,
    "samples_per_s": 1000 * BATCH / (DATA + START + FORWARD + LOSS + BACKWARD + STEP + DRAW + LATE),
}  # fmt: skip
VALID = {
    "data": DATA, "forward": FORWARD, "diagnostics": DRAW + LATE,
    "samples_per_s": 1000 * BATCH / (DATA + START + FORWARD + LOSS + DRAW + LATE),
}  # fmt: skip


def test_each_part_of_a_step_has_its_own_time(tmp_path, read_events, stock):
    kit = Kit(tmp_path, stock)
    kit.train(epochs=2)
    for loader, expected in (("train", TRAIN), ("valid", VALID)):
        seen = written(read_events, kit.folder, loader)
        assert all(seen[tag].keys() == {1, 2} for tag in seen)
        assert seen.pop("9_memory/peak_mib")[1] > 1
        for step in (1, 2):
            assert {tag: values[step] for tag, values in seen.items()} == approx(**expected)


def test_steps_of_an_accumulation_share_the_time_of_the_optimizer(tmp_path, read_events):
    kit = Kit(tmp_path, accumulate_steps=2)
    kit.train(loaders=["train"])
    seen = {tag: by_step[1] for tag, by_step in written(read_events, kit.folder, "train").items()}
    assert seen["9_time/optimizer"] == pytest.approx(STEP * 3 / 5, rel=1e-5)
    assert seen["9_time/backward"] == pytest.approx(LOSS + BACKWARD, rel=1e-5)
    assert seen["9_time/diagnostics"] == pytest.approx(DRAW + LATE, rel=1e-5)


def test_a_diagnostic_that_calls_the_model_counts_as_diagnostic(tmp_path, read_events, stock):
    kit = Kit(tmp_path, stock)
    image = torch.zeros(1, 5)
    call = Spend(kit.clock, "on_batch_end", 0, kit.first, lambda runner: runner.model(image))
    kit.callbacks = {**kit.callbacks, "call": call}
    kit.train()
    seen = written(read_events, kit.folder, "train")
    assert seen["9_time/forward"][1] == pytest.approx(FORWARD, rel=1e-5)
    assert seen["9_time/diagnostics"][1] == pytest.approx(DRAW + LATE + FORWARD, rel=1e-5)


def test_several_models_and_optimizers_add_up(tmp_path, read_events):
    kit = Kit(tmp_path, input_key={"one": "image", "two": "image"})
    kit.model = {"one": kit.model, "two": Net(kit.clock, "side")}
    kit.optimizer = {name: Descent(kit.clock, kit.model[name].parameters()) for name in kit.model}
    kit.train(loaders=["train"])
    seen = {tag: by_step[1] for tag, by_step in written(read_events, kit.folder, "train").items()}
    assert seen["9_time/forward"] == pytest.approx(2 * FORWARD, rel=1e-5)
    assert seen["9_time/optimizer"] == pytest.approx(2 * STEP, rel=1e-5)
    assert seen["9_time/backward"] == pytest.approx(LOSS + BACKWARD, rel=1e-5)


def test_hooks_and_marks_are_there_in_a_run_and_gone_behind_it(tmp_path, stock):
    kit, seen = Kit(tmp_path, stock), []
    kit.callbacks["look"] = Spend(
        kit.clock, "on_loader_end", 0, 1, lambda runner: seen.append([len(hooks) for hooks in kit.hooks()])
    )
    kit.train()
    assert seen == [[1, 1, 1, 1]] * 2
    assert not any(kit.hooks())
    assert not [name for name in kit.runner.callbacks if name.startswith("TimeMonitor")]
    assert kit.callbacks.keys() <= kit.runner.callbacks.keys()


def test_hooks_and_marks_are_gone_when_a_run_fails(tmp_path, read_events, stock):
    kit = Kit(tmp_path, stock, fail_at=12)
    with pytest.raises(ZeroDivisionError, match="own error"):
        kit.train(epochs=2)
    assert not any(kit.hooks())
    assert not [name for name in kit.runner.callbacks if name.startswith("TimeMonitor")]
    assert written(read_events, kit.folder, "train")["9_time/data"].keys() == {1}


def test_a_clock_that_cannot_be_called_is_refused():
    with pytest.raises(UsageError, match=r"clock must be a function that returns seconds, got 3"):
        TimeMonitor(clock=3)


def test_time_behind_the_last_mark_counts_for_nothing():
    clock = Clock(50.0)
    times = PhaseTimes(HostTimer(clock))
    clock.spend(1)
    times.begin("data")
    clock.spend(10)
    times.begin("forward")
    clock.spend(100)
    times.add_step(8)
    state = times.state()
    seen = summarize(state)
    assert state["elapsed_ms"].item() == pytest.approx(10)
    assert seen == pytest.approx(dict.fromkeys(PHASES, 0.0) | {"data": 10.0, "samples_per_s": 800.0})


def test_a_loader_without_a_step_gives_nan():
    assert all(value != value for value in summarize(PhaseTimes(HostTimer()).state()).values())


def times_of_rank(rank):
    """Two steps of 8 samples each, which take ten times as long on rank 1."""
    clock = Clock(50.0)
    times = PhaseTimes(HostTimer(clock))
    for _ in range(2):
        times.begin("data")
        clock.spend(10 ** (rank + 1))
        times.begin("other")
        times.add_step(8)
    return summarize(reduce_state(times.state(), PhaseTimes.reductions))


def test_ranks_share_the_mean_time_and_add_up_their_samples(ranks):
    size = ranks.size
    for seen in ranks.run(times_of_rank):
        assert seen["data"] == pytest.approx({1: 10, 2: 55}[size])
        assert seen["samples_per_s"] == pytest.approx({1: 16 / 0.02, 2: 32 / 0.2}[size])


class Event:
    """A CUDA event of a GPU that is ``behind`` the host by some stamps; it refuses what would be too early."""

    made, done, waited = [], 0, 0

    def __init__(self, enable_timing=False):
        assert enable_timing
        self.number = None

    def record(self):
        Event.made.append(self)
        self.number = len(Event.made)

    def query(self):
        return self.number <= Event.done

    def synchronize(self):
        Event.done = max(Event.done, self.number)
        Event.waited += 1

    def elapsed_time(self, end):
        assert self.query()
        assert end.query()
        return float(end.number - self.number)


def test_on_a_gpu_nothing_waits_before_the_end_of_the_loader(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(Event, "made", [])
    monkeypatch.setattr(Event, "done", 0)
    monkeypatch.setattr(Event, "waited", 0)
    times = PhaseTimes(CudaTimer())
    for _ in range(100):
        times.begin("data")
        times.begin("forward")
        Event.done = max(0, len(Event.made) - 5)
        times.add_step(2)
        assert len(times._pending) <= 6  # the queue is as long as the GPU is behind
    times.begin("data")
    assert Event.waited == 0
    seen = summarize(times.state())
    assert Event.waited == 1
    assert seen["data"] == seen["forward"] == 1.0
    assert seen["samples_per_s"] == 1000.0


def test_peak_on_a_cpu_is_that_of_the_process_in_mib():
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert _peak_mib(torch.device("cpu")) == pytest.approx(peak / 1024 if sys.platform != "darwin" else peak / 2**20)


def test_peak_on_a_gpu_is_what_was_allocated(monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**20)
    assert _peak_mib(torch.device("cuda")) == 3.0


@pytest.mark.parametrize("wrapped", [False, True], ids=["in place", "wrapped"])
def test_a_compiled_model_is_timed_from_outside_what_was_compiled(tmp_path, wrapped):
    """What is compiled reads no clock, and makes no event on a GPU."""
    compiling = []

    def clock():
        compiling.append(torch.compiler.is_compiling())
        return 0.001 * len(compiling)

    torch._dynamo.reset()
    net = nn.Sequential(nn.Flatten(), nn.Linear(5, 3))
    model = torch.compile(net, backend="eager") if wrapped else net
    if not wrapped:
        net.compile(backend="eager")
    items = [(torch.randn(5), i % 3) for i in range(8)]
    monitor = TimeMonitor(clock=clock)
    fit(
        dl.SupervisedRunner(), model, {"train": items}, [monitor], batch=4,
        optimizer=torch.optim.SGD(net.parameters(), lr=0.1), epochs=2, tensorboard=tmp_path,
    )  # fmt: skip
    assert not any(compiling)
    assert len(compiling) >= 2 * 2 * len(("other", "forward", "backward", "optimizer", "diagnostics", "data"))
    assert monitor.hooks_ == []
    assert not hasattr(net._compiled_call_impl, "before")
