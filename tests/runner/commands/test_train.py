"""From an experiment to a run, from Python."""

import json
import math
import sys
from dataclasses import dataclass

import cv2
import pytest
import torch
from catalyst import dl
from catalyst.core.logger import ILogger
from kit import read_events
from torch import nn
from toy_experiment import Net, Toy

from assay.callbacks import AugmentationPreview, ConfusionMatrix, OptimizerMonitor, OverheadBudget, SampleHistory
from assay.callbacks.non_finite.guard import NonFiniteGuard
from assay.callbacks.non_finite.report import NonFiniteError
from assay.runner import Monitor, Progress, UsageError, load_checkpoint
from assay.runner.commands.how_to_look import how_to_look
from assay.runner.commands.train import summary, train
from assay.runner.experiment.build import prepare_machine
from assay.runner.loop.fault_messages import explain
from assay.runner.saving.loggers import read_metrics


def test_it_returns_the_folder_of_the_run(tmp_path, capsys):
    folder = train(Toy(), name="toy", run_dir=tmp_path / "run")
    assert folder == tmp_path / "run"
    assert capsys.readouterr().out.splitlines()[0] == f"run folder: {folder}"
    assert json.loads((folder / "environment.json").read_text())["experiment"] == "toy"
    assert load_checkpoint(folder)["experiment"] == "toy"


def test_without_a_folder_it_makes_one_named_after_the_experiment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = train(Toy(epochs=1), name="/somewhere/else/my_toy.py")
    assert folder.parent.parts == ("runs", "my_toy")
    assert (folder / "metrics.csv").is_file()


def test_data_that_was_made_up_is_noted_and_said(tmp_path, monkeypatch, capsys):
    class MadeUp(Toy):
        def make_data(self, folder):
            (folder / "made").touch()

        def get_loaders(self):
            assert (self.data_folder() / "made").exists()
            return super().get_loaders()

    monkeypatch.chdir(tmp_path)
    folder = train(MadeUp(epochs=1), name="toy", run_dir=tmp_path / "run")
    assert json.loads((folder / "environment.json").read_text())["generated"] is True
    assert "no --data-dir: generated data is used, in data/madeup-generated" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tmp_path):
    runs = [
        read_metrics(train(Toy(seed=seed), name="toy", run_dir=tmp_path / str(n)) / "metrics.csv")
        for n, seed in enumerate((1, 1, 2))
    ]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_the_weights_at_the_start_do_not_depend_on_what_the_loaders_draw(tmp_path):
    class Chatty(Toy):
        def get_loaders(self):
            torch.rand(7)
            return super().get_loaders()

    first, second = (train(cls(), name="toy", run_dir=tmp_path / cls.__name__) for cls in (Toy, Chatty))
    assert read_metrics(first / "metrics.csv") == read_metrics(second / "metrics.csv")


@pytest.mark.parametrize(("accumulate_steps", "steps_per_epoch"), [(1, 5), (2, 3), (5, 1), (7, 1)])
def test_the_schedule_spans_exactly_the_optimizer_steps_of_the_run(tmp_path, accumulate_steps, steps_per_epoch):
    toy = Toy(epochs=3, lr=0.1, lr_min=0.01, accumulate_steps=accumulate_steps)
    train(toy, name="toy", run_dir=tmp_path / "run")
    steps = 3 * steps_per_epoch
    expected = [0.01 + 0.09 * (1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps + 1)]
    seen = list(dict.fromkeys(toy.rates.kept))
    assert seen == pytest.approx(expected[:-1])
    last = load_checkpoint(tmp_path / "run")["optimizer"][""]["param_groups"][0]["lr"]
    assert last == pytest.approx(0.01)


