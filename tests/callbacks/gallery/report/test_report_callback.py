"""``Report``: the page of a run at its end, in any project, which breaks no run."""

import csv
import json
import logging

import pytest
import torch
from catalyst import dl
from kit import fit, read_events
from report_runs import data_of
from torch import nn

from assay.callbacks import GradientStats, Report, TimeMonitor, UsageError
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
