"""The command for a GPU goes on after a part that fails, says so, and keeps what it has found until then."""

import json
import os
import threading
import time

import pytest

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import bars, cost
from benchmarks.gpu.gpu_tests import marked_files, read_outcomes
from benchmarks.gpu.processes import Running, run, state


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Call the command with other parts; return its exit code and its results."""

    def call(parts, *options):
        monkeypatch.setattr(gpu, "PARTS", parts)
        code = gpu.main(["--device", "cpu", "--name", "here", "--results", str(tmp_path), *options])
        return code, json.loads((tmp_path / "gpu-here.json").read_text()), (tmp_path / "gpu-here.md").read_text()

    return call


def passing(job):
    return {"state": "passed", "what": f"on {job.device}"}


def of_process(code, limit_s=30.0):
    """Return a part that runs a line of Python."""

    def part(job):
        ended, said = run(["-c", code], job.logs / "test-of-the-command.log", limit_s)
        return {"state": state(ended), "what": said}

    return part


def test_whatever_happens_to_a_part_the_others_run_and_the_command_ends_with_1(call, capsys):
    def break_down(job):
        raise OSError("the machine | was taken back")

    code, found, page = call(
        {
            "broken": break_down,
            "failing": of_process("print('so it is'); raise SystemExit(3)"),
            "killed": of_process("import os; os.kill(os.getpid(), 9)"),
            "slow": of_process("import time; time.sleep(60)", limit_s=0.5),
            "last": passing,
        }
    )
    assert code == 1
    states = {name: part["state"] for name, part in found["parts"].items()}
    assert states == {
        "broken": "failed", "failing": "failed", "killed": "killed", "slow": "timed out", "last": "passed"
    }  # fmt: skip
    assert "| broken | failed | 0 | OSError: the machine \\| was taken back |" in page
    said = capsys.readouterr().out
    assert "failing: FAILED in" in said and "so it is" in said
    assert "slow: TIMED OUT in" in said and "last: passed in" in said


def test_the_results_are_written_after_each_part(call, tmp_path):
    seen = []

    def look(job):
        seen.append(json.loads((tmp_path / "gpu-here.json").read_text())["parts"].keys())
        return passing(job)

    assert call({"first": passing, "second": look})[0] == 0
    assert [list(names) for names in seen] == [["first"]]


def test_parts_run_at_once_if_asked_for(call):
    meet = threading.Barrier(2)

    def wait_for_the_other(job):
        meet.wait(timeout=30)
        return passing(job)

    code, found, _ = call({"one": wait_for_the_other, "other": wait_for_the_other}, "--at-once", "2")
    assert code == 0 and set(found["parts"]) == {"one", "other"}


def test_a_part_for_which_no_time_is_left_is_not_run(call, monkeypatch):
    monkeypatch.setattr(gpu, "LEAST_S", 0.5)

    def slow(job):
        assert job.limit_s <= 0.8
        time.sleep(0.4)
        return passing(job)

    code, found, page = call({"slow": slow, "late": passing}, "--seconds", "0.8")
    assert code == 1
    assert found["parts"]["late"]["state"] == "not run"
    assert "| late | not run | 0 | no time left: 0 s |" in page


def test_a_process_that_is_ended_leaves_no_child_behind(tmp_path):
    child = "subprocess.Popen(['sleep', '60'], start_new_session=True)"
    running = Running(["-c", f"import subprocess, time; print({child}.pid); time.sleep(60)"], tmp_path / "log")
    until = time.monotonic() + 60
    while not running.said() and time.monotonic() < until:
        time.sleep(0.05)
    assert running.wait(time.monotonic()) is None
    with pytest.raises(ProcessLookupError):
        for _ in range(50):
            os.kill(int(running.said()), 0)
            time.sleep(0.1)


def test_the_tests_that_ran_are_counted_also_where_pytest_was_ended():
    said = """
