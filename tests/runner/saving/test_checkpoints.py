"""Checkpoints: whole or not there, the best ones really of the best epochs, and resuming to the same bits."""

import hashlib
import json
import math
import os
import pickle
import shutil

import pytest
import torch
from catalyst import dl
from kit import Trap
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader

from assay.callbacks.support.atomic_files import save_whole
from assay.runner import Checkpoints, DictRunner, Monitor, UsageError, load_checkpoint
from assay.runner.recipe.schedulers import SCHEDULERS, make_scheduler, steps_by
from assay.runner.saving import checkpoints as module
from assay.runner.saving.checkpoint_files import FORMAT, find_checkpoint, read_index


class Script(dl.Callback):
    """Sets metrics of each epoch on every loader: ``Script(score=[0.1, 0.9])``; remembers the weights of each epoch."""

    def __init__(self, model, **metrics):
        super().__init__(order=dl.CallbackOrder.Metric)
        self.model, self.metrics, self.states = model, metrics, {}

    def on_loader_end(self, runner):
        for name, values in self.metrics.items():
            runner.loader_metrics[name] = values[runner.epoch_step - 1]

    def on_epoch_end(self, runner):
        self.states[runner.epoch_step] = {name: value.clone() for name, value in self.model.state_dict().items()}


def index_of(folder):
    return json.loads((folder / "index.json").read_text())["checkpoints"]


def files_of(folder):
    return sorted(path.name for path in folder.iterdir())


def entry_of(folder, file):
    return next(entry for entry in index_of(folder) if entry["file"] == file)


# -- which epochs are kept --------------------------------------------------------------------------------------------


def test_best_holds_the_weights_of_the_epoch_that_the_index_names_when_the_metric_gets_worse_after_it(
    make_net, make_loader, train, tmp_path, assert_same_weights
):
    model = make_net()
    optimizer, script = SGD(model.parameters(), lr=1.0), Script(model)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.1 if epoch < 2 else 50.0)
    runner = train(
        model,
        {"train": make_loader(), "valid": make_loader(8, seed=1)},
        epochs=4,
        optimizer=optimizer,
        scheduler=scheduler,
        callbacks=[script, Checkpoints(tmp_path, [Monitor("train", "loss", True)])],
    )
    losses = {epoch: runner.history[epoch]["train"]["loss"] for epoch in runner.history}
    best = min(losses, key=losses.get)
    assert best < 4
    assert losses[4] > losses[best]
    entry = entry_of(tmp_path, "best.pt")
    assert (entry["epoch"], entry["metric"], entry["value"]) == (best, "train/loss", losses[best])
    assert_same_weights(load_checkpoint(tmp_path, "best")["model"][""], script.states[best])
    assert_same_weights(load_checkpoint(tmp_path / "best.pt")["model"][""], script.states[best])
    assert_same_weights(load_checkpoint(tmp_path, "last")["model"][""], script.states[4])
    assert not torch.equal(script.states[best]["body.weight"], script.states[4]["body.weight"])


def test_two_monitors_each_keep_their_own_best_epochs_and_no_others(
    make_net, make_loader, train, tmp_path, assert_same_weights
):
    model = make_net()
    script = Script(model, cost=[5.0, 1.0, 9.0, 2.0, 8.0, 7.0], score=[0.9, 0.1, 0.8, 0.0, 0.2, 0.3])
    monitors = [Monitor("train", "cost", True), Monitor("train", "score", False)]
    train(model, {"train": make_loader(4)}, epochs=6, callbacks=[script, Checkpoints(tmp_path, monitors, top_k=2)])
    kept = [f"epoch-000{epoch}.pt" for epoch in (1, 2, 3, 4, 5, 6)]  # 5 and 6 are the last
    assert files_of(tmp_path) == sorted([*kept, "best.pt", "last.pt", "index.json"])
    entries = [(entry["file"], entry["epoch"], entry["metric"], entry["value"]) for entry in index_of(tmp_path)]
    assert entries == [
        ("epoch-0002.pt", 2, "train/cost", 1.0),
        ("epoch-0004.pt", 4, "train/cost", 2.0),
        ("epoch-0001.pt", 1, "train/score", 0.9),
        ("epoch-0003.pt", 3, "train/score", 0.8),
        ("best.pt", 2, "train/cost", 1.0),
        ("epoch-0005.pt", 5, "train/cost", 8.0),
        ("epoch-0006.pt", 6, "train/cost", 7.0),
        ("last.pt", 6, "train/cost", 7.0),
    ]
    for entry in index_of(tmp_path):
        state = load_checkpoint(tmp_path / entry["file"])
        assert state["epoch"] == entry["epoch"]
        assert_same_weights(state["model"][""], script.states[entry["epoch"]])


