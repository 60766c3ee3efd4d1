"""List the experiments, and find one by its name or its file."""

import ast
import importlib
import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING

from assay.callbacks.errors import UsageError, unknown_name

from ..data.experiment_files import import_file

if TYPE_CHECKING:
    from .base import Experiment

_PACKAGE = "assay.experiments"


def experiment_names() -> dict[str, str]:
    """Return the experiments of the package: name and first line of the docstring."""
    # Parsed, not imported: an import takes seconds, and may need packages that are not installed.
    trees = {name: ast.parse(file.read_text()) for name, file in sorted(_sources().items())}
    docstrings = {name: ast.get_docstring(tree) or "" for name, tree in trees.items() if _has_experiment(tree)}
    return {name: docstring.partition("\n")[0] for name, docstring in docstrings.items()}


def source_of(name: str) -> Path | None:
    """Return the file of an experiment, by its name or the path of a file or a folder; None where there is none."""
    if not _is_path(name):
        return _sources().get(name)
    source = Path(name) / "__init__.py" if Path(name).is_dir() else Path(name)
    return source if source.is_file() else None


def find_experiment(name: str) -> type["Experiment"]:
    """Return the experiment with a name in the package, or at a path of a Python file or a folder.

    Raises:
        UsageError: there is no such name or path, the file does not define exactly one experiment, or a package that it
            needs is not installed.
    """
    if _is_path(name):
        return _only_experiment(import_file(Path(name), f"assay_user_{label(name)}"), name)
    known = experiment_names()
    if name not in known:
        raise unknown_name("experiment", name, known, note=" (a path to a file of yours ends in .py)")
    try:
        module = importlib.import_module(f"{_PACKAGE}.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "assay":
            raise  # an experiment's import of a module that does not exist is a bug, and no missing package
        raise missing_package(f"experiment {name!r}", error) from error
    return _only_experiment(module, name)


def missing_package(what: str, error: ModuleNotFoundError) -> UsageError:
    """Return the error for an optional package that ``what`` needs and that is not installed."""
    package = (error.name or "").partition(".")[0]
    return UsageError(f"{what} needs the package {package!r}: pip install 'catalyst-assay[experiments]'.")


def label(name: str) -> str:
    """Return the name of an experiment in paths: its own, or the stem of its file."""
    return re.sub(r"\W+", "_", Path(name).stem)


def _is_path(name: str) -> bool:
    return name.endswith(".py") or "/" in name


def _sources() -> dict[str, Path]:
    """Return the files of the experiments of the package by name."""
    spec = importlib.util.find_spec(_PACKAGE)
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    paths = [path for folder in folders for path in sorted(folder.iterdir()) if not path.name.startswith(("_", "."))]
    files = {path.stem: path / "__init__.py" if path.is_dir() else path for path in paths}
    return {name: file for name, file in files.items() if file.suffix == ".py" and file.is_file()}


def _has_experiment(tree: ast.Module) -> bool:
    """Whether a file defines an experiment; what others share, and a base that derives from ABC, is none."""
    # Of all classes with fields, those of an experiment alone are given by name, as flags are.
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.bases and _is_by_name(node)]
    return any("ABC" not in map(ast.unparse, node.bases) for node in classes)


def _is_by_name(node: ast.ClassDef) -> bool:
    return any("kw_only" in ast.unparse(decorator) for decorator in node.decorator_list)


def _only_experiment(module: object, name: str) -> type["Experiment"]:
    from .base import Experiment

    own = [item for item in vars(module).values() if isinstance(item, type) and issubclass(item, Experiment)]
    # Imported experiments, such as the base of a variant, do not count.
    own = [item for item in own if item.__module__ == getattr(module, "__name__", None)]
    if len(own) != 1:
        classes = ", ".join(item.__name__ for item in own) or "none"
        raise UsageError(f"experiment {name!r} must define exactly one subclass of Experiment; it defines {classes}.")
    return own[0]
