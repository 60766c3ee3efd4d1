"""A criterion that is seen to be no mean over samples is named, once, with what to do."""

from functools import partial

import pytest
import torch
from kit import Named, fit
from torch import nn
from torch.utils.data import DataLoader

from assay.runner import DictRunner, LossTerm

F = nn.functional
WEIGHTS = torch.tensor([1.0, 9.0, 1.0])


class Around(nn.Module):
    """A criterion around one of torch."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, output, target):
        return self.inner(output, target)


def focal(output, target):
    losses = F.cross_entropy(output, target, reduction="none", ignore_index=255)
    return ((1 - torch.exp(-losses)) ** 2 * losses)[target != 255].mean()


def masked(output, target):
    losses = F.cross_entropy(output, target.clamp(max=2), reduction="none") * (target != 255)
    return losses.sum() / (target != 255).sum()


def dice(output, target):
    truth = F.one_hot(target.clamp(max=2), 3).movedim(-1, 1)
    return 1 - 2 * (output.softmax(1) * truth).sum() / (output.softmax(1) + truth).sum()


VOID, PIXELS = "count=lambda target: (target != 255).sum()", "count=torch.numel"
NAMED = {
    "left out": (Around(nn.CrossEntropyLoss(ignore_index=255)), "Around leaves targets of 255 out", VOID),
    "in a function": (lambda o, t: F.cross_entropy(o, t, None, None, 255), "<lambda> leaves targets of 255 out", VOID),
    "weights": (
        Around(nn.CrossEntropyLoss(WEIGHTS, ignore_index=255)),
        "Around has class weights", "count=lambda target: weights[target].sum()",
    ),
    "picked": (focal, "focal picks values by a mask", VOID),
    "divided": (partial(masked), "masked divides by a number of its own", VOID),
}  # fmt: skip
OF_SAMPLES = {
    "dice": dice,
    "all pixels": lambda o, t: F.cross_entropy(o, t, WEIGHTS, ignore_index=255, reduction="none").mean(),
    "none left out": lambda o, t: F.cross_entropy(o, t.clamp(max=2), ignore_index=77),
    "torch's own": nn.CrossEntropyLoss(WEIGHTS, ignore_index=255),
}


def train(criterion, sizes=(3, 3), void=True, **term):
    items = []
    for number, size in enumerate(sizes * 2):
        mask = torch.full((size, size), number % 3)
        if void:
            mask[0] = 255
        items.append({"image": torch.randn(2, size, size), "target": mask})
    model, runner = Named(nn.Conv2d(2, 3, 1)), DictRunner(losses=[LossTerm(**term)])
    loaders = {key: DataLoader(sorted(items, key=lambda it: it["target"].numel()), 2) for key in ("train", "valid")}
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    return fit(runner, model, loaders, optimizer=optimizer, criterion=criterion, epochs=2)


@pytest.mark.parametrize("kind", NAMED)
def test_it_is_named_once_and_a_count_silences_it(kind, caplog):
    criterion, why, example = NAMED[kind]
    train(criterion)
    assert caplog.messages == [
        "LossTerm('logits', 'target'): each batch weighs by its samples in a step of several and in an epoch's loss; "
        f"as {why}, say by count=... what its mean is over, such as {example}; count=len leaves it as it is"
    ]
    caplog.clear()
    train(criterion, count=len)
    assert caplog.messages == []


@pytest.mark.parametrize("kind", OF_SAMPLES)
def test_a_criterion_of_which_nothing_is_known_is_not_blamed(kind, caplog):
    train(OF_SAMPLES[kind])
    assert caplog.messages == []


@pytest.mark.parametrize("criterion", [nn.MSELoss(), partial(F.l1_loss)])
def test_samples_of_several_sizes_are_named_and_counted_by_the_function_of_torch_that_is_advised(criterion, caplog):
    class Term(nn.Module):
        def forward(self, image):
            return {"logits": image[:, 0]}

    items = [{"image": torch.full((2, s, s), float(s)), "target": torch.zeros(s, s)} for s in (1, 1, 3, 3)]
    for options in ({}, {"count": torch.numel}):
        caplog.clear()
        runner = DictRunner(losses=[LossTerm(**options)])
        loaders = {"valid": DataLoader(items, 2)}
        fit(runner, Term(), loaders, optimizer=None, criterion=criterion)
        loss = runner.history[1]["valid"]["loss"]
        if not options:
            (message,) = caplog.messages
            assert "as its targets have 1 or 9 values per sample, say by count=... what its mean is over" in message
            assert PIXELS in message
        else:
            values = [float(s) for s in (1, 1, 3, 3) for _ in range(s * s)]
            squares = isinstance(criterion, nn.MSELoss)
            assert loss == pytest.approx(sum(v * v if squares else v for v in values) / len(values))
            assert caplog.messages == []
