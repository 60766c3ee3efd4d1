"""Compares what lies in the images of one loader with what lies in those of another."""

from collections.abc import Callable, Iterator, Sequence

from ...probe.finding import Finding
from ...probe.loader_probe import LoaderProbe
from ...probe.probe import Probe
from .follow import Fit, fit, misfit
from .scenes import Scene
from .sentences import not_following


def judge(probe: Probe, things: str, scenes: Callable[[LoaderProbe], Sequence[Scene]]) -> Iterator[Finding]:
    """Yield the loaders whose masks or boxes do not follow their images.

    Args:
        probe: of the run.
        things: ``masks`` or ``boxes``.
        scenes: returns what is to be compared of a loader.
    """
    fits = {key: fit(scenes(loader)) for key, loader in probe.loaders.items()}
    for key, ours in fits.items():
        if ours is None:
            continue
        other = _other(probe, key)
        theirs: Fit | None = fits[other] if other else None
        found = misfit(ours, theirs)
        if found is not None:
            yield not_following(key, other or "", things, found)


def _other(probe: Probe, key: str) -> str | None:
    """Return the key of a loader of the other kind."""
    trains = probe.loaders[key].trains
    return next((name for name, loader in probe.loaders.items() if loader.trains != trains), None)