def test_patience_stops_a_run_that_no_longer_gets_better_and_the_summary_says_so(tmp_path, capsys):
    # The loss of weights that never change is the same in every epoch.
    toy = Toy(epochs=9, patience=2, optimizer="SGD", lr=1e-30)
    train(toy, name="toy", run_dir=tmp_path / "run")
    output = capsys.readouterr().out
    assert (
        "stopped early after epoch 3: valid/loss no longer got better (--patience 2)\nbest epoch: 1 by valid/loss ("
        in output
    )
    assert max(epoch for epoch, _, _ in read_metrics(tmp_path / "run" / "metrics.csv")) == 3


def test_nan_stops_a_run_before_it_saves_a_checkpoint(tmp_path):
    with pytest.raises(NonFiniteError, match="epoch 1, step 1 of train: loss term 'loss' is NaN") as error:
        train(Toy(factor=math.nan), name="toy", run_dir=tmp_path / "run")
    assert explain(error.value) == (
        f"{error.value}. Often a smaller --lr or --clip-grad-norm 1 helps; --non-finite skip leaves such steps out, "
        "and --detect-anomaly true finds the operation."
    )
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert list((tmp_path / "run" / "non_finite").glob("*.pt"))


def test_nan_skips_steps_where_the_field_says_so(tmp_path):
    with pytest.raises(NonFiniteError, match="as were all of the last 10"):
        train(Toy(factor=math.nan, non_finite="skip", epochs=3), name="toy", run_dir=tmp_path / "run")


def test_a_guard_of_the_experiment_takes_the_place_of_the_fields(tmp_path):
    class Own(Toy):
        def get_callbacks(self):
            return [*super().get_callbacks(), NonFiniteGuard("skip", max_skips=2)]

    with pytest.raises(NonFiniteError, match="as were all of the last 2"):
        train(Own(factor=math.nan), name="toy", run_dir=tmp_path / "run")


def test_an_unknown_choice_of_what_nan_does_is_refused():
    with pytest.raises(UsageError, match=r"unknown non_finite 'ignore'. There is: 'off', 'skip', 'stop'"):
        Toy(non_finite="ignore")


@pytest.mark.parametrize("detect_anomaly", [True, False])
def test_anomaly_mode_is_on_for_the_run_alone(tmp_path, detect_anomaly):
    class Looks(Toy):
        def get_model(self):
            self.seen = torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()
            return super().get_model()

    looks = Looks(epochs=1, detect_anomaly=detect_anomaly)
    train(looks, name="toy", run_dir=tmp_path / "run")
    assert looks.seen == (detect_anomaly, True)
    assert not torch.is_anomaly_enabled()


def test_anomaly_mode_names_the_operation_whose_backward_pass_gives_nan(tmp_path):
    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, image):
            return {"logits": (self.layer(image) * 0).sqrt() * 0}

    class Rooted(Toy):
        def get_model(self):
            return Root()

    warned = pytest.warns(UserWarning, match="Error detected in")
    with warned, pytest.raises(RuntimeError, match=r"SqrtBackward0.*returned nan"):
        train(Rooted(detect_anomaly=True), name="toy", run_dir=tmp_path / "run")


def test_a_metric_that_is_never_finite_has_no_best_epoch(tmp_path, capsys):
    train(Toy(factor=math.nan, non_finite="off"), name="toy", run_dir=tmp_path / "run")
    assert (
        "\nno best epoch: valid/loss was NaN or infinite in every epoch: try a smaller --lr\n"
        in capsys.readouterr().out
    )
    assert not (tmp_path / "run" / "checkpoints" / "best.pt").exists()
    assert (tmp_path / "run" / "checkpoints" / "last.pt").exists()


