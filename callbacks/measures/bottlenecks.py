"""The nodes of an autograd graph that every path goes through: its main stream, without the branches."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, TypeVar

Node = Any  # torch.autograd.graph.Node
Mark = TypeVar("Mark")


def bottlenecks(last: Node, marks: Mapping[Node, Mark]) -> list[Mark]:
    """Return the marks of the nodes that every path from the leaves of a graph to ``last`` goes through, leaves first.

    Args:
        last: node of the result.
        marks: for the nodes that are asked about; nodes outside of the graph are ignored.
    """
    # Nodes are visited after all that use them, as in a backward pass. Every path goes through a node that is visited
    # while no edge is open but those that lead to it.
    uses = _count_uses(last)
    seen: Counter[Node] = Counter()
    found, ready, open_edges = [], [last], 0
    while ready:
        node = ready.pop()
        open_edges -= uses[node]
        if not open_edges and not ready and node in marks:
            found.append(marks[node])
        inputs = _inputs(node)
        open_edges += len(inputs) or 1  # the end of a path stays open: nothing after it has all paths
        for following in inputs:
            seen[following] += 1
            if seen[following] == uses[following]:
                ready.append(following)
    return found[::-1]


def _count_uses(last: Node) -> Counter[Node]:
    """Return the number of edges that use each node of a graph."""
    uses: Counter[Node] = Counter()
    waiting = [last]
    while waiting:
        for node in _inputs(waiting.pop()):
            if node not in uses:
                waiting.append(node)
            uses[node] += 1
    return uses


def _inputs(node: Node) -> list[Node]:
    return [following for following, _ in node.next_functions if following is not None]
