"""Read the fields of an experiment from its source, without importing torch.

The import of an experiment takes seconds, most of them for torch. Here its class is made with its fields and checks
alone. Of its file, and of those beside it, only what these name is evaluated, and no import but those of Python's own
modules and of some of assay's.
"""

import ast
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType
from typing import Any, TypeGuard

from assay.callbacks.lazy_exports import homes_of_exports

from .catalog import source_of
from .experiment_fields import ExperimentFields

# Those of assay's modules that import no torch.
PLAIN_MODULES = (
    "assay.callbacks.errors",
    "assay.callbacks.keys",
    "assay.callbacks.levels",
    "assay.runner.choices",
    "assay.runner.data.selection.folds",
    "assay.runner.experiment.marks",
    "assay.runner.experiment.ranges",
    "assay.runner.recipe.loss_names",
)
_METHODS = ("__post_init__", "missing_fields", "ignored_fields", "get_scheduler")  # what decides on fields
_CLASS_VARIABLES = ("unused_fields",)
_MODULE = "fields of "  # begins the name of a module that is none


@contextmanager
def fields_class(name: str) -> Iterator[type[ExperimentFields] | None]:
    """Yield a class with the fields, docstrings and checks of an experiment, and without what it does with them.

    It is None where the source of the experiment does not tell, and its import has to. A check of a value that needs
    more than the source raises ``NameError`` or ``AttributeError``. After the block, nothing of it is left behind.

    Args:
        name: of an experiment, or the path of a file.
    """
    before = set(sys.modules)
    try:
        yield _read_class(source_of(name))
    finally:
        for module in sys.modules.keys() - before:
            if module.startswith(_MODULE):
                del sys.modules[module]


def _read_class(path: Path | None) -> type[ExperimentFields] | None:
    try:
        source = _Source(path) if path is not None else None
        classes = [] if source is None else [node for node in source.tree.body if source.is_experiment(node)]
        return source.value(classes[0].name) if source is not None and len(classes) == 1 else None
    except (OSError, SyntaxError, ValueError, NameError):  # its import says more
        return None


class _Source:
    """A Python file of which single names are evaluated; a name that takes another import stays unknown.

    Args:
        path: the file.
    """

    def __init__(self, path: Path):
        self.path = path
        self.tree = ast.parse(path.read_text())
        self.statements = {name: statement for statement in self.tree.body for name in _names_defined_by(statement)}
        # Where dataclasses and inspect look for the module of a class: under a name that no import has.
        self.module = ModuleType(f"{_MODULE}{path}", ast.get_docstring(self.tree))
        self.module.__file__ = str(path)
        sys.modules[self.module.__name__] = self.module
        self.known: dict[str, Any] = vars(self.module)

    def value(self, name: str) -> Any:
        """Return the value of a name; raise ``NameError`` where it is not known."""
        self._define(name)
        if name not in self.known:
            raise NameError(name)
        return self.known[name]

    def is_experiment(self, node: ast.stmt) -> TypeGuard[ast.ClassDef]:
        """Whether a statement is the class of an experiment."""
        return isinstance(node, ast.ClassDef) and any(self._is_base(base) for base in node.bases)

    def _is_base(self, base: ast.expr) -> bool:
        if not isinstance(base, ast.Name):
            return False
        self._define(base.id)
        known = self.known.get(base.id)
        return isinstance(known, type) and issubclass(known, ExperimentFields)

    def _define(self, name: str) -> None:
        """Evaluate the statement that defines a name, after those that define what it names."""
        statement = self.statements.pop(name, None)  # once, also where a function calls itself
        if statement is None:
            return
        if isinstance(statement, ast.Import | ast.ImportFrom):
            self._import(statement, name)
            return
        if self.is_experiment(statement):
            statement = _with_fields_alone(statement)
        statement = _WithoutTypes().visit(statement)
        for other in _names_in(statement):
            self._define(other)
        try:
            exec(compile(ast.Module([statement], []), str(self.path), "exec"), self.known)
        except Exception:  # noqa: BLE001 - of a name that is not known, above all: then this one is not either
            self.known.pop(name, None)

    def _import(self, statement: ast.Import | ast.ImportFrom, name: str) -> None:
        alias = next(one for one in statement.names if _name_of(one) == name)
        if isinstance(statement, ast.ImportFrom) and statement.level:
            self.known |= _import_beside(self.path.parents[statement.level - 1], statement.module or "", alias)
        elif isinstance(statement, ast.ImportFrom):
            self.known |= dict.fromkeys([name], *_import_name(statement.module or "", alias.name))
        elif alias.name.partition(".")[0] in sys.stdlib_module_names:
            self.known[name] = import_module(alias.name if alias.asname else name)


def _import_name(module: str, name: str) -> list[Any]:
    """Return what ``from MODULE import NAME`` gives, in a list that is empty where that might import torch."""
    if name == "Experiment" and module.startswith("assay.runner"):
        return [ExperimentFields]
    if module in ("assay.runner", "assay.callbacks"):
        file = import_module(module).__file__
        home = homes_of_exports(Path(str(file)).read_text(encoding="utf-8")).get(name)
        module = resolve_name(home, module) if home is not None and home.startswith(".") else str(home)
    if module in PLAIN_MODULES or module.partition(".")[0] in sys.stdlib_module_names:
        return [getattr(import_module(module), name)]
    return []


def _import_beside(folder: Path, module: str, alias: ast.alias) -> dict[str, Any]:
    """Return what an import from a file beside gives by name; nothing where that takes more than its source."""
    path = folder.joinpath(*module.split(".")) if module else folder
    if (path / f"{alias.name}.py").is_file():
        other = _Source(path / f"{alias.name}.py")
        # A module: all of it that is plain, as it is not known which of its names are asked for.
        for name in list(other.statements):
            other._define(name)
        return {_name_of(alias): other.module}
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return {_name_of(alias): _Source(file).value(alias.name)}


def _names_defined_by(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return [_name_of(alias) for alias in statement.names]
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
    parts = [targets] if isinstance(targets, ast.AST) else targets or []
    return [node.id for part in parts for node in ast.walk(part) if isinstance(node, ast.Name)]


def _name_of(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _names_in(node: ast.AST) -> list[str]:
    return [one.id for one in ast.walk(node) if isinstance(one, ast.Name)]


def _with_fields_alone(node: ast.ClassDef) -> ast.ClassDef:
    kept = [statement for statement in node.body if _decides_on_fields(statement)]
    return ast.ClassDef(**{**dict(ast.iter_fields(node)), "body": kept}, lineno=node.lineno, col_offset=node.col_offset)


def _decides_on_fields(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.FunctionDef):
        return statement.name in _METHODS
    if isinstance(statement, ast.AnnAssign) and "ClassVar" in _names_in(statement.annotation):
        return ast.unparse(statement.target) in _CLASS_VARIABLES
    return isinstance(statement, ast.AnnAssign | ast.Expr)


class _WithoutTypes(ast.NodeTransformer):
    """Takes the types out of functions: they name what is not needed to call them."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.returns = None
        self.generic_visit(node)
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node
