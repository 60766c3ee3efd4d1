"""What terms of the loss make of right, wrong and blank outputs, against the formulas of the losses."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from catalyst import dl
from made_runs import Named, batches_of, conv_net, dict_runner, image_items, look, observe_trial, stacked
from torch import nn

from assay.callbacks.findings.observe.passes.model import observe_model_and_trial
from assay.callbacks.findings.observe.settings.criteria import observe_criterion
from assay.callbacks.findings.probe.settings_probe import SettingsProbe, TermProbe
from assay.runner import LossTerm, make_loss


def tried(criterion, net=None, items=None, term=None, runner=None):
    items = image_items() if items is None else items
    probe = TermProbe("loss_logits", "logits", "target", 1.0, observe_criterion(criterion))
    settings = SettingsProbe(terms=(probe,))
    see = lambda run: observe_trial(run, batches_of(items), settings)  # noqa: E731
    model = Named(net or conv_net())
    trial = look(runner or dict_runner(*([term] if term else [])), model, items, see, criterion=criterion)
    assert trial.batch_size == 8
    return trial.terms["loss_logits"]


def with_targets(make):
    return [{**item, "target": make(index)} for index, item in enumerate(image_items())]


def softplus(value):
    return math.log1p(math.exp(-abs(value))) + max(value, 0)


RIGHT = math.log(1 + 3 * math.exp(-16))  # of four classes, of which one has 8 and the others -8
WRONG = 16 + RIGHT


CROSS_ENTROPIES = [
    nn.CrossEntropyLoss(),
    F.cross_entropy,
    partial(F.cross_entropy, ignore_index=255),
    make_loss("cross_entropy", "multiclass"),
]


@pytest.mark.parametrize("criterion", CROSS_ENTROPIES)
def test_cross_entropy_is_as_its_formula_says(criterion):
    trial = tried(criterion)
    assert trial.blank == pytest.approx(math.log(4)) and trial.shifted == pytest.approx(trial.actual, rel=1e-4)
    assert trial.right == pytest.approx(RIGHT, abs=1e-5) and trial.wrong == pytest.approx(WRONG, rel=1e-5)
    third = 0.001 / 3
    total = math.exp(0.999) + 3 * math.exp(third)
    assert trial.right_probabilities == pytest.approx(math.log(total) - 0.999, rel=1e-5)
    assert trial.wrong_probabilities == pytest.approx(math.log(total) - third, rel=1e-5)
    assert (trial.half + trial.other_half) / 2 == pytest.approx(trial.actual, rel=1e-5)
    assert trial.of_class == pytest.approx(dict.fromkeys(range(4), math.log(4)))
    assert trial.output_shape == (8, 4) and trial.target_shape == (8,) and trial.target_dtype == "int64"
    assert (trial.target_low, trial.target_high, trial.error) == (0, 3, "")
    assert trial.target_std == pytest.approx(math.sqrt(1.25))


def test_the_actual_value_is_that_of_the_models_own_outputs():
    import copy

    net, batch = conv_net(), stacked(image_items())
    output = copy.deepcopy(net).train()(batch["image"])
    trial = tried(nn.CrossEntropyLoss(label_smoothing=0.1), net)
    assert trial.actual == pytest.approx(float(F.cross_entropy(output, batch["target"], label_smoothing=0.1)), rel=1e-5)
    assert trial.output_std == pytest.approx(float(output.std(correction=0)), rel=1e-4)


def test_a_sum_is_told_from_a_mean_by_halves():
    trial = tried(nn.CrossEntropyLoss(reduction="sum"))
    assert trial.half + trial.other_half == pytest.approx(trial.actual, rel=1e-5)


@pytest.mark.parametrize("criterion", [nn.BCEWithLogitsLoss(), F.binary_cross_entropy_with_logits])
@pytest.mark.parametrize("classes", [1, 4])
def test_labels_are_told_right_and_wrong_one_by_one(criterion, classes):
    items = with_targets(lambda index: torch.tensor([float((index >> bit) & 1) for bit in range(classes)]))
    trial = tried(criterion, conv_net(classes), items)
    assert trial.blank == pytest.approx(math.log(2))
    assert (trial.right, trial.wrong) == pytest.approx((softplus(-8), softplus(8)), abs=1e-5)
    assert trial.right_probabilities < trial.wrong_probabilities
    assert set(trial.of_class) == (set() if classes > 1 else {0, 1})


def test_masks_are_told_by_pixels_and_what_is_ignored_is_left_alone():
    net = nn.Conv2d(3, 4, 3, padding=1)
    mask = torch.arange(64).reshape(8, 8) % 4
    mask[0] = 255
    items = with_targets(lambda index: mask)
    trial = tried(nn.CrossEntropyLoss(ignore_index=255), net, items)
    assert (trial.right, trial.wrong) == pytest.approx((RIGHT, WRONG), abs=1e-4)
    assert trial.of_class == pytest.approx(dict.fromkeys(range(4), math.log(4)))
    dice = tried(make_loss("dice", "multiclass", ignore_index=255), net, items)
    assert dice.right == pytest.approx(0, abs=1e-3) and dice.wrong == pytest.approx(1, abs=1e-3)


def test_numbers_are_right_where_they_are_the_target():
    items = with_targets(lambda index: torch.tensor([float(index)]))
    trial = tried(nn.MSELoss(), conv_net(1), items)
    targets = torch.arange(8.0)
    assert trial.right == 0 and trial.blank == pytest.approx(float((targets**2).mean()))
    assert trial.wrong == pytest.approx(float(((1 - 2 * targets) ** 2).mean()))
    assert (trial.right_probabilities, trial.of_class) == (None, {})


def test_a_shape_that_broadcasts_is_shown():
    items = with_targets(lambda index: torch.tensor(float(index)))
    with pytest.warns(UserWarning, match="target size"):
        trial = tried(nn.MSELoss(), conv_net(1), items)
    assert (trial.output_shape, trial.target_shape) == ((8, 1), (8,)) and trial.right > 1


def test_a_criterion_the_wrong_way_round_prefers_the_wrong_answer():
    trial = tried(lambda output, target: -F.cross_entropy(output, target))
    assert trial.right > trial.wrong


def test_weights_of_a_users_own_show_by_class():
    weights = torch.tensor([1.0, 0.0, 2.0, 5.0])

    def weighted(output, target):
        return (F.cross_entropy(output, target, reduction="none") * weights[target]).mean()

    expected = {index: float(weight) * math.log(4) for index, weight in enumerate(weights)}
    assert tried(weighted).of_class == pytest.approx(expected)


def test_a_criterion_that_fails_is_told_with_its_message():
    def broken(output, target):
        raise ValueError("no such target")

    trial = tried(broken)
    assert trial.error == "no such target" and trial.actual is trial.right is None


def test_a_term_of_a_users_own_has_its_value_alone():
    class Own(LossTerm):
        def compute(self, criterion, batch):
            return batch["logits"].square().mean()

    trial = tried(None, term=Own("logits", "target"))
    assert trial.actual > 0 and trial.right is trial.blank is None


def test_an_embedding_has_no_right_output():
    trial = tried(lambda output, target: output.square().mean(), conv_net(3), with_targets(lambda index: index + 10))
    assert trial.actual > 0 and trial.right is None


def test_a_criterion_keeps_its_state():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, output, target):
            self.calls += 1
            self.seen += len(target)
            return F.cross_entropy(output, target)

    criterion = Counting()
    assert tried(criterion).actual > 0
    assert criterion.calls == 0 and float(criterion.seen) == 0


# -- other runners ----------------------------------------------------------------------------------------------------


def seen_by(runner, criterion=None, net=None):
    items = image_items()
    batch = stacked(items)
    batches = {"train": [[batch["image"], batch["target"]]]}
    pairs = [(item["image"], item["target"]) for item in items]
    see = lambda run: observe_model_and_trial(run, batches, SettingsProbe())  # noqa: E731
    options = {"criterion": criterion} if criterion else {}
    return look(runner, net or conv_net(), pairs, see, **options)[1]


def test_a_stock_runner_is_tried_as_its_callback_does():
    trial = seen_by(dl.SupervisedRunner()).terms["loss"]
    assert (trial.right, trial.wrong) == pytest.approx((RIGHT, WRONG), abs=1e-4)


class ByFunction(dl.Runner):
    def handle_batch(self, batch):
        image, target = batch
        logits = self.model(image)
        self.batch_metrics["loss"] = F.cross_entropy(logits.softmax(1), target)


class ByCriterion(dl.Runner):
    def handle_batch(self, batch):
        image, target = batch
        loss = self.criterion(self.model(image), target)
        if self.is_train_loader:
            loss.backward()


@pytest.mark.parametrize(
    ("runner", "criterion"),
    [(ByFunction, None), (ByCriterion, nn.CrossEntropyLoss()), (ByCriterion, lambda o, t: F.cross_entropy(o, t))],
)
def test_the_losses_of_an_own_runner_are_tried(runner, criterion):
    terms = seen_by(runner(), criterion).terms
    assert set(terms) == {"loss"}
    trial = terms["loss"]
    assert (trial.right, trial.wrong) == pytest.approx((RIGHT, WRONG), abs=1e-4)
    assert trial.target_shape == (8,) and trial.blank == pytest.approx(math.log(4))


def test_a_loss_of_what_is_made_of_the_target_is_none_of_the_target():
    def ordinal(output, target):
        beyond = (target[:, None] > torch.arange(output.shape[1])).float()
        return F.binary_cross_entropy_with_logits(output, beyond)

    trial = tried(ordinal)
    assert trial.criterion is None
    assert trial.takes == "bce_logits"
    wrapped = tried(lambda output, target: F.cross_entropy(output, target.long(), ignore_index=2))
    assert (wrapped.criterion.kind, wrapped.criterion.ignore_index) == ("cross_entropy", 2)
