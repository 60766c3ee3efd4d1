"""What the server answers at the addresses of the tab Samples."""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from weakref import ref

from werkzeug import wrappers
from werkzeug.exceptions import RequestEntityTooLarge

from ...errors import UsageError
from ...history.marks import Mark, add_marks, read_marks
from ..aggregates import aggregate
from ..bounded_cache import BoundedCache
from ..compare import compare
from ..documents import table_document
from ..query import facets, query, usual_order
from ..run_folder import NotThereError, Signature
from ..run_samples import MOST_BYTES, RunSamples
from ..table import Table
from .access import is_of_another_site, why_not_mark
from .responses import SAFE, file_response, json_response
from .run_search import RunSearch

MARKS = "marks.csv"
MOST_ROWS = 200_000  # that go to the browser as a whole table
USUAL = "usual"  # as the column to sort by: the order where nobody chose one
MOST_CURVES = 1_000  # samples of which curves go there at once
_MOST_POSTED = 4 << 20  # bytes of marks to save
_MOST_ASKED = 32 << 20  # bytes of a question, with some 300,000 marks that only the browser has
# Besides marks, questions that may be too long for an address, as with the marks that a browser keeps itself.
_POSTED = ("marks", "query", "aggregate", "facets", "compare")


class RefusedError(UsageError):
    """A request that is not answered, with its status.

    Args:
        status: of HTTP.
        message: why, in one line.
    """

    def __init__(self, status: int, message: str = ""):
        super().__init__(message)
        self.status = status


