import math

import pytest
from kit import Kill, Killed
from test_report_callback import train

from assay.callbacks import GradientStats, Report
from assay.callbacks.gallery.report.gradient_table import GradientTable, gradient_maps, read_rows


def row(epoch, name, norm, trouble=""):
    return ["train", str(epoch), name, str(norm), "-1", "0", "1", "0.5", "0.25", "", "", trouble]


def test_a_run_that_goes_on_from_an_earlier_epoch_cuts_off_what_came_after_it(tmp_path):
    path = tmp_path / "gradients.csv"
    table = GradientTable(path)
    for epoch in (1, 2, 3):
        table.add(epoch, [row(epoch, "a", epoch), row(epoch, "=b", 10 * epoch)])
    with open(path, "a") as file:
        file.write("train,4,a,0.")  # killed
    GradientTable(path).add(3, [row(3, "a", 33)])
    assert [(one["epoch"], one["parameter"], one["norm"]) for one in read_rows(path)] == [
        ("1", "a", "1"), ("1", "'=b", "10"), ("2", "a", "2"), ("2", "'=b", "20"), ("3", "a", "33")
    ]  # fmt: skip


def test_a_map_has_each_number_by_parameter_and_epoch_and_what_went_wrong(tmp_path):
    path = tmp_path / "gradients.csv"
    table = GradientTable(path)
    table.add(1, [row(1, "a", 0.123456789123), row(1, "b", "inf", "broken")])
    table.add(2, [row(2, "a", 1e-9, "vanished")])
    (told,) = gradient_maps(read_rows(path))
    assert (told["loader"], told["parameters"], told["epochs"]) == ("train", ["a", "b"], [1, 2])
    assert told["norms"] == [[0.123456789, 1e-9], ["inf", None]]
    assert told["others"] == {"std": [[0.5, 0.5], [0.5, None]], "zeros": [[0.25, 0.25], [0.25, None]]}
    assert told["troubles"] == [["b", 1, "broken"], ["a", 2, "vanished"]]


def test_of_many_epochs_and_parameters_some_are_left_out_and_counted():
    rows = [
        dict(zip(("loader", "epoch", "parameter", "norm"), row(epoch, f"p{number}", 1)[:4], strict=True))
        for epoch in range(1, 122)
        for number in range(3 if epoch > 1 else 450)
    ]
    (told,) = gradient_maps(rows)
    assert len(told["parameters"]) == 400 and told["left_out"] == 50
    assert told["epochs"] == list(range(1, 122, 3)) and told["epochs_left_out"] == 80


def test_a_table_of_an_earlier_version_has_norms_alone(tmp_path):
    path = tmp_path / "gradients.csv"
    path.write_text("loader,epoch,parameter,norm\ntrain,1,a,0.5\n")
    (told,) = gradient_maps(read_rows(path))
    assert told["norms"] == [[0.5]] and told["others"] == {} and told["troubles"] == []


def test_the_numbers_are_those_of_the_diagnostic_with_a_resumed_run_too(tmp_path):
    stats = GradientStats(update_ratio=True)
    train(tmp_path / "straight", stats, Report(), epochs=3)
    ended = stats.ended_["train"]
    assert ended.epoch == 3
    last = {
        one["parameter"]: one for one in read_rows(tmp_path / "straight/results/gradients.csv") if one["epoch"] == "3"
    }
    assert set(last) == set(ended.names)
    for place, name in enumerate(ended.names):
        for column in ("norm", "min", "max", "std", "zeros", "update_ratio"):
            value = float(ended.summary[column][place])
            assert float(last[name][column] or "nan") == pytest.approx(value, rel=1e-8, nan_ok=True)
        assert math.isfinite(float(last[name]["norm"]))
    with pytest.raises(Killed):
        train(tmp_path / "killed", GradientStats(update_ratio=True), Report(), Kill(2, 1), epochs=3)
    train(tmp_path / "killed", GradientStats(update_ratio=True), Report(), epochs=3, resume=str(tmp_path / "killed"))
    tables = [(tmp_path / name / "results/gradients.csv").read_text() for name in ("straight", "killed")]
    assert tables[0] == tables[1]


def test_a_parameter_without_a_gradient_is_named_as_such():
    import torch

    from assay.callbacks.training.gradient_warnings import GradientWarnings

    summary = {
        "norm": torch.tensor([1.0, 0.0, 1e-6, 1e6, 2.0]), "zeros": torch.tensor([0.0, 1, 0, 0, 0]),
        "finite_steps": torch.tensor([2, 2, 2, 2, 0]), "missing_steps": torch.tensor([0, 0, 0, 0, 2]),
        "broken_steps": torch.tensor([0, 0, 0, 0, 0]),
    }  # fmt: skip
    names = ["fine", "dead", "vanished.weight", "exploded", "missing"]
    assert GradientWarnings(1e-3, 1e3).find(names, summary) == {
        "missing": ["missing"], "dead": ["dead"], "vanished": ["vanished.weight"], "exploded": ["exploded"]
    }  # fmt: skip