def test_a_metric_that_is_nan_is_never_the_best(make_net, make_loader, train, tmp_path):
    model = make_net()
    script = Script(model, score=[math.nan, 0.5, math.nan, math.inf])
    checkpoints = Checkpoints(tmp_path, [Monitor("train", "score", False)], top_k=3)
    train(model, {"train": make_loader(4)}, epochs=4, callbacks=[script, checkpoints])
    assert files_of(tmp_path) == ["best.pt", *(f"epoch-000{n}.pt" for n in (2, 3, 4)), "index.json", "last.pt"]
    assert entry_of(tmp_path, "best.pt")["epoch"] == 2
    assert entry_of(tmp_path, "last.pt")["value"] is None  # JSON has no infinity


def test_while_no_value_is_finite_there_is_a_last_and_no_best(make_net, make_loader, train, tmp_path):
    model = make_net()
    checkpoints = Checkpoints(tmp_path, [Monitor("train", "score", False)], load_best_on_end=True)
    train(model, {"train": make_loader(4)}, callbacks=[Script(model, score=[math.nan]), checkpoints])
    assert files_of(tmp_path) == ["epoch-0001.pt", "index.json", "last.pt"]
    with pytest.raises(UsageError, match=r"holds no checkpoint 'best\.pt'; there is 'epoch-0001\.pt', 'last\.pt'"):
        load_checkpoint(tmp_path, "best")


def test_without_a_monitor_the_last_two_epochs_alone_are_kept(make_net, make_loader, train, tmp_path):
    train(make_net(), {"train": make_loader(4)}, epochs=3, callbacks=[Checkpoints(tmp_path)])
    assert files_of(tmp_path) == ["epoch-0002.pt", "epoch-0003.pt", "index.json", "last.pt"]
    entries = [(entry["epoch"], entry["metric"], entry["value"]) for entry in index_of(tmp_path)]
    assert entries == [(2, None, None), (3, None, None), (3, None, None)]


def test_top_k_below_one_is_refused(tmp_path):
    with pytest.raises(UsageError, match="top_k must be at least 1, got 0"):
        Checkpoints(tmp_path, top_k=0)


# -- what is in a file ------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(make_net, make_loader, train, tmp_path):
    """The checkpoints of a run of two epochs, the first of them the better."""
    model = make_net()
    train(
        model,
        {"train": make_loader(4)},
        epochs=2,
        optimizer=SGD(model.parameters(), lr=0.1, momentum=0.9),
        callbacks=[
            Script(model, score=[0.9, 0.1]),
            Checkpoints(tmp_path / "checkpoints", [Monitor("train", "score", False)], extra={"note": "mine"}),
        ],
    )
    return tmp_path / "checkpoints"


def test_every_sha256_is_that_of_the_file(folder):
    entries = index_of(folder)
    assert {entry["file"] for entry in entries} == {"epoch-0001.pt", "epoch-0002.pt", "best.pt", "last.pt"}
    for entry in entries:
        assert entry["sha256"] == hashlib.sha256((folder / entry["file"]).read_bytes()).hexdigest()


