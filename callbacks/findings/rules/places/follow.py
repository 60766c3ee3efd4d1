"""Whether lines follow the edges of their images, and after which move they would."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .scenes import FEWEST, Floats, Scene, same_size

Scores = NDArray[np.float64]

_MOVES: Mapping[str, Callable[[Floats], Floats]] = {
    "flipped left to right": lambda lines: lines[:, ::-1],
    "flipped top to bottom": lambda lines: lines[::-1],
    "turned by 180 degrees": lambda lines: lines[::-1, ::-1],
    "turned by 90 degrees": lambda lines: np.rot90(lines, 1),
    "turned by 270 degrees": lambda lines: np.rot90(lines, 3),
    "with rows and columns exchanged": lambda lines: lines.T,
}
OTHERS = "to other images"
_CLEAR = 5.0  # standard errors: a dozen moves and a thousand shifts are tried
_GAIN = 2.0  # a move must fit twice as well: things that are symmetric fit as well when flipped
_STRONG = 0.3  # standard deviations of the edges: what lies on lines must be above what lies anywhere
_REACH = 16  # pixels of a map
_SHIFT = 3  # pixels of a map; less is how exactly masks are drawn
_LOST = 0.25  # of what the other loader has
_STRONGEST, _AS_SHARP = 0.97, 0.9  # share of edges below the strongest; what they are of the other loader's
_SOME = 0.2  # share of scenes that prefer a move, where it is drawn for each anew


@dataclass(frozen=True)
class Fit:
    """How a set of scenes fits.

    Attributes:
        own: strength of the edges on the lines of each scene, [n].
        moved: the same after each move that makes sense, by what it is called.
        shift: rows and columns by which the lines fit best, in pixels of the whole image.
        sharpness: how far the strongest edges stand out, in standard deviations; noise has none that do.
    """

    own: Scores
    moved: Mapping[str, Scores]
    shift: tuple[int, int] = (0, 0)
    sharpness: float = 0.0

    @property
    def clear(self) -> bool:
        """Whether lines lie on edges beyond doubt."""
        return len(self.own) >= FEWEST and _surely(self.own) > _CLEAR and float(self.own.mean()) > _STRONG


@dataclass(frozen=True)
class Misfit:
    """What is wrong: how lines would fit, in a clause; by how much; and for which share of the scenes."""

    move: str
    own: float
    moved: float
    share: float


def fit(scenes: Sequence[Scene]) -> Fit | None:
    """Return how scenes fit as they are, and moved; None where they are too few."""
    scenes = same_size(scenes)
    if len(scenes) < FEWEST:
        return None
    edges = np.stack([scene.edges for scene in scenes])
    lines = np.stack([scene.lines for scene in scenes])
    own = _on(edges, lines)
    moved = {name: _on(edges, np.stack([move(it) for it in lines])) for name, move in _usable(edges.shape)}
    moved |= _of_others(edges, lines)
    rows, columns, shifted, opposite = _shifted(edges, lines)
    scale = scenes[0].scale
    # What is drawn too wide or too narrow fits better when moved in either direction.
    one_sided = float(shifted.mean()) > _GAIN * float(opposite.mean())
    if max(abs(rows), abs(columns)) >= _SHIFT and one_sided:
        moved[shift_words(round(rows * scale), round(columns * scale))] = shifted
    sharpness = float(np.quantile(edges, _STRONGEST, axis=(1, 2)).mean())
    return Fit(own, moved, (round(rows * scale), round(columns * scale)), sharpness)


def _on(edges: Floats, lines: Floats) -> Scores:
    scores: Scores = (edges * lines).sum((1, 2)).astype(np.float64)
    return scores


def _usable(shape: tuple[int, ...]) -> list[tuple[str, Callable[[Floats], Floats]]]:
    turns = ("turned by 90 degrees", "turned by 270 degrees", "with rows and columns exchanged")
    return [(name, move) for name, move in _MOVES.items() if shape[1] == shape[2] or name not in turns]


def _of_others(edges: Floats, lines: Floats) -> dict[str, Scores]:
    count = len(edges)
    table = (edges.reshape(count, -1) @ lines.reshape(count, -1).T).astype(np.float64)
    rows = np.arange(count)
    moved = {
        "to the image of the sample before": table[(rows - 1) % count, rows],
        "to the image of the sample after": table[(rows + 1) % count, rows],
    }
    # Against what all others fit by chance, so that the best of many is no luck.
    np.fill_diagonal(table, np.nan)
    best = np.nanmax(table, axis=0)
    typical, spread = np.nanmean(table, axis=0), np.nanstd(table, axis=0)
    lucky = typical + spread * np.sqrt(2 * np.log(max(count, 2)))
    moved[OTHERS] = np.where(best > 1.5 * np.maximum(lucky, 0), best, 0)
    return moved


def shift_words(rows: int, columns: int) -> str:
    """Return a shift in words, such as ``moved by 6 pixels to the left and 2 down``."""
    across = f"{abs(columns)} pixels to the {'right' if columns > 0 else 'left'}" if columns else ""
    along = f"{abs(rows)}{'' if columns else ' pixels'} {'down' if rows > 0 else 'up'}" if rows else ""
    return f"moved by {' and '.join(part for part in (across, along) if part)}"


def _shifted(edges: Floats, lines: Floats) -> tuple[int, int, Scores, Scores]:
    reach = min(_REACH, min(edges.shape[1:]) // 4)
    product = np.fft.rfft2(edges) * np.conj(np.fft.rfft2(lines))
    fits = np.fft.fftshift(np.fft.irfft2(product, s=edges.shape[1:]), axes=(1, 2))
    middle_row, middle_column = edges.shape[1] // 2, edges.shape[2] // 2
    near = fits[:, middle_row - reach : middle_row + reach + 1, middle_column - reach : middle_column + reach + 1]
    row, column = np.unravel_index(int(near.mean(0).argmax()), near.shape[1:])
    shifted, opposite = near[:, row, column], near[:, 2 * reach - row, 2 * reach - column]
    return int(row) - reach, int(column) - reach, shifted.astype(np.float64), opposite.astype(np.float64)


def _surely(scores: Scores) -> float:
    """Return by how many standard errors the mean is above 0."""
    error = float(scores.std(ddof=1)) / np.sqrt(len(scores)) if len(scores) > 1 else np.inf
    return float(scores.mean()) / max(error, 1e-9)


def misfit(ours: Fit, others: Fit | None) -> Misfit | None:
    """Return why lines do not follow the edges; None where they do, or where it cannot be told.

    Args:
        ours: of the loader in question.
        others: of the other loader, whose lines may show what is right.
    """
    told = [found for name in ours.moved if (found := _by_move(ours, name, others))]
    if told:
        # The best of all other images is a little better than the right one's neighbour.
        return max(told, key=lambda it: it.moved * (0.9 if it.move == OTHERS else 1))
    drawn = [found for name in ours.moved if (found := _drawn_anew(ours, name, others))]
    if drawn:
        return max(drawn, key=lambda it: it.share)
    return _lost(ours, others)


def _by_move(ours: Fit, name: str, others: Fit | None) -> Misfit | None:
    own, moved = ours.own, ours.moved[name]
    # What lies well in the other loader tells how strong the edges are here.
    strong = _STRONG if others is None or not others.clear else min(_STRONG, 0.5 * float(others.own.mean()))
    gain = float(moved.mean()) > max(_GAIN * float(own.mean()), strong)
    if not gain or _surely(moved - own) < _CLEAR or _is_usual(name, ours, others):
        return None
    # The best of all others is a little better for every scene: nearly all must tell it.
    if name == OTHERS and (moved > 0).mean() < 0.7:
        return None
    return Misfit(name, float(own.mean()), float(moved.mean()), 1.0)


def _is_usual(name: str, ours: Fit, others: Fit | None) -> bool:
    """Return whether lines of the other loader are shifted alike, as roofs are that were seen from one side."""
    # Flips and turns are in the nature of no data.
    if others is None or not name.startswith("moved by") or others.shift == (0, 0):
        return False
    apart = max(abs(one - other) for one, other in zip(ours.shift, others.shift, strict=True))
    return apart <= max(map(abs, ours.shift)) / 2


def _drawn_anew(ours: Fit, name: str, others: Fit | None) -> Misfit | None:
    """Find a flip or turn that some scenes prefer and others do not, while none of the other loader does."""
    if name not in _MOVES or others is None or name not in others.moved or not others.clear:
        return None
    prefer, usual = _preferring(ours, name, others), _preferring(others, name, others)
    expected = max(usual, 1 / len(others.own))
    error = np.sqrt(expected * (1 - expected) * (1 / len(ours.own) + 1 / len(others.own)))
    if prefer < max(_SOME, 3 * expected) or prefer - expected < _CLEAR * error:
        return None
    chosen = _prefer(ours, name, others)
    if chosen.all() or float(ours.own[~chosen].mean()) < 0.5 * float(others.own.mean()):
        return None
    return Misfit(name, float(ours.own[chosen].mean()), float(ours.moved[name][chosen].mean()), prefer)


def _preferring(some: Fit, name: str, others: Fit) -> float:
    return float(_prefer(some, name, others).mean())


def _prefer(some: Fit, name: str, others: Fit) -> NDArray[np.bool_]:
    """Return the scenes that fit a move about as well as those of the other loader fit, and hardly without it."""
    good = float(others.own.mean())
    prefer: NDArray[np.bool_] = (some.moved[name] > 0.5 * good) & (some.own < 0.3 * good)
    return prefer


def _lost(ours: Fit, others: Fit | None) -> Misfit | None:
    if others is None or not others.clear:
        return None
    # Where edges are drowned in noise or blurred away, masks cannot follow them.
    if ours.sharpness < _AS_SHARP * others.sharpness:
        return None
    expected, own = float(others.own.mean()), float(ours.own.mean())
    error = np.hypot(ours.own.std(ddof=1) / np.sqrt(len(ours.own)), others.own.std(ddof=1) / np.sqrt(len(others.own)))
    if own < _LOST * expected and expected - own > _CLEAR * error:
        return Misfit("", own, expected, 1.0)
    return None
