"""Wrong targets are named with loader, sample, value and range before a criterion sees them; right ones pass."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from kit import Named, fit
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import UsageError
from assay.callbacks.support.target_mean import target_mean
from assay.runner import DictRunner, LossTerm
from assay.runner.loop.checks.criterion_rules import find_rule
from assay.runner.loop.checks.target_checks import TargetChecks
from assay.runner.loop.fault_messages import explain, note_place
from assay.runner.recipe.loss_counts import counted_terms

CE, BCE, MSE = nn.CrossEntropyLoss(), nn.BCEWithLogitsLoss(), nn.MSELoss()
LABELS, LOGITS = torch.tensor([0, 2, 1, 2]), torch.zeros(4, 3)
MASK, MAPS = torch.zeros(4, 8, 8, dtype=torch.int64), torch.zeros(4, 3, 8, 8)


def check(criterion, output, target, ids=("a", "b", "c", "d")):
    checks = TargetChecks()
    batch = {"target": target, "sample_id": list(ids)}
    checks.take(batch, batch, "valid")
    checks.check([LossTerm()], criterion, {"logits": output, "target": target})


def put(target, value, index=2):
    target = target.clone()
    target[index].reshape(-1)[-1] = value
    return target


@pytest.mark.parametrize(
    ("criterion", "output", "target", "message"),
    [
        (CE, LOGITS, put(LABELS, 3), "holds 3, and CrossEntropyLoss takes class numbers from 0 to 2 .*count from 0"),
        (CE, LOGITS, put(LABELS, -1), "holds -1, .* or ignore_index=-100 .*: pass ignore_index=-1"),
        (nn.CrossEntropyLoss(ignore_index=255), MAPS, put(MASK, -100), "holds -100, .*: pass ignore_index=-100"),
        (CE, MAPS, put(MASK, 255), r"holds 255, .* for 'logits' \[4, 3, 8, 8\]: pass ignore_index=255"),
        (nn.CrossEntropyLoss(ignore_index=255), MAPS, put(put(MASK, 255), 7), "holds 7, "),
        (nn.CrossEntropyLoss(ignore_index=255), MAPS, put(put(MASK, 255, 0), 254), "holds 254, "),
        (nn.NLLLoss(), LOGITS, put(LABELS, 9), "holds 9, and NLLLoss takes class numbers"),
        (F.cross_entropy, LOGITS, put(LABELS, 3), "holds 3, and cross_entropy takes"),
        (partial(F.cross_entropy, ignore_index=0), LOGITS, put(LABELS, 3), "holds 3, .* or ignore_index=0"),
        (nn.MultiMarginLoss(), LOGITS, put(LABELS, -1), "holds -1, and MultiMarginLoss takes class numbers"),
        (BCE, torch.zeros(4, 1, 8, 8), put(torch.zeros(4, 1, 8, 8), 255), "holds 255, .*from 0 to 1.*: divide"),
        (nn.BCELoss(), torch.zeros(4), put(torch.zeros(4, 1), -1)[:, 0], "holds -1, and BCELoss takes numbers from 0"),
        (CE, LOGITS, put(torch.zeros(4, 3), 1.5), "holds 1.5, and CrossEntropyLoss takes probabilities from 0 to 1"),
        (nn.SoftMarginLoss(), torch.zeros(4), torch.tensor([1.0, 1.0, 0.0, 1.0]), "holds 0, and .* takes -1 and 1"),
        (nn.KLDivLoss(), LOGITS, put(torch.zeros(4, 3), -2.0), "holds -2, and KLDivLoss takes probabilities"),
        (nn.PoissonNLLLoss(), torch.zeros(4), torch.tensor([0.0, 1.0, -3.0, 0.0]), "holds -3, and .* counts of"),
    ],
)  # fmt: skip
def test_a_value_that_is_not_taken_is_named_with_its_sample(criterion, output, target, message):
    with pytest.raises(UsageError, match=f"loader 'valid', sample_id 'c': 'target' {message}"):
        check(criterion, output, target)


@pytest.mark.parametrize(
    ("criterion", "output", "target", "message"),
    [
        (CE, MAPS, MASK[..., None], r"is \[4, 8, 8, 1\], and .* takes \[4, 8, 8\] .*: .squeeze\(-1\) removes"),
        (CE, MAPS, MASK[:, None], r"is \[4, 1, 8, 8\], .*: .squeeze\(1\) removes the axis"),
        (CE, MAPS, MASK[:, ::2, ::2], "resize the masks, or the output"),
        (CE, LOGITS, F.one_hot(LABELS), r".argmax\(1\) makes class numbers of one-hot targets"),
        (MSE, torch.zeros(4, 1), torch.zeros(4), r"is \[4\], and MSELoss takes \[4, 1\] .*: .reshape\(4, 1\)"),
        (nn.L1Loss(), torch.zeros(4), torch.zeros(4, 1), r"is \[4, 1\], .*: .squeeze\(-1\)"),
        (F.smooth_l1_loss, torch.zeros(4, 2), torch.zeros(4), r"is \[4\], and smooth_l1_loss takes \[4, 2\]"),
        (BCE, torch.zeros(4, 1), torch.zeros(4), r"is \[4\], and BCEWithLogitsLoss takes \[4, 1\]"),
        (CE, LOGITS, LABELS.float(), r"is torch.float32, and CrossEntropyLoss takes torch.int64: .long\(\)"),
        (CE, MAPS, MASK > 0, r"is torch.bool, and .*: .long\(\)"),
        (BCE, torch.zeros(4), torch.zeros(4).long(), r"is torch.int64, and .* takes torch.float32: .float\(\)"),
        (nn.HuberLoss(), torch.zeros(4), LABELS, r"is torch.int64, and HuberLoss takes torch.float32"),
    ],
)  # fmt: skip
def test_a_form_that_is_not_taken_is_named_with_what_mends_it(criterion, output, target, message):
    with pytest.raises(UsageError, match=f"loader 'valid': 'target' .*{message}"):
        check(criterion, output, target)


RIGHT = [
    (CE, LOGITS, LABELS),
    (CE, LOGITS, put(LABELS, -100)),
    (CE, LOGITS, LABELS.to(torch.uint8)),
    (CE, LOGITS, torch.full((4, 3), 1 / 3)),
    (CE, MAPS, MASK),
    (nn.CrossEntropyLoss(ignore_index=255), MAPS, put(MASK, 255)),
    (nn.CrossEntropyLoss(ignore_index=-1), MAPS, put(put(MASK, 2), -1)),
    (nn.CrossEntropyLoss(label_smoothing=0.1), LOGITS, LABELS),
    (partial(F.cross_entropy, ignore_index=7), LOGITS, put(LABELS, 7)),
    (nn.NLLLoss(), MAPS, MASK),
    (BCE, torch.zeros(4), torch.tensor([0.0, 1.0, 0.05, 1.0])),
    (nn.BCELoss(), torch.full((4, 3), 0.5), torch.zeros(4, 3)),
    (MSE, torch.zeros(4), torch.tensor([-7.0, 0.0, 300.0, 1.0])),
    (nn.L1Loss(), torch.zeros(4), LABELS),
    (nn.SmoothL1Loss(), torch.zeros(4, 2), torch.ones(4, 2)),
    (nn.HuberLoss(), torch.zeros(4, 2), torch.ones(4, 2)),
    (nn.SoftMarginLoss(), torch.zeros(4), torch.tensor([1.0, -1.0, -1.0, 1.0])),
    (nn.HingeEmbeddingLoss(), torch.zeros(4), torch.ones(4)),
    (nn.MultiMarginLoss(), LOGITS, LABELS),
    (nn.MultiLabelSoftMarginLoss(), LOGITS, torch.ones(4, 3)),
    (nn.KLDivLoss(reduction="batchmean"), LOGITS, torch.full((4, 3), 1 / 3)),
    (nn.KLDivLoss(reduction="batchmean", log_target=True), LOGITS, torch.full((4, 3), -2.0)),
    (nn.PoissonNLLLoss(), torch.zeros(4), torch.tensor([0.0, 3.0, 9.0, 1.0])),
]


@pytest.mark.parametrize(("criterion", "output", "target"), RIGHT)
def test_what_torch_takes_passes(criterion, output, target):
    assert criterion(output, target).isfinite()
    assert find_rule(criterion, output, target) is not None
    check(criterion, output, target)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
@pytest.mark.parametrize("count", [None, lambda target: (target != 255).sum()])
@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 2.0, 5.0])])
def test_class_numbers_of_any_integer_type_are_taken_as_masks_are_stored_in_them(dtype, count, weight):
    criterion = nn.CrossEntropyLoss(weight, ignore_index=255)
    output, target = torch.randn(4, 3, 8, 8), put(torch.arange(256).reshape(4, 8, 8) % 3, 255)
    check(criterion, output, target.to(dtype))
    (term,) = counted_terms([LossTerm(count=count)], criterion)
    given, right = ({"logits": output, "target": kind} for kind in (target.to(dtype), target))
    assert term.value(given, 4)[0] == term.value(right, 4)[0] == pytest.approx(criterion(output, target).item())
    assert term.varies
    assert term.count(given) == term.count(right)
    assert torch.equal(term.sample_losses(given, 0.0), term.sample_losses(right, 0.0))


@pytest.mark.parametrize("ignored", [-100, 156])
def test_what_is_ignored_is_not_taken_for_the_byte_of_the_same_bits(ignored):
    target = torch.tensor([0, 1, 156, 156]).to(torch.uint8)
    assert target_mean(nn.CrossEntropyLoss(ignore_index=ignored)).count(target) == (4 if ignored < 0 else 2)


class Focal(nn.CrossEntropyLoss):
    def forward(self, output, target):
        return super().forward(output, target.clamp(0, 2))


@pytest.mark.parametrize("criterion", [Focal(), lambda output, target: output.mean(), nn.CTCLoss()])
def test_of_a_criterion_that_is_not_known_nothing_is_said(criterion):
    check(criterion, LOGITS, put(LABELS, 255))


def test_a_subclass_that_takes_torchs_forward_is_known():
    class Named(nn.CrossEntropyLoss):
        pass

    with pytest.raises(UsageError, match="Named takes class numbers"):
        check(Named(), LOGITS, put(LABELS, 5))


def train(data, criterion=CE, callbacks=(), **loaders):
    model = Named(nn.Conv2d(3, 3, 1))
    fit(
        DictRunner(), model, {key: DataLoader(data, 4, **options) for key, options in loaders.items()},
        list(callbacks), criterion=criterion,
    )  # fmt: skip


def images(count=8):
    return [
        {"image": torch.rand(3, 4, 4), "target": torch.zeros(4, 4, dtype=torch.int64), "sample_id": f"leaf-{i}"}
        for i in range(count)
    ]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_ends_with_the_sample_that_is_wrong(workers):
    data = images()
    data[6]["target"][1, 2] = 255
    with pytest.raises(
        UsageError, match="loader 'train', sample_id 'leaf-6': 'target' holds 255, and CrossEntropyLoss"
    ):
        train(data, train={"num_workers": workers})


def test_the_loader_for_validation_is_looked_at_too():
    bad = copy.deepcopy(images())
    bad[1]["target"][0, 0] = -1
    model = Named(nn.Conv2d(3, 3, 1))
    with pytest.raises(UsageError, match="loader 'valid', sample_id 'leaf-1'"):
        fit(DictRunner(), model, {"train": images(), "valid": bad}, batch=4, criterion=CE)


def test_samples_without_ids_are_named_by_their_place():
    data = [{key: item[key] for key in ("image", "target")} for item in images()]
    data[5]["target"][0, 0] = 3
    with pytest.raises(UsageError, match="loader 'train', sample 1 of the batch: 'target' holds 3"):
        train(data, train={})


def test_a_gpu_that_refused_a_value_is_explained():
    error = RuntimeError("CUDA error: device-side assert triggered\nCompile with `TORCH_USE_CUDA_DSA`")
    note_place(error, "epoch 1, loader 'train', batch 3 of 9")
    assert explain(error) == (
        "the GPU rejected a value in epoch 1, loader 'train', batch 3 of 9, usually a target that is not a class: "
        "--device cpu names it. (CUDA error: device-side assert triggered.)"
    )
