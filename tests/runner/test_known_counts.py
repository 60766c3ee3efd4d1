"""Where the host knows what a criterion's mean is over, the device is not asked, and the numbers are what they were."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from assay.callbacks.support.target_mean import target_mean
from assay.runner import LossTerm
from assay.runner.loop.checks.target_checks import TargetChecks
from assay.runner.recipe.loss_counts import count_group, counted_terms
from assay.runner.recipe.loss_means import LossMeans

CLASSES, SIDE, CPU = 3, 2, torch.device("cpu")
WEIGHTS = torch.tensor([1.0, 4.0, 0.25], dtype=torch.float64)
LABELS = [0, 2, 1, 2, 0, 1, 1, 2] * SIDE
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def slow_mean(logits, targets, weights, ignored, smoothing):
    """Return sum(w * loss) / sum(w) and sum(w) over the targets that count, by a loop; the mean is 0 where none does.

    Args:
        logits: rows of numbers.
        targets: for each row a class number, or a list of probabilities, of which each row counts once.
        weights: of each class.
        ignored: the class number that does not count.
        smoothing: share of a class that is spread over all of them.
    """
    total = count = 0.0
    for row, target in zip(logits, targets, strict=True):
        is_shares = isinstance(target, list)
        if not is_shares and target == ignored:
            continue
        log_sum = math.log(sum(math.exp(value) for value in row))
        for label, value in enumerate(row):
            hard = target[label] if is_shares else float(label == target)
            total += weights[label] * (hard * (1 - smoothing) + smoothing / len(row)) * (log_sum - value)
        count += 1 if is_shares else weights[target]
    return (total / count if count else 0.0), count


def make_logits(samples):
    generator = torch.Generator().manual_seed(samples)
    return torch.randn(samples, CLASSES, SIDE, dtype=torch.float64, generator=generator).requires_grad_()


def make_labels(samples, dtype=torch.int64, ignored=()):
    labels = torch.tensor(LABELS[: samples * SIDE]).reshape(samples, SIDE)
    for place, value in ignored:
        labels.view(-1)[place] = value
    return labels.to(dtype)


def make_shares(samples, dtype=torch.float64):
    generator = torch.Generator().manual_seed(9)
    return torch.rand(samples, CLASSES, SIDE, dtype=torch.float64, generator=generator).softmax(dim=1).to(dtype)


def rows(part):
    """Return a list for each place of [N, C, SIDE], or a number for each of [N, SIDE]."""
    return part.transpose(1, 2).reshape(-1, CLASSES).tolist() if part.ndim == 3 else part.reshape(-1).tolist()


def step(criterion, logits, target, *, change=None):
    """Check the targets of a batch and compute its loss, as the runner does; a callback may ``change`` the batch."""
    checks, term = TargetChecks(), LossTerm()
    batch = {"target": target}
    checks.take(batch, batch, "train")
    if change is not None:
        batch = change(batch)
    parts = {**batch, "logits": logits}
    (known,) = checks.check([term], criterion, parts)
    (counted,) = counted_terms([term], criterion)
    return known, *counted.value(parts, len(logits), only_classes=known)


CRITERIA = {
    "plain": {},
    "weights": {"weight": WEIGHTS},
    "smoothed": {"label_smoothing": 0.2},
    "weights, smoothed": {"weight": WEIGHTS, "label_smoothing": 0.2},
    "a class ignored": {"ignore_index": 1},
    "a mark ignored": {"ignore_index": 255},
    "a mark ignored, weights": {"ignore_index": 255, "weight": WEIGHTS},
}
TARGETS = {
    **{f"{dtype}".split(".")[1]: (lambda dtype=dtype: make_labels(4, dtype)) for dtype in INTEGERS},
    "some marked": lambda: make_labels(4, ignored=[(1, 255), (6, 255)]),
    "all marked": lambda: torch.full((4, SIDE), 255),
    "all of the class": lambda: torch.ones(4, SIDE, dtype=torch.int64),
    "none": lambda: make_labels(0),
    "soft": lambda: make_shares(4),
    "no soft ones": lambda: make_shares(0),
}


def takes(name, kind):
    """Whether the criterion takes the targets: torch ignores nothing of soft ones."""
    return "ignored" not in name if "soft" in kind else "marked" not in kind or "mark" in name


@pytest.mark.parametrize("as_function", [False, True], ids=["module", "function"])
@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name in CRITERIA for kind in TARGETS if takes(name, kind)])
def test_a_mean_is_that_of_a_plain_loop_whether_the_host_knows_the_count_or_not(name, kind, as_function):
    options, target = CRITERIA[name], TARGETS[kind]()
    criterion = partial(F.cross_entropy, **options) if as_function else nn.CrossEntropyLoss(**options)
    logits = make_logits(len(target))
    known, value, count = step(criterion, logits, target)
    weights, ignored = options.get("weight", torch.ones(CLASSES)).tolist(), options.get("ignore_index", -100)
    right, right_count = slow_mean(
        rows(logits.detach()), rows(target), weights, ignored, options.get("label_smoothing", 0.0)
    )
    assert value.item() == pytest.approx(right, rel=1e-12)
    assert float(count) == pytest.approx(right_count, rel=1e-12)
    classes_only = bool(len(target)) and target.ndim == 2 and name != "a class ignored" and "marked" not in kind
    assert known is (classes_only or kind == "soft")  # of soft ones it is of no use: their count needs no look at them
    assert isinstance(count, int) is ((known and "weights" not in name) or kind == "soft")
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient.isfinite().all()
    if right_count:
        (expected,) = torch.autograd.grad(criterion(logits, target if target.ndim == 3 else target.long()), logits)
        torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-15)
    else:
        assert not gradient.any()


def test_the_negative_log_likelihood_likewise():
    logits, target = make_logits(4), make_labels(4)
    known, value, count = step(nn.NLLLoss(), logits.log_softmax(dim=1), target)
    assert (known, count) == (True, target.numel())
    assert value.item() == pytest.approx(slow_mean(rows(logits.detach()), rows(target), [1] * CLASSES, -100, 0)[0])


def in_place(batch):
    batch["target"].view(-1)[0] = -100
    return batch


def of_its_own(batch):
    return {"target": make_labels(4, ignored=[(0, -100)])}


@pytest.mark.parametrize("change", [in_place, of_its_own])
def test_what_a_callback_has_changed_is_counted_anew(change):
    target = make_labels(4)
    known, _, count = step(nn.CrossEntropyLoss(), make_logits(4), target, change=change)
    assert not known
    assert float(count) == target.numel() - 1


def test_a_change_that_the_host_cannot_see_is_counted_anew():
    checks, given = TargetChecks(), {"target": make_labels(4)}
    sent = {"target": given["target"].clone()}  # as on a device
    checks.take(given, sent, "train")
    parts = {**sent, "logits": make_logits(4)}
    assert checks.check([LossTerm()], nn.CrossEntropyLoss(), parts) == [True]
    in_place(sent)
    assert checks.check([LossTerm()], nn.CrossEntropyLoss(), parts) == [False]


def test_of_tensors_that_hold_no_version_nothing_is_known():
    with torch.inference_mode():
        known, _, count = step(nn.CrossEntropyLoss(), make_logits(4), make_labels(4).clone())
    assert not known
    assert float(count) == 8


@pytest.mark.parametrize("kinds", [["int64", "some marked"], ["soft", "soft"], ["soft", "all marked"], ["none"], []])
def test_the_count_of_a_step_is_that_of_all_its_batches(kinds):
    (counted,) = counted_terms([LossTerm()], nn.CrossEntropyLoss(ignore_index=255))
    targets = [TARGETS[kind]() for kind in kinds]
    total = count_group([counted], [*({"target": target} for target in targets), None], CPU)["loss_logits"]
    ones = [slow_mean([[0] * CLASSES] * len(rows(one)), rows(one), [1] * CLASSES, 255, 0)[1] for one in targets]
    assert float(total) == sum(ones)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("count", [0.0, 0.125, 1.0, 7.0])
def test_a_count_divides_but_for_0(weights, count):
    if weights is None and count == 0.125:
        pytest.skip("without weights counts are whole")
    mean = target_mean(nn.CrossEntropyLoss(weights))
    assert mean.divisor(torch.tensor(count, dtype=torch.float64)).item() == (count or 1.0)


@pytest.mark.parametrize(
    "counts",
    [[4], [torch.tensor(3.0)], [2, 2], [2, 3], [2, torch.tensor(2.0)], [torch.tensor(0.0), 5]],
    ids=["one", "one of the device", "alike", "unlike", "one of each", "nothing of one"],
)
def test_an_epoch_weighs_by_counts_of_the_host_and_of_the_device_alike(counts):
    criterion = {str(i): nn.MSELoss() for i in range(len(counts))}
    terms = [LossTerm(criterion=key, name=f"term {key}") for key in criterion]
    means = LossMeans(counted_terms(terms, criterion))
    batches = [(torch.arange(1.0, len(counts) + 1), counts), (torch.full((len(counts),), 5.0), [1] * len(counts))]
    for values, of_batch in batches:
        means.update(values, of_batch, samples=9)
    found = means.compute()
    for place, term in enumerate(terms):
        weights = [float(of_batch[place]) for _, of_batch in batches]
        right = sum(w * values[place].item() for w, (values, _) in zip(weights, batches, strict=True)) / sum(weights)
        assert found[term.label if len(terms) > 1 else "loss"] == pytest.approx(right, rel=1e-12)
