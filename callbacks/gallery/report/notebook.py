"""The gallery and the report in a notebook, below a cell."""

import html
import os
from collections.abc import Callable
from pathlib import Path

from ...errors import UsageError
from .page import report_page, samples_page

_LARGEST = 5_000_000  # bytes of an output, which the notebook's file keeps

# Without "allow-same-origin", so that the page reaches nothing of the notebook's; "downloads" saves marks.
_FRAME = (
    '<iframe srcdoc="{page}" sandbox="allow-scripts allow-downloads" title="{title}" '
    'style="width: 100%; height: {height}px; border: 0" loading="lazy"></iframe>'
)


class Frame:
    """A page within a notebook; as the last expression of a cell it is shown.

    Args:
        page: HTML that needs nothing but itself.
        title: what it is, for readers of screens.
        height: in pixels.
    """

    def __init__(self, page: str, title: str, height: int):
        self.page, self.title, self.height = page, title, height

    def _repr_html_(self) -> str:
        return _FRAME.format(page=html.escape(self.page), title=html.escape(self.title), height=self.height)

    def __repr__(self) -> str:
        return f"<{self.title}, {len(self.page) / 1e6:.1f} MB, shown by a notebook as the last expression of a cell>"


def show_samples(run: str | os.PathLike[str], *others: str | os.PathLike[str], height: int = 860) -> Frame:
    """Return the gallery of the samples of a run, or of several, to show in a notebook.

    It holds as many samples, curves and thumbnails as fit into 5 MB, those that a list names first, and works without a
    network, also when the notebook is opened again.

    Args:
        run: a run folder with the files of ``SampleHistory``.
        others: further ones, for comparison.
        height: in pixels.

    Raises:
        UsageError: a folder is no run, or holds no samples; pyarrow is not installed; ``height`` is below 200.
    """
    return _framed(samples_page, "samples", [run, *others], height)


def show_report(run: str | os.PathLike[str], *others: str | os.PathLike[str], height: int = 860) -> Frame:
    """Return the report of a run, or of several side by side, to show in a notebook; see ``show_samples``.

    Args:
        run: a run folder, also of a run that goes on.
        others: further ones, for comparison.
        height: in pixels.

    Raises:
        UsageError: a folder is no run, or ``height`` is below 200.
    """
    return _framed(report_page, "report", [run, *others], height)


def _framed(
    make: Callable[[list[Path], int], str], what: str, runs: list[str | os.PathLike[str]], height: int
) -> Frame:
    if height < 200:
        raise UsageError(f"height must be at least 200 pixels, got {height}.")
    folders = [Path(run) for run in runs]
    return Frame(make(folders, _LARGEST), f"{what} of {', '.join(folder.name for folder in folders)}", height)
