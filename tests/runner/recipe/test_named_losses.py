"""Losses by name against formulas in plain loops, what does not count in them, and sums as they are written down."""

import math

import numpy as np
import pytest
import torch
from kit import fit
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks.support.sample_losses import sample_losses
from assay.runner import DictRunner, UsageError, loss_terms, make_loss, make_losses, parse_loss
from assay.runner.recipe.loss_names import LOSSES

IGNORED = 255
REGIONS = ("dice", "jaccard", "lovasz")
CASES = [(name, task) for task in ("multiclass", "multilabel", "binary") for name in LOSSES
         if (name, task) != ("cross_entropy", "multilabel")]  # fmt: skip


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def softmax(row):
    parts = [math.exp(x) for x in row]
    return [part / sum(parts) for part in parts]


def yes_or_no(logit, truth):
    return -truth * math.log(sigmoid(logit)) - (1 - truth) * math.log(1 - sigmoid(logit))


def lovasz(errors, truths):
    """Section 3 of M. Berman et al., "The Lovasz-Softmax loss", 2018: errors in falling order, by gains of Jaccard."""
    order = sorted(range(len(errors)), key=lambda i: -errors[i])
    total, before, positives = 0.0, 0.0, sum(truths)
    for count, i in enumerate(order, start=1):
        taken = order[:count]
        hits = positives - sum(truths[j] for j in taken)
        jaccard = 1 - hits / (positives + sum(1 - truths[j] for j in taken))
        total += errors[i] * (jaccard - before)
        before = jaccard
    return total


def region(name, chances, truths):
    both, sums = sum(a * b for a, b in zip(chances, truths, strict=True)), sum(chances) + sum(truths)
    return 1 - (2 * both / sums if name == "dice" else both / (sums - both))


def multiclass(name, rows, labels, weights):
    """The loss of pixels that count: rows of logits, and class numbers."""
    if name in REGIONS:
        chances = [softmax(row) for row in rows]
        losses, shares = [], []
        for number in sorted(set(labels)):
            truths, of_class = [int(label == number) for label in labels], [row[number] for row in chances]
            errors = [abs(t - p) for t, p in zip(truths, of_class, strict=True)]
            losses.append(lovasz(errors, truths) if name == "lovasz" else region(name, of_class, truths))
            shares.append(weights[number])
        return np.average(losses, weights=shares)
    losses = []
    for row, label in zip(rows, labels, strict=True):
        p = softmax(row)[label]
        truths = [int(number == label) for number in range(len(row))]
        if name == "soft_bce":
            truths = [0.2 / len(row) + 0.8 * truth for truth in truths]
        losses.append({
            "cross_entropy": -math.log(p),
            "focal": -((1 - p) ** 2) * math.log(p),
        }.get(name, np.mean([yes_or_no(x, t) for x, t in zip(row, truths, strict=True)])))  # fmt: skip
    return np.average(losses, weights=[weights[label] for label in labels])


def yes_no_loss(name, logits, truths):
    """The loss of each of the numbers that count, or one of all."""
    if name == "lovasz":
        return lovasz([max(0.0, 1 - x * (2 * t - 1)) for x, t in zip(logits, truths, strict=True)], truths)
    if name in REGIONS:
        return region(name, [sigmoid(x) for x in logits], truths)
    if name == "focal":
        chances = [sigmoid(x) if t else 1 - sigmoid(x) for x, t in zip(logits, truths, strict=True)]
        return [(1 - p) ** 2 * -math.log(p) for p in chances]
    low = 0.1 if name == "soft_bce" else 0.0
    return [yes_or_no(x, low + (1 - 2 * low) * t) for x, t in zip(logits, truths, strict=True)]


