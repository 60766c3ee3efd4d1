"""The names of the optimizers that fit, read without importing torch."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from assay.callbacks.errors import UsageError, listing, unknown_name
from assay.callbacks.lazy_exports import homes_of_exports

UNFIT = {
    "LBFGS": "it needs a closure",
    "SparseAdam": "it takes sparse gradients only",
    "Muon": "it takes matrices only",
}


def exported_names() -> list[str]:
    """Return the optimizers that ``torch.optim`` exports by its source, but for those that do not fit.

    Example:
        >>> {"SGD", "AdamW"} <= set(exported_names())
        True
    """
    # The spec of torch, not that of torch.optim, for which Python would import torch.
    spec = find_spec("torch")
    source = Path(str(spec and spec.origin)).parent / "optim" / "__init__.py"
    exported = homes_of_exports(source.read_text(encoding="utf-8"))
    return sorted(name for name in exported if name[0].isupper() and name != "Optimizer" and name not in UNFIT)


def find_name(name: str, known: Sequence[str]) -> str:
    """Return the name of an optimizer as torch spells it.

    Args:
        name: in upper or lower case, as users write sgd and adamw.
        known: the names that fit.

    Raises:
        UsageError: it is unknown or does not fit.
    """
    unfit = {one.lower(): why for one, why in UNFIT.items()}
    names = {one.lower(): one for one in known}
    if name.lower() in unfit:
        raise UsageError(f"optimizer {name!r} does not fit: {unfit[name.lower()]}; there is {listing(known)}.")
    if name.lower() not in names:
        raise unknown_name("optimizer", name, known)
    return names[name.lower()]
