"""Import the user's files of experiments, in this process and in the workers of its loaders."""

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path

from assay.callbacks.errors import UsageError

_imported: dict[str, Path] = {}  # by module name


def imported_files() -> dict[str, Path]:
    """Return the files of experiments that this process has imported, by module name."""
    return dict(_imported)


def import_files(files: Mapping[str, Path]) -> None:
    """Import the files that ``imported_files`` returned in another process, unless they are imported already."""
    for name, path in files.items():
        if _imported.get(name) != path:
            import_file(path, name)


def import_file(path: Path, name: str) -> object:
    """Import a Python file, or a folder that is a package, as a module of a name.

    Raises:
        UsageError: there is no such file, or it is none of Python.
    """
    source = path / "__init__.py" if path.is_dir() else path
    if not source.is_file():
        raise UsageError(f"the experiment {str(path)!r} does not exist: there is no file {source}.")
    spec = importlib.util.spec_from_file_location(name, source)
    if spec is None or spec.loader is None:
        raise UsageError(f"the experiment {str(path)!r} must be a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it is executed: dataclasses look their module up there, as pickle does
    sys.path.insert(0, str(source.resolve().parent))  # so that it can import its neighbours, as a script can
    spec.loader.exec_module(module)
    _imported[name] = path.absolute()
    return module