def by_loop(name, task, output, target, weights=None):
    """The loss in float64 over what counts, of output [N, C, ...] and target [N, ...] or [N, C, ...]."""
    output, target = output.double().numpy(), target.numpy()
    if task == "multiclass":
        keep = target != IGNORED
        return multiclass(name, np.moveaxis(output, 1, -1)[keep].tolist(), target[keep].tolist(), weights or [1] * 4)
    if task == "binary":
        output, target = output.reshape(target.shape)[:, None], target[:, None]
    keep = target != IGNORED
    columns = [(output[:, i][keep[:, i]].tolist(), target[:, i][keep[:, i]].tolist()) for i in range(output.shape[1])]
    losses = [yes_no_loss(name, *column) for column in columns]
    if name in REGIONS:
        present = [name == "lovasz" or sum(truths) > 0 for _, truths in columns]
        shares = weights if task == "multilabel" and weights else [1] * len(columns)
        return np.average(losses, weights=np.array(shares) * present)
    truths = np.concatenate([truths for _, truths in columns])
    if task == "binary":
        return np.average(np.concatenate(losses), weights=np.where(truths == 1, *(weights or [1, 1])[::-1]))
    pairs = zip(columns, weights or [1] * 3, strict=True)
    factors = np.concatenate([np.where(np.array(truths) == 1, weight, 1) for (_, truths), weight in pairs])
    return np.mean(np.concatenate(losses) * factors)


def make_batch(task, pixels=(4, 5), dtype=torch.float32):
    """Logits and a target some of which does not count, of three samples; the last class never occurs."""
    rng = np.random.default_rng(5)
    channels = {"multiclass": 4, "multilabel": 3, "binary": 1}[task]
    shape = (3, channels, *pixels) if task == "multilabel" else (3, *pixels)
    target = rng.integers(0, 3 if task == "multiclass" else 2, shape)
    target[rng.random(shape) < 0.25] = IGNORED
    target[0].reshape(-1)[0], target[1].reshape(-1)[0], target[2].reshape(-1)[:] = 1, 1, target[2].reshape(-1)
    return torch.from_numpy(rng.normal(size=(3, channels, *pixels))).to(dtype), torch.from_numpy(target)


WEIGHTS = {"multiclass": [0.1, 2.0, 0.5, 3.0], "multilabel": [2.0, 0.5, 3.0], "binary": [0.2, 4.0]}


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize(("name", "task"), CASES)
def test_a_loss_of_pixels_equals_its_formula_over_those_that_count(name, task, weighted):
    output, target = make_batch(task, dtype=torch.float64)
    weights = WEIGHTS[task] if weighted else None
    loss = make_loss(name, task, ignore_index=IGNORED, weights=weights).double()
    assert float(loss(output, target)) == pytest.approx(by_loop(name, task, output, target, weights), rel=1e-7)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_a_loss_of_whole_images_equals_its_formula(name, task):
    output, target = make_batch(task, pixels=(), dtype=torch.float64)
    loss = make_loss(name, task, ignore_index=IGNORED)
    assert float(loss(output, target)) == pytest.approx(by_loop(name, task, output, target), rel=1e-7)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_the_loss_of_each_sample_is_that_of_a_batch_of_it_alone(name, task):
    output, target = make_batch(task)
    target[2] = IGNORED
    loss = make_loss(name, task, ignore_index=IGNORED, weights=WEIGHTS[task])
    alone = [float(loss(output[i : i + 1], target[i : i + 1])) for i in range(2)]
    found = sample_losses(loss, output, target, uncounted=-math.inf).tolist()
    assert found[:2] == pytest.approx(alone, rel=1e-5) and found[2] == -math.inf


@pytest.mark.parametrize(("name", "task"), CASES)
def test_what_does_not_count_has_no_gradient_whatever_is_predicted(name, task):
    output, target = make_batch(task)
    void = (target == IGNORED) if task == "multilabel" else (target == IGNORED).unsqueeze(1).expand_as(output)
    loss = make_loss(name, task, ignore_index=IGNORED)
    before = loss(output, target)
    changed = torch.where(void, output * 50 + 7, output).requires_grad_()
    after = loss(changed, target)
    after.backward()
    assert float(after) == pytest.approx(float(before), rel=1e-6)
    assert (changed.grad[void] == 0).all() and (changed.grad[~void] != 0).any() and changed.grad.isfinite().all()


