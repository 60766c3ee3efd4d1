"""The command for a GPU goes on after a part that fails, and keeps what it has found until then."""

import json

import pytest

from benchmarks import gpu


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "FOLDER", tmp_path)
    return tmp_path


def test_a_part_that_fails_does_not_end_the_others(results, monkeypatch):
    def break_down(device, repetitions):
        raise OSError("the machine | was taken back")

    parts = {"first": break_down, "second": lambda device, repetitions: {"passed": True, "what": f"on {device}"}}
    monkeypatch.setattr(gpu, "PARTS", parts)
    assert gpu.main(["--device", "cpu", "--name", "here"]) == 1
    found = json.loads((results / "gpu-here.json").read_text())
    assert {name: part["passed"] for name, part in found["parts"].items()} == {"first": False, "second": True}
    assert found["parts"]["first"]["what"] == "OSError: the machine | was taken back"
    page = (results / "gpu-here.md").read_text()
    assert "| first | FAILED | 0 | OSError: the machine \\| was taken back |" in page
    assert gpu.main(["second", "--device", "cpu", "--name", "here"]) == 0


def test_wrong_options_are_named(results, capsys):
    for wrong, words in ((["speed"], "there is no part 'speed'"), (["--device", "tpu"], "invalid choice")):
        with pytest.raises(SystemExit) as ended:
            gpu.main(wrong)
        assert ended.value.code == 2
        assert words in capsys.readouterr().err
    assert not list(results.iterdir())
