"""Names under which a batch holds its parts, and the lookup that says clearly when a part is missing."""

from collections.abc import Mapping
from typing import Any

from .described import described
from .errors import UsageError, listing

IMAGE_KEY = "image"
TARGET_KEY = "target"
OUTPUT_KEY = "logits"
SAMPLE_ID_KEY = "sample_id"


def pick(source: Mapping[str, Any], key: str, asked_by: str, source_name: str = "batch") -> Any:
    """Return ``source[key]``.

    Args:
        source: a batch, or any other mapping that is addressed by name.
        key: the name to look up.
        asked_by: who wants it, as the user wrote it; it opens the error.
        source_name: what the mapping is called in the error.

    Raises:
        UsageError: the key is missing; the message lists the keys that exist. Or there are none, as in a tuple; the
            message says what it is, and what to do.
    """
    if not isinstance(source, Mapping):
        advice = f": in handle_batch set self.batch = {{{key!r}: ..., ...}}" if source_name == "batch" else ""
        raise UsageError(
            f"{asked_by} asks for key {key!r}, and the {source_name} is no dict but a {described(source)}{advice}."
        )
    if key not in source:
        raise UsageError(f"{asked_by} asks for key {key!r}, which the {source_name} lacks; it has {listing(source)}.")
    return source[key]
