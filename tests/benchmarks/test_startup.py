import json
import subprocess
import sys

import pytest

from benchmarks import results, startup

# What nobody needs before the first step of `digits`, and takes long to import.
NOT_BEFORE_THE_FIRST_STEP = {
    "IPython",
    "jpeglib",
    "lightning",
    "pycocotools",
    "pytorch_toolbelt",
    "rasterio",
    "tensorflow",
    "timm",
    "transformers",
}


def imported_by(code):
    """Return the packages that code imports, but for those of the standard library and our own."""
    show = "import sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    nothing = "import sysconfig; sysconfig.get_path('stdlib')"  # its data has a module of its own
    before, after = (
        subprocess.run([sys.executable, "-c", f"{one}\n{show}"], capture_output=True, text=True, check=True)
        for one in (nothing, code)
    )
    names = set(after.stdout.splitlines()[-1].split()) - set(before.stdout.split())
    return names - sys.stdlib_module_names - {"assay"}


@pytest.mark.parametrize("arguments", [["list"], ["--help"], ["train", "--help"], ["evaluate", "--help"]])
def test_a_command_that_only_tells_imports_nothing_beyond_the_standard_library(arguments):
    code = f"from assay.runner.commands.main import main\ntry: main({arguments})\nexcept SystemExit: pass"
    assert imported_by(code) == set()


def test_the_packages_import_nothing_beyond_the_standard_library():
    assert imported_by("import assay.callbacks, assay.runner, assay.experiments") == set()
    assert imported_by("import numpy") == {"numpy"}


@pytest.mark.long("trains digits in a process of its own")
def test_the_first_step_of_digits_comes_without_what_it_does_not_need(tmp_path):
    done = subprocess.run(startup.command("first_step", str(tmp_path)), capture_output=True, text=True, check=True)
    imported = set(json.loads(done.stdout.splitlines()[-1]))
    assert imported >= {
        "torch",
        "albumentations",
        "assay.runner.commands.train",
        "assay.callbacks.training.gradient_stats",
    }
    assert not imported & NOT_BEFORE_THE_FIRST_STEP
    assert (tmp_path / "run" / "config.yaml").exists()


def test_a_run_without_a_step_is_no_measurement(tmp_path):
    with pytest.raises(RuntimeError, match=r"there was no step: assay train no-such ended with 2"):
        startup.timed([sys.executable, "-m", "benchmarks.first_step", "train", "no-such"])


@pytest.mark.long("starts every command twice, with all that it imports")
def test_the_benchmark_writes_a_row_for_each_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "FOLDER", tmp_path / "benchmarks" / "results")
    (tmp_path / "benchmarks").mkdir()
    startup.main(["--repetitions", "1"])
    rows = results.read("startup", "cpu")["rows"]
    assert set(rows) == set(startup.LIMITS_S) == {line.split()[0] for line in capsys.readouterr().out.splitlines()[:-1]}
    for row in rows.values():
        assert row["cpu_s"]["median"] > 0
        assert row["wall_s"]["low"] == row["wall_s"]["high"] > 0
