"""``assay report``: of runs that have ended and of runs that were killed, one or several."""

import re

import pytest
from report_runs import data_of, write_run, write_samples

from assay.runner.commands.main import main


@pytest.fixture
def report(capsys):
    """Return a function that runs the command, and returns its exit code, output and errors."""

    def report(*arguments):
        code = main(["report", *map(str, arguments)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return report


def test_one_run_has_its_report_in_its_folder(report, tmp_path):
    run = write_run(tmp_path / "run")
    code, output, errors = report(run)
    assert (code, errors) == (0, "")
    assert re.fullmatch(rf"{re.escape(str(run / 'report.html'))} \(\d\.\d MB\)\n", output)
    assert data_of(run / "report.html")["runs"][0]["sections"]["summary"]["last_epoch"] == 4


def test_several_runs_are_compared_in_the_first_one_or_where_it_is_told(report, tmp_path):
    first, other = write_run(tmp_path / "first"), write_run(tmp_path / "other")
    write_samples(first)
    write_samples(other, seed=1)
    assert report(first, other)[0] == 0
    assert [run["run"].split("/")[-1] for run in data_of(first / "comparison.html")["runs"]] == ["first", "other"]
    assert not (first / "report.html").exists()
    assert report(first, other, "--output", tmp_path / "new" / "page.html")[0] == 0
    assert len(data_of(tmp_path / "new" / "page.html")["comparison"]) == 1


def test_a_run_that_was_killed_before_its_first_epoch_has_a_report_of_what_there_is(report, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("epochs: 3\n")
    assert report(run)[0] == 0
    sections = data_of(run / "report.html")["runs"][0]["sections"]
    assert (sections["metrics"], sections["findings"], sections["summary"]["epochs"]) == ([], None, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: RUN"),
        (["none"], "none is not a run folder: there is no such folder."),
        (["run", "run"], "RUN names each run folder once, and one of them is named twice: leave it out."),
        (
            ["run", "--output", "run"],
            "--output run must be a file, and is a folder: name a file in it, as run/report.html.",
        ),
        (["run", "--outptu", "a"], "unrecognized arguments: --outptu a"),
    ],
)  # fmt: skip
def test_wrong_use_is_refused_in_one_line(report, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run")
    code, output, errors = report(*arguments)
    assert (code, output) == (2, "")
    assert errors == f"assay: error: {message}\n"
