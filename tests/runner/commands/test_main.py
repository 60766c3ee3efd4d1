"""The command line, from the arguments to the exit code, what is printed and what lies on the disk."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from kit import assert_equal

from assay.runner.commands.main import main
from assay.runner.saving.checkpoint_files import load_checkpoint
from assay.runner.saving.loggers import read_metrics

MINE = '''"""A file of the user's."""

from dataclasses import dataclass

import torch
from catalyst import dl
from torch import nn
from torch.utils.data import Dataset

from assay.callbacks import BestWorstBatches, Metrics
from assay.runner import Experiment


class Points(Dataset):
    def __len__(self):
        return {count}

    def __getitem__(self, index):
        noise = torch.Generator().manual_seed(index)
        image = torch.randn(1, 4, 4, generator=noise)
        target, sample_id = index % 3, f"point-{{index}}"
        return {item}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, {width}), nn.Dropout(), nn.Linear({width}, 3))

    def forward(self, image):
        logits = self.layers(image)
        return {outputs}


class Crash(dl.Callback):
    def __init__(self, epoch):
        super().__init__(order=0)
        self.epoch = epoch

    def on_epoch_start(self, runner):
        if runner.epoch_step == self.epoch:
            raise RuntimeError("crash")


@dataclass(kw_only=True)
class Mine(Experiment):
    """An experiment of milliseconds."""

    epochs: int = 2
    batch_size: int = 8
    device: str = "cpu"
    shift: float = 0.5
    """How far it is shifted."""

    def get_loaders(self):
        return {{"train": self.make_loader(Points(), shuffle=True), "valid": self.make_loader(Points())}}

    def get_model(self):
        {get_model}

    def get_callbacks(self):
        return {callbacks}
