"""Wrong arguments are answered before torch is imported."""

import json
import resource
import subprocess
import sys

import pytest

from assay.runner.recipe.optimizer_names import exported_names
from assay.runner.recipe.optimizers import optimizer_names

CODE = """
import json, sys
from assay.runner.commands.main import main
for arguments in json.loads(sys.argv[1]):
    try:
        code = main(arguments)
    except SystemExit as leaving:
        code = leaving.code
    heavy = sorted({"torch", "catalyst", "numpy", "cv2", "albumentations", "sklearn"} & sys.modules.keys())
    print("heavy:", heavy, "code:", code)
    print("--", file=sys.stderr)
"""


def run(folder, *commands):
    """Run commands in one process, one after the other; each ends with a line in both outputs."""
    command = [sys.executable, "-c", CODE, json.dumps(commands)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)


WRONG = [
    (["trian"], "unknown command 'trian'; did you mean 'train'?"),
    (["train", "digit"], "unknown experiment 'digit'"),
    (["train", "digits", "--learning-rate", "1"], "unknown flag '--learning-rate'; did you mean '--lr'?"),
    (["train", "digits", "--epochs"], "--epochs needs a value."),
    (["train", "digits", "--epochs", "three"], "--epochs must be int, got 'three'."),
    (["train", "digits", "--epochs", "0"], "epochs must be at least 1, got 0."),
    (["train", "digits", "--optimizer", "AdamWW"], "unknown optimizer 'AdamWW'; did you mean 'AdamW'?"),
    (["train", "digits", "--data-dir", "x"], "--data-dir has no use in 'digits'"),
    (["train", "digits", "--data_dir=x"], "--data-dir has no use in 'digits'"),
    (["train", "digits", "--milestones", "3"], "--milestones has no use with --scheduler cosine, only with multi-"),
    (["train", "inria", "--pseudo-confidence", "0.9"], "--pseudo-confidence has no use without --pseudo-labels: "),
    (["train", "digits", "--pretrained"], "--pretrained has no use in 'digits'"),
    (["train", "digits", "--weights", "x"], "weights must be a run folder or a file of weights, got 'x': there is"),
    (["train", "digits", "--freeze", "(a"], "freeze must be a regular expression, got '(a': missing ), "),
    (["train", "digits", "--unfreeze-epoch", "3"], "--unfreeze-epoch has no use without --freeze: "),
    (["train", "digits", "--lr-decay", "1"], "lr_decay must be less than 1, got 1"),
    (["train", "digits", "--resume", "x"], "x is not a run folder: it holds no config.yaml."),
    (["train", "digits", "--config", "x"], "--config x cannot be read: No such file or directory."),
    (["train", "digits", "--run-dir", "/"], "--run-dir / holds other files"),
    (["train", "wheat", "--channels", "33"], "channels must be a multiple of 32, got 33."),
    (["train", "inria", "--loss", "bec"], "unknown loss 'bec'; did you mean 'bce'?"),
    (["train", "cifar10", "--depth", "3"], "depth must be 18, 34 or 50, got 3."),
    (["evaluate", "nowhere"], "nowhere is not a run folder: there is no such folder."),
    (["predict", "nowhere", "--input", "a", "--output", "b"], "nowhere is not a run folder"),
    (["predict", "nowhere"], "the following arguments are required: --input, --output"),
]


def test_wrong_arguments_are_answered_without_importing_torch(tmp_path):
    done = run(tmp_path, *[arguments for arguments, _ in WRONG])
    # What an answer imports stays for the next ones, so that the one that imports too much is the first that says so.
    assert done.stdout.splitlines() == ["heavy: [] code: 2"] * len(WRONG)
    *answers, rest = done.stderr.split("--\n")
    for answer, (_, message) in zip(answers, WRONG, strict=True):
        assert answer.startswith(f"assay: error: {message}")
        assert answer.count("\n") == 1
    assert rest == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["train", "wheat", "--help"], ["train", "wheat", "--help-all"], ["--version"]])
def test_help_and_version_are_answered_without_importing_torch(arguments, tmp_path):
    assert run(tmp_path, arguments).stdout.endswith("heavy: [] code: 0\n")


def test_the_answer_takes_little_time(tmp_path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(tmp_path, ["train", "inria", "--epocs", "3"])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert sum((after.ru_utime, after.ru_stime)) - sum((before.ru_utime, before.ru_stime)) < 1.5


def test_the_optimizers_by_the_source_of_torch_are_those_that_it_has():
    assert exported_names() == optimizer_names()


@pytest.mark.long("imports torch in a process of its own")
def test_a_wrong_flag_of_the_users_own_file_waits_for_the_imports_of_that_file_alone(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom assay.runner import Experiment\n\n"
        "@dataclass(kw_only=True)\nclass Mine(Experiment):\n    pass\n"
    )
    code = """
import sys, time
sys.path.insert(0, "")
import mine
before = time.process_time()
from assay.runner.commands.main import main
assert main(["train", "mine.py", "--epocs", "3"]) == 2
print(time.process_time() - before, "assay.runner.commands.train" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "did you mean '--epochs'?" in done.stderr
    seconds, imports_all = done.stdout.split()
    assert float(seconds) < 1.0
    assert imports_all == "False"
