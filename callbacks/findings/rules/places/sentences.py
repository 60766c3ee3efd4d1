"""Words for masks and boxes that do not follow their images."""

from ...probe.finding import Finding, Where
from ...probe.wording import share
from .follow import OTHERS, Misfit

_APART = "give image and {things} to one transform together, so that both are drawn once"


def not_following(loader: str, other: str, things: str, found: Misfit) -> Finding:
    """Return the finding that masks or boxes of a loader do not lie where they should."""
    part, do = _clause(other, things, found)
    return Finding(
        "error",
        f"{things} of {loader} do not follow the images: {part}",
        do.format(things=things, loader=loader),
        Where(loader=loader),
        {"move": found.move, "edges": found.own, "edges_moved": found.moved, "share": found.share},
    )


def _clause(other: str, things: str, found: Misfit) -> tuple[str, str]:
    numbers = f"edges of strength {found.own:.2f} lie on their borders as they are, {found.moved:.2f}"
    if not found.move:
        return f"{numbers} in {other}, so they are of other images, or are moved apart by augmentation", _APART
    if found.share < 1:
        return (
            f"{share(found.share, 1)} of them fit only when {found.move}, as if one were flipped without the other",
            _APART,
        )
    if found.move.startswith("to "):
        whose = "those of other samples" if found.move == OTHERS else found.move.removeprefix("to ")
        return f"they fit {whose} ({numbers} there)", "pair images and {things} of {loader} by name"
    do = "draw the {things} of one sample on its image, and move both alike in the transform of {loader}"
    return f"they would fit when {found.move} ({numbers} then)", do