@pytest.mark.parametrize(("name", "task"), [case for case in CASES if case != ("cross_entropy", "multiclass")])
def test_where_nothing_counts_a_loss_is_0_with_a_gradient_of_0(name, task):
    output, target = make_batch(task)
    output.requires_grad_()
    loss = make_loss(name, task, ignore_index=IGNORED)
    loss(output, torch.full_like(target, IGNORED)).backward()
    assert (output.grad == 0).all()
    assert (loss.count_targets(torch.full_like(target, IGNORED)) == 0).all()


@pytest.mark.parametrize("task", ["multiclass", "multilabel", "binary"])
def test_two_batches_weighed_by_their_counts_make_the_loss_of_all(task):
    output, target = make_batch(task, dtype=torch.float64)
    for name in ("bce", "focal"):
        loss = make_loss(name, task, ignore_index=IGNORED, weights=WEIGHTS[task]).double()
        parts = [(output[:1], target[:1]), (output[1:], target[1:])]
        counts = [loss.count_targets(of).sum() for _, of in parts]
        mean = sum(loss(*part) * count for part, count in zip(parts, counts, strict=True)) / sum(counts)
        assert float(mean) == pytest.approx(float(loss(output, target)), rel=1e-12)


def test_shares_of_classes_are_taken_as_cross_entropy_takes_them():
    output = torch.randn(5, 4, dtype=torch.float64)
    hard = torch.tensor([0, 3, 1, 1, 2])
    soft = torch.randn(5, 4, dtype=torch.float64).softmax(1)
    log = output.log_softmax(1)
    right = (-((1 - log.exp()) ** 2) * log * soft).sum(1).mean()
    assert float(make_loss("focal", "multiclass")(output, soft)) == pytest.approx(float(right), rel=1e-12)
    for name in ("bce", "focal", "dice", "jaccard", "cross_entropy"):
        loss = make_loss(name, "multiclass")
        one_hot = nn.functional.one_hot(hard, 4).double()
        assert float(loss(output, one_hot)) == pytest.approx(float(loss(output, hard)), rel=1e-12)
    with pytest.raises(UsageError, match="lovasz takes class numbers"):
        make_loss("lovasz", "multiclass")(output, soft)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_cross_entropy_of_yes_or_no_is_that_of_two_classes(smoothing):
    output, target = torch.randn(7, 1, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1, 0, 0])
    pairs = torch.cat([torch.zeros_like(output), output], dim=1)
    both = [make_loss("cross_entropy", task, label_smoothing=smoothing, weights=[0.3, 2.0])
            for task in ("binary", "multiclass")]  # fmt: skip
    if smoothing:  # torch weighs the smoothed part by class, and so no weights are compared
        both = [make_loss("cross_entropy", task, label_smoothing=smoothing) for task in ("binary", "multiclass")]
    assert float(both[0](output, target)) == pytest.approx(float(both[1].double()(pairs, target)), rel=1e-6)


def test_weights_of_labels_are_those_of_torch():
    output, target = torch.randn(6, 3), torch.randint(0, 2, (6, 3)).float()
    weights = torch.tensor([2.0, 0.5, 3.0])
    right = nn.BCEWithLogitsLoss(pos_weight=weights)(output, target)
    assert torch.allclose(make_loss("bce", "multilabel", weights=weights)(output, target), right)