[gw0] [ 25%] PASSED tests/test_gpu.py::test_a[x]
tests/test_gpu.py::test_b
[gw1] [ 50%] FAILED tests/test_gpu.py::test_b
[gw1] [ 75%] SKIPPED tests/test_gpu.py::test_c[one of two]
[gw1] [ 80%] PASSED tests/test_gpu.py::test_c[one]
FAILED tests/test_gpu.py::test_b - AssertionError: 1 is not 2
"""
    found = read_outcomes(said, 1, 60.0)
    assert found["what"] == "2 passed, 1 failed, 1 skipped"
    assert found["failed"] == {"tests/test_gpu.py::test_b": "AssertionError: 1 is not 2"}
    assert read_outcomes(said, None, 60.0)["what"].startswith("2 passed, 1 failed, 1 skipped, pytest not done in 60 s")


def test_the_files_of_the_tests_are_those_with_the_mark():
    names = {file.name for file in marked_files()}
    assert {"test_gpu.py", "test_gpu_numbers.py", "test_gpu_waits.py", "test_cuda_syncs.py", "test_engine.py"} <= names
    assert "test_readme.py" not in names


def turn(**seconds):
    return {name: {"seconds": value, "cpu_seconds": 1.0, "step_ms": 10 * value} for name, value in seconds.items()}


NAMES = {"bare": "bare loop", "again": "bare loop, again", "off": "assay, off", "full": "assay, full"}


def rows_of(*turns):
    renamed = [{NAMES[name]: figures for name, figures in turn(**one).items()} for one in turns]
    return cost.summarize({"turns": renamed, "probes": {"assay, full": {"waits": 0.0}}})


def test_a_ratio_is_that_to_both_bare_loops_of_the_same_turn():
    rows = rows_of({"bare": 1.0, "full": 1.2, "again": 3.0}, {"bare": 1.0, "full": 1.5})
    assert rows["assay, full"]["ratio"]["values"] == pytest.approx([0.6, 1.5])
    assert rows["assay, full"]["step_ratio"]["values"] == pytest.approx([0.6, 1.5])
    assert rows["bare loop, again"]["ratio"]["values"] == pytest.approx([1.5])
    assert rows["assay, full"]["waits"] == 0.0
    assert "ratio" not in rows_of({"full": 1.0})["assay, full"]  # no bare loop to compare it with


@pytest.mark.parametrize(("full", "result"), [(1.02, "met"), (1.03, "missed")])
def test_a_bar_is_met_or_missed_and_never_decided_by_a_cpu(full, result):
    rows = rows_of({"bare": 0.99, "off": 1.0, "full": full, "again": 1.01})
    judged = {(bar["bar"], bar["of"]): bar["result"] for bar in bars.judge({"classifier": {"rows": rows}}, "cuda")[:7]}
    for of in ("training step", "whole run"):
        assert judged["full at most 1.02 of the bare loop", of] == result
        assert judged["off within the spread of two bare loops", of] == "met"
        assert judged["full ahead of Lightning with diagnostics", of] == "not measured"
    assert judged["no synchronization added", "training step"] == "not measured"
    rows["assay, off"]["waits"] = rows["bare loop"]["waits"] = 0.0
    rows["assay, full, gradients every step"] = {"waits": 1.0}
    (waits,) = [bar for bar in bars.judge({"classifier": {"rows": rows}}, "cuda") if bar["bar"].startswith("no syn")][
        :1
    ]
    assert waits["result"] == "missed" and waits["found"] == "1 a step; bare loop 0"
    assert {bar["result"] for bar in bars.judge({"classifier": {"rows": rows}}, "cpu")} == {"not measured"}


def test_wrong_options_are_named(tmp_path, capsys):
    for wrong, words in ((["speed"], "there is no part 'speed'"), (["--device", "tpu"], "invalid choice")):
        with pytest.raises(SystemExit) as ended:
            gpu.main([*wrong, "--results", str(tmp_path)])
        assert ended.value.code == 2
        assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
