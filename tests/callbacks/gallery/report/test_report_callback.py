"""``Report``: the page of a run at its end, in any project, which breaks no run."""

import csv
import json
import logging

import pytest
import torch
from catalyst import dl
from kit import Kill, Killed, fit, read_events
from report_runs import data_of
from torch import nn

from assay.callbacks import Findings, GradientStats, Report, Results, SampleHistory, TimeMonitor, UsageError
from assay.callbacks.gallery.report import page
from assay.runner import DictRunner


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, image):
        return {"logits": self.head(self.first(image))}


def items():
    chance = torch.Generator().manual_seed(0)
    return [
        {"image": row, "target": i % 3, "sample_id": f"s{i}"}
        for i, row in enumerate(torch.randn(12, 4, generator=chance))
    ]


def train(folder, *callbacks, epochs=2, **options):
    torch.manual_seed(0)
    return fit(DictRunner(), Net(), items(), callbacks, batch=4, epochs=epochs, logdir=str(folder), seed=1, **options)


def told(folder):
    (run,) = data_of(folder / "report.html")["runs"]
    return run["sections"]


def test_it_is_there_when_the_run_has_ended_with_all_that_others_have_written(tmp_path):
    train(tmp_path, Report(), TimeMonitor(), GradientStats())
    with open(tmp_path / "metrics.csv", newline="") as file:
        rows = [(row["loader"], row["metric"], int(row["epoch"]), float(row["value"])) for row in csv.DictReader(file)]
    sections = told(tmp_path)
    shown = [
        (one["loader"], one["name"], step, value)
        for one in sections["metrics"]
        for step, value in zip(one["steps"], one["values"], strict=True)
    ]
    assert sorted(shown) == sorted(rows) and len(rows) >= 4
    events = read_events(tmp_path / "valid")
    (forward,) = (one for one in sections["time"] if (one["loader"], one["name"]) == ("valid", "9_time/forward"))
    assert forward["values"] == [event.value for event in events.Scalars("9_time/forward")]


def test_without_a_page_there_is_the_table_of_gradients_alone(tmp_path):
    train(tmp_path, Report(page=False), GradientStats())
    assert (tmp_path / "results" / "gradients.csv").exists()
    assert not (tmp_path / "report.html").exists()


def test_the_gradients_of_each_epoch_are_in_a_table_and_in_the_page(tmp_path):
    stats = GradientStats()
    train(tmp_path, stats, Report(), epochs=3)
    (shown,) = told(tmp_path)["gradients"]
    kept = dict(stats.history_["train"])
    assert shown["epochs"] == [1, 2, 3] and set(shown["parameters"]) == {name for name, _ in Net().named_parameters()}
    for row, name in zip(shown["norms"], shown["parameters"], strict=True):
        assert row == pytest.approx([kept[epoch][name] for epoch in (1, 2, 3)], rel=1e-8)


def test_a_stock_run_has_one_too_with_the_metrics_and_settings_that_the_runner_knows(tmp_path):
    runner = dl.SupervisedRunner(input_key="image", output_key="logits", target_key="target", loss_key="loss")
    chance = torch.Generator().manual_seed(0)
    data = [{"image": row, "target": i % 3} for i, row in enumerate(torch.randn(12, 4, generator=chance))]
    fit(
        runner,
        nn.Linear(4, 3),
        data,
        {"report": Report(str(tmp_path))},
        batch=4,
        epochs=2,
        tensorboard=tmp_path / "logs",
        hparams={"lr": 0.5},
    )
    sections = told(tmp_path)
    assert sections["settings"] == [["lr", "0.5"]]
    losses = {one["loader"]: one["values"] for one in sections["metrics"] if one["name"] == "loss"}
    assert set(losses) == {"train", "valid"} and all(len(values) == 2 for values in losses.values())
    assert losses["valid"][-1] == pytest.approx(runner.epoch_metrics["valid"]["loss"])


