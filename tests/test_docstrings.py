"""The examples in docstrings run, and print what they say."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import assay.callbacks
import assay.runner

FEWEST = 35  # docstrings with examples


def modules_with_examples():
    """Return the names of the modules of both packages whose files show a prompt."""
    for package in (assay.callbacks, assay.runner):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            # The source decides, so that a module without examples need not be imported.
            if ">>> " in module.module_finder.find_spec(module.name).loader.get_source(module.name):
                yield module.name


MODULES = list(modules_with_examples())


def examples_of(name):
    return [test for test in doctest.DocTestFinder().find(import_module(name), name) if test.examples]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_print_what_they_say(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tests = examples_of(name)
    assert tests
    runner = doctest.DocTestRunner()
    for test in tests:
        runner.run(test)
    assert not runner.failures, capsys.readouterr().out


def test_many_docstrings_have_an_example():
    assert sum(len(examples_of(name)) for name in MODULES) >= FEWEST
