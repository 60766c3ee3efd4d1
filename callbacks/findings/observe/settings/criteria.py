"""What a criterion computes, and with which settings."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ...probe.settings_probe import CriterionProbe

# A class of these is what its name says; one of a user's own may be anything.
_LIBRARIES = (
    "torch", "torchvision", "assay", "pytorch_toolbelt", "catalyst", "timm", "kornia", "segmentation_models_pytorch",
)  # fmt: skip
_KINDS = {
    # of torch
    "CrossEntropyLoss": "cross_entropy",
    "NLLLoss": "nll",
    "BCEWithLogitsLoss": "bce_logits",
    "MultiLabelSoftMarginLoss": "bce_logits",
    "BCELoss": "bce",
    "MSELoss": "mse",
    "L1Loss": "l1",
    "SmoothL1Loss": "smooth_l1",
    "HuberLoss": "smooth_l1",
    "GaussianNLLLoss": "gaussian_nll",
    "PoissonNLLLoss": "poisson_nll",
    "KLDivLoss": "kl_div",
    "CTCLoss": "ctc",
    "MultiMarginLoss": "margin",
    "CosineEmbeddingLoss": "cosine",
    "TripletMarginLoss": "triplet",
    "TripletMarginWithDistanceLoss": "triplet",
    # of several libraries
    "DiceLoss": "dice",
    "BinaryDiceLoss": "dice",
    "JaccardLoss": "jaccard",
    "IoULoss": "jaccard",
    "LovaszLoss": "lovasz",
    "BinaryLovaszLoss": "lovasz",
    "LovaszLossBinary": "lovasz",
    "LovaszLossMultiClass": "lovasz",
    "LovaszLossMultiLabel": "lovasz",
    "TverskyLoss": "tversky",
    "TrevskyLoss": "tversky",
    "FocalLoss": "focal",
    "BinaryFocalLoss": "focal",
    "CrossEntropyFocalLoss": "focal",
    "FocalLossBinary": "focal",
    "FocalLossMultiClass": "focal",
    "SoftBCEWithLogitsLoss": "bce_logits",
    "BalancedBCEWithLogitsLoss": "bce_logits",
    "BinaryCrossEntropy": "bce_logits",
    "SoftCrossEntropyLoss": "cross_entropy",
    "LabelSmoothingCrossEntropy": "cross_entropy",
    "SoftTargetCrossEntropy": "cross_entropy",
    "NaiveCrossEntropyLoss": "cross_entropy",
    "MaskCrossEntropyLoss": "cross_entropy",
}
_OF_FUNCTIONS: Mapping[Any, str] = {
    F.cross_entropy: "cross_entropy",
    F.nll_loss: "nll",
    F.binary_cross_entropy_with_logits: "bce_logits",
    F.multilabel_soft_margin_loss: "bce_logits",
    F.binary_cross_entropy: "bce",
    F.mse_loss: "mse",
    F.l1_loss: "l1",
    F.smooth_l1_loss: "smooth_l1",
    F.huber_loss: "smooth_l1",
    F.gaussian_nll_loss: "gaussian_nll",
    F.poisson_nll_loss: "poisson_nll",
    F.kl_div: "kl_div",
    F.ctc_loss: "ctc",
    F.multi_margin_loss: "margin",
    F.cosine_embedding_loss: "cosine",
    F.triplet_margin_loss: "triplet",
}
_OVER_CLASSES = ("cross_entropy", "nll", "focal", "margin", "dice", "jaccard", "lovasz")
_REDUCTIONS = ("mean", "sum", "none")
_SMOOTHINGS = ("label_smoothing", "smooth_factor", "smoothing")


def observe_criterion(criterion: Any) -> CriterionProbe:
    """Return what is known of a criterion: a module, a function, or a ``partial`` of either.

    The kind of a class or function of a user's own is "", also where its name is that of a known one.
    """
    if criterion is None:
        return CriterionProbe("")
    inner = criterion.func if isinstance(criterion, partial) else criterion
    name = getattr(inner, "__name__", type(inner).__name__)
    option = _options(criterion, inner)
    kind = criterion_kind(criterion)
    weights, positive = _weights(inner, kind, option)
    return CriterionProbe(
        name=name,
        kind=kind,
        reduction=_reduction(inner, kind, option),
        class_weights=weights,
        pos_weight=positive,
        ignore_index=_whole(option("ignore_index", -100 if inner in (F.cross_entropy, F.nll_loss) else None)),
        label_smoothing=next((float(it) for it in map(option, _SMOOTHINGS) if isinstance(it, int | float)), 0.0),
    )


def criterion_kind(criterion: Any) -> str:
    """Return what a criterion computes, by the name of the field; "" where it is of a user's own."""
    inner = criterion.func if isinstance(criterion, partial) else criterion
    if not isinstance(inner, nn.Module):
        return _of_function(inner)
    # A subclass computes what its base does, unless it has a ``forward`` of its own.
    for kind in type(inner).__mro__:
        if getattr(kind, "forward", None) is not type(inner).forward:
            return ""
        if kind.__name__ in _KINDS and kind.__module__.partition(".")[0] in _LIBRARIES:
            # The binary cross entropy of assay takes logits, as its losses all do.
            return "bce_logits" if kind.__name__ == "BCELoss" and _is_named(inner) else _KINDS[kind.__name__]
    return ""


def _of_function(function: Any) -> str:
    try:
        return _OF_FUNCTIONS.get(function, "")
    except TypeError:  # an object that cannot be hashed
        return ""


def _is_named(criterion: nn.Module) -> bool:
    """Whether it is one of ``make_loss``: these share a base, which callbacks must not import."""
    return any(kind.__name__ == "NamedLoss" for kind in type(criterion).__mro__)


def _options(criterion: Any, inner: Any) -> Callable[..., Any]:
    """Return what looks up an option: an argument of the partial, or an attribute of the module."""
    given = criterion.keywords if isinstance(criterion, partial) else {}
    return lambda name, default=None: given.get(name, getattr(inner, name, default))


def _reduction(inner: Any, kind: str, option: Callable[..., Any]) -> str | None:
    if isinstance(inner, nn.Module) and _is_named(inner):
        return "mean"
    # A function of torch has the mean as its default, which no attribute tells.
    default = "mean" if kind and not isinstance(inner, nn.Module) else None
    found = option("reduction", default)
    return found if found in _REDUCTIONS else None


def _weights(
    inner: Any, kind: str, option: Callable[..., Any]
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Return the weights of classes, and those of labels that are 1."""
    if isinstance(inner, nn.Module) and _is_named(inner):
        given = _numbers(option("weights"))
        return (None, given) if option("task") == "multilabel" else (given, None)
    # Of a binary cross entropy, ``weight`` is one of samples or labels.
    over_classes = kind in _OVER_CLASSES
    found = (_numbers(option(name)) for name in ("weight", "class_weights", "weights"))
    weights = next((it for it in found if it is not None), None) if over_classes else None
    return weights, _numbers(option("pos_weight"))


def _numbers(given: Any) -> tuple[float, ...] | None:
    if isinstance(given, Tensor):
        return tuple(given.detach().double().flatten().tolist())
    if isinstance(given, list | tuple) and all(isinstance(it, int | float) for it in given):
        return tuple(map(float, given))
    return None


def _whole(given: Any) -> int | None:
    return int(given) if isinstance(given, int | float) and not isinstance(given, bool) else None
