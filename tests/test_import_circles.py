"""No file of the project imports another that imports it, be it over others or for its types alone."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A whole TIFF is read as one window, and an image that is no TIFF is whole for whoever asks for windows.
MUTUAL = {("assay.runner.data.files.images", "assay.runner.data.files.image_windows")}


def modules():
    """Return the files of the packages by their dotted names."""
    files = (path for part in ("callbacks", "runner") for path in (ROOT / part).rglob("*.py"))
    return {".".join(("assay", *path.relative_to(ROOT).with_suffix("").parts)): path for path in files}


def imported(name, path, known):
    """Return the modules that one imports, wherever in the file that stands."""
    package = name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            base = [*base, *([node.module] if node.module else [])]
            found = [".".join(base), *(".".join([*base, alias.name]) for alias in node.names)]
        else:
            continue
        for one in found:
            if one in known or f"{one}.__init__" in known:
                yield one if one in known else f"{one}.__init__"


@cache
def graph():
    """Return what each module imports, by name; some 350 files are parsed once."""
    known = modules()
    found = {name: set(imported(name, path, known)) - {name} for name, path in known.items()}
    return {name: {one for one in of if (name, one) not in MUTUAL} for name, of in found.items()}


def without_facades(found):
    """Leave out the packages' own files, which hand out what stands in others, as users import it."""
    return {
        name: {one for one in of if not one.endswith("__init__")}
        for name, of in found.items()
        if not name.endswith("__init__")
    }


def test_no_file_imports_one_that_imports_it():
    found = without_facades(graph())
    assert "assay.runner.loop.optimizer_step" in found["assay.runner.loop.dict_runner"]
    assert "assay.callbacks.keys" in found["assay.runner.loop.dict_runner"]
    list(TopologicalSorter(found).static_order())


def test_a_circle_would_be_found():
    found = without_facades(graph())
    found["assay.runner.loop.parts.run_view"].add("assay.runner.loop.dict_runner")
    with pytest.raises(CycleError):
        list(TopologicalSorter(found).static_order())
