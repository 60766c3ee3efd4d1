"""Of a criterion of the user's own a failure names the sample behind it, and a pairing of all with all is said."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from assay.callbacks import UsageError
from assay.runner import LossTerm
from assay.runner.loop.checks.target_checks import TargetChecks

TERM = LossTerm()
LABELS, LOGITS = torch.tensor([0, 2, 1, 2]), torch.zeros(4, 3)


class Focal(nn.Module):
    def forward(self, output, target):
        nll = F.cross_entropy(output, target, reduction="none")
        return ((1 - (-nll).exp()) ** 2 * nll).mean()


class Scaled(nn.CrossEntropyLoss):
    def forward(self, output, target):
        return 2 * super().forward(output, target)


def dice(output, target):
    return 1 - (output.softmax(1) * F.one_hot(target, 3).movedim(-1, 1)).mean()


def gathered(output, target):
    return -output.log_softmax(1).gather(1, target[:, None]).mean()


def compute(criterion, output, target, term=TERM):
    checks = TargetChecks()
    batch = {"target": target, "sample_id": list("abcd")}
    checks.take(batch, batch, "train")
    parts = {**batch, "logits": output}
    checks.check([term], criterion, parts)
    with checks.naming(term, criterion, parts):
        return term.compute(criterion, parts)


@pytest.mark.parametrize("value", [255, -1, 3])
@pytest.mark.parametrize("criterion", [Focal(), Scaled(), dice, gathered])
def test_the_sample_that_makes_a_criterion_fail_is_named(criterion, value):
    target = LABELS.clone()
    target[2] = value
    name = getattr(criterion, "__name__", type(criterion).__name__)
    message = (
        f"^loader 'train', sample_id 'c': 'target' holds {value}, the classes of 'logits' are 0 to 2, and {name} "
        "raised (IndexError|RuntimeError): "
    )
    with pytest.raises(UsageError, match=message):
        compute(criterion, LOGITS, target)


def test_a_criterion_that_takes_such_a_value_is_left_alone():
    target = torch.tensor([0, 255, 1, 2])
    loss = compute(lambda output, target: F.cross_entropy(output, target, ignore_index=255), LOGITS, target)
    assert float(loss) == pytest.approx(float(F.cross_entropy(LOGITS[:3], torch.tensor([0, 1, 2]))))


def test_a_failure_that_is_of_another_kind_stays_as_it_is():
    with pytest.raises(RuntimeError, match=r"^my own$"):
        compute(lambda output, target: (_ for _ in ()).throw(RuntimeError("my own")), LOGITS, LABELS)


def test_a_term_with_a_way_of_its_own_is_named_by_itself():
    class Own(LossTerm):
        def compute(self, criterion, batch):
            return gathered(batch["logits"], batch["target"])

    with pytest.raises(UsageError, match=r"sample_id 'b': 'target' holds 7, .* and Own raised RuntimeError"):
        compute(None, LOGITS, torch.tensor([0, 7, 1, 2]), Own())


@pytest.mark.parametrize(
    ("output", "target", "together"),
    [((4, 1), (4,), "[4, 4]"), ((4,), (4, 1), "[4, 4]"), ((4, 1, 5, 5), (4, 5, 5), "[4, 4, 5, 5]")],
)
def test_a_pairing_of_all_with_all_is_said(output, target, together, caplog):
    output, target = torch.zeros(output), torch.zeros(target)
    compute(lambda output, target: (output - target).abs().mean(), output, target)
    (record,) = caplog.records
    assert f"which torch broadcasts to {together} where a loss subtracts" in record.getMessage()


@pytest.mark.parametrize(("output", "target"), [((4, 3), (4, 3)), ((4, 1), (4, 1)), ((1, 1), (1,)), ((4, 3), (4,))])
def test_what_fits_is_not_warned_of(output, target, caplog):
    compute(lambda output, target: output.mean() + target.mean(), torch.zeros(output), torch.zeros(target))
    assert not caplog.records


@pytest.mark.parametrize("target", [["cat", "dog", "cat", "owl"], "cat"])
def test_a_target_that_is_text_is_named(target):
    with pytest.raises(UsageError, match=r"'target' is a .*str.*, and CrossEntropyLoss takes a tensor"):
        compute(nn.CrossEntropyLoss(), LOGITS, target)
