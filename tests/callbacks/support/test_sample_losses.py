import math
import warnings
from functools import partial

import pytest
import torch
from torch import nn

from assay.callbacks import UsageError
from assay.callbacks.support.sample_losses import sample_losses


class DiceOfTheBatch(nn.Module):
    """A loss of the whole batch, without ``reduction``."""

    def forward(self, output, target):
        overlap = (output.sigmoid() * target).sum()
        return 1 - 2 * overlap / (output.sigmoid().sum() + target.sum())


class DiceWithAReduction(DiceOfTheBatch):
    """Carries ``reduction``, as every subclass of torch's losses does, and does not heed it."""

    reduction = "mean"


class OfABatch(nn.Module):
    """Heeds ``reduction``, and divides by what the whole batch holds."""

    reduction = "mean"

    def forward(self, output, target):
        losses = (output - target) ** 2 / target.sum()
        return losses if self.reduction == "none" else losses.mean()


class OwnForward(nn.CrossEntropyLoss):
    """A subclass of torch's loss with a mean of its own."""

    def forward(self, output, target):
        losses = nn.functional.cross_entropy(output, target.clamp(min=0), self.weight, reduction="none")
        return losses if self.reduction == "none" else losses.mean() + 1


CASES = {
    "cross_entropy": (nn.CrossEntropyLoss(), torch.Size([5, 3]), "classes", ()),
    "cross_entropy_smoothed": (nn.CrossEntropyLoss(label_smoothing=0.1), torch.Size([5, 3]), "classes", ()),
    "cross_entropy_of_pixels": (nn.CrossEntropyLoss(), torch.Size([5, 3, 2, 4]), "classes", (2, 4)),
    "cross_entropy_summed": (nn.CrossEntropyLoss(reduction="sum"), torch.Size([5, 3]), "classes", ()),
    "binary": (nn.BCEWithLogitsLoss(), torch.Size([5]), "numbers", None),
    "multilabel": (nn.BCEWithLogitsLoss(), torch.Size([5, 3]), "numbers", None),
    "regression": (nn.MSELoss(), torch.Size([5, 2, 3]), "numbers", None),
    "without_reduction": (DiceOfTheBatch(), torch.Size([5, 1, 4, 4]), "numbers", None),
    "reduction_without_effect": (DiceWithAReduction(), torch.Size([5, 1, 4, 4]), "numbers", None),
    "of_a_batch": (OfABatch(), torch.Size([5, 3]), "numbers", None),
    "plain_function": (lambda output, target: (output - target).abs().sum(), torch.Size([5, 2]), "numbers", None),
}


@pytest.mark.parametrize("name", CASES)
def test_the_loss_of_a_sample_is_that_of_a_batch_of_one(name):
    criterion, shape, kind, pixels = CASES[name]
    output = torch.randn(shape)
    target = torch.randint(0, 3, (shape[0], *pixels)) if kind == "classes" else torch.rand(shape).round()
    expected = [criterion(output[i : i + 1], target[i : i + 1]).item() for i in range(len(output))]
    losses = sample_losses(criterion, output, target)
    assert losses.shape == (5,)
    assert losses.tolist() == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_the_mean_of_sample_losses_is_the_loss_of_the_batch():
    output, target = torch.randn(7, 4), torch.randint(0, 4, (7,))
    criterion = nn.CrossEntropyLoss()
    assert sample_losses(criterion, output, target).mean().item() == pytest.approx(criterion(output, target).item())


WEIGHTS = torch.tensor([0.1, 1.0, 10.0])
OVER_TARGETS = {
    "weights": nn.CrossEntropyLoss(WEIGHTS),
    "ignored": nn.CrossEntropyLoss(ignore_index=1),
    "both": nn.CrossEntropyLoss(WEIGHTS, ignore_index=1),
    "smoothed": nn.CrossEntropyLoss(WEIGHTS, ignore_index=1, label_smoothing=0.3),
    "nll": nn.NLLLoss(WEIGHTS, ignore_index=1),
    "summed": nn.CrossEntropyLoss(WEIGHTS, ignore_index=1, reduction="sum"),
    "partial": partial(nn.functional.cross_entropy, weight=WEIGHTS, ignore_index=1),
    "own": OwnForward(WEIGHTS, ignore_index=1),
}


@pytest.mark.parametrize("pixels", [(), (3, 2)], ids=["labels", "pixels"])
@pytest.mark.parametrize("name", OVER_TARGETS)
def test_it_is_over_the_targets_of_the_sample_that_count(name, pixels):
    criterion = OVER_TARGETS[name]
    output, target = torch.randn(7, 3, *pixels), torch.randint(0, 3, (7, *pixels))
    target[0] = 1  # where 1 is ignored, of the first nothing counts
    expected = [criterion(output[i : i + 1], target[i : i + 1]).item() for i in range(7)]
    found = sample_losses(criterion, output, target).tolist()
    if name == "summed":
        assert math.isnan(found[0])  # where a sum of nothing is 0, there still is no score
        found = [0.0 if math.isnan(loss) else loss for loss in found]
    assert found == pytest.approx(expected, rel=1e-5, nan_ok=True)
    if name not in ("weights", "own"):
        assert sample_losses(criterion, output, target, uncounted=-5.0)[0].item() == -5.0


