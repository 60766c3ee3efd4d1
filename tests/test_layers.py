"""A room imports only from rooms below it, so that a line can be changed by whoever knows the rooms below."""

import ast
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From top to bottom. A name without a folder of its own is a module at the top of its package.
CALLBACKS = [
    "toolkit",
    "presets",
    "gallery",
    "findings",
    "history",
    "overhead",
    "non_finite",
    "training",
    "results",
    "samples",
    "classes",
    "metrics",
    "base",
    "drawings",
    "measures",
    "tensorboard",
    "support",
    "lazy_exports",
    "levels",
    "keys",
    "errors",
]
RUNNER = [
    "__main__",
    "launch",
    "commands",
    "export",
    "prediction",
    "experiment",
    "loop",
    "revival",
    "engine",
    "saving",
    "recipe",
    "data",
    "processes",
    "choices",
    "version",
]
# Folders within a room, from top to bottom; "" is the room's own files.
WITHIN = {
    "runner/commands": ["", "tuning"],
    "callbacks/drawings": ["", "tasks", "canvas"],
    "callbacks/history": ["", "pictures"],
    "callbacks/findings": ["", "rules", "observe", "probe"],
    "callbacks/gallery": ["report", "tab", ""],
    "runner/loop": ["", "state", "stock", "parts", "checks"],
    "runner/data": ["", "selection", "readers", "files"],
    "runner/recipe": ["", "fine_tuning"],
    "runner/prediction": ["truth", ""],
}
PACKAGES = ["experiments", "runner", "callbacks"]
# What experiments import from: a user's own file has no more than these.
PUBLIC = {
    "callbacks/__init__",
    "callbacks/errors",
    "callbacks/keys",
    "callbacks/toolkit",
    "runner/__init__",
    "runner/experiment/__init__",
    "runner/prediction/__init__",
}
LARGEST_FOLDER = 16
ONE_FILE_PER_DIAGNOSTIC = ("callbacks/measures", "callbacks/drawings")
LONGEST_FILE = 450


def modules():
    """Return each module of the packages as a path without suffix, such as ``callbacks/base/order``."""
    files = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
    return [file.relative_to(ROOT).with_suffix("").as_posix() for file in files]


MODULES = frozenset(modules())


def imports(module):
    """Return what a module imports of the packages, at its top or in a function, as paths like its own."""
    nodes = ast.walk(ast.parse((ROOT / f"{module}.py").read_text()))
    found = {name for node in nodes if isinstance(node, ast.ImportFrom) for name in imported(module, node)}
    return found - {module}


def imported(module, node):
    source = (node.module or "").split(".") if node.module else []
    if node.level:
        source = module.split("/")[: -node.level] + source
    elif source[0] == "assay":
        source = source[1:]
    else:
        return
    for alias in node.names:
        guesses = ([*source, alias.name], [*source, alias.name, "__init__"], source, [*source, "__init__"])
        yield from [name for name in map("/".join, guesses) if name in MODULES][:1]


@cache
def graph():
    """Return what each module imports."""
    return {module: imports(module) for module in sorted(MODULES)}


def depth(module):
    """Return where a module stands, as a tuple that grows downwards: package, room, folder within the room."""
    package, *path = module.split("/")
    rooms = {"callbacks": CALLBACKS, "runner": RUNNER}.get(package)
    if rooms is None or path == ["__init__"]:
        return (PACKAGES.index(package),)
    folders = WITHIN.get(f"{package}/{path[0]}", [""])
    within = path[1] if len(path) > 2 else ""
    return (PACKAGES.index(package), rooms.index(path[0]), folders.index(within))


def test_it_sees_imports_of_every_form():
    assert "callbacks/errors" in graph()["callbacks/keys"]
    assert "callbacks/keys" in graph()["runner/loop/dict_runner"]
    assert "runner/__init__" in graph()["experiments/digits"]
    assert sum(map(len, graph().values())) > 1000


@pytest.mark.parametrize("module", [module for module in sorted(MODULES) if not module.endswith("__init__")])
def test_a_module_imports_from_its_own_room_and_from_rooms_below(module):
    # The __init__ of a package hands names on and stands in no room.
    upward = [it for it in graph()[module] if len(depth(it)) > 1 and depth(it) < depth(module)]
    assert not upward, f"{module} imports from above: {sorted(upward)}"


@pytest.mark.parametrize("module", [module for module in sorted(MODULES) if module.startswith("experiments/")])
def test_an_experiment_imports_from_public_modules_alone(module):
    deep = {name for name in graph()[module] - PUBLIC if not name.startswith("experiments/")}
    assert not deep, f"{module} imports what is not public: {sorted(deep)}; export it from assay.runner or the toolkit"


def test_no_module_is_imported_by_what_it_imports():
    on_the_way, done = [], set()

    def visit(module):
        assert module not in on_the_way, " -> ".join([*on_the_way[on_the_way.index(module) :], module])
        if module not in done:
            on_the_way.append(module)
            for other in sorted(graph()[module]):
                visit(other)
            done.add(on_the_way.pop())

    for module in graph():
        visit(module)


@pytest.mark.parametrize(("package", "most"), [("runner", 11), ("callbacks", 15)])
def test_a_package_has_few_rooms(package, most):
    rooms = {module.split("/")[1] for module in MODULES if module.startswith(f"{package}/") and module.count("/") > 1}
    assert 5 <= len(rooms) <= most


def test_a_room_has_few_files():
    files = Counter(module.rsplit("/", 1)[0] for module in MODULES)
    assert {it: n for it, n in files.items() if n > LARGEST_FOLDER and it not in ONE_FILE_PER_DIAGNOSTIC} == {}


def test_no_file_is_long():
    lengths = {module: len((ROOT / f"{module}.py").read_text().splitlines()) for module in MODULES}
    assert {module: n for module, n in lengths.items() if n > LONGEST_FILE} == {}
