"""Names and files that become experiments."""

import ast
import importlib
import sys
from abc import ABC
from pathlib import Path

import pytest

import assay.experiments
from assay.runner import Experiment, UsageError
from assay.runner.experiment.catalog import experiment_names, find_experiment, label

SOURCE = '''"""A toy of the user's."""

from dataclasses import dataclass

from assay.runner import Experiment


@dataclass(kw_only=True)
class {name}(Experiment):
    """A toy."""

    depth: int = 3
    """How deep."""
'''

TOY = SOURCE.format(name="Toy")


@pytest.fixture(autouse=True)
def clean_imports(monkeypatch):
    """What a test imports is gone after it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("assay_user_"):
            del sys.modules[name]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return a function that writes a file below the working directory."""
    monkeypatch.chdir(tmp_path)

    def to(path, text=TOY):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)

    return to


def test_every_experiment_of_the_folder_is_listed_with_the_first_line_of_its_docstring():
    (folder,) = assay.experiments.__path__
    files = {path.stem: path for path in Path(folder).glob("[a-z]*.py")}
    files |= {path.parent.name: path for path in Path(folder).glob("[a-z]*/__init__.py")}
    names = experiment_names()
    assert list(names) == sorted(names)
    for name in files:
        module = importlib.import_module(f"assay.experiments.{name}")
        own = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__]
        assert (name in names) == any(issubclass(one, Experiment) and ABC not in one.__bases__ for one in own), name
    for name, summary in names.items():
        assert summary == ast.get_docstring(ast.parse(files[name].read_text())).splitlines()[0]


@pytest.mark.parametrize("name", experiment_names())
def test_every_listed_experiment_is_found_and_has_a_sentence_that_says_what_it_is(name):
    experiment = find_experiment(name)
    assert issubclass(experiment, Experiment)
    assert experiment.__module__ == f"assay.experiments.{name}"
    assert experiment_names()[name].endswith(".")


def test_an_unknown_name_is_refused_with_the_closest_spelling():
    with pytest.raises(UsageError, match=r"unknown experiment 'Digit' .*did you mean 'digits'\?"):
        find_experiment("Digit")


@pytest.mark.parametrize("path", ["toy.py", "./toy.py", "below/toy.py", "my-toy 2.py"])
def test_a_file_is_found_by_its_path(write, path):
    write(path)
    assert find_experiment(path)().depth == 3


@pytest.mark.parametrize("path", ["below/toy", "below/toy/"])
def test_a_folder_is_found_by_its_path(write, path):
    write("below/toy/__init__.py")
    assert find_experiment(path).__name__ == "Toy"


def test_an_imported_experiment_does_not_count(write):
    write("toy.py", TOY + "\n\nfrom assay.experiments.digits import Digits\n\nassert Digits\n")
    assert find_experiment("toy.py").__name__ == "Toy"


def test_a_name_of_the_package_wins_over_a_folder_of_that_name(write):
    write("digits/__init__.py")
    assert find_experiment("digits").__name__ == "Digits"


@pytest.mark.parametrize("path", ["toy.py", "below/toy", "below/"])
def test_a_path_that_does_not_exist_is_refused(write, path):
    with pytest.raises(UsageError, match="does not exist: there is no file"):
        find_experiment(path)


@pytest.mark.parametrize(
    ("text", "defines"),
    [("x = 1\n", "none"), (SOURCE.format(name="One") + SOURCE.format(name="Two"), "One, Two")],
)
def test_a_file_with_none_or_two_is_refused(write, text, defines):
    write("toy.py", text)
    with pytest.raises(UsageError, match=f"must define exactly one subclass of Experiment; it defines {defines}"):
        find_experiment("toy.py")


def test_a_path_that_is_no_python_file_is_refused(write):
    write("below/toy.txt")
    with pytest.raises(UsageError, match=r"the experiment 'below/toy\.txt' must be a Python file"):
        find_experiment("below/toy.txt")


def test_an_error_in_a_file_is_the_files_own(write):
    write("toy.py", "import no_such_module_of_mine\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_of_mine"):
        find_experiment("toy.py")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("digits", "digits"), ("a/b/my-toy 2.py", "my_toy_2"), ("/a/toy/", "toy"), ("./toy.py", "toy")],
)
def test_a_label_is_safe_in_paths_and_module_names(name, expected):
    assert label(name) == expected
