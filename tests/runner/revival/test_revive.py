"""What `revive` tells, and what it leaves alone."""

import pytest
from forked import command

from assay.runner import UsageError, revive
from assay.runner.revival.fault import FAULTS


def names_and_text(without):
    first = revive(without)
    return first.names, str(first), revive(without).names


def test_what_is_mended_is_told_once_and_again(revived):
    ((names, text, again),) = revived(1, names_and_text, ())
    assert again == names
    lines = text.splitlines()
    assert lines[0] == "mended in Catalyst:"
    assert [line.partition(":")[0].rstrip("*") for line in lines[1:-1]] == list(names)
    assert {line.partition(":")[0] for line in lines if "*:" in line} == {
        "accumulation*",
        "collecting*",
        "config_words*",
        "loader_metrics*",
        "means*",
        "padding*",
    }
    assert lines[-1] == "* changes numbers; leave it out by revive(without=(NAME,))"


def test_every_fault_has_a_reason_of_one_sentence():
    for fault in FAULTS.values():
        assert fault.reason.endswith(".")
        assert ". " not in fault.reason


@pytest.mark.parametrize(
    ("without", "said"),
    [
        (("accumulations",), "unknown without 'accumulations'; did you mean 'accumulation'?"),
        ("means", r"without must be a collection of names, got the string 'means': write \('means',\)"),
    ],
)
def test_what_is_left_out_must_have_a_name(without, said):
    with pytest.raises(UsageError, match=said):
        revive(without)


SCRIPT = """
import sys
from torch._six import string_classes
from torch.utils.data import Sampler
from catalyst import dl
from helper_of_script import NAME

if __name__ == "__main__":
    Sampler([1])
    print(sys.argv[1:], NAME, dl.OptimizerCallback.on_batch_end.__module__, issubclass(str, string_classes))
"""


def run_script(folder, *arguments):
    return command(*arguments, module="assay.runner.revival", cwd=folder).result()


@pytest.fixture
def script(tmp_path):
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "helper_of_script.py").write_text("NAME = 'mine'")
    (tmp_path / "project" / "train.py").write_text(SCRIPT)
    return tmp_path


def test_a_script_runs_revived_without_being_edited(script):
    done = run_script(script, "--without", "accumulation,clipping", "project/train.py", "--epochs", "3")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["['--epochs', '3'] mine catalyst.callbacks.optimizer True"]


def test_a_module_runs_revived_and_what_is_mended_is_listed(script):
    done = run_script(script / "project", "--list", "-m", "train", "-x")
    assert done.returncode == 0, done.stderr
    assert "accumulation*: " in done.stdout
    assert done.stdout.splitlines()[-1] == "['-x'] mine assay.runner.revival.gradients True"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "a script is needed, or --list"),
        (["none.py"], "there is no file 'none.py'"),
        (["--without", "mean", "none.py"], "did you mean 'means'"),
    ],
)
def test_wrong_use_is_told_with_exit_code_2(arguments, said, tmp_path, monkeypatch, capsys):
    from assay.runner.revival import __main__ as command

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "revive", lambda without: revive(without) if without else None)
    with pytest.raises(SystemExit) as stop:
        command.main(arguments)
    assert stop.value.code == 2
    assert said in capsys.readouterr().err