@pytest.mark.parametrize(
    ("shape", "target"), [((4,), (4,)), ((4, 1), (4,)), ((4, 1), (4, 1)), ((4, 1, 2, 3), (4, 2, 3))]
)
def test_yes_or_no_has_an_axis_of_1_or_none(shape, target):
    output, truth = torch.randn(shape), torch.randint(0, 2, target)
    right = nn.BCEWithLogitsLoss()(output.reshape(target), truth.float())
    assert torch.allclose(make_loss("bce", "binary")(output, truth), right)
    assert torch.allclose(make_loss("bce", "binary")(output, truth.float()), right)


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_is_computed_in_float32(name):
    output, target = make_batch("binary")
    half = output.half()
    loss = make_loss(name, "binary", ignore_index=IGNORED)
    assert loss(half, target).dtype == torch.float32
    assert torch.equal(loss(half, target), loss(half.float(), target))


@pytest.mark.parametrize(("name", "task"), CASES)
def test_no_loss_looks_at_the_device(name, task):
    output, target = make_batch(task)
    loss = make_loss(name, task, ignore_index=IGNORED, weights=WEIGHTS[task]).to("meta")
    output = output.to("meta").requires_grad_()
    loss(output, target.to("meta")).backward()
    assert sample_losses(loss, output.detach(), target.to("meta")).shape == (3,)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layer = nn.Conv2d(2, 4, 1).double()

    def forward(self, image):
        return {"logits": self.layer(image)}


def make_items():
    """Eight samples that count differently, one of them not at all."""
    generator = torch.Generator().manual_seed(1)
    items = []
    for i in range(8):
        target = torch.randint(0, 4, (3, 3), generator=generator)
        target.view(-1)[i + 2 if i < 7 else 0 :] = IGNORED
        items.append({"image": torch.randn(2, 3, 3, dtype=torch.float64, generator=generator), "target": target})
    return items


def train(loss, batch, accumulate_steps):
    model, runner = Net(), DictRunner(losses=loss_terms(loss), accumulate_steps=accumulate_steps)
    criterion = make_losses(loss, "multiclass", ignore_index=IGNORED, weights=WEIGHTS["multiclass"])
    criterion = {name: one.double() for name, one in criterion.items()}
    items = make_items()
    fit(runner, model, {"train": items, "valid": items}, batch=batch, lr=0.05, criterion=criterion, epochs=2)
    return model.layer.weight.detach(), runner.history


@pytest.mark.parametrize("loss", ["bce", "cross_entropy + 0.5*focal"])
def test_steps_of_several_batches_and_the_loss_of_an_epoch_are_those_of_one_large_batch(loss):
    weight, history = train(loss, 2, 4)
    at_once, right = train(loss, 8, 1)
    assert torch.allclose(weight, at_once, rtol=1e-9)
    assert history[2]["valid"]["loss"] == pytest.approx(right[2]["valid"]["loss"], rel=1e-9)


@pytest.mark.parametrize(
    ("name", "task", "line"),
    [
        ("focal", "multiclass", r"loader 'train', .*'target' holds 7, and FocalLoss takes class numbers from 0 to 3"),
        ("dice", "multiclass", r"loader 'train', .*'target' holds 7, and DiceLoss takes class numbers from 0 to 3"),
    ],
)
def test_a_wrong_class_number_is_named_with_its_sample(name, task, line):
    items = make_items()
    items[0]["target"][0, 0] = 7
    with pytest.raises(UsageError, match=line):
        fit(DictRunner(losses=loss_terms(name)), Net(), {"train": items}, batch=2,
            criterion=make_losses(name, task, ignore_index=IGNORED))  # fmt: skip


