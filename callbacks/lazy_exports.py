"""Let a package list what it exports once, and import each name when it is first used."""

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def lazy_exports(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` of a package, by the imports that its file shows to checkers.

    Exported is every name that is imported as itself, which is also how type checkers and editors know an export::

        if TYPE_CHECKING:
            from .metrics.box_metrics import BoxMetrics as BoxMetrics
        else:
            __getattr__, __dir__, __all__ = lazy_exports(__name__, __file__)

    Args:
        package: its full name.
        file: its ``__init__.py``.
    """
    homes = homes_of_exports(Path(file).read_text(encoding="utf-8"))

    # Not kept in the package: a name that a test or a user replaces in its own module is found replaced.
    def find_export(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        require_catalyst()
        return getattr(import_module(homes[name], package), name)

    # Without this, completion in a shell or a notebook would show only what has been imported already.
    def list_names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return find_export, list_names, sorted(homes)


def homes_of_exports(source: str) -> dict[str, str]:
    """Return the module of each name that is imported as itself; relative ones begin with dots."""
    # Parsed, since the point is not to run these imports: they would load torch.
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    return {
        alias.name: "." * node.level + (node.module or "")
        for node in imports
        for alias in node.names
        if alias.asname == alias.name
    }


def require_catalyst() -> None:
    """Say how to install Catalyst where it is missing.

    What is exported asks for it when it is used, and not the import of a package: TensorBoard imports a plug-in of
    ``assay.callbacks`` at each start, and must start without Catalyst too.

    Raises:
        ModuleNotFoundError: it is missing.
    """
    if find_spec("catalyst") is None:
        raise ModuleNotFoundError(
            "assay needs Catalyst 22.4, whose metadata pip 24.1 and newer refuse; install it with: "
            "pip install uv && uv pip install catalyst==22.4",
            name="catalyst",
        )
