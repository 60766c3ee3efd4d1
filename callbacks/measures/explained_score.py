"""The score of each sample that Grad-CAM explains: a sum of some of the model's outputs."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import UsageError


def explained_score(
    output: Tensor,
    target: Tensor | None,
    explain: str | int,
    ignore_index: int | None = None,
    *,
    multilabel: bool = False,
) -> Tensor:
    """Return the score of each sample that is to be explained, [N], float32.

    For masks it is a sum over pixels: over those of the explained class, or over all where it has none. The explained
    class is the one with the most pixels among the predicted or the true ones of a sample; class 0, the background by
    custom, only where there is no other. For masks of one class it is that one, predicted where the logit is positive.

    Args:
        output: logits, [N, C, ...] with C >= 2, or [N], [N, 1, ...] or [N, H, W] of one class.
        target: class numbers [N, ...], or labels or probabilities in the output's shape; needed for ``true``.
        explain: ``predicted``: the logit of the class that wins; where there is one class, the logit or its negative.
            ``true``: the same for the true class, or classes. A number: the logit of that class.
        ignore_index: target value that is left out, for ``true``.
        multilabel: whether each class of a mask is predicted where its logit is positive.

    Raises:
        UsageError: there is no such class, or the target does not fit.
    """
    single = output.ndim in (1, 3) or output.shape[1] == 1
    logits = output.float().reshape(len(output), 1 if single else output.shape[1], -1)
    # One logit as the two of no and yes, so that the rest treats all alike.
    if single:
        logits = torch.cat([-logits, logits], dim=1)
    classes, places = logits.shape[1:]
    if isinstance(explain, int) and explain >= classes:
        raise UsageError(f"explain must be a class from 0 to {classes - 1}, got {explain}.")
    if explain == "true":
        has_labels = target is not None and target.shape == output.shape and not single
        chosen = _true_classes(logits, target, ignore_index, labels=has_labels)
    else:
        chosen = logits > 0 if multilabel and places > 1 else logits == logits.amax(dim=1, keepdim=True)
    if places > 1:
        chosen = _keep_one_class(chosen, 1 if single and not isinstance(explain, int) else explain)
    elif isinstance(explain, int):
        chosen = _mask_of_class(logits, explain)
    return (logits * chosen).sum(dim=(1, 2))


def repeated_score(forward: Callable[[], Tensor], score: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
    """Return a function that runs ``forward``, and sums the same numbers of its output each time.

    They are those that ``score`` sums in the first output.

    Args:
        forward: returns an output, [N, ...].
        score: returns a sum of some of its numbers, [N].
    """
    first: list[Tensor] = []
    weights: list[Tensor] = []

    def run() -> Tensor:
        output = forward()
        if not first:
            first.append(output.detach())
            return score(output)
        # The gradient of the first score shows which numbers it sums: changed activations may predict another class,
        # but the first prediction is the one to explain.
        if not weights:
            leaf = first[0].requires_grad_()
            weights.append(torch.autograd.grad(score(leaf).sum(), leaf)[0])
        return (output * weights[0]).float().reshape(len(output), -1).sum(dim=1)

    return run


def explained_number(output: Tensor, explain: str | int) -> Tensor:
    """Return the score of each sample of a regression, [N], float32: its output itself.

    Args:
        output: [N], [N, D] or, of maps, [N, H, W] or [N, D, H, W].
        explain: the number of an output; otherwise all are summed. Maps are summed over pixels.

    Raises:
        UsageError: there is no such output.
    """
    values = output.float().reshape(len(output), output.shape[1] if output.ndim in (2, 4) else 1, -1)
    if not isinstance(explain, int):
        return values.sum(dim=(1, 2))
    if explain >= values.shape[1]:
        raise UsageError(f"explain must be an output from 0 to {values.shape[1] - 1}, got {explain}.")
    return values[:, explain].sum(dim=1)


def _keep_one_class(chosen: Tensor, explain: str | int) -> Tensor:
    """Return the chosen pixels, [N, C, P], of the class that is explained; where it has none, all pixels of it."""
    if isinstance(explain, int):
        wanted = _mask_of_class(chosen, explain)
    else:
        counts = chosen.sum(dim=2, dtype=torch.float64)
        counts[:, 0] = (counts[:, 0] > 0) * 0.5  # the background counts less than any class that has a pixel
        wanted = torch.zeros_like(chosen).scatter_(1, counts.argmax(dim=1).reshape(-1, 1, 1).expand_as(chosen), True)
    found = chosen & wanted
    return torch.where(found.any(dim=2).any(dim=1)[:, None, None], found, wanted)


def _mask_of_class(like: Tensor, number: int) -> Tensor:
    wanted = torch.zeros_like(like, dtype=torch.bool)
    wanted[:, number] = True
    return wanted


def _true_classes(logits: Tensor, target: Tensor | None, ignore_index: int | None, *, labels: bool) -> Tensor:
    """Return which logits [N, C, P] are those of true classes; ``labels``: each class has a target of its own."""
    classes, places = logits.shape[1:]
    if target is None or target.numel() not in (len(logits) * places, logits.numel()):
        got = "none" if target is None else tuple(target.shape)
        raise UsageError(f"explain='true' needs a target for each of {places} places of a sample, got {got}.")
    if labels and target.numel() == logits.numel():
        shares = target.reshape(logits.shape).double()
        # Shares of one class: the largest is true, also where it is below 0.5.
        is_distribution = (shares.sum(dim=1, keepdim=True) - 1).abs() < 1e-3
        return torch.where(is_distribution, shares == shares.amax(dim=1, keepdim=True), shares > 0.5)
    numbers = target.reshape(len(logits), 1, places)
    if numbers.is_floating_point():  # of one class it may be a probability
        numbers = torch.where((numbers > 0) & (numbers < 1), (numbers > 0.5).to(numbers.dtype), numbers)
    chosen = numbers == torch.arange(classes, device=logits.device)[:, None]
    return chosen if ignore_index is None else chosen & (numbers != ignore_index)
