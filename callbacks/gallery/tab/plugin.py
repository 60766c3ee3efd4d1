"""The plug-in of TensorBoard that shows samples; it is named in ``setup.cfg``, by which TensorBoard finds it.

TensorBoard imports this file whenever it starts, so it imports nothing that takes time, as pyarrow and torch do.
"""

import argparse
import logging
import threading
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tensorboard.plugins import base_plugin
from werkzeug import wrappers

from .responses import file_response, json_response
from .run_search import RunSearch, named_folders

NAME, TAB = "assay_samples", "Samples"
WEB = Path(__file__).parents[1] / "web"
MODULE = "index.js"
MISSING = "the tab Samples is off, as pyarrow is not installed: pip install 'catalyst-assay[samples]'"

_TYPES = {".js": "text/javascript", ".css": "text/css"}
_ROUTES = (
    "runs",
    "table",
    "query",
    "aggregate",
    "facets",
    "curves",
    "sample",
    "thumbnail",
    "marks",
    "marks.csv",
    "compare",
)

_log = logging.getLogger("assay")

WsgiApp = Callable[..., Any]


class SamplesLoader(base_plugin.TBLoader):
    """Gives TensorBoard the plug-in and its flag."""

    def define_flags(self, parser: argparse.ArgumentParser) -> None:
        """Add the flag to TensorBoard's."""
        group = parser.add_argument_group("assay samples")
        group.add_argument(
            "--samples_allow_marks",
            action="store_true",
            help="Let everybody whom TensorBoard answers save marks of samples in the folders of runs. Without it only "
            "who addresses it as localhost may.",
        )

    def load(self, context: base_plugin.TBContext) -> "SamplesPlugin":
        """Return the plug-in."""
        return SamplesPlugin(context)


class SamplesPlugin(base_plugin.TBPlugin):
    """Shows the samples of runs: pictures, what became of them, and marks.

    Args:
        context: of TensorBoard.
    """

    plugin_name = NAME

    def __init__(self, context: base_plugin.TBContext):
        self.flags = context.flags
        self.search = RunSearch(named_folders(context.logdir, getattr(context.flags, "logdir_spec", None)))
        self._has_told = False
        self._answers: Any = None
        self._lock = threading.Lock()

    def frontend_metadata(self) -> base_plugin.FrontendMetadata:
        return base_plugin.FrontendMetadata(es_module_path=f"/{MODULE}", tab_name=TAB)

    def is_active(self) -> bool:
        """Return whether there is a run to show."""
        if not (WEB / MODULE).is_file() or not self.search.any():
            return False
        if find_spec("pyarrow") is not None:
            return True
        if not self._has_told:
            self._has_told = True
            _log.warning(MISSING)
        return False

    def get_plugin_apps(self) -> Mapping[str, WsgiApp]:
        """Return what answers at each address below that of the plug-in."""
        files = [path for path in sorted(WEB.glob("*")) if path.suffix in _TYPES and path.is_file()]
        apps: dict[str, WsgiApp] = {
            f"/{path.name}": _file_app(path, _TYPES[path.suffix], self._warm_up if path.name == MODULE else None)
            for path in files
        }
        return apps | {f"/{route}": self._app(route) for route in _ROUTES}

    def _warm_up(self) -> None:
        """Load what answers while the browser still loads the page."""
        if find_spec("pyarrow") is not None:
            threading.Thread(target=self._answerer, name="assay samples", daemon=True).start()

    def _answerer(self) -> Any:
        with self._lock:
            if self._answers is None:
                from .answers import Answers  # with pyarrow, when the tab is opened first

                self._answers = Answers(self.search, self.flags)
        return self._answers

    def _app(self, route: str) -> WsgiApp:
        def answer(request: wrappers.Request) -> wrappers.Response:
            if find_spec("pyarrow") is None:
                return json_response(request, {"error": MISSING}, 404)
            response: wrappers.Response = self._answerer().answer(route, request)
            return response

        return _app(answer)


def _file_app(path: Path, kind: str, meanwhile: Callable[[], None] | None = None) -> WsgiApp:
    """Return what answers with a file of the front end, and does something meanwhile."""

    def answer(request: wrappers.Request) -> wrappers.Response:
        if meanwhile is not None:
            meanwhile()
        return file_response(request, path.read_bytes(), f"{kind}; charset=utf-8")

    return _app(answer)


def _app(answer: Callable[[wrappers.Request], wrappers.Response]) -> WsgiApp:
    app: WsgiApp = wrappers.Request.application(answer)
    return app