def test_the_summary_names_the_best_epoch_by_the_first_monitor_with_the_metrics_that_fit(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("SSH_CONNECTION", raising=False)

    class Done:
        epoch_step = num_epochs = 3
        callbacks = {"progress": Progress()}
        history = {
            1: {"train": {"loss": 0.9}, "valid": {"loss": 0.8, "accuracy": 0.5}},
            2: {"train": {"loss": 0.7}, "valid": {"loss": 0.6, "accuracy": 0.9}},
            3: {"train": {"loss": 0.5}, "valid": {"loss": 0.5, "accuracy": 0.7}},
        }

    monitors = [Monitor("valid", "accuracy", False), Monitor("valid", "loss", True)]
    best, folder, *how = summary(Done(), monitors, tmp_path).splitlines()
    assert best == "best epoch: 2 by valid/accuracy (train/loss 0.7000, valid/loss 0.6000, valid/accuracy 0.9000)"
    assert folder == f"run folder: {tmp_path}"
    assert how == how_to_look(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (best, *_) = summary(Done(), monitors, tmp_path).splitlines()
    assert best == "best epoch: 2 by valid/accuracy (valid/loss 0.6000, valid/accuracy 0.9000)"


def test_several_monitors_keep_their_own_best_epochs(tmp_path):
    toy = Toy(epochs=4, lr=0.1, monitor=["valid/accuracy:max", "valid/loss:max"])
    folder = train(toy, name="toy", run_dir=tmp_path / "run")
    values = read_metrics(folder / "metrics.csv")
    by_accuracy = max(range(1, 5), key=lambda epoch: (values[epoch, "valid", "accuracy"], -epoch))
    by_loss = max(range(1, 5), key=lambda epoch: values[epoch, "valid", "loss"])
    kept = {path.name for path in (folder / "checkpoints").glob("epoch-*.pt")}
    assert kept == {f"epoch-{epoch:04d}.pt" for epoch in (by_accuracy, by_loss, 3, 4)}
    assert load_checkpoint(folder, "best")["epoch"] == by_accuracy


def test_a_monitor_of_a_loader_that_there_is_not_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(UsageError, match=r"^monitor 'test/loss': there is no such loader; there is 'train', 'valid'"):
        train(Toy(monitor=["test/loss:min"]), name="toy", run_dir=tmp_path / "a" / "run")
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_experiment_keeps_its_type(tmp_path):
    class Broken(Toy):
        def get_model(self):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        train(Broken(), name="toy", run_dir=tmp_path / "run")


def test_threads_are_set_for_torch_and_opencv():
    before = cv2.getNumThreads()
    try:
        prepare_machine(Toy(threads=2))
        assert torch.get_num_threads() == 2
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


def test_deterministic_makes_torch_refuse_what_is_not(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "kept")
    try:
        prepare_machine(Toy(deterministic=True))
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.benchmark is False
    finally:
        torch.use_deterministic_algorithms(False)


def test_the_command_that_started_the_run_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/bin/mine.py", "--fast"])
    folder = train(Toy(epochs=1), name="toy", run_dir=tmp_path / "run")
    assert json.loads((folder / "environment.json").read_text())["command"] == ["mine.py", "--fast"]


def test_the_function_can_be_imported_from_the_package():
    from assay.runner import train as exported

    assert exported is train


@pytest.mark.parametrize("drawn", [True, False])
def test_the_guard_of_an_experiment_draws_as_its_diagnostics_do(tmp_path, drawn):
    class Guarded(dl.Callback):
        def __init__(self):
            super().__init__(order=10**6)

        def on_experiment_start(self, runner):
            self.options = runner.callbacks["non_finite"].style

    @dataclass(kw_only=True)
    class Drawn(Toy):
        def get_callbacks(self):
            self.guarded = Guarded()
            known = {"class_names": ["a", "b", "c"], "mean": 0.5, "std": [0.25]}
            return [self.guarded, *([AugmentationPreview(**known)] if drawn else [])]

        def get_loaders(self):
            items = [{"image": torch.zeros(1, 2, 2), "target": 0}] * 8
            return {key: self.make_loader(items) for key in ("train", "valid")}

        def get_model(self):
            return nn.Sequential(nn.Flatten(), Net())

    toy = Drawn(epochs=1)
    train(toy, name="toy", run_dir=tmp_path / "run")
    expected = (["a", "b", "c"], 0.5, [0.25]) if drawn else (None, 0.0, 1.0)
    assert tuple(getattr(toy.guarded.options, name) for name in ("class_names", "mean", "std")) == expected


@pytest.mark.parametrize(
    ("fields", "brought", "measured"),
    [({}, [], False), ({"max_overhead": 1.0}, [], True), ({"max_overhead": 1.0}, [OverheadBudget(0.5)], True),
     ({"max_overhead": 1.0, "diagnostics": "off"}, [], False)],
)  # fmt: skip
def test_max_overhead_reaches_the_diagnostics_of_any_experiment(tmp_path, fields, brought, measured):
    class Diagnosed(Toy):
        def get_callbacks(self):
            return [*super().get_callbacks(), OptimizerMonitor(), *brought]

    folder = train(Diagnosed(**fields), name="toy", run_dir=tmp_path / "run")
    events = read_events(folder / "train")
    shares = [event.value for event in events.Scalars("9_overhead/share_of_all_loaders")] if measured else []
    assert ("9_overhead/share_of_all_loaders" in events.Tags()["scalars"]) == measured
    assert len(shares) == (2 if measured else 0) and all(0 < share < math.inf for share in shares)


@pytest.mark.parametrize(
    ("fields", "brings", "written", "said"),
    [
        ({}, True, ["train"], "has more than 12 samples: pass max_samples=None, or --sample-history on"),
        ({"sample_history": "on"}, True, ["train", "valid"], ""),
        ({"sample_history": "off"}, True, [], ""),
        ({"sample_history": "on"}, False, [], "--sample-history on has no effect"),
    ],
)
def test_the_field_decides_whose_history_is_written(tmp_path, caplog, fields, brings, written, said):
    class Told(Toy):
        def get_loaders(self):
            items = [{"image": torch.zeros(4), "target": 0, "sample_id": i} for i in range(20)]
            return {"train": self.make_loader(items[:12]), "valid": self.make_loader(items)}

        def get_callbacks(self):
            return [SampleHistory(max_samples=12)] if brings else []

    with caplog.at_level("WARNING", "assay"):
        folder = train(Told(epochs=1, check="off", **fields), name="toy", run_dir=tmp_path / "run")
    assert sorted(path.parent.name for path in folder.glob("samples/*/epoch-000001.parquet")) == written
    lines = [line.getMessage() for line in caplog.records if "istory" in line.getMessage()]
    assert len(lines) == bool(said) and all(said in line for line in lines)


class Album(ILogger):
    """A logger of another kind, which takes pictures."""

    def __init__(self):
        super().__init__(log_batch_metrics=False, log_epoch_metrics=True)
        self.taken, self.losses = [], []

    def log_image(self, tag, image, runner, scope=None):
        self.taken.append((tag, runner.loader_key, runner.epoch_step))

    def log_metrics(self, metrics, scope, runner):
        if scope == "loader" and "loss" in metrics:
            self.losses.append((runner.loader_key, runner.epoch_step, float(metrics["loss"])))


def test_an_experiments_own_loggers_come_beside_tensorboard_and_the_csv(tmp_path):
    album = Album()

    class Logged(Toy):
        def get_callbacks(self):
            return [ConfusionMatrix(num_classes=3)]

        def get_loggers(self):
            return {"album": album}

    folder = train(Logged(), name="toy", run_dir=tmp_path / "run")
    assert album.taken == [("confusion_matrix", key, epoch) for epoch in (1, 2) for key in ("train", "valid")]
    metrics = read_metrics(folder / "metrics.csv")
    assert {(epoch, key, "loss"): loss for key, epoch, loss in album.losses} == pytest.approx(
        {name: value for name, value in metrics.items() if name[2] == "loss"}
    )
    events = read_events(folder / "valid")
    assert "2_confusion_matrix" in events.Tags()["images"]
