"""Mend of BatchTransformCallback for a single key."""

from typing import Any

from catalyst import dl

from .fault import fault


@fault()
def transforms() -> bool:
    """BatchTransformCallback(input_key=...) without output_key replaces the batch by its first sample."""
    dl.BatchTransformCallback._handle_value = transform_values
    return True


def transform_values(callback: Any, runner: Any) -> None:
    """Replace ``BatchTransformCallback._handle_value``: for a single key, a result that is no sequence is the value."""
    values = callback.transform(*(runner.batch[key] for key in callback.input_key))
    # zip would take the first element of a tensor, which is its first sample.
    if len(callback.output_key) == 1 and not isinstance(values, tuple | list):
        values = (values,)
    runner.batch.update(zip(callback.output_key, values, strict=False))
