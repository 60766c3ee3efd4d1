"""``assay evaluate`` gives a run's metrics again, without touching the run."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from kit import read_events

from assay.runner import UsageError
from assay.runner.commands.evaluate import evaluate
from assay.runner.commands.main import main
from assay.runner.commands.reopen import reopen
from assay.runner.saving.loggers import read_metrics

TOY = Path(__file__).parents[1] / "toys" / "labels.py"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a function that trains the toy, once, and hands out a copy of its run folder."""
    runs = {}

    def run(folder, *arguments):
        if arguments not in runs:
            runs[arguments] = tmp_path_factory.mktemp("runs") / "run"
            assert main(["train", str(TOY), "--run-dir", str(runs[arguments]), "--epochs", "3", *arguments]) == 0
        shutil.copytree(runs[arguments], folder / "run")
        return folder / "run"

    return run


def of_epoch(run, epoch, loader):
    values = read_metrics(run / "metrics.csv")
    return {name: value for (e, of, name), value in values.items() if (e, of) == (epoch, loader)}


def best_epoch(run):
    index = json.loads((run / "checkpoints" / "index.json").read_text())
    return next(entry["epoch"] for entry in index["checkpoints"] if entry["file"] == "best.pt")


@pytest.mark.parametrize("arguments", [(), ("--chance", "true"), ("--ema-decay", "0.5"), ("--batch-size", "3")])
def test_the_metrics_are_those_of_the_checkpoints_epoch(trained, tmp_path, arguments):
    run = trained(tmp_path, *arguments)
    for which, epoch in [("best", best_epoch(run)), ("last", 3), ("epoch-0002.pt", 2)]:
        done = evaluate(run, checkpoint=which)
        expected = of_epoch(run, epoch, "valid")
        assert (done.epoch, done.metrics.keys()) == (epoch, expected.keys())
        assert done.metrics == pytest.approx(expected, abs=1e-6)
        assert done.folder == run / "evaluate" / f"valid-{which.removesuffix('.pt')}"
        written = read_metrics(done.folder / "metrics.csv")
        assert written == {(epoch, "valid", name): value for name, value in done.metrics.items()}


def test_pictures_and_scalars_stand_at_the_checkpoints_epoch(trained, tmp_path):
    done = evaluate(trained(tmp_path), checkpoint="epoch-0002.pt")
    events = read_events(done.folder)
    assert [(event.step, event.value) for event in events.Scalars("1_overview/metrics/accuracy")] == [
        (2, pytest.approx(done.metrics["accuracy"]))
    ]


def test_the_run_itself_stays_as_it_is(trained, tmp_path):
    run = trained(tmp_path)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    evaluate(run)
    assert {path: path.read_bytes() for path in before} == before


def test_a_second_time_replaces_the_first(trained, tmp_path):
    run = trained(tmp_path)
    done = evaluate(run)
    (done.folder / "old").touch()
    evaluate(run)
    events, *others = sorted(path.name for path in done.folder.iterdir())
    assert events.startswith("events.out.tfevents.") and others == ["metrics.csv", "results"]
    assert [path.name for path in (run / "evaluate").iterdir()] == ["valid-best"]


def test_a_train_loader_leaves_the_weights_as_they_are(trained, tmp_path):
    run = trained(tmp_path)
    values = [evaluate(run, loader="train", checkpoint="last").metrics for _ in range(2)]
    assert values[0] == values[1]
    assert values[0]["loss"] != of_epoch(run, 3, "train")["loss"]  # of weights that changed meanwhile
    assert (3, "train", "accuracy") in read_metrics(run / "evaluate" / "train-last" / "metrics.csv")


def test_a_failure_leaves_the_results_of_before(trained, tmp_path, monkeypatch):
    run = trained(tmp_path)
    before = (evaluate(run).folder / "metrics.csv").read_bytes()
    monkeypatch.setattr("assay.callbacks.Metrics.on_loader_end", None)
    with pytest.raises(TypeError):
        evaluate(run)
    assert (run / "evaluate" / "valid-best" / "metrics.csv").read_bytes() == before
    assert [path.name for path in (run / "evaluate").iterdir()] == ["valid-best"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_run_of_a_gpu_is_evaluated_on_the_cpu(trained, tmp_path):
    run = trained(tmp_path)
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"device": "cuda", "precision": "fp16"}))
    assert evaluate(run).metrics == pytest.approx(of_epoch(run, best_epoch(run), "valid"), abs=1e-6)


def test_the_data_may_have_moved(trained, tmp_path):
    assert reopen(trained(tmp_path), data_dir="/elsewhere").data_dir == "/elsewhere"


def _of_ranks(run):
    return evaluate(run).metrics


def test_several_processes_give_the_same_metrics(trained, tmp_path, processes):
    run = trained(tmp_path, "--batch-size", "3")
    for metrics in processes.run(2, _of_ranks, run):
        assert metrics == pytest.approx(of_epoch(run, best_epoch(run), "valid"), abs=1e-6)
    assert [path.name for path in (run / "evaluate").iterdir()] == ["valid-best"]


def test_the_command_prints_every_metric(trained, tmp_path, capfd):
    run = trained(tmp_path)
    capfd.readouterr()
    assert main(["evaluate", str(run), "--checkpoint", "last"]) == 0
    first, *metrics, last = capfd.readouterr().out.splitlines()
    assert first == "valid, weights of epoch 3"
    assert [line.split()[0] for line in metrics] == ["loss", "accuracy", "f1"]
    assert last == f"metrics and pictures: {run / 'evaluate' / 'valid-last'}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--loader", "vaild"], "unknown loader 'vaild'; did you mean 'valid'? There is: 'train', 'valid'."),
        (["--checkpoint", "epoch-0009.pt"], "holds no checkpoint 'epoch-0009.pt'; there is "),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--data", "x"], "unrecognized arguments: --data x"),
    ],
)
def test_wrong_arguments_get_one_line(trained, tmp_path, capfd, arguments, message):
    run = trained(tmp_path)
    capfd.readouterr()
    assert main(["evaluate", str(run), *arguments]) == 2
    printed = capfd.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
    assert not (run / "evaluate").exists()


def test_a_run_of_an_experiment_that_has_changed_names_the_field(trained, tmp_path):
    run = trained(tmp_path)
    with open(run / "config.yaml", "a") as file:
        file.write("gone: 3\n")
    with pytest.raises(UsageError, match=r"unknown field in .*config.yaml: 'gone'"):
        evaluate(run)
