"""Read YAML files of fields, with limits on size and depth."""

import sys
from pathlib import Path
from typing import Any

import yaml

from assay.callbacks.errors import UsageError

# With nested aliases a file of a kilobyte can expand to gigabytes.
_MOST_BYTES = 1_000_000
_MOST_VALUES = 10_000  # an alias counts each time it is used
_DEEPEST = 50  # below Python's limit of recursion


def read_fields(path: Path, *, what: str) -> dict[str, Any]:
    """Return the fields of a YAML file.

    Args:
        path: the file.
        what: its name in messages.

    Raises:
        UsageError: it cannot be read, is not a mapping from names to values, names a field twice, or is too large or
            nested too deeply after its aliases are expanded.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UsageError(f"{what} must be at most a megabyte, and has {path.stat().st_size} bytes.")
        root = yaml.compose(path.read_text(), yaml.SafeLoader)
        _check_size(root, what)  # on the nodes, before safe_load builds the values
        fields = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UsageError(f"{what} cannot be read: {error.strerror}.") from error
    except RecursionError as error:
        raise _too_deep(what) from error
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{what} must be a YAML file: {' '.join(str(error).split())}.") from error
    if not isinstance(fields, dict):
        raise UsageError(f"{what} must hold fields with their values, such as 'epochs: 3', got {fields!r:.80}.")
    _check_names(root, what)
    return fields


def _check_size(root: Any, what: str) -> None:
    """Raise where a node holds too many values, counting each use of an alias, or is nested too deeply."""
    sizes: dict[int, tuple[int, int]] = {}  # by node: values, depth
    if root is not None:
        values, depth = _count_values(root, sizes)
        if values > _MOST_VALUES:
            raise UsageError(f"{what} must hold at most {_MOST_VALUES} values, and holds {_format_count(values)}.")
        if depth > _DEEPEST:
            raise _too_deep(what)


def _count_values(node: Any, sizes: dict[int, tuple[int, int]]) -> tuple[int, int]:
    if id(node) not in sizes:
        sizes[id(node)] = (0, sys.maxsize)  # until it is known; a node that contains itself stays too deep
        inner = [_count_values(child, sizes) for child in _child_nodes(node)]
        depth = 1 + max((one[1] for one in inner), default=0)
        sizes[id(node)] = (1 + sum(one[0] for one in inner), depth)
    return sizes[id(node)]


def _child_nodes(node: Any) -> list[Any]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _check_names(root: Any, what: str) -> None:
    # YAML's loader keeps the last of two equal keys without a word.
    names = [key.value for key, _ in root.value if isinstance(key, yaml.ScalarNode)]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{what} must name a field once, and names {name!r} {names.count(name)} times.")


def _too_deep(what: str) -> UsageError:
    return UsageError(f"{what} must be nested at most {_DEEPEST} deep.")


def _format_count(number: int) -> str:
    return str(number) if number < 10**9 else f"{number:.0e}" if number < 10**300 else "far more"