class Answers:
    """Answers requests for the samples of runs.

    Every run, loader and file is looked up by its name among those that are there: no path is made of a request.

    Args:
        search: for the runs.
        flags: of TensorBoard, which tell who may save marks; None: not known.
    """

    def __init__(self, search: RunSearch, flags: Any):
        self.search, self.flags = search, flags
        self.cache = BoundedCache(MOST_BYTES)
        self._runs: dict[tuple[str, Path], RunSamples] = {}
        self._marks_read: dict[Path, tuple[Signature, list[Mark]]] = {}
        self._lock = threading.Lock()

    def answer(self, route: str, request: wrappers.Request) -> wrappers.Response:
        """Return what is at an address; what goes wrong is a line ``error`` with a status of its own."""
        try:
            if request.method not in ("GET", "HEAD") and not (request.method == "POST" and route in _POSTED):
                raise RefusedError(405, f"{route} is to be read alone, not for {request.method}.")
            most = _MOST_POSTED if route == "marks" else _MOST_ASKED
            request.max_content_length = request.max_form_memory_size = most
            return self._routes[route](self, request)
        except RequestEntityTooLarge:
            return json_response(request, {"error": f"{route} must have at most {most:,} bytes at once."}, 413)
        except RefusedError as error:
            return json_response(request, {"error": str(error)}, error.status)
        except NotThereError as error:
            return json_response(request, {"error": str(error)}, 404)
        except UsageError as error:
            return json_response(request, {"error": str(error)}, 400)

    def runs(self, request: wrappers.Request) -> wrappers.Response:
        """Return the runs and their loaders."""
        why_not = why_not_mark(self.flags, request.headers)
        found = []
        for name, path in self.search.runs().items():
            loaders = [asdict(info) for info in self._samples(name, path).loaders()]
            if loaders:
                found.append({"run": name, "loaders": loaders})
        return json_response(request, {"may_mark": not why_not, "why_not": why_not, "runs": found})

    def table(self, request: wrappers.Request) -> wrappers.Response:
        """Return all samples of an epoch."""
        return json_response(request, table_document(_small(self._table(request))))

    def query(self, request: wrappers.Request) -> wrappers.Response:
        """Return a page of the samples that fit, and counts of choices where they are asked for."""
        run = self._run(request)
        table, marked, wanted = self._looked_at(request, run), self._marked(request, run), _object(request, "q")
        filters = wanted.get("filters") or {}
        if wanted.get("sort") == USUAL:
            wanted["sort"], wanted["descending"] = usual_order(table, filters, marked)
        found = _page(table, wanted, marked) | {name: wanted.get(name) for name in ("sort", "descending")}
        if request.values.get("with") == "facets":
            found["facets"] = facets(table, filters, marked)
        return json_response(request, found)

    def aggregate(self, request: wrappers.Request) -> wrappers.Response:
        """Return counts over the samples that fit."""
        run = self._run(request)
        marked = self._marked(request, run)
        options, filters = _object(request, "options"), _object(request, "filters")
        return json_response(
            request, aggregate(self._looked_at(request, run), _text(request, "kind"), options, filters, marked)
        )

    def facets(self, request: wrappers.Request) -> wrappers.Response:
        """Return how many samples each choice of a filter would show."""
        run = self._run(request)
        marked = self._marked(request, run)
        return json_response(request, facets(self._looked_at(request, run), _object(request, "filters"), marked))

    def curves(self, request: wrappers.Request) -> wrappers.Response:
        """Return what became of some samples."""
        parts = [part for part in _text(request, "index").split(",") if part]
        indices = [_number("index", part) for part in parts]
        if len(indices) > MOST_CURVES:
            raise RefusedError(413, f"index must name at most {MOST_CURVES} samples, got {len(indices)}.")
        return json_response(request, self._run(request).curves(_text(request, "loader"), indices))

    def sample(self, request: wrappers.Request) -> wrappers.Response:
        """Return what is known of one sample."""
        index = _number("index", _text(request, "index"))
        return json_response(request, self._run(request).sample(_text(request, "loader"), index))

    def thumbnail(self, request: wrappers.Request) -> wrappers.Response:
        """Return a picture of a sample."""
        index, kind = _number("index", _text(request, "index")), request.args.get("kind", "image")
        picture = self._run(request).thumbnail(_text(request, "loader"), index, kind)
        if picture is None:
            raise NotThereError(f"sample {index} has no thumbnail of the kind {kind!r}.")
        return file_response(request, picture, "image/jpeg")

    def marks(self, request: wrappers.Request) -> wrappers.Response:
        """Return the marks of a run, or add some."""
        run = self._run(request)
        if request.method == "POST":
            self._may_post(request)
            posted = _posted(request, run)
            try:
                add_marks(_marks_file(run, to_write=True), posted)
            except OSError as error:
                raise RefusedError(403, f"marks cannot be saved in the folder of the run: {error.strerror}.") from error
        return json_response(request, {"marks": [asdict(mark) for mark in self._marks(run)]})

    def marks_file(self, request: wrappers.Request) -> wrappers.Response:
        """Return the file of marks."""
        with self._run(request).folder.open(MARKS) as file:
            headers = SAFE | {"Content-Disposition": f'attachment; filename="{MARKS}"'}
            return wrappers.Response(file.read(), 200, headers, content_type="text/csv; charset=utf-8")

    def compare(self, request: wrappers.Request) -> wrappers.Response:
        """Return the samples that are in two runs; with a query, a page of them."""
        run = self._run(request)
        both = self._both(request, run)
        if "q" in request.values:
            return json_response(request, _page(both, _object(request, "q"), self._marked(request, run)))
        return json_response(request, table_document(_small(both)))

    def _run(self, request: wrappers.Request, parameter: str = "run") -> RunSamples:
        name, found = _text(request, parameter), self.search.runs()
        if name not in found:
            raise NotThereError(f"there is no {parameter} {name!r} with samples.")
        return self._samples(name, found[name])

    def _samples(self, name: str, path: Path) -> RunSamples:
        with self._lock:
            if (name, path) not in self._runs:
                self._runs[name, path] = RunSamples(path, name, self.cache)
            return self._runs[name, path]

    def _table(self, request: wrappers.Request, run: RunSamples | None = None) -> Table:
        epoch = request.values.get("epoch")
        run = self._run(request) if run is None else run
        return run.table(_text(request, "loader"), _number("epoch", epoch) if epoch else None)

    def _looked_at(self, request: wrappers.Request, run: RunSamples) -> Table:
        """Return the samples of an epoch, or where another run is named those that are in both."""
        return self._both(request, run) if "other" in request.values else self._table(request, run)

    def _both(self, request: wrappers.Request, run: RunSamples) -> Table:
        loader, other_run = _text(request, "loader"), self._run(request, "other")
        table, other = self._table(request, run), other_run.table(loader)
        key = ("compare", run.folder.path, other_run.folder.path, loader, table.epoch)
        # Weak, so that tables which were dropped do not stay in memory.
        return self.cache.get(key, (ref(table), ref(other)), lambda: compare(table, other))

    def _marks(self, run: RunSamples) -> list[Mark]:
        path = _marks_file(run)
        signature = run.folder.signature(MARKS)
        if signature is None or path.is_symlink():
            return []
        if path not in self._marks_read or self._marks_read[path][0] != signature:
            self._marks_read[path] = signature, read_marks(path)
        return self._marks_read[path][1]

    def _marked(self, request: wrappers.Request, run: RunSamples) -> dict[str, str]:
        """Return the marks of a loader by id: saved ones, and over them those that the browser keeps itself."""
        loader, own = _text(request, "loader"), _object(request, "own")
        if any(not isinstance(mark, str) for mark in own.values()):
            raise UsageError("own must be a JSON object of marks, texts, by id.")
        saved = {mark.sample_id: mark.mark for mark in self._marks(run) if mark.loader == loader}
        return {sample_id: mark for sample_id, mark in (saved | own).items() if mark}

    def _may_post(self, request: wrappers.Request) -> None:
        if is_of_another_site(request.headers):
            origin = request.headers.get("Origin", "unknown")
            raise RefusedError(
                403,
                f"marks cannot be saved from a page of another site, {origin!r}; a proxy must pass on the header Host.",
            )
        if request.mimetype != "application/json":
            raise RefusedError(403, f"marks must come as application/json, got {request.mimetype!r}.")
        if why_not := why_not_mark(self.flags, request.headers):
            raise RefusedError(403, why_not)

    _routes: Mapping[str, Callable[["Answers", wrappers.Request], wrappers.Response]] = {
        "runs": runs, "table": table, "query": query, "aggregate": aggregate, "facets": facets, "curves": curves,
        "sample": sample, "thumbnail": thumbnail, "marks": marks, "marks.csv": marks_file, "compare": compare,
    }  # fmt: skip


