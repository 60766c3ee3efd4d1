"""Commands to be typed again: a shell gives the program the words that they were made of."""

import subprocess
from pathlib import Path

import pytest

from assay.runner.processes.shell import command


@pytest.mark.parametrize("name", ["plain", "two words", "it's", '"quoted"', "(1)", "$HOME", "a;b", "*", "new\nline"])
def test_a_shell_takes_a_path_as_it_is(name):
    printed = subprocess.run(["sh", "-c", command("printf", "%s", Path(name))], capture_output=True, text=True)
    assert printed.stdout == name


def test_a_path_that_begins_with_a_dash_is_no_flag():
    assert command("assay", "--resume", Path("-x")) == "assay --resume ./-x"
