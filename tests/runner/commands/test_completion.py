"""What a shell is offered to complete, as it asks for it by argcomplete's protocol."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import os, sys
from assay.runner.commands.main import main
leave = os._exit
def exit(code):
    with open("heavy", "w") as file:
        file.write(str(sorted({"torch", "catalyst", "numpy", "cv2"} & sys.modules.keys())))
    leave(code)
os._exit = exit
main([])
"""
MINE = '''
from dataclasses import dataclass
from typing import Literal
import torch
from assay.runner import Experiment

@dataclass(kw_only=True)
class Mine(Experiment):
    shade: Literal["light", "dark"] = "light"
    """How bright it is."""
'''


def offered(line, folder):
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n",
             "_ARGCOMPLETE_STDOUT_FILENAME": str(folder / "words")}  # fmt: skip
    subprocess.run([sys.executable, "-c", CODE], cwd=folder, env={**os.environ, **asked}, check=True)
    assert Path(folder, "heavy").read_text() == "[]"
    return [word.strip() for word in (folder / "words").read_text().split("\n")]


@pytest.mark.parametrize(
    ("line", "some", "none"),
    [
        ("assay ", ["train", "check", "evaluate", "predict", "list", "data"], ["digits"]),
        ("assay tr", ["train"], ["evaluate"]),
        ("assay train ", ["digits", "wheat", "mine.py"], ["notes.txt"]),
        ("assay train digits --ep", ["--epochs"], ["--lr"]),
        ("assay train digits --", ["--lr", "--width", "--config", "--weights"], ["--data-dir", "--pretrained"]),
        ("assay train wheat --detector ", ["fcos", "retinanet", "faster_rcnn"], ["light"]),
        ("assay train wheat --device c", ["cpu", "cuda"], ["auto"]),
        ("assay train wheat --deterministic ", ["true", "false"], []),
        ("assay train mine.py --shade ", ["light", "dark"], []),
        ("assay train digits --config ", ["notes.txt", "mine.py"], []),
        ("assay evaluate runs --lo", ["--loader"], ["--input"]),
        ("assay rep", ["report"], ["predict"]),
        ("assay report runs --", ["--output"], ["--loader"]),
    ],
)
def test_what_may_follow_is_offered_without_importing_torch(line, some, none, tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "notes.txt").touch()
    words = offered(line, tmp_path)
    assert set(some) <= set(words)
    assert not set(none) & set(words)