def _page(table: Table, wanted: Mapping[str, Any], marked: Mapping[str, str]) -> dict[str, Any]:
    total, rows = query(table, wanted, marked)
    return {"total": total, "table": table_document(table, rows)}


def _small(table: Table) -> Table:
    if len(table) > MOST_ROWS:
        raise RefusedError(413, f"the table has {len(table):,} samples, more than {MOST_ROWS:,}: ask by query.")
    return table


def _marks_file(run: RunSamples, *, to_write: bool = False) -> Path:
    """Return the file of marks of a run, which is no link, so that nothing outside the run is written."""
    path = run.folder.path / MARKS
    lock = path.with_name(f".{MARKS}.lock")
    if to_write and (any(it.is_symlink() for it in (path, lock)) or (path.exists() and not path.is_file())):
        raise RefusedError(403, f"{MARKS} of the run is a link or no file, and is not written.")
    return path


def _posted(request: wrappers.Request, run: RunSamples) -> list[Mark]:
    """Return the marks in the body of a request, all of samples that the run has."""
    try:
        body = json.loads(request.get_data())
    except (ValueError, RecursionError) as error:
        raise UsageError(f"marks must come as JSON: {error}.") from error
    listed = body.get("marks") if isinstance(body, dict) else None
    if not isinstance(listed, list):
        raise UsageError('marks must come as {"marks": [...]}.')
    marks = [_mark(one) for one in listed]
    for loader in {mark.loader for mark in marks}:
        ids = {mark.sample_id for mark in marks if mark.loader == loader}
        if missing := ids - run.known_ids(loader, ids):
            raise UsageError(f"loader {loader!r} has no sample {min(missing)!r}.")
    return marks


def _mark(one: Any) -> Mark:
    names = ("loader", "sample_id", "mark", "label")
    if not isinstance(one, dict) or not set(names[:3]) <= one.keys() <= set(names):
        raise UsageError(f"a mark must have {', '.join(names[:3])} and perhaps label.")
    if any(not isinstance(value, str) or "\0" in value for value in one.values()):
        raise UsageError("the parts of a mark must be texts without NUL.")
    return Mark(**one)


def _text(request: wrappers.Request, name: str) -> str:
    if name not in request.values:
        raise UsageError(f"the address needs the parameter {name!r}.")
    return str(request.values[name])


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UsageError(f"{name} must be a whole number, got {text[:40]!r}.")
    return int(text)


def _object(request: wrappers.Request, name: str) -> dict[str, Any]:
    text = request.values.get(name) or "{}"
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name} must be JSON: {error}.") from error
    if not isinstance(found, dict):
        raise UsageError(f"{name} must be a JSON object, got {text[:100]!r}.")
    return found
