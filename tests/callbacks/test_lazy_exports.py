import importlib
import subprocess
import sys

import pytest

import assay.callbacks
import assay.runner
import assay.runner.experiment
import assay.runner.prediction

PACKAGE = """
from typing import TYPE_CHECKING

from assay.callbacks.lazy_exports import lazy_exports

from .light import FACT as FACT
from .light import HIDDEN

if TYPE_CHECKING:
    from . import heavy
    from .heavy.inner import Thing as Thing
else:
    __getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that exports ``FACT`` at once and ``Thing`` when it is used."""
    folder = tmp_path / "lazy_package"
    (folder / "heavy").mkdir(parents=True)
    (folder / "__init__.py").write_text(PACKAGE)
    (folder / "light.py").write_text("FACT, HIDDEN = 1, 2\n")
    (folder / "heavy" / "__init__.py").touch()
    (folder / "heavy" / "inner.py").write_text("class Thing: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("lazy_package")
    for name in [name for name in sys.modules if name.partition(".")[0] == "lazy_package"]:
        del sys.modules[name]


def test_a_module_is_imported_when_its_name_is_first_used(package):
    assert "lazy_package.heavy.inner" not in sys.modules
    assert package.Thing is sys.modules["lazy_package.heavy.inner"].Thing
    assert package.FACT == 1


def test_exported_is_what_is_imported_as_itself(package):
    assert package.__all__ == ["FACT", "Thing"]
    assert {"FACT", "Thing", "__name__"} <= set(dir(package))
    with pytest.raises(AttributeError, match=r"module 'lazy_package' has no attribute 'Thin'"):
        package.Thin  # noqa: B018 - looking it up is the test


def test_what_is_replaced_in_its_module_is_found_replaced(package, monkeypatch):
    assert package.Thing
    monkeypatch.setattr("lazy_package.heavy.inner.Thing", 3)
    assert package.Thing == 3


@pytest.mark.parametrize("module", [assay.callbacks, assay.runner, assay.runner.experiment, assay.runner.prediction])
def test_each_export_of_ours_is_there_and_in_the_completion(module):
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert getattr(module, name) is not None


def test_our_packages_are_imported_without_torch():
    code = f"import sys; {'; '.join(f'import {name}' for name in ('assay.callbacks', 'assay.runner.experiment'))}"
    run = subprocess.run(
        [sys.executable, "-c", f"{code}; print('torch' in sys.modules)"], capture_output=True, text=True
    )
    assert run.stdout == "False\n", run.stderr