def test_a_mask_of_0_and_255_is_named():
    items = [{"image": torch.randn(2, 3, 3, dtype=torch.float64), "target": torch.full((3, 3), 255)} for _ in range(2)]
    model = nn.Sequential()
    model.forward = lambda image: {"logits": image[:, :1] * nn.Parameter(torch.ones(1, dtype=torch.float64))}
    loader = DataLoader(items, batch_size=2)
    with pytest.raises(UsageError, match="'target' holds 255, and BCELoss takes 0 and 1 for 'logits'"):
        DictRunner(losses=loss_terms("bce")).train(
            model=model, criterion=make_losses("bce", "binary"), loaders={"train": loader}, num_epochs=1,
            optimizer=torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("bce", {"bce": 1}),
        ("bce + 0.5*dice", {"bce": 1, "dice": 0.5}),
        (" 2 * Lovasz+soft-bce ", {"lovasz": 2, "soft_bce": 1}),
        ("focal*3", {"focal": 3}),
        ("Cross-Entropy*2+dice", {"cross_entropy": 2, "dice": 1}),
        ("1e-1*jaccard", {"jaccard": 0.1}),
        ("1e+1*jaccard+bce", {"jaccard": 10, "bce": 1}),
    ],
)
def test_a_sum_is_read_as_it_is_written(text, weights):
    assert parse_loss(text) == weights
    assert {term.criterion: term.weight for term in loss_terms(text)} == weights


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("bce + dise", "unknown loss 'dise'; did you mean 'dice'"),
        ("bce + bce", "each loss once, got 'bce' twice"),
        ("-1*bce", "weights greater than 0.*got '-1'"),
        ("0*bce", "weights greater than 0.*got '0'"),
        ("two*bce", "weights greater than 0.*got 'two'"),
        ("", "must be a sum of losses"),
        ("bce +", "must be a sum of losses"),
        ("1*2*bce", "must be a sum of losses"),
    ],
)
def test_a_sum_that_is_none_is_said(text, line):
    with pytest.raises(UsageError, match=line):
        parse_loss(text)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"name": "dise"}, "unknown loss 'dise'; did you mean 'dice'"),
        ({"task": "multi"}, "unknown task 'multi'"),
        ({"task": "multilabel"}, "cross_entropy is for classes that exclude each other: for multilabel take bce"),
        ({"weights": [[1.0]]}, "weights must be one number of at least 0 per class"),
        ({"weights": [1.0, -1.0]}, "weights must be one number of at least 0 per class"),
        ({"weights": [1.0, math.nan]}, "weights must be one number of at least 0 per class"),
        ({"task": "binary", "weights": [1.0]}, "weights of a binary loss must be two"),
        ({"label_smoothing": 1.0}, "label_smoothing must be at least 0 and less than 1, got 1.0"),
        ({"name": "dice", "label_smoothing": 0.1}, "label_smoothing is for cross_entropy and bce"),
        ({"gamma": -1.0}, "gamma must be at least 0, got -1.0"),
    ],
)
def test_a_wrong_argument_is_named(arguments, line):
    with pytest.raises(UsageError, match=line):
        make_loss(**{"name": "cross_entropy", "task": "multiclass"} | arguments)


@pytest.mark.parametrize(
    ("task", "shape", "target"),
    [("binary", (2, 2, 3, 3), (2, 3, 3)), ("binary", (2, 1, 3, 4), (2, 4, 3)), ("multiclass", (2, 3, 4), (2, 3)),
     ("multilabel", (2, 3), (2,))],
)  # fmt: skip
def test_a_target_of_another_shape_is_named(task, shape, target):
    with pytest.raises(UsageError, match=r"FocalLoss takes no target \["):
        make_loss("focal", task)(torch.zeros(shape), torch.zeros(target, dtype=torch.int64))


def test_weights_of_another_number_of_classes_are_named():
    with pytest.raises(UsageError, match="weights must be one per class: the output has 4, got 3"):
        make_loss("focal", "multiclass", weights=[1.0, 2.0, 3.0])(torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64))


def test_a_sum_that_takes_no_label_smoothing_is_named():
    with pytest.raises(UsageError, match=r"label_smoothing is for cross_entropy and bce, and loss is 'focal \+ dice'"):
        make_losses("focal + dice", "multiclass", label_smoothing=0.1)
    found = make_losses("cross_entropy + dice", "multiclass", label_smoothing=0.1)
    assert found["cross_entropy"].label_smoothing == 0.1
