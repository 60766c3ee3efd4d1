"""Find the random generators that an object reaches, beside the global ones."""

import random
import sys
import sysconfig
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

_GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
_GLOBAL_GENERATORS = (torch.default_generator, np.random.mtrand._rand, random._inst)  # type: ignore[attr-defined]
_LONGEST_LIST = 1000  # longer lists hold samples
_MOST_OBJECTS = 20_000  # a bound on time; the nearest are searched first
_LIBRARIES = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
_PLAIN = (str, bytes, int, float, complex, np.ndarray, np.generic, torch.Tensor, type(None))

Seed = Callable[[int], Any]
Parts = Iterable[tuple[Any, Any]]


def seeds_of(root: Any) -> dict[int, Seed]:
    """Return a function that seeds each random source that an object reaches, by a number that identifies its place.

    Sources are the generators of Python, NumPy and torch, except the global ones, and transforms with
    ``set_random_seed`` that have generators of their own, such as albumentations'. They are searched in attributes of
    objects and classes, in lists, tuples and dicts, in closures and default arguments of functions, and in globals that
    the user's functions name. Attributes that a class names in ``seeds_itself`` are skipped.
    """
    # Breadth first, so that the bound cuts off the farthest; keyed by path, which is the same in every process.
    sources: dict[int, Seed] = {}
    seen, waiting = {id(root): root}, deque([("", root)])
    while waiting and len(seen) < _MOST_OBJECTS:
        path, part = waiting.popleft()
        seed = _seed_of(part)
        if seed is not None:
            sources[zlib.crc32(path.encode())] = seed
            continue
        for name, inner in _reached_from(part):
            if not isinstance(inner, _PLAIN) and id(inner) not in seen:
                seen[id(inner)] = inner
                waiting.append((f"{path}.{name}", inner))
    return sources


def seed_generator(generator: Any, seed: int) -> None:
    """Seed a generator of Python, NumPy or torch."""
    if isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = type(generator.bit_generator)(seed).state
    else:
        generator.seed(seed)


def _seed_of(part: Any) -> Seed | None:
    if isinstance(part, _GENERATORS):
        return None if any(part is one for one in _GLOBAL_GENERATORS) else partial(seed_generator, part)
    seeds_all = callable(getattr(type(part), "set_random_seed", None)) and not isinstance(part, Dataset)
    return part.set_random_seed if seeds_all else None


def _reached_from(part: Any) -> Parts:
    # A module is searched only for the names that a function uses, see _reached_by_function.
    if isinstance(part, (ModuleType, *_GENERATORS)):
        return ()
    if isinstance(part, FunctionType):
        return _reached_by_function(part)
    if isinstance(part, type):
        return () if _is_of_library(part.__module__) else tuple(vars(part).items())
    if isinstance(part, MethodType | staticmethod | classmethod):
        return [("self", getattr(part, "__self__", None)), ("function", part.__func__)]
    if isinstance(part, partial):
        return [("function", part.func), ("arguments", part.args), ("keywords", part.keywords)]
    return [*_contained_items(part), *_own_attributes(part)]


def _contained_items(part: Any) -> Parts:
    # Not of a subclass, which may read a file for each item.
    if type(part).__iter__ is dict.__iter__ if isinstance(part, dict) else type(part) in (list, tuple, deque):
        return () if len(part) > _LONGEST_LIST else tuple(part.items() if isinstance(part, dict) else enumerate(part))
    return ()


def _own_attributes(part: Any) -> Iterator[tuple[Any, Any]]:
    left_out = getattr(type(part), "seeds_itself", ())
    for name, value in tuple(getattr(part, "__dict__", {}).items()):
        if name not in left_out:
            yield name, value
    for kind in type(part).__mro__:
        yield kind.__qualname__, kind


def _reached_by_function(function: FunctionType) -> Iterator[tuple[Any, Any]]:
    if _is_of_library(function.__module__):
        return
    for number, cell in enumerate(function.__closure__ or ()):
        yield f"closure {number}", _cell_content(cell)
    yield "defaults", (function.__defaults__, function.__kwdefaults__)
    names = set(_names_in_code(function.__code__))
    for name in sorted(names & function.__globals__.keys()):
        value = function.__globals__[name]
        yield name, value
        if isinstance(value, ModuleType) and not _is_of_library(value.__name__):
            for inner in sorted(names & vars(value).keys()):
                yield f"{name}.{inner}", vars(value)[inner]


def _cell_content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the cell is still empty
        return None


def _names_in_code(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:  # nested functions and comprehensions
        if isinstance(constant, CodeType):
            yield from _names_in_code(constant)


@cache
def _is_of_library(module: str | None) -> bool:
    """Whether a module belongs to Python, an installed package or this project, and not to the user."""
    if module is None or module.startswith(("assay.runner", "assay.callbacks")):
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    return module in sys.builtin_module_names or (file is not None and file.startswith(_LIBRARIES))