def test_what_fails_is_said_on_one_line_and_the_run_ends_as_it_would(tmp_path, caplog):
    (tmp_path / "report.html").mkdir()
    with caplog.at_level(logging.WARNING, "assay"):
        runner = train(tmp_path, Report())
    assert runner.epoch_step == 2
    (line,) = [record.getMessage() for record in caplog.records if "Report" in record.getMessage()]
    assert "report.html" in line and "\n" not in line


def test_it_is_given_once_and_needs_a_folder(tmp_path):
    with pytest.raises(UsageError, match="give it one Report"):
        train(tmp_path, Report(), Report())
    runner = dl.SupervisedRunner(input_key="image", output_key="logits", target_key="target", loss_key="loss")
    data = [{"image": torch.ones(4), "target": 0}]
    with pytest.raises(UsageError, match="Report needs a folder"):
        fit(runner, nn.Linear(4, 3), data, [Report()], batch=1, tensorboard=tmp_path / "logs")


def of_rank(folder):
    train(folder, Report(), GradientStats(), epochs=1)


def test_of_several_processes_the_main_one_writes_it(rank_processes, tmp_path):
    rank_processes.run(2, of_rank, tmp_path)
    sections = told(tmp_path)
    assert sections["summary"]["last_epoch"] == 1 and sections["gradients"]
    assert json.dumps(sections)


def full(folder, *more, **options):
    others = [SampleHistory(), Results(), Findings(stop=False), GradientStats(), *more]
    return train(folder, Report(), *others, epochs=3, **options)


def without_paths(data):
    """Return the data of a page without what differs from folder to folder and from moment to moment."""
    (run,) = data["runs"]
    run["sections"] = {name: of for name, of in run["sections"].items() if name not in ("summary", "time", "figures")}
    for loader in run["loaders"]:
        loader["document"].pop("run")
    return [run["sections"], run["loaders"]]


def test_at_the_end_of_the_run_it_says_what_the_command_says_later(tmp_path):
    full(tmp_path)
    at_the_end = data_of(tmp_path / "report.html")
    page.write_report([tmp_path], tmp_path / "later.html")
    later = data_of(tmp_path / "later.html")
    assert at_the_end.pop("made") <= later.pop("made")
    # The files of the run hold no settings here, which the runner knows.
    assert at_the_end == later
    (run,) = later["runs"]
    assert [one["document"]["loader"] for one in run["loaders"]] == ["train", "valid"]
    assert [one["loader"] for one in run["sections"]["classes"]] == ["valid", "train"]


def test_a_run_that_was_killed_can_be_reported_and_ends_with_the_report_of_one_that_was_not(tmp_path):
    full(tmp_path / "straight")
    with pytest.raises(Killed):
        full(tmp_path / "killed", Kill(2, 1))
    assert not (tmp_path / "killed" / "report.html").exists()
    page.write_report([tmp_path / "killed"], tmp_path / "killed.html")
    (run,) = data_of(tmp_path / "killed.html")["runs"]
    assert run["sections"]["summary"]["last_epoch"] >= 1 and run["sections"]["classes"]
    full(tmp_path / "killed", resume=str(tmp_path / "killed"))
    straight, killed = (without_paths(data_of(tmp_path / name / "report.html")) for name in ("straight", "killed"))
    assert straight == killed


def test_without_pyarrow_the_samples_are_left_out_and_it_says_so(tmp_path, monkeypatch):
    full(tmp_path)
    monkeypatch.setattr(page, "find_spec", lambda name: None)
    page.write_report([tmp_path], tmp_path / "page.html")
    (run,) = data_of(tmp_path / "page.html")["runs"]
    assert run["loaders"] == [] and "classes" not in run["sections"]
    assert "The samples are left out, as pyarrow is not installed." in run["sections"]["notes"]
    with pytest.raises(UsageError, match="pip install"):
        page.samples_page([tmp_path])