'''

COMMANDS = "'check', 'data', 'evaluate', 'export', 'list', 'predict', 'report', 'train'."
DEFAULTS = {
    "count": 20,
    "item": '{"image": image, "target": target, "sample_id": sample_id}',
    "width": 5,
    "outputs": '{"logits": logits}',
    "get_model": "return Net()",
    "callbacks": "[]",
}


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    """Each test works in an empty folder, and what it imports leaves no trace in ``sys.path``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


@pytest.fixture
def mine(tmp_path):
    """Return a function that writes ``mine.py``, an experiment of the user's, in variations, and returns its name."""

    def write(name="mine.py", **changes):
        (tmp_path / name).write_text(MINE.format(**(DEFAULTS | changes)))
        return name

    return write


@pytest.fixture
def assay(capsys):
    """Return a function that runs the command, and returns its exit code, its output and its errors by line."""

    def run(*arguments):
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as leaving:
            code = leaving.code
        printed = capsys.readouterr()
        return code, printed.out, printed.err.splitlines()

    return run


@pytest.fixture
def refused(assay, tmp_path):
    """Return a function that expects wrong use: exit code 2, one line on stderr, and no trace on the disk."""

    def run(*arguments):
        before = contents(tmp_path)
        code, _, errors = assay(*arguments)
        assert code == 2, errors
        assert len(errors) == 1, errors
        assert errors[0].startswith("assay: error: ")
        assert contents(tmp_path) == before
        return errors[0].removeprefix("assay: error: ")

    return run


def contents(folder):
    """Return every path below a folder with its bytes; None for a folder."""
    return {path: path.read_bytes() if path.is_file() else None for path in Path(folder).rglob("*")}


def only_run(name="mine"):
    (run,) = Path("runs", name).iterdir()
    return run


def console_script():
    return str(Path(sys.executable).with_name("assay"))


# -- wrong use ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], f"a command is missing: {COMMANDS.rstrip('.')}; `assay --help` explains them."),
        (["trian", "digits"], "unknown command 'trian'; did you mean 'train'? There is: " + COMMANDS),
        (["list", "digits"], "unrecognized arguments: digits"),
        (["train"], "train needs an experiment first: assay train EXP; `assay list` names them."),
        (["train", "--epochs", "3"], "train needs an experiment first: assay train EXP; `assay list` names them."),
        (["train", "nowhere.py"], "the experiment 'nowhere.py' does not exist: there is no file nowhere.py."),
        (["train", "a/folder"], "the experiment 'a/folder' does not exist: there is no file a/folder."),
    ],
)
def test_a_wrong_command_is_refused_in_one_line(refused, arguments, message):
    assert refused(*arguments) == message


def test_an_unknown_experiment_names_the_closest(refused):
    message = refused("train", "digit")
    assert message.startswith("unknown experiment 'digit'")
    assert "did you mean 'digits'?" in message
    assert "a path to a file of yours ends in .py" in message


def test_a_file_without_an_experiment_is_refused(refused, tmp_path):
    (tmp_path / "empty.py").write_text("x = 1\n")
    assert refused("train", "empty.py") == (
        "experiment 'empty.py' must define exactly one subclass of Experiment; it defines none."
    )


def test_a_file_with_two_experiments_is_refused(refused, tmp_path, mine):
    source = (tmp_path / mine()).read_text()
    (tmp_path / "two.py").write_text(source + "\n\nclass Another(Mine):\n    pass\n")
    assert refused("train", "two.py") == (
        "experiment 'two.py' must define exactly one subclass of Experiment; it defines Mine, Another."
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--eopchs", "3"], "unknown flag '--eopchs'; did you mean '--epochs'? --help-all explains them all."),
        (["--xyzzy"], "unknown flag '--xyzzy'. --help-all explains them all."),
        (["--epoch", "3"], "unknown flag '--epoch'; did you mean '--epochs'? --help-all explains them all."),
        (["three"], "unrecognized arguments: three"),
        (["--epochs"], "--epochs needs a value."),
        (["--run-dir"], "--run-dir needs a value."),
        (["--epochs", "three"], "--epochs must be int, got 'three'."),
        (["--epochs", "2.5"], "--epochs must be int, got '2.5'."),
        (["--batch_size=many"], "--batch-size must be int, got 'many'."),
        (["--lr", "x"], "--lr must be float, got 'x'."),
        (["--shift", "far"], "--shift must be float, got 'far'."),
        (["--clip-grad-norm", "x"], "--clip-grad-norm must be float or null, got 'x'."),
        (["--milestones", "[3, x]"], "--milestones must be list[int] or int, got \"[3, 'x']\"."),
        (["--optimizer-options", "x"], "--optimizer-options must be dict[str, Any], got 'x'."),
        (["--deterministic", "maybe"], "--deterministic must be bool, got 'maybe'."),
        (["--epochs", "0"], "epochs must be at least 1, got 0."),
        (["--batch-size", "-1"], "batch_size must be at least 1, got -1."),
        (["--lr", "0"], "lr must be greater than 0, got 0.0."),
        (["--lr=-0.1"], "lr must be greater than 0, got -0.1."),
        (["--workers", "-1"], "workers must be at least 0, got -1."),
        (["--clip-grad-value", "0"], "clip_grad_value must be greater than 0, got 0.0."),
        (["--warmup-epochs", "5"], "warmup_epochs must be less than epochs (2), got 5.0."),
        (
            ["--scheduler", "cosin"],
            "unknown scheduler 'cosin'; did you mean 'cosine'? There is: "
            "'cosine', 'cyclic', 'multi-step', 'none', 'one-cycle', 'plateau'.",
        ),
        (["--device", "tpu"], "unknown device 'tpu'; did you mean 'cpu'? There is: 'auto', 'cpu', 'cuda'."),
        (["--precision", "fp8"], "unknown precision 'fp8'. There is: 'bf16', 'fp16', 'fp32', 'tf32'."),
        (["--precision", "fp16"], "precision 'fp16' needs a GPU; on a CPU choose 'bf16' or 'fp32'."),
        (["--monitor", "loss"], "monitor must read LOADER/METRIC:min or LOADER/METRIC:max, got 'loss'."),
        (["--monitor", "[a/b:up]"], "monitor must read LOADER/METRIC:min or LOADER/METRIC:max, got 'a/b:up'."),
        (["--monitor", "test/loss:min"], "monitor 'test/loss': there is no such loader; there is 'train', 'valid'."),
        (
            ["--monitor", "valid/acuracy:max"],
            "monitor 'valid/acuracy': loader 'valid' has no such metric; it has 'loss'. "
            "So it is after --sanity-batches 1; with 0 the first epoch decides.",
        ),
        (["--monitor", "[]"], "monitor must name one or several different metrics, got []."),
        (["--config", "none.yaml"], "--config none.yaml cannot be read: No such file or directory."),
        (["--config=."], "--config . cannot be read: Is a directory."),
        (["--resume", "nowhere"], "nowhere is not a run folder: it holds no config.yaml."),
        (["--run-dir", "mine.py"], "--run-dir mine.py must be a folder, and is a file."),
    ],
)  # fmt: skip
def test_a_wrong_flag_is_refused_in_one_line(refused, mine, arguments, message):
    assert refused("train", mine(), *arguments) == message


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("AdamWW", r"unknown optimizer 'AdamWW'; did you mean 'AdamW'\? There is: .*'SGD'"),
        ("LBFGS", r"optimizer 'LBFGS' does not fit: it needs a closure; there is .*'SGD'"),
    ],
)
def test_an_optimizer_that_does_not_fit_is_refused(refused, mine, name, message):
    assert re.match(message, refused("train", mine(), "--optimizer", name))


def test_an_argument_that_the_optimizer_lacks_is_refused(refused, mine):
    message = refused("train", mine(), "--optimizer-options", "{nesterov: true}")
    assert message.startswith("optimizer AdamW takes no 'nesterov'; it takes 'amsgrad', ")


def test_a_device_that_the_machine_lacks_is_refused(refused, mine, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    message = refused("train", mine(), "--device", "cuda")
    assert message == "device must be 'cpu' or 'auto' on this machine: 'cuda' needs a GPU that torch can use."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("eopchs: 3\n", "unknown field in a.yaml: 'eopchs'; did you mean 'epochs'? --help-all explains them all."),
        ("epochs: three\n", "--epochs must be int, got 'three'."),
        ("epochs: 0\n", "epochs must be at least 1, got 0."),
        ("- 1\n- 2\n", "--config a.yaml must hold fields with their values, such as 'epochs: 3', got [1, 2]."),
        ("", "--config a.yaml must hold fields with their values, such as 'epochs: 3', got None."),
    ],
)
def test_a_wrong_config_file_is_refused_in_one_line(refused, mine, tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    assert refused("train", mine(), "--config", "a.yaml") == message


@pytest.mark.parametrize("content", [b"a: [1, 2\n  b: {", b"\xff\xfe\x00PK"])
def test_a_config_file_that_is_not_yaml_is_refused_in_one_line(refused, mine, tmp_path, content):
    (tmp_path / "a.yaml").write_bytes(content)
    assert refused("train", mine(), "--config", "a.yaml").startswith("--config a.yaml must be a YAML file: ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"item": "(image, target)"},
            "loader 'valid' must give dicts, got a list: let the data set return a dict an item, "
            "for example {'image': ..., 'target': ..., 'sample_id': ...}.",
        ),
        (
            {"item": '{"image": image, "label": target}'},
            "LossTerm('logits', 'target') asks for key 'target', which the batch lacks; it has "
            "'image', 'label', 'logits'.",
        ),
        (
            {"item": '{"picture": image, "target": target}'},
            "input_key='image' asks for key 'image', which the batch lacks; it has 'picture', 'target'.",
        ),
        (
            {"callbacks": '[Metrics(num_classes=3, output_key="scores")]'},
            "Metrics asks for key 'scores', which the batch lacks; it has 'image', 'logits', 'sample_id', 'target'.",
        ),
        (
            {"callbacks": '[BestWorstBatches("acuracy")]'},
            "BestWorstBatches(metric='acuracy') asks for key 'acuracy', which the metrics of a valid batch lacks; "
            "it has 'loss'.",
        ),
        (
            {"callbacks": '[BestWorstBatches(image_key="picture")]'},
            "BestWorstBatches asks for key 'picture', which the batch lacks; it has "
            "'image', 'logits', 'sample_id', 'target'.",
        ),
        (
            {"outputs": '{"logits": logits, "target": logits}'},
            "the model returns 'target', which the batch holds too: rename one of them.",
        ),
        (
            {"outputs": "logits"},
            "the model must return a dict of named outputs, got a Tensor from Net: return {'logits': ...} instead.",
        ),
        ({"callbacks": "[BestWorstBatches(k_images=0)]"}, "k_images must be an integer of at least 1, got 0."),
    ],
)
def test_an_experiment_that_does_not_fit_is_refused_in_one_line(refused, mine, changes, message):
    assert refused("train", mine(**changes)) == message


def test_an_empty_loader_is_refused(refused, mine, tmp_path):
    source = (tmp_path / mine(count=0)).read_text()
    (tmp_path / "mine.py").write_text(source.replace(", shuffle=True", ""))  # torch's own sampler would refuse first
    message = refused("train", "mine.py")
    assert message == "loader 'train' is empty: its data set has 0 items, batch_size is 8 and drop_last is False."


def test_wrong_use_leaves_the_users_empty_run_folder_empty(refused, mine, tmp_path):
    (tmp_path / "mine_to_fill").mkdir()
    refused("train", mine(), "--run-dir", "mine_to_fill", "--monitor", "valid/nope:min")
    assert list((tmp_path / "mine_to_fill").iterdir()) == []


def test_wrong_use_removes_each_folder_that_was_made_for_the_run_and_no_other(refused, mine, tmp_path):
    (tmp_path / "a").mkdir()
    refused("train", mine(), "--run-dir", "a/b/c", "--optimizer", "LBFGS")
    assert list((tmp_path / "a").iterdir()) == []


def test_a_run_folder_with_a_run_in_it_is_refused(assay, refused, mine):
    assert assay("train", mine(), "--run-dir", "one", "--epochs", "1")[0] == 0
    message = refused("train", "mine.py", "--run-dir", "one")
    assert message == "--run-dir one holds a run already: choose another, or continue a run with --resume."


def test_a_run_folder_with_other_files_is_refused(refused, mine):
    assert refused("train", mine(), "--run-dir", ".").startswith("--run-dir . holds other files: ")


# -- what works -----------------------------------------------------------------------------------------------------


def test_a_file_of_the_users_trains_by_its_path(assay, mine, monkeypatch):
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    monkeypatch.setenv("COLUMNS", "200")  # pytest's workers have 80, which is too few for all metrics
    code, output, errors = assay("train", mine(callbacks="[Metrics(num_classes=3), BestWorstBatches()]"))
    run = only_run()
    assert (code, errors) == (0, [])
    lines = output.splitlines()
    assert lines[0] == f"run folder: {run}"
    assert re.fullmatch(
        r"best epoch: [12] by valid/loss \(train/loss \S+, train/accuracy \S+, valid/loss \S+, valid/accuracy \S+\)",
        lines[-5],
    )
    assert lines[-4] == f"run folder: {run}"
    assert re.fullmatch(
        r"look at it: \S*tensorboard --logdir runs --samples_per_plugin images=200(, |\n)then open "
        r"http://localhost:6006",
        "\n".join(lines[-3:-1]),
    )
    assert lines[-1] == f"or open {run / 'report.html'}"


def test_a_folder_of_the_users_trains_by_its_path(assay, mine, tmp_path):
    (tmp_path / "project").mkdir()
    mine("project/__init__.py")
    assert assay("train", "./project", "--epochs", "1")[0] == 0
    assert (only_run("project") / "metrics.csv").is_file()


def test_a_file_of_the_users_may_import_its_neighbour(assay, mine, tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "neighbour_of_mine.py").write_text("WIDTH = 7\n")
    source = "from neighbour_of_mine import WIDTH\n"
    path = tmp_path / mine("deep/mine.py", width="WIDTH")
    path.write_text(path.read_text().replace("import torch\n", f"import torch\n{source}", 1))
    assert assay("train", "deep/mine.py", "--epochs", "1", "--run-dir", "one")[0] == 0
    assert load_checkpoint("one")["model"][""]["layers.1.weight"].shape == (7, 16)


def test_flags_are_written_with_dashes_or_underscores_with_a_space_or_an_equals_sign(assay, mine):
    mine()
    forms = [["--batch-size", "4"], ["--batch_size", "4"], ["--batch-size=4"], ["--batch_size=4"]]
    for number, form in enumerate(forms):
        assert assay("train", "mine.py", "--epochs=1", f"--run_dir=run-{number}", *form)[0] == 0
    configs = {Path(f"run-{number}/config.yaml").read_text() for number in range(len(forms))}
    assert len(configs) == 1
    assert "batch_size: 4\n" in configs.pop()


def test_one_monitor_needs_no_brackets_and_several_do(assay, mine):
    mine(callbacks="[Metrics(num_classes=3)]")
    assay("train", "mine.py", "--epochs", "1", "--run-dir", "one", "--monitor", "valid/accuracy:max")
    assay("train", "mine.py", "--epochs", "1", "--run-dir", "two", "--monitor", "[valid/accuracy:max, train/loss:min]")
    assert "monitor:\n- valid/accuracy:max\ntop_k" in Path("one/config.yaml").read_text()
    assert "monitor:\n- valid/accuracy:max\n- train/loss:min\ntop_k" in Path("two/config.yaml").read_text()


def test_the_run_folder_holds_exactly_what_it_should(assay, mine):
    assert assay("train", mine(callbacks="[BestWorstBatches()]"), "--top-k", "2")[0] == 0
    run = only_run()
    assert re.fullmatch(r"\d{8}-\d{6}", run.name)
    assert {path.name for path in run.iterdir()} == {
        "config.yaml", "environment.json", "findings.json", "metrics.csv", "train", "valid", "checkpoints", "results",
        "report.html",
    }  # fmt: skip
    assert {path.name for path in (run / "checkpoints").iterdir()} == {
        "last.pt", "best.pt", "epoch-0001.pt", "epoch-0002.pt", "index.json",
    }  # fmt: skip
    for loader in ("train", "valid"):
        (events,) = (run / loader).iterdir()
        assert events.name.startswith("events.out.tfevents.")


def test_the_config_of_a_run_taken_back_gives_the_same_fields_and_numbers(assay, mine):
    flags = ["--lr", "1e-5", "--milestones", "[1, 2]", "--clip-grad-norm", "0.5", "--optimizer-options", "{eps: 1e-7}"]
    assay("train", mine(), "--run-dir", "one", "--scheduler", "multi-step", "--shift", "2", *flags)
    code, _, errors = assay("train", "mine.py", "--config", "one/config.yaml", "--run-dir", "two")
    assert (code, errors) == (0, [])
    assert Path("two/config.yaml").read_text() == Path("one/config.yaml").read_text()
    assert "lr: 1.0e-05\n" in Path("two/config.yaml").read_text()
    assert read_metrics("two/metrics.csv") == read_metrics("one/metrics.csv")


def test_a_flag_wins_over_the_config_file(assay, mine, tmp_path):
    (tmp_path / "a.yaml").write_text("epochs: 3\nlr: 1e-2\n")
    assay("train", mine(), "--epochs", "1", "--config", "a.yaml", "--epochs", "2", "--run-dir", "one")
    config = Path("one/config.yaml").read_text()
    assert "epochs: 2\n" in config
    assert "lr: 0.01\n" in config


def test_environment_json_says_what_the_run_was_made_with(assay, mine, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/assay", "train", "mine.py"])
    assay("train", mine(), "--epochs", "1", "--run-dir", "one")
    environment = json.loads(Path("one/environment.json").read_text())
    assert environment["command"] == ["assay", "train", "mine.py"]
    assert environment["experiment"] == str(Path("mine.py").resolve())
    assert environment["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert environment["packages"]["catalyst"] == "22.4"
    assert environment["python"] == ".".join(map(str, sys.version_info[:3]))
    assert environment["device"] == "cpu"
    assert environment["cpus"] == os.cpu_count()
    assert environment["host"]
    assert environment["git"] is None  # this folder is no repository
    assert environment["generated"] is False


def test_environment_json_holds_commit_and_dirtiness_of_a_repository(assay, mine, tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        done = subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    mine()
    (tmp_path / ".gitignore").write_text("runs\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    assay("train", "mine.py", "--epochs", "1", "--run-dir", "runs/clean")
    (tmp_path / "mine.py").write_text((tmp_path / "mine.py").read_text() + "# changed\n")
    assay("train", "mine.py", "--epochs", "1", "--run-dir", "runs/dirty")
    states = [json.loads(Path(f"runs/{name}/environment.json").read_text())["git"] for name in ("clean", "dirty")]
    commit = git("rev-parse", "HEAD")
    assert states == [{"commit": commit, "dirty": False}, {"commit": commit, "dirty": True}]


def test_two_runs_of_one_second_get_folders_of_their_own(assay, mine, monkeypatch):
    from assay.runner.saving import run_folder

    class Frozen(run_folder.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 2, 3, 4, 5, tzinfo=tz)

    monkeypatch.setattr(run_folder, "datetime", Frozen)
    mine()
    for _ in range(3):
        assert assay("train", "mine.py", "--epochs", "1")[0] == 0
    names = {path.name for path in Path("runs/mine").iterdir()}
    assert names == {"20260102-030405", "20260102-030405-2", "20260102-030405-3"}


def test_metrics_csv_has_a_row_for_every_epoch_loader_and_metric(assay, mine):
    assay("train", mine(callbacks="[Metrics(num_classes=3)]"), "--epochs", "3", "--run-dir", "one")
    lines = Path("one/metrics.csv").read_text().splitlines()
    assert lines[0] == "epoch,loader,metric,value"
    keys = [tuple(line.split(",")[:3]) for line in lines[1:]]
    expected = {(e, loader, m) for e in "123" for loader in ("train", "valid") for m in ("loss", "accuracy")}
    assert set(keys) == expected
    assert len(keys) == len(expected)


LONG = pytest.mark.long("trains to the end and in two parts, with another scheduler")


# -- resuming -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheduler", "options"),
    [
        pytest.param("none", [], marks=LONG),
        pytest.param("multi-step", ["--milestones", "[1, 3]"], marks=LONG),
        ("plateau", ["--plateau-patience", "0"]),
    ],
)
def test_a_resumed_run_that_is_made_longer_equals_the_straight_run_bit_by_bit(assay, mine, scheduler, options):
    mine(callbacks="[Metrics(num_classes=3)]")
    flags = ["--scheduler", scheduler, *options, "--lr", "0.1"]
    assert assay("train", "mine.py", *flags, "--epochs", "4", "--run-dir", "straight")[0] == 0
    assert assay("train", "mine.py", *flags, "--epochs", "2", "--run-dir", "parts")[0] == 0
    assert_goes_on_like_the_straight_run(assay, "--epochs", "4")


@pytest.mark.parametrize("scheduler", ["cosine", *(pytest.param(name, marks=LONG) for name in ("one-cycle", "cyclic"))])
def test_a_run_that_goes_on_after_a_crash_equals_the_straight_run_bit_by_bit(assay, mine, scheduler):
    mine()
    flags = ["--scheduler", scheduler, "--lr", "0.1", "--warmup-epochs", "1", "--epochs", "4"]
    assert assay("train", "mine.py", *flags, "--run-dir", "straight")[0] == 0
    mine(callbacks="[Crash(epoch=3)]")
    assert assay("train", "mine.py", *flags, "--run-dir", "parts")[0] == 1
    mine()
    assert_goes_on_like_the_straight_run(assay)


def assert_goes_on_like_the_straight_run(assay, *flags):
    code, output, errors = assay("train", "mine.py", "--resume", "parts", *flags)
    assert (code, errors) == (0, [])
    assert re.findall(r"^epoch (\d)/4", output, re.M) == ["3", "4"]
    assert Path("parts/metrics.csv").read_text() == Path("straight/metrics.csv").read_text()
    assert Path("parts/config.yaml").read_text() == Path("straight/config.yaml").read_text()
    states = [load_checkpoint(run) for run in ("parts", "straight")]
    for state in states:
        del state["loggers"]  # the names of event files hold the time
    assert_equal(*states)


@pytest.fixture
def old_run(assay, mine):
    """A finished run of two epochs in the folder ``old``."""
    assert assay("train", mine(), "--run-dir", "old")[0] == 0
    return Path("old")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--batch-size", "4"],
            "--batch-size cannot change in a resumed run: it was 8, got 4. "
            "These can: --epochs, --sanity-batches, --data-dir, --workers, --device, --threads, --save-every-steps, "
            "--save-every-minutes, --on-save-error.",
        ),
        (
            ["--monitor", "train/loss:min"],
            "--monitor cannot change in a resumed run: it was ['valid/loss:min'], got ['train/loss:min']. "
            "These can: --epochs, --sanity-batches, --data-dir, --workers, --device, --threads, --save-every-steps, "
            "--save-every-minutes, --on-save-error.",
        ),
        (["--epochs", "1"], "--epochs of a resumed run must be at least 2, got 1."),
        (["--epochs", "0"], "--epochs of a resumed run must be at least 2, got 0."),
        (["--run-dir", "another"], "--run-dir cannot be given with --resume: the run continues in old."),
    ],
)
def test_what_would_make_it_another_run_is_refused_on_resume(refused, old_run, arguments, message):
    assert refused("train", "mine.py", "--resume", old_run, *arguments) == message


def test_what_may_change_and_what_stays_is_taken_on_resume(assay, old_run):
    same = ["--batch-size", "8", "--monitor", "valid/loss:min"]
    assert assay("train", "mine.py", f"--resume={old_run}", "--epochs=3", "--threads=1", *same)[0] == 0
    config = (old_run / "config.yaml").read_text()
    assert "epochs: 3\n" in config
    assert "threads: 1\n" in config


def test_the_config_file_of_the_run_itself_is_taken_on_resume(assay, old_run):
    assert assay("train", "mine.py", "--resume", old_run, "--config", "old/config.yaml", "--epochs", "3")[0] == 0
    assert max(epoch for epoch, _, _ in read_metrics("old/metrics.csv")) == 3


def test_a_run_of_another_experiment_is_not_resumed(refused, old_run, mine):
    message = refused("train", mine("another.py"), "--resume", old_run)
    assert message == f"--resume old is a run of {str(Path('mine.py').resolve())!r}, not of 'another.py'."


def test_a_folder_without_a_checkpoint_is_not_resumed(refused, old_run):
    for file in (old_run / "checkpoints").iterdir():
        file.unlink()
    assert refused("train", "mine.py", "--resume", "old") == "old holds no checkpoint 'last.pt'; there is nothing."


def test_where_all_checkpoints_are_truncated_the_newest_is_refused_and_the_run_stays_as_it_is(refused, old_run):
    for file in (old_run / "checkpoints").glob("epoch-*.pt"):
        file.write_bytes(file.read_bytes()[:1000])
    message = refused("train", "mine.py", "--resume", "old", "--epochs", "3")
    assert re.match(r"checkpoint old/checkpoints/epoch-0002\.pt was changed or cut off: ", message)


def test_a_foreign_checkpoint_is_refused_and_the_run_stays_as_it_is(refused, old_run):
    (old_run / "checkpoints" / "epoch-0001.pt").unlink()
    torch.save({"weights": torch.zeros(3)}, old_run / "checkpoints" / "last.pt")  # the file of epoch 2 as well
    (old_run / "checkpoints" / "index.json").unlink()
    message = refused("train", "mine.py", "--resume", "old", "--epochs", "3")
    assert message.startswith("checkpoint old/checkpoints/epoch-0002.pt is not one of assay's: ")


def test_a_checkpoint_that_no_longer_fits_the_model_is_refused_and_the_run_can_go_on(assay, old_run, mine):
    before = contents(old_run)
    mine(width=6)
    code, _, errors = assay("train", "mine.py", "--resume", "old", "--epochs", "3")
    assert code == 2
    assert len(errors) == 1
    assert errors[0].startswith("assay: error: the checkpoint does not fit this model: ")
    after = contents(old_run)
    assert {path: after[path] for path in before} == before
    mine()
    assert assay("train", "mine.py", "--resume", "old", "--epochs", "3")[0] == 0


# -- runs that fail -------------------------------------------------------------------------------------------------

FAILING = 'raise RuntimeError("my own mistake")'


def test_a_failing_experiment_shows_its_own_traceback_and_no_frame_of_ours(assay, mine):
    code, _, errors = assay("train", mine(get_model=FAILING))
    assert code == 1
    assert errors[0] == "Traceback (most recent call last):"
    assert re.match(r'  File ".*/mine\.py", line \d+, in get_model', errors[1])
    assert errors[2].strip() == FAILING
    assert errors[-2:] == [
        "RuntimeError: my own mistake",
        "assay: error: RuntimeError: my own mistake (--debug shows the traceback)",
    ]
    frames = [line for line in errors if line.startswith("  File ")]
    assert len(frames) == 1


def test_a_failing_neighbour_of_an_experiment_shows_its_own_traceback(assay, mine, tmp_path):
    (tmp_path / "layers_of_mine.py").write_text("def apply(logits):\n    return logits.no_such_method()\n")
    mine(outputs='{"logits": __import__("layers_of_mine").apply(logits)}')
    code, _, errors = assay("train", "mine.py")
    frames = [line for line in errors if line.startswith("  File ")]
    assert code == 1
    assert [Path(frame.split('"')[1]).name for frame in frames] == ["mine.py", "layers_of_mine.py"]


def test_a_failing_data_set_in_a_neighbouring_file_shows_its_own_traceback(assay, mine, tmp_path):
    (tmp_path / "data_of_mine.py").write_text(
        "class Broken(list):\n    def __getitem__(self, i):\n        return 1 / 0\n"
    )
    path = tmp_path / mine()
    path.write_text(path.read_text().replace("Points()", '__import__("data_of_mine").Broken([1] * 20)'))
    code, _, errors = assay("train", "mine.py")
    assert code == 1
    assert re.match(r'  File ".*/data_of_mine\.py", line 3, in __getitem__', errors[1])
    reason = "item 0 of the data set Broken: ZeroDivisionError: division by zero"
    assert errors[-1] == f"assay: error: {reason} (--debug shows the traceback)"


def test_debug_shows_every_frame(assay, mine):
    code, _, errors = assay("train", mine(get_model=FAILING), "--debug")
    frames = [line for line in errors if line.startswith("  File ")]
    assert code == 1
    assert any("main.py" in frame for frame in frames)
    assert "mine.py" in frames[-1]
    assert errors[-1] == "RuntimeError: my own mistake"


def test_debug_shows_where_wrong_use_was_found(assay, mine):
    code, _, errors = assay("train", mine(), "--epochs", "three", "--debug")
    assert code == 2
    assert errors[0] == "Traceback (most recent call last):"
    assert errors[-1] == "assay: error: --epochs must be int, got 'three'."


def test_a_failed_run_keeps_its_folder_and_what_it_saved(assay, mine):
    code, _, errors = assay("train", mine(callbacks="[Crash(epoch=2)]"), "--run-dir", "one")
    assert code == 1
    assert errors[-1] == "assay: error: RuntimeError: crash (--debug shows the traceback)"
    assert {epoch for epoch, _, _ in read_metrics("one/metrics.csv")} == {1}
    assert load_checkpoint("one")["epoch"] == 1


# -- real processes -------------------------------------------------------------------------------------------------


@pytest.mark.long("imports torch and trains in a process of its own")
def test_ctrl_c_ends_a_run_with_130_and_one_line(mine, tmp_path):
    mine(callbacks="[BestWorstBatches()]")
    command = [console_script(), "train", "mine.py", "--epochs", "1000000", "--run-dir", "one"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for(lambda: (tmp_path / "one/checkpoints/last.pt").exists(), process)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=180)
        finally:
            process.kill()
    assert process.returncode == 130
    assert re.fullmatch(r"assay: stopped by SIGINT .* assay train \S+/mine\.py --resume one\n", errors)
    assert load_checkpoint("one")["epoch"] >= 1


def wait_for(condition, process, timeout_s=90):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_console_script_exits_with_the_code_and_says_why_on_stderr(mine, tmp_path):
    done = subprocess.run(
        [console_script(), "train", mine(), "--epochs", "three"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "assay: error: --epochs must be int, got 'three'.\n"
    assert {path.name for path in tmp_path.iterdir()} <= {"mine.py", "__pycache__"}


def test_listing_and_helping_import_neither_torch_nor_catalyst(tmp_path):
    code = """
import sys
from assay.runner.commands.main import main
assert main(["list"]) == 0
for arguments in (["--help"], ["train", "--help"]):
    try:
        main(arguments)
    except SystemExit as leaving:
        assert leaving.code == 0
print("heavy:", sorted({"torch", "catalyst", "numpy", "cv2", "albumentations"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "heavy: []" in done.stdout
    assert re.search(r"^digits +Handwritten digits", done.stdout, re.M)
    assert list(tmp_path.iterdir()) == []


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "assay.runner", "list"], capture_output=True, text=True, check=True)
    script = subprocess.run([console_script(), "list"], capture_output=True, text=True, check=True)
    assert done.stdout == script.stdout
    assert re.search(r"^digits +Handwritten digits", done.stdout, re.M)


# -- help -----------------------------------------------------------------------------------------------------------


def test_the_help_names_the_commands(assay):
    code, output, errors = assay("--help")
    assert (code, errors) == (0, [])
    assert "list " in output
    assert "train " in output
    assert "assay train EXP --help shows the fields of an experiment." in output


def test_the_help_of_train_says_what_an_experiment_is(assay, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, output, errors = assay("train", "--help")
    assert (code, errors) == (0, [])
    assert output.startswith(
        "usage: assay train EXP [--config FILE] [--FIELD VALUE ...] [--run-dir DIR] [--resume RUN]"
    )
    assert "a name that `assay list` shows, or a path to a file of yours" in output


def test_the_help_of_an_experiment_shows_its_fields_and_trains_nothing(assay, mine, tmp_path):
    code, output, errors = assay("train", mine(), "--help")
    assert (code, errors) == (0, [])
    assert "A file of the user's." in output
    assert re.search(r"--shift FLOAT +How far it is shifted\. \(default: 0\.5\)", output)
    assert {path.name for path in tmp_path.iterdir()} == {"mine.py"}
