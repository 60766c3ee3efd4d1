"""The rules, a small file each; ``all_rules`` finds them."""

import pkgutil
from functools import cache
from importlib import import_module

from ..probe.rule import Rule


@cache
def all_rules() -> tuple[Rule, ...]:
    """Return every rule, in the order of their folders and files."""
    names = [module.name for module in pkgutil.walk_packages(__path__, f"{__name__}.") if not module.ispkg]
    parts = [part for name in sorted(names) for part in vars(import_module(name)).values()]
    return tuple(part for part in parts if isinstance(part, Rule))
