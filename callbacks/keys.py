"""The default keys of a batch, and a lookup whose error lists the existing keys."""

from collections.abc import Mapping
from typing import Any

from .errors import UsageError, described, listing

IMAGE_KEY = "image"
TARGET_KEY = "target"
OUTPUT_KEY = "logits"
SAMPLE_ID_KEY = "sample_id"


def pick(source: Mapping[str, Any], key: str, asked_by: str, source_name: str = "batch") -> Any:
    """Return ``source[key]``.

    Args:
        source: a batch, or any other mapping.
        key: the key to look up.
        asked_by: name of the caller, for the error.
        source_name: name of the mapping, for the error.

    Raises:
        UsageError: the key is missing, or the source is no mapping.

    Example:
        >>> pick({"image": 1}, "target", "Metrics")
        Traceback (most recent call last):
            ...
        assay.callbacks.errors.UsageError: Metrics asks for key 'target', which the batch lacks; it has 'image'.
    """
    # A runner of the user's own may leave the batch a tuple.
    if not isinstance(source, Mapping):
        advice = f": in handle_batch set self.batch = {{{key!r}: ..., ...}}" if source_name == "batch" else ""
        raise UsageError(
            f"{asked_by} asks for key {key!r}, and the {source_name} is no dict but a {described(source)}{advice}."
        )
    if key not in source:
        raise UsageError(f"{asked_by} asks for key {key!r}, which the {source_name} lacks; it has {listing(source)}.")
    return source[key]
