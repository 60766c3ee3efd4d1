"""Checks that output and target of a batch have the shapes of a task."""

from collections.abc import Sequence

from ..errors import UsageError
from ..measures.targets import is_paired


def check_shapes(
    asked_by: str, task: str, num_classes: int, output: tuple[str, Sequence[int]], target: tuple[str, Sequence[int]]
) -> None:
    """Raise a ``UsageError`` if the output or the target has another shape than the task asks for.

    Args:
        asked_by: name of the callback, for the error.
        task: ``binary``, ``multiclass`` or ``multilabel``.
        num_classes: C, the number of classes or labels.
        output: key of the output in the batch, and its shape.
        target: key of the target in the batch, and its shape.

    Raises:
        UsageError: the shapes do not fit.
    """
    shape = tuple(output[1])
    got = f"got {output[0]} {shape} and {target[0]} {tuple(target[1])}"
    if task != "binary" and (len(shape) < 2 or shape[1] != num_classes):
        raise UsageError(f"{asked_by}(num_classes={num_classes}) needs an output [N, {num_classes}, ...], {got}.")
    # Shapes that pair in any way the measures take, such as [N] and [N, 1], are right.
    if is_paired(target[1], shape, task):
        return
    if task == "binary":
        raise UsageError(f"{asked_by}(task='binary') needs one logit per target, {got}.")
    also = f", or {shape} with a share for each class" if task == "multiclass" else ""
    expected = (*shape[:1], *shape[2:]) if task == "multiclass" else shape
    raise UsageError(f"{asked_by}(task={task!r}) needs a target of shape {expected}{also}, {got}.")