def test_every_file_loads_without_executing_anything_and_holds_the_run(folder):
    for path in folder.glob("*.pt"):
        state = torch.load(path, weights_only=True)
        assert state["format"] == FORMAT
        assert set(state) == {
            "format", "model", "optimizer", "scheduler", "scaler", "epoch", "batch_step", "sample_step", "history",
            "rng", "callbacks", "criterion", "loggers", "ema", "note", "unfinished", "settings", "frozen",
        }  # fmt: skip
        assert state["note"] == "mine"
        assert state["batch_step"] == state["epoch"]
        assert state["sample_step"] == 4 * state["epoch"]
        assert [state["history"][epoch]["train"]["score"] for epoch in state["history"]] == [0.9, 0.1][: state["epoch"]]


# -- finding and loading ----------------------------------------------------------------------------------------------


def test_a_checkpoint_is_found_by_run_folder_checkpoints_folder_name_or_file(folder):
    for run in (folder.parent, folder, str(folder)):
        assert find_checkpoint(run) == folder / "epoch-0002.pt"
        assert find_checkpoint(run, "best") == folder / "epoch-0001.pt"
        assert find_checkpoint(run, "epoch-0001.pt") == folder / "epoch-0001.pt"
    assert find_checkpoint(folder / "best.pt") == folder / "best.pt"


def test_without_an_index_the_file_itself_serves(folder):
    (folder / "index.json").unlink()
    assert find_checkpoint(folder, "best") == folder / "best.pt"
    assert load_checkpoint(folder, "best")["epoch"] == 1


