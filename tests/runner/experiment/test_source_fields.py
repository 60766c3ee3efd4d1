"""The fields of an experiment from its source alone: those of the class that its import gives."""

import dataclasses
import subprocess
import sys

import pytest

from assay.runner import UsageError
from assay.runner.commands.experiment_flags import experiment_parser
from assay.runner.experiment.catalog import experiment_names, find_experiment
from assay.runner.experiment.marks import Mark, marked
from assay.runner.experiment.source_fields import PLAIN_MODULES, fields_class

HEAVY = ("torch", "catalyst", "numpy", "cv2", "albumentations", "accelerate")


@pytest.mark.parametrize("every_field", [False, True])
@pytest.mark.parametrize("name", experiment_names())
def test_every_experiment_has_the_flags_and_the_help_of_its_import(name, every_field, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    imported = find_experiment(name)
    with fields_class(name) as read:
        parsers = [experiment_parser(one, name, every_field=every_field) for one in (read, imported)]
        assert parsers[0].hints == parsers[1].hints
        assert parsers[0].format_help() == parsers[1].format_help()
        for mark in Mark:
            assert marked(read, mark) == marked(imported, mark)
        assert dataclasses.asdict(read()) == dataclasses.asdict(imported())


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("cifar10", {"depth": 3}),
        ("wheat", {"channels": 33}),
        ("wheat", {"detector": "yolo"}),
        ("inria", {"loss": "bce + 0*dice"}),
        ("inria", {"pseudo_confidence": 0.3}),
        ("inria", {"deep_supervision": {4: 0.0}}),
        ("digits", {"epochs": 0}),
        ("digits", {"monitor": ["loss"]}),
    ],
)
def test_the_checks_of_an_experiment_say_the_same(name, values):
    with pytest.raises(UsageError) as expected:
        find_experiment(name)(**values)
    with fields_class(name) as read, pytest.raises(UsageError) as error:
        read(**values)
    assert str(error.value) == str(expected.value)


@pytest.mark.parametrize("name", [name for name in experiment_names() if name != "digits"])
def test_defaults_that_depend_on_an_older_config_are_the_same(name):
    with fields_class(name) as read:
        for fields in ({}, {"monitor": ["valid/map:max"]}, dict.fromkeys(dataclasses.asdict(read()))):
            assert read.missing_fields(fields) == find_experiment(name).missing_fields(fields)


def test_nothing_heavy_is_imported_and_nothing_left_behind():
    code = f"""
import sys
from assay.runner.experiment.catalog import experiment_names
from assay.runner.experiment.source_fields import PLAIN_MODULES, fields_class
for module in PLAIN_MODULES:
    __import__(module)
before = set(sys.modules)
for name in experiment_names():
    with fields_class(name) as read:
        read()
print(sorted(set({HEAVY}) & sys.modules.keys()), [one for one in sys.modules.keys() - before if "experiments" in one])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] []\n"
    assert len(PLAIN_MODULES) > 3


MINE = '''
"""Mine."""
from dataclasses import dataclass
import torch
from assay.runner import Experiment
from beside import SIZE
from .beside import SIZE as SAME
{before}
@dataclass(kw_only=True)
class Mine({base}):
    """Mine."""
    size: {hint} = {default}
    """Its size."""
'''


@pytest.fixture
def read_mine(tmp_path):
    """Return a function that writes an experiment, and reads its default of ``size``; None where it is not known."""
    (tmp_path / "beside.py").write_text("import numpy as np\nSIZE = 7\nHEAVY = np.zeros(3)\n")

    def read(hint="int", default="3", base="Experiment", before=""):
        (tmp_path / "mine.py").write_text(MINE.format(hint=hint, default=default, base=base, before=before))
        with fields_class(str(tmp_path / "mine.py")) as mine:
            return None if mine is None else mine().size

    return read


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({}, 3),
        ({"default": "SAME"}, 7),
        ({"default": "2 * HERE", "before": "HERE = 4"}, 8),
        ({"default": "twice(4)", "before": "def twice(x: torch.Tensor) -> torch.Tensor:\n    return 2 * x"}, 8),
        ({"default": "SIZE"}, None),  # from a module that is found by sys.path, which might import anything
        ({"default": "torch.pi"}, None),
        ({"hint": "torch.dtype", "default": "None"}, None),
        ({"base": "Other"}, None),
        ({"base": "Base", "before": "class Base(Experiment):\n    pass"}, None),  # two experiments in one file
        ({"before": "raise RuntimeError"}, 3),
        ({"before": "def ("}, None),
    ],
)
def test_a_field_is_known_where_its_source_tells(read_mine, changes, size):
    assert read_mine(**changes) == size


def test_a_file_that_does_not_exist_has_no_fields(tmp_path):
    for name in ("no_such_experiment", str(tmp_path / "none.py"), str(tmp_path)):
        with fields_class(name) as read:
            assert read is None
