"""Terms of a loss: what they pick, what they are called, and what is refused."""

import pytest
import torch
from torch import nn

from assay.runner import LossTerm, UsageError
from assay.runner.recipe.losses import check_outputs, check_terms


@pytest.fixture
def batch():
    return {"logits": torch.tensor([1.0, 2.0]), "target": torch.tensor([0.0, 4.0])}


def test_a_term_is_the_criterion_of_output_and_target_without_its_weight(batch):
    assert LossTerm(weight=5.0).compute(nn.MSELoss(), batch).item() == 2.5  # (1 + 4) / 2


def test_a_term_picks_its_criterion_by_name(batch):
    criteria = {"square": nn.MSELoss(), "absolute": nn.L1Loss()}
    assert LossTerm(criterion="square").compute(criteria, batch).item() == 2.5
    assert LossTerm(criterion="absolute").compute(criteria, batch).item() == 1.5


def test_the_only_criterion_of_a_mapping_needs_no_name(batch):
    assert LossTerm().compute({"absolute": nn.L1Loss()}, batch).item() == 1.5


def test_any_function_is_a_criterion(batch):
    assert LossTerm().compute(lambda output, target: (output - target).max(), batch).item() == 1.0


@pytest.mark.parametrize(
    ("term", "label"),
    [
        (LossTerm(), "loss_logits"),
        (LossTerm("mask"), "loss_mask"),
        (LossTerm("mask", criterion="dice"), "loss_dice"),
        (LossTerm("mask", criterion="dice", name="overlap"), "overlap"),
    ],
)
def test_a_term_is_called_by_its_name_its_criterion_or_its_output(term, label):
    assert term.label == label


@pytest.mark.parametrize("name", ["dice", None])
def test_a_criterion_that_there_is_not_is_refused_with_those_that_there_are(name):
    criteria = {"square": nn.MSELoss(), "absolute": nn.L1Loss()}
    message = r"LossTerm\('logits', 'target'\) names a criterion that there is not; there is 'absolute', 'square'\."
    with pytest.raises(UsageError, match=message):
        LossTerm(criterion=name).pick_criterion(criteria)


def test_no_criterion_is_refused():
    with pytest.raises(UsageError, match=r"LossTerm\('logits', 'target'\) needs a criterion, got None"):
        LossTerm().pick_criterion(None)


@pytest.mark.parametrize(("term", "missing"), [(LossTerm("mask"), "mask"), (LossTerm(target="label"), "label")])
def test_a_missing_key_is_refused_with_those_that_there_are(batch, term, missing):
    with pytest.raises(UsageError, match=f"asks for key '{missing}', which the batch lacks; it has 'logits', 'target'"):
        term.compute(nn.MSELoss(), batch)


def test_terms_of_different_names_are_handed_back_in_order():
    terms = [LossTerm("b"), LossTerm("a")]
    assert check_terms(terms) == (LossTerm("b"), LossTerm("a"))


def test_no_term_at_all_is_refused():
    with pytest.raises(UsageError, match="losses must hold at least one LossTerm, got none"):
        check_terms([])


@pytest.mark.parametrize(
    "terms", [[LossTerm(), LossTerm(target="other")], [LossTerm(name="loss"), LossTerm("mask")]], ids=["twice", "loss"]
)
def test_terms_of_one_name_or_of_the_sums_own_are_refused(terms):
    with pytest.raises(UsageError, match=r"losses must have different names, none of them 'loss', got \['loss"):
        check_terms(terms)


def test_a_single_term_may_be_called_loss():
    assert check_terms([LossTerm(name="loss")]) == (LossTerm(name="loss"),)


def test_an_output_that_there_is_in_training_alone_is_named_with_what_to_do():
    class Own(LossTerm):
        def compute(self, criterion, batch):
            return batch["logits"].mean()

    outputs, batch = {"boxes": []}, {"target": []}
    check_outputs([LossTerm("boxes"), LossTerm("target"), Own("classification")], outputs, batch, "valid")
    with pytest.raises(
        UsageError, match=r"^loader 'valid': LossTerm\('box', 'target'\) .*gives 'boxes'\. .*criterion out"
    ):
        check_outputs([LossTerm("box")], outputs, batch, "valid")