def test_a_checkpoint_that_there_is_not_is_refused_with_those_that_there_are(folder, tmp_path):
    with pytest.raises(UsageError, match=r"no checkpoint 'epoch-0007\.pt'; there is 'best\.pt', 'epoch-0001\.pt'"):
        load_checkpoint(folder, "epoch-0007.pt")
    with pytest.raises(UsageError, match=r"nowhere holds no checkpoint 'last\.pt'; there is no such folder"):
        load_checkpoint(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty holds no checkpoint 'best\.pt'; there is nothing"):
        load_checkpoint(tmp_path / "empty", "best")


@pytest.mark.parametrize("indexed", [True, False], ids=["with index", "without"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused_by_its_name(folder, share, indexed):
    path = folder / "epoch-0002.pt"
    whole = path.read_bytes()
    path.unlink()  # last.pt is the same file
    path.write_bytes(whole[: int(share * len(whole))])
    if not indexed:
        (folder / "index.json").unlink()
    reason = "was changed or cut off: its sha256 is not the one in index.json" if indexed else "cannot be read"
    with pytest.raises(UsageError, match=rf"checkpoint .*epoch-0002\.pt {reason}"):
        load_checkpoint(folder / "epoch-0002.pt")


def test_a_flipped_bit_is_refused_wherever_it_is(folder):
    path = folder / "epoch-0002.pt"
    whole = path.read_bytes()
    for position in range(0, len(whole), len(whole) // 50):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        with pytest.raises(UsageError, match=r"epoch-0002\.pt was changed or cut off"):
            load_checkpoint(folder)


def test_a_flipped_bit_without_an_index_gives_wrong_use_or_the_weights_and_nothing_else(folder, assert_same_weights):
    path = folder / "epoch-0002.pt"
    whole, weights = path.read_bytes(), load_checkpoint(folder)["model"][""]
    (folder / "index.json").unlink()
    refused = 0
    for position in range(0, len(whole), len(whole) // 200):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        try:
            state = load_checkpoint(path)
        except UsageError as error:
            assert "epoch-0002.pt" in str(error)
            refused += 1
        else:  # the bit was in the padding, or in a field that is not read
            assert_same_weights(state["model"][""], weights)
    assert refused > 10


def write_text(path, trap):
    path.write_text("epoch,loader,metric,value\n")


def write_random(path, trap):
    path.write_bytes(bytes(range(256)) * 3)


def write_plain_pickle(path, trap):
    path.write_bytes(pickle.dumps({"format": FORMAT, "model": {}}, protocol=2))


def write_broken_pickle(path, trap):
    path.write_bytes(b"\x80\x02aa.")  # appends to an empty stack: an IndexError within torch.load


def write_other_state(path, trap):
    torch.save(nn.Linear(2, 2).state_dict(), path)


def write_list(path, trap):
    torch.save([1, 2, 3], path)


def write_next_format(path, trap):
    torch.save({"format": "assay checkpoint 2"}, path)


def write_whole_module(path, trap):
    torch.save(nn.Linear(2, 2), path)


def write_malicious_pickle(path, trap):
    path.write_bytes(pickle.dumps(Trap(trap)))


def write_malicious_checkpoint(path, trap):
    torch.save({"format": FORMAT, "model": Trap(trap)}, path)


@pytest.mark.parametrize(
    "write",
    [
        write_text, write_random, write_plain_pickle, write_broken_pickle, write_other_state, write_list,
        write_next_format, write_whole_module, write_malicious_pickle, write_malicious_checkpoint,
    ],
)  # fmt: skip
def test_a_foreign_file_is_refused_by_its_name_and_not_executed(tmp_path, write):
    path, trap = tmp_path / "foreign.pt", tmp_path / "executed"
    write(path, trap)
    with pytest.raises(
        UsageError, match=r"checkpoint .*foreign\.pt (cannot be read; it is cut off|is not one of) "
    ) as it:
        load_checkpoint(path)
    assert "\n" not in str(it.value)
    assert not trap.exists()


def test_the_malicious_pickle_of_these_tests_would_work(tmp_path):
    write_malicious_checkpoint(tmp_path / "foreign.pt", tmp_path / "executed")
    torch.load(tmp_path / "foreign.pt", weights_only=False)
    assert (tmp_path / "executed").is_dir()


def test_a_file_that_was_replaced_after_the_index_was_written_is_refused(folder):
    shutil.copy(folder / "epoch-0001.pt", folder / "other.pt")
    os.replace(folder / "other.pt", folder / "epoch-0002.pt")
    with pytest.raises(UsageError, match=r"epoch-0002\.pt was changed or cut off"):
        load_checkpoint(folder, "last")
    assert load_checkpoint(folder, "best")["epoch"] == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"checkpoints": 3}',
        '{"checkpoints": ["best.pt"]}',
        '{"checkpoints": [{"file": "best.pt"}]}',
        '{"checkpoints": {"best.pt": 1}}',
        '{"checkpoints": [{"file": 5, "sha256": "", "epoch": 1}]}',
        '{"checkpoints": [{"file": "../best.pt", "sha256": "", "epoch": 1}]}',
        '{"checkpoints": [{"file": "/etc/passwd", "sha256": "", "epoch": 1}]}',
        '{"checkpoints": [{"file": "best.pt", "sha256": 5, "epoch": 1}]}',
        '{"checkpoints": [{"file": "best.pt", "sha256": "", "epoch": "one"}]}',
        '{"checkpoints": [{"file": "best.pt", "sha256": "", "epoch": 1e999}]}',
        '{"checkpoints": [{"file": "best.pt", "sha256": "", "epoch": -1}]}',
        '{"checkpoints": [{"file": "best.pt", "sha256": "", "epoch": true}]}',
        '{"checkpoints": [{"file": "best.pt", "sha256": "", "epoch": 1, "batch": []}]}',
        "[" * 100_000,
    ],
)
def test_a_broken_index_is_refused_by_its_name(folder, text):
    (folder / "index.json").write_text(text)
    with pytest.raises(UsageError, match=r"index\.json is not an index of checkpoints: "):
        load_checkpoint(folder)


def test_a_folder_without_an_index_has_no_entries(tmp_path):
    assert read_index(tmp_path) == []


# -- writing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()], ids=["disk full", "ctrl-c"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_temporary(tmp_path, error):
    path = tmp_path / "last.pt"
    path.write_bytes(b"the old one")

    def fail_half_way(file):
        file.write(b"half of the new one")
        raise error

    with pytest.raises(type(error)) as caught:
        save_whole(path, fail_half_way)
    assert caught.value is error
    assert path.read_bytes() == b"the old one"
    assert files_of(tmp_path) == ["last.pt"]


class Unsaveable(dl.Callback):
    def __init__(self):
        super().__init__(order=dl.CallbackOrder.Metric)

    def state_dict(self):
        return {"best": lambda: "functions have no plain form"}


@pytest.mark.parametrize("on_save_error", ["stop", "warn"])
def test_a_state_that_cannot_be_saved_leaves_the_checkpoints_of_before(
    folder, make_net, make_loader, train, on_save_error
):
    before = {name: (folder / name).read_bytes() for name in files_of(folder)}
    checkpoints = Checkpoints(folder, on_save_error=on_save_error)
    with pytest.raises(UsageError, match=r"callbacks\.Unsaveable\[0\]\.best is a function"):
        train(make_net(), {"train": make_loader(4)}, callbacks=[Unsaveable(), checkpoints])
    assert {name: (folder / name).read_bytes() for name in files_of(folder)} == before


def test_where_hard_links_are_not_to_be_had_last_and_best_are_copies(
    make_net, make_loader, train, tmp_path, monkeypatch
):
    def refuse(source, target):
        raise OSError("this file system has no hard links")

    monkeypatch.setattr(module.os, "link", refuse)
    train(make_net(), {"train": make_loader(4)}, callbacks=[Checkpoints(tmp_path, [Monitor("train", "loss", True)])])
    assert files_of(tmp_path) == ["best.pt", "epoch-0001.pt", "index.json", "last.pt"]
    assert len({(tmp_path / name).read_bytes() for name in ("best.pt", "epoch-0001.pt", "last.pt")}) == 1


# -- resuming ---------------------------------------------------------------------------------------------------------


class Dropping(nn.Module):
    """A net that draws at random in each step."""

    def __init__(self, net):
        super().__init__()
        self.net, self.drop, self.norm = net, nn.Dropout(0.3), nn.BatchNorm1d(4).double()

    def forward(self, image):
        return self.net(self.drop(self.norm(image)))


@pytest.fixture
def run(make_net, make_items, train):
    """Train in a folder with everything that draws or remembers: shuffling, dropout, momentum, a schedule."""

    def run(folder, epochs, *, planned=4, scheduler_name="cosine", resume=None, callbacks=()):
        model = Dropping(make_net())
        optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
        options = {"milestones": [1, 3], "plateau_patience": 0, "cycle_epochs": 2}
        scheduler = make_scheduler(scheduler_name, optimizer, epochs=planned, steps_per_epoch=6, **options)
        runner = train(
            model,
            {"train": DataLoader(make_items(22), batch_size=4, shuffle=True), "valid": DataLoader(make_items(8), 4)},
            epochs=epochs,
            runner=DictRunner(scheduler_step=steps_by(scheduler_name)),
            optimizer=optimizer,
            scheduler=scheduler,
            logdir=str(folder),
            resume=None if resume is None else str(resume),
            valid_loader="valid",
            valid_metric="loss",
            callbacks=list(callbacks),
        )
        return runner, model, optimizer

    return run


def assert_same_run(first, second, assert_same_weights):
    """Compare two runs (runner, model, optimizer) bit by bit."""
    assert_same_weights(first[1].state_dict(), second[1].state_dict())
    for one, other in zip(first[2].state.values(), second[2].state.values(), strict=True):
        assert torch.equal(one["momentum_buffer"], other["momentum_buffer"])
    assert first[0].history == second[0].history
    assert (first[0].batch_step, first[0].sample_step) == (second[0].batch_step, second[0].sample_step)


@pytest.mark.parametrize("scheduler_name", SCHEDULERS)
def test_a_resumed_run_ends_with_the_bits_and_metrics_of_one_that_ran_straight(
    run, tmp_path, assert_same_weights, scheduler_name
):
    straight = run(tmp_path / "straight", 4, scheduler_name=scheduler_name)
    run(tmp_path / "halves", 2, scheduler_name=scheduler_name)
    resumed = run(tmp_path / "halves", 4, scheduler_name=scheduler_name, resume=tmp_path / "halves")
    assert_same_run(straight, resumed, assert_same_weights)
    written = [(tmp_path / name / "metrics.csv").read_text() for name in ("straight", "halves")]
    assert written[0] == written[1]
    assert len(written[0].splitlines()) == 1 + 4 * 2
    kept = [
        [(entry["file"], entry["epoch"], entry["value"]) for entry in index_of(tmp_path / name / "checkpoints")]
        for name in ("straight", "halves")
    ]
    assert kept[0] == kept[1]


def test_a_run_that_broke_within_an_epoch_goes_on_from_the_epoch_before(run, tmp_path, assert_same_weights):
    class Break(dl.Callback):
        def on_batch_end(self, runner):
            if runner.epoch_step == 3 and runner.is_train_loader and runner.loader_batch_step == 4:
                raise RuntimeError("the power went out")

    straight = run(tmp_path / "straight", 4)
    with pytest.raises(RuntimeError, match="the power went out"):
        run(tmp_path / "broken", 4, callbacks=[Break(order=0)])
    resumed = run(tmp_path / "broken", 4, resume=tmp_path / "broken")
    assert_same_run(straight, resumed, assert_same_weights)
    assert (tmp_path / "straight" / "metrics.csv").read_text() == (tmp_path / "broken" / "metrics.csv").read_text()


def test_resuming_from_an_earlier_epoch_replaces_the_rows_of_those_after_it(run, tmp_path, assert_same_weights):
    straight = run(tmp_path / "run", 4)
    before = (tmp_path / "run" / "metrics.csv").read_text()
    first = min((tmp_path / "run" / "checkpoints").glob("epoch-*.pt"))
    copy = tmp_path / "copy.pt"
    shutil.copy(first, copy)
    again = run(tmp_path / "run", 4, resume=copy)
    assert_same_run(straight, again, assert_same_weights)
    assert (tmp_path / "run" / "metrics.csv").read_text() == before


class CountsEpochs(dl.Callback):
    """Begins anew with a run, as diagnostics do, unless it is given what it had."""

    def __init__(self):
        super().__init__(order=0)
        self.epochs = None

    def on_experiment_start(self, runner):
        self.epochs = []

    def on_epoch_end(self, runner):
        self.epochs.append(runner.epoch_step)

    def state_dict(self):
        return {"epochs": list(self.epochs)}

    def load_state_dict(self, state):
        self.epochs = list(state["epochs"])


def test_a_resumed_run_hands_each_callback_the_state_that_it_had(run, tmp_path):
    first, second, added = CountsEpochs(), CountsEpochs(), CountsEpochs()
    run(tmp_path / "run", 2, callbacks=[CountsEpochs(), CountsEpochs()])
    run(tmp_path / "run", 4, resume=tmp_path / "run", callbacks=[first, second, added])
    assert first.epochs == second.epochs == [1, 2, 3, 4]
    assert added.epochs == [3, 4]


def test_a_resumed_one_cycle_run_may_be_made_longer(run, tmp_path):
    run(tmp_path / "run", 2, planned=2, scheduler_name="one-cycle")
    runner, *_ = run(tmp_path / "run", 4, planned=4, scheduler_name="one-cycle", resume=tmp_path / "run")
    assert sorted(runner.history) == [1, 2, 3, 4]
