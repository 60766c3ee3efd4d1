"""What the benchmark of growth measures, on a few tiny points."""

import math
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks import growth, results
from benchmarks.apart import apart
from benchmarks.growth_point import costs_of_ranks

TINY = {"samples": 64, "batch": 16, "side": 16, "layers": 6, "k": 2}
IMAGES = {"side": 128, "batch": 64, "layers": 6, "k": 4, "samples": 256}
long = pytest.mark.long("measures five points, each in a process of its own")
FIGURES = ("step", "loop", "loader_end", "loader_end_wall", "writer")


@pytest.fixture(scope="module")
def measured():
    """The costs of a point, and peaks of memory, each from a process of its own."""
    with ThreadPoolExecutor(4) as pool:
        peaks = {
            name: pool.submit(apart, "benchmarks.growth_point:peak_mib", device="cpu", **{**IMAGES, **more})
            for name, more in {"few": {}, "more k": {"k": 64}, "more samples": {"samples": 1024}}.items()
        }
        costs = pool.submit(apart, "benchmarks.growth_point:costs", device="cpu", repetitions=2, **TINY)
        return {"costs": costs.result(), "peaks": {name: peak.result() for name, peak in peaks.items()}}


@long
def test_every_cost_of_a_point_is_there_for_each_epoch(measured):
    found = measured["costs"]
    for name in FIGURES:
        assert len(found[name]) == 2
        assert all(math.isfinite(value) and value > 0 for value in found[name])


@long
def test_what_diagnostics_cost_is_told_apart_by_callback(measured):
    parts = measured["costs"]["parts"]
    assert {"GradientStats", "BestWorstBatches", "PRCurves", "GradCAM", "ConfusionMatrix"} <= parts.keys()
    assert "Metrics" not in parts  # they are there without diagnostics too
    for part in ("begin", "step", "end"):
        assert all(of[part] >= 0 for of in parts.values())
    step = sum(of["step"] for of in parts.values())
    assert step <= min(measured["costs"]["step"]) + 1e-9


@long
def test_memory_grows_with_k_and_not_with_samples(measured):
    peaks, sample_mib = measured["peaks"], 3 * 128 * 128 * 4 / 2**20
    assert peaks["more k"] - peaks["few"] > 2 * 60 * sample_mib  # the best and the worst, 60 more of each
    assert abs(peaks["more samples"] - peaks["few"]) < 60 * sample_mib  # of 768 more


@long
def test_a_run_of_two_ranks_prints_a_line_and_writes_the_results(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "FOLDER", tmp_path / "benchmarks" / "results")
    (tmp_path / "benchmarks").mkdir()
    monkeypatch.setitem(growth.AXES, "ranks", [{**TINY, "ranks": 2}])
    growth.main(["--only", "ranks", "--repetitions", "1"])
    head, line, written = capsys.readouterr().out.splitlines()
    assert "loader end" in head
    assert line.split()[:2] == ["ranks", "2"]
    assert written == "written: benchmarks/results/growth-cpu.json"
    (row,) = results.read("growth", "cpu")["rows"]["ranks"]
    assert row["point"] == {**TINY, "ranks": 2}
    assert all(row[name]["low"] > 0 and len(row[name]["values"]) == 1 for name in FIGURES)


def test_the_budget_is_that_of_two_batches_and_twice_k_samples():
    assert growth.budget_mib(**TINY) == (3 * 256 * 4 + 4 * 10 + 8) * 2 * (16 + 2) / 2**20
    assert growth.budget_mib(**TINY, masks=True) == 256 * (3 * 4 + 4 * 10 + 8) * 2 * (16 + 2) / 2**20


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "k,rank"], "--only must be some of layers,"),
        (["--repetitions", "0"], "--repetitions must be at least 1, got 0"),
        (["--device", "cuda"], "--device cuda needs a GPU that torch can use"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(arguments, said, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit) as stop:
        growth.main(arguments)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith(said)
    assert error.count("\n") == 1


def test_ranks_that_do_not_run_are_an_error_with_what_was_said():
    with pytest.raises(RuntimeError, match=r"(?s)torchrun ended with 1:.*AssertionError"):
        costs_of_ranks(0, "cpu", 1, **TINY)