@pytest.mark.parametrize("pixels", [(), (3, 2)], ids=["labels", "pixels"])
def test_of_probabilities_all_count_alike_whatever_the_weights(pixels):
    criterion = nn.CrossEntropyLoss(WEIGHTS, label_smoothing=0.1)
    output, target = torch.randn(5, 3, *pixels), torch.rand(5, 3, *pixels).softmax(dim=1)
    expected = [criterion(output[i : i + 1], target[i : i + 1]).item() for i in range(5)]
    assert sample_losses(criterion, output, target).tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("reduction", ["sum", "batchmean", "mean"])
def test_a_reduction_is_kept(reduction):
    criterion = nn.KLDivLoss(reduction=reduction)
    output, target = torch.randn(4, 6).log_softmax(1), torch.rand(4, 6)
    with warnings.catch_warnings(action="ignore"):  # torch advises against its own default
        expected = [criterion(output[i : i + 1], target[i : i + 1]).item() for i in range(4)]
        assert sample_losses(criterion, output, target).tolist() == pytest.approx(expected, rel=1e-5)


def test_a_criterion_may_say_it_itself():
    class Own(nn.Module):
        def sample_losses(self, output, target):
            return output[:, 0] + target

    assert sample_losses(Own(), torch.ones(3, 2), torch.arange(3.0)).tolist() == [1.0, 2.0, 3.0]


def test_the_criterion_itself_stays_as_it_was():
    criterion = nn.CrossEntropyLoss()
    sample_losses(criterion, torch.randn(2, 3), torch.tensor([0, 1]))
    assert criterion.reduction == "mean"


def test_sample_losses_carry_no_graph():
    losses = sample_losses(nn.MSELoss(), torch.randn(3, 2, requires_grad=True), torch.randn(3, 2))
    assert not losses.requires_grad
    assert losses.shape == (3,)


@pytest.mark.parametrize("criterion", [nn.CrossEntropyLoss(), lambda output, target: output.sum()])
def test_sample_losses_read_nothing_from_the_device(criterion):
    output = torch.zeros(4, 3, device="meta")
    losses = sample_losses(criterion, output, torch.zeros(4, device="meta", dtype=torch.int64))
    assert losses.shape == (4,)
    assert losses.device.type == "meta"


@pytest.mark.parametrize(
    ("loss", "got"), [(lambda output, target: (output - target)[0], r"\(2,\)"), (lambda output, target: 0.5, "float")]
)
def test_a_criterion_that_gives_no_number_for_a_sample_is_refused(loss, got):
    with pytest.raises(UsageError, match=f"must give one number for one sample, or have reduction='none', got {got}"):
        sample_losses(loss, torch.zeros(3, 2), torch.zeros(3, 2))


def test_an_empty_batch_has_no_losses():
    assert sample_losses(DiceOfTheBatch(), torch.zeros(0, 1, 4, 4), torch.zeros(0, 1, 4, 4)).shape == (0,)


class Remembers(nn.Module):
    """Counts its calls and the classes that it has seen, and draws."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(3))
        self.register_buffer("share", torch.ones(3))
        self.calls, self.plain = 0, torch.zeros(3)

    def forward(self, output, target):
        counts = torch.bincount(target, minlength=3).float()
        self.calls, self.share = self.calls + 1, self.share * 0.5 + counts
        self.seen += counts
        self.plain += counts
        return nn.functional.cross_entropy(output + torch.rand_like(output), target, self.seen + 1)

    def state(self):
        return [self.calls, *(part.tolist() for part in (self.seen, self.share, self.plain, torch.get_rng_state()))]


@pytest.mark.parametrize("wrap", [lambda own: own, lambda own: own.forward, lambda own: partial(own)])
def test_a_criterion_that_remembers_and_draws_is_left_as_it_was(wrap):
    own, output, target = Remembers(), torch.randn(4, 3), torch.tensor([0, 2, 1, 2])
    own(output, target)
    before, buffers = own.state(), dict(own.named_buffers())
    assert len(sample_losses(wrap(own), output, target).unique()) == 4
    assert own.state() == before
    assert all(buffer is buffers[name] for name, buffer in own.named_buffers())


def test_a_target_of_several_parts_is_taken_apart_by_samples():
    def criterion(output, target):
        (near, far), names = target["numbers"], target["names"]
        return ((output - near) ** 2 + (output - far).abs()).mean() + len(names) + target["scale"]

    output, parts = torch.randn(3, 2), [torch.randn(3, 2), torch.randn(3, 2)]
    target = {"numbers": parts, "names": ["a", "b", "c"], "scale": torch.tensor(2.0)}
    right = [((output - parts[0]) ** 2 + (output - parts[1]).abs())[i].mean() + 3 for i in range(3)]
    assert torch.allclose(sample_losses(criterion, output, target), torch.stack(right))
