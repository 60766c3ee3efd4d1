"""A run as one page of HTML: a table of its epochs, its curves and its pictures."""

import base64
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from assay.callbacks.drawings.curves import draw_curves
from assay.callbacks.errors import unknown_name
from assay.callbacks.results.result_files import BEST, LAST
from assay.callbacks.results.results import Results
from assay.callbacks.support.unwrap import inside
from assay.callbacks.tensorboard.summaries import encode_png

from .notebook import epoch_table, in_notebook, show_html

# What a person looks at first.
_FIRST = ("worst_samples", "samples_worst", "confusion_matrix")


class ShownInNotebook:
    """What a runner shows of its run: its epochs, curves and pictures.

    As the last expression of a cell the runner shows what ``show()`` does.
    """

    history: dict[int, dict[str, dict[str, float]]]
    callbacks: Mapping[str, Any]

    def show(self, epoch: str = LAST) -> None:
        """Show the metrics, curves and pictures below the cell; outside a notebook, print where the pictures are.

        Args:
            epoch: ``last`` or ``best``: of which the pictures are. They are those in the folder ``results`` of the
                ``logdir``.

        Raises:
            UsageError: the epoch is neither.
        """
        if epoch not in (LAST, BEST):
            raise unknown_name("epoch", epoch, (LAST, BEST))
        if in_notebook():
            show_html(self._page(epoch))
            return
        results = _results_of(self)
        print(
            "there are no pictures: train with a logdir" if results is None else f"pictures: {_folder(results, epoch)}"
        )

    def _repr_html_(self) -> str:
        return self._page(LAST)

    def _page(self, epoch: str) -> str:
        if not self.history:
            return f"<p>{type(self).__name__}: not trained yet</p>"
        results = _results_of(self)
        best = None if results is None else results.best
        curves = encode_png(draw_curves(self.history, best=best, best_by=None if results is None else results.metric))
        parts = [epoch_table(_of_loaders(self.history), best=best), _figure(curves, "curves")]
        if results is not None:
            parts += _pictures(_folder(results, epoch))
        return "\n".join(parts)


def _results_of(runner: ShownInNotebook) -> Results | None:
    """Return the callback that has saved the pictures of the run; None: none has."""
    found = (
        one for one in map(inside, runner.callbacks.values()) if isinstance(one, Results) and one.folder_ is not None
    )
    return next(found, None)


def _folder(results: Results, epoch: str) -> Path:
    return Path(results.folder_ or "") / epoch


def _of_loaders(history: Mapping[int, Mapping[str, Mapping[str, float]]]) -> dict[int, dict[str, dict[str, float]]]:
    """Return the history without what is no loader's."""
    return {
        epoch: {loader: dict(of) for loader, of in by_loader.items() if loader != "_epoch_"}
        for epoch, by_loader in history.items()
    }


def _pictures(folder: Path) -> Iterable[str]:
    """Yield the pictures of each loader, those of training loaders folded away."""
    loaders = sorted((path for path in folder.glob("*") if path.is_dir()), key=lambda path: _is_train(path.name))
    for path in loaders:
        pictures = sorted(path.glob("*.png"), key=lambda picture: (_rank(picture.stem), picture.stem))
        figures = "".join(_figure(picture.read_bytes(), f"{path.name}: {picture.stem}") for picture in pictures)
        if figures:
            opened = "" if _is_train(path.name) else " open"
            yield f"<details{opened}><summary>{escape(path.name)}</summary>{figures}</details>"


def _is_train(loader: str) -> bool:
    return loader.startswith("train")


def _rank(name: str) -> int:
    return next((rank for rank, start in enumerate(_FIRST) if name.startswith(start)), len(_FIRST))


def _figure(png: bytes, caption: str) -> str:
    data = base64.b64encode(png).decode()
    style = "max-width: 100%; image-rendering: auto"
    return (
        f'<figure style="margin: 1em 0"><figcaption>{escape(caption)}</figcaption>'
        f'<img style="{style}" alt="{escape(caption)}" src="data:image/png;base64,{data}"></figure>'
    )
