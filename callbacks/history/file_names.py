"""From which file a sample comes, as far as its data set tells."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..keys import IMAGE_KEY, SAMPLE_ID_KEY

PATH_KEY = "image_path"  # of an item that holds the image itself, and names its file beside it
_INNER = ("dataset", "items")  # what data sets that wrap another one call it


class FileNames:
    """The files of the samples of a data set, by id.

    Known are those of a ``runner.ItemList``, of a list of dicts with a path as ``image`` or ``image_path``, and of ids
    that are paths of files themselves; also where other data sets are around it. Of others nothing is read to find out.

    Args:
        dataset: of a loader.
        sample_id_key: key of the ids in its items.
    """

    def __init__(self, dataset: Any, sample_id_key: str = SAMPLE_ID_KEY):
        self._dataset, self._sample_id_key = dataset, sample_id_key
        self._known: dict[str, str] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> "FileNames":
        # The validation before the first epoch runs copies of all callbacks, which need none of the data set.
        return FileNames(self._dataset, self._sample_id_key)

    def of(self, ids: Sequence[str]) -> list[str]:
        """Return the path of each sample's file; empty where it is not known."""
        missing = {name for name in ids if name not in self._known}
        if missing:
            # Of a million samples a few are asked for, and mostly the same ones again.
            named = (pair for items in _innermost(self._dataset) for pair in self._pairs(items))
            self._known |= {name: path for name, path in named if name in missing}
            self._known |= {name: name if os.path.isfile(name) else "" for name in missing - self._known.keys()}
        return [self._known[name] for name in ids]

    def _pairs(self, items: Any) -> Iterator[tuple[str, str]]:
        if hasattr(items, "column") and hasattr(items, "root"):
            ids, images = items.column(SAMPLE_ID_KEY), items.column(IMAGE_KEY)
            for name, path in zip(ids, images, strict=True):
                if isinstance(path, str | os.PathLike):
                    yield str(name), os.path.join(items.root, path)
        elif isinstance(items, list | tuple):
            for item in items:
                path = item.get(PATH_KEY, item.get(IMAGE_KEY)) if isinstance(item, Mapping) else None
                if isinstance(path, str | os.PathLike) and self._sample_id_key in item:
                    yield str(item[self._sample_id_key]), os.fspath(path)


def _innermost(dataset: Any) -> Iterator[Any]:
    """Yield the data sets that others are around."""
    parts = getattr(dataset, "datasets", None)
    inner = next((found for name in _INNER if (found := getattr(dataset, name, None)) is not None), None)
    if isinstance(parts, list | tuple):
        for part in parts:
            yield from _innermost(part)
    elif inner is not None and not callable(inner):
        yield from _innermost(inner)
    else:
        yield dataset
