"""Say in one line which operator of a model cannot be exported, and what to do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from assay.callbacks.errors import UsageError

_DATA_DEPENDENT = ("GuardOnDataDependent", "data-dependent", "Could not guard", "Could not extract specialized")


@contextmanager
def explained(format_name: str) -> Iterator[None]:
    """Raise what stops an export within the block as one line."""
    try:
        yield
    except (UsageError, OSError, MemoryError):
        raise
    except Exception as error:  # torch.export raises errors of any kind, also those of the model itself
        raise UsageError(_explain(error, format_name)) from error


def _explain(error: BaseException, format_name: str) -> str:
    chain = list(_causes(error))
    text = "\n".join(str(one) for one in chain)
    start = f"the model cannot be exported to {format_name}"
    if missing := re.search(r"No ONNX function found for .*?op='([\w.]+)'", text):
        advice = "use other operators in forward, or choose --format torch-export"
        return f"{start}: ONNX has no translation of {missing[1]}; {advice}."
    if any(word in text or word in type(one).__name__ for one in chain for word in _DATA_DEPENDENT):
        operator = _operator_of(text)
        what = f"{operator} makes" if operator else "its forward makes"
        return (
            f"{start}: {what} a Python number or a size of a tensor's values (as .item(), nonzero, x[mask] or an if "
            "do), which a graph cannot follow; use torch.where and fixed sizes instead."
        )
    return f"{start}: {first_line(chain[-1])}"


def first_line(error: BaseException) -> str:
    """Return the type of an error with the first line of its message."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {line[:300]}" if line else type(error).__name__


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _operator_of(text: str) -> str | None:
    found = re.search(r"\b((?:aten|torchvision|prims)\.\w+)", text)
    return found[1] if found else None
