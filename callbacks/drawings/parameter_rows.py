"""Group the parameters of a model by module, into as many rows as a picture has room for names."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

MOST_ROWS = 20


@dataclass(frozen=True)
class ParameterRow:
    """Consecutive parameters of one module, or of several that follow each other.

    Attributes:
        name: of the module, of the parameter if it is one, or of the first and the last module.
        count: how many parameters.
    """

    name: str
    count: int


@dataclass(frozen=True)
class _Group:
    paths: Sequence[list[str]]  # the parts of each name
    is_final: bool = False  # not to be split
    is_run: bool = False  # of several modules

    @property
    def shared(self) -> list[str]:
        """The parts that all names begin with."""
        return shared_parts(self.paths)

    def children(self) -> list["_Group"]:
        depth = len(self.shared)
        runs = groupby(self.paths, lambda path: path[depth : depth + 1])
        return [_Group(list(run)) for _, run in runs]

    def name(self) -> str:
        depth = len(self.shared)
        if len(self.paths) > 1 and (self.is_run or not depth):
            first, last = (".".join(path[depth : depth + 1]) for path in (self.paths[0], self.paths[-1]))
            return ".".join([*self.shared, f"{first} … {last}"])
        return ".".join(self.shared)


def shared_parts(paths: Sequence[list[str]]) -> list[str]:
    """Return the parts that all paths begin with."""
    # Of sorted ones the first and the last differ most.
    first, last = min(paths), max(paths)
    same = [a == b for a, b in zip(first, last, strict=False)]
    return first[: same.index(False)] if False in same else first[: len(same)]


def group_parameters(names: Sequence[str], most: int = MOST_ROWS) -> list[ParameterRow]:
    """Return rows of consecutive parameters, at most ``most``: the finest modules for which there is room.

    Example:
        >>> names = ["stem.weight", *(f"blocks.{i}.{part}" for i in range(3) for part in ("weight", "bias"))]
        >>> [(row.name, row.count) for row in group_parameters(names, most=4)]
        [('stem.weight', 1), ('blocks.0', 2), ('blocks.1', 2), ('blocks.2', 2)]
        >>> [(row.name, row.count) for row in group_parameters(names, most=3)]
        [('stem.weight', 1), ('blocks.0', 2), ('blocks.1 … 2', 4)]
    """
    groups = [_Group([name.split(".") for name in names])]
    while open_groups := [group for group in groups if len(group.paths) > 1 and not group.is_final]:
        # The largest one first, as a row of many parameters shows little of each.
        largest = max(open_groups, key=lambda group: len(group.paths))
        place, room = groups.index(largest), most - len(groups) + 1
        groups[place : place + 1] = _split(largest, room)
    return [ParameterRow(group.name(), len(group.paths)) for group in groups]


def _split(group: _Group, room: int) -> list[_Group]:
    """Return the parts of a group, at most ``room``; of more some are joined, and stay so."""
    parts = group.children()
    count = min(room, len(parts))
    if count < 2:
        return [_Group(group.paths, is_final=True)]
    starts = [index * len(parts) // count for index in range(count + 1)]
    runs = [parts[start:end] for start, end in pairwise(starts)]
    return [run[0] if len(run) == 1 else _joined(run) for run in runs]


def _joined(groups: Sequence[_Group]) -> _Group:
    return _Group([path for group in groups for path in group.paths], is_final=True, is_run=True)
