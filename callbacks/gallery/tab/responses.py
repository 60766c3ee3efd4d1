"""Answers of the server: JSON and files."""

import gzip
import json
from collections.abc import Mapping
from typing import Any

from werkzeug import wrappers

from .access import is_loopback

# The browser asks for everything again, and takes nothing for something else than it is.
SAFE = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache, must-revalidate"}
_SMALL = 1_000  # bytes that are not worth compressing


def json_response(request: wrappers.Request, content: Mapping[str, Any], status: int = 200) -> wrappers.Response:
    """Return an answer as JSON, compressed where it goes over a network."""
    data, headers = json.dumps(content, allow_nan=False).encode("ascii"), dict(SAFE)
    is_far = not is_loopback(request.remote_addr or "") and "gzip" in request.accept_encodings
    if is_far and len(data) > _SMALL:
        data, headers = gzip.compress(data, 1), headers | {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return wrappers.Response(data, status, headers, content_type="application/json")


def file_response(request: wrappers.Request, data: bytes, content_type: str) -> wrappers.Response:
    """Return the content of a file, or that the browser has it already."""
    response = wrappers.Response(data, 200, SAFE, content_type=content_type)
    response.add_etag()
    return response.make_conditional(request)
