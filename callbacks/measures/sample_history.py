"""What a model makes of each sample: its prediction, how sure it is, and how far it is from right."""

import torch
from torch import Tensor

TASKS = ("multiclass", "binary")
COLUMNS = ("target", "prediction", "probability", "target_probability", "margin", "el2n")


@torch.no_grad()
def sample_numbers(logits: Tensor, target: Tensor) -> Tensor:
    """Return the numbers of each sample, without reading the device.

    ====================== ========================================================================================
    column                 value
    ====================== ========================================================================================
    ``target``             class number
    ``prediction``         class of the largest logit, the first of equals
    ``probability``        of the prediction, 0 to 1
    ``target_probability`` of the target, 0 to 1
    ``margin``             logit of the target less the largest of the others (Pleiss et al., "Identifying Mislabeled
                           Data using the Area Under the Margin Ranking", 2020, equation 1)
    ``el2n``               Euclidean distance of the probabilities from those of a sure and right prediction, 0 to
                           sqrt(2) (Paul et al., "Deep Learning on a Data Diet", 2021, definition of EL2N)
    ====================== ========================================================================================

    All are NaN that cannot be told: of a target that is no class, all but the prediction and its probability; of
    logits that are not finite, all but the target.

    Args:
        logits: [N, C] with C of at least 2, floating point.
        target: [N], class numbers, int64.

    Returns:
        [N, 6], float32, in the order of ``COLUMNS``. Class numbers up to 2**24 are exact in it.

    Example:
        >>> sample_numbers(torch.tensor([[2.0, 0.5]]), torch.tensor([1]))[0, [0, 1, 4]].tolist()
        [1.0, 0.0, -1.5]
    """
    logits = logits.float()
    classes = logits.shape[1]
    numbers = torch.arange(classes, device=logits.device)
    is_target = numbers == target[:, None]
    shares = logits.softmax(dim=1)
    own = logits.where(is_target, 0).sum(dim=1)
    margin = own - logits.masked_fill(is_target, -torch.inf).amax(dim=1)
    values = [
        target.float(),
        # Of the logits: probabilities near 1 are rounded to equal ones.
        logits.argmax(dim=1).float(),
        shares.amax(dim=1),
        shares.where(is_target, 0).sum(dim=1),
        margin,
        (shares - is_target.float()).norm(dim=1),
    ]
    is_class, is_finite = is_target.any(dim=1), logits.isfinite().all(dim=1)
    known = [is_class, is_finite, is_finite, *[is_class & is_finite] * 3]
    return torch.stack([value.where(told, torch.nan) for value, told in zip(values, known, strict=True)], dim=1)


def two_logits(logit: Tensor) -> Tensor:
    """Return logits [N, 2] of no and yes for logits [N] or [N, 1] of yes, with the same probabilities."""
    yes = logit.reshape(len(logit), 1)
    return torch.cat([torch.zeros_like(yes), yes], dim=1)
