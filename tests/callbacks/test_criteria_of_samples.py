"""The loss of a sample where a run has several criteria, where one compares samples, and what a score is called."""

import logging
from functools import partial

import pytest
import torch
from catalyst import dl
from kit import fit
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import BestWorstBatches, BestWorstSamples, GradCAM, UsageError
from assay.callbacks.support.sample_losses import NO_SCORE, WHOLE_BATCH, NoSampleLossError, sample_losses, weighted_sum
from assay.runner import DictRunner, LossTerm

pytestmark = pytest.mark.filterwarnings("ignore:No ``I(Criterion|Backward|Optimizer)Callback")
KEYS = {"image_key": "features", "target_key": "targets", "output_key": "scores"}
COUNT = 12


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.head = nn.Linear(16, 3)

    def forward(self, features):
        return self.head(self.layers(features))


class HardestTriplets(nn.Module):
    """As metric learning has it: the hardest positive and negative of each anchor within the batch."""

    def __init__(self, margin=0.3):
        super().__init__()
        self.margin = margin

    def forward(self, output, target):
        assert len(output) > 1
        distance = torch.cdist(output, output)
        same = target[:, None] == target[None]
        positive = distance.masked_fill(~same, 0).amax(dim=1)
        negative = distance.masked_fill(same, torch.inf).amin(dim=1)
        return torch.relu(positive - negative + self.margin).mean()


class Contrast(nn.Module):
    """Of the kind that compares each sample with all of the batch: of one alone it is 0, whatever that is."""

    def forward(self, output, target):
        likeness = nn.functional.normalize(output) @ nn.functional.normalize(output).T / 0.1
        return nn.functional.cross_entropy(likeness, torch.arange(len(output)))


class NtXent(nn.Module):
    """As self-supervised learning has it: of one sample alone it is rounding noise, and not 0."""

    def forward(self, output, target):
        likeness = (nn.functional.normalize(output) @ nn.functional.normalize(output).T / 0.1).exp()
        return -(likeness.diagonal() / (likeness.sum(dim=1) + 1e-6 * output.abs().sum(dim=1))).log().mean()


class Margin(nn.Module):
    """Of one sample alone it is its margin, whatever that is."""

    def forward(self, output, target):
        distance = torch.cdist(output, output).mean()
        return torch.relu(0.2 + distance)


class Spread(nn.Module):
    """Of one sample alone it is NaN."""

    def forward(self, output, target):
        spread = (output - output.mean(dim=0)).square().sum(dim=0) / (len(output) - 1)
        return torch.relu(2 - spread.sqrt()).mean()


WHOLE = {"raises": HardestTriplets, "zero": Contrast, "constant": Margin, "nan": Spread, "noise": NtXent}
COMPARES = [kind for kind in WHOLE if kind != "raises"]


@pytest.fixture(scope="module")
def items():
    noise = torch.Generator().manual_seed(1)
    return [
        {
            "features": torch.randn(3, 8, 8, generator=noise),
            "targets": int(torch.randint(3, (), generator=noise)),
            "sample_id": f"s{i}",
        }
        for i in range(COUNT)
    ]


def train(items, given, folder, criterion, model=None, stock=None):
    torch.manual_seed(0)
    model = model or Net()
    runner = dl.SupervisedRunner(input_key="features", output_key="scores", target_key="targets", loss_key="my_loss")
    fit(
        runner, model, {"valid": DataLoader(items, batch_size=4)} | {"train": DataLoader(items, batch_size=4)},
        [*given, *(stock or [])], lr=0.0, criterion=criterion, tensorboard=folder,
    )  # fmt: skip
    return runner, model


def each_loss(criterion, items, model):
    with torch.no_grad():
        return {
            item["sample_id"]: criterion(model(item["features"][None]), torch.tensor([item["targets"]])).item()
            for item in items
        }


def table(folder, read_events, name):
    text = (
        read_events(folder).Tensors(f"1_overview/sample_ids/{name}/text_summary")[0].tensor_proto.string_val[0].decode()
    )
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:]]
    return [row[2] for row in rows if row[0] == "worst"]


CRITERIA = {
    "plain": nn.CrossEntropyLoss(),
    "smooth": nn.MultiMarginLoss(),
}


@pytest.mark.parametrize("as_module", [False, True])
def test_one_of_several_criteria_is_named_and_ranks_the_samples(as_module, items, tmp_path, read_events):
    criteria = nn.ModuleDict(CRITERIA) if as_module else dict(CRITERIA)
    given = [BestWorstSamples(criterion_key=name, k_samples=COUNT, **KEYS) for name in CRITERIA]
    _, model = train_custom(items, given, tmp_path, criteria)
    for name, criterion in CRITERIA.items():
        losses = each_loss(criterion, items, model)
        assert table(tmp_path / "valid", read_events, f"loss_{name}") == sorted(losses, key=losses.get, reverse=True)


class TwoCriteria(dl.Runner):
    """A runner of the user's own that adds two criteria up."""

    def handle_batch(self, batch):
        scores = self.model(batch["features"])
        losses = {name: one(scores, batch["targets"]) for name, one in self.criterion.items()}
        self.batch_metrics.update(losses)
        self.batch_metrics["total"] = sum(losses.values())
        self.batch = {**batch, "scores": scores}


def train_custom(items, given, folder, criterion, runner=None):
    torch.manual_seed(0)
    model, runner = Net(), runner or TwoCriteria()
    fit(runner, model, {"valid": items}, given, batch=4, optimizer=None, criterion=criterion, tensorboard=folder)
    return runner, model


@pytest.mark.parametrize("kind", [BestWorstSamples, GradCAM])
def test_several_criteria_without_a_name_are_told_by_name(kind, items, tmp_path):
    says = "several criteria: pass criterion_key, one of 'plain', 'smooth'"
    with pytest.raises(UsageError, match=says):
        train_custom(items, [kind(**KEYS)], tmp_path, dict(CRITERIA))


def test_the_only_criterion_of_a_dict_needs_no_name(items, tmp_path, read_events):
    _, model = train_custom(items, [BestWorstSamples(k_samples=3, **KEYS)], tmp_path, {"plain": CRITERIA["plain"]})
    losses = each_loss(CRITERIA["plain"], items, model)
    assert table(tmp_path / "valid", read_events, "loss") == sorted(losses, key=losses.get, reverse=True)[:3]


def test_batches_show_their_samples_by_the_named_criterion(items, tmp_path):
    class Kept(BestWorstBatches):
        def _draw(self, samples, title, kind):
            drawn.append(samples)
            return super()._draw(samples, title, kind)

    drawn = []
    given = [Kept(metric="total", criterion_key="smooth", **KEYS)]
    _, model = train_custom(items, given, tmp_path, dict(CRITERIA))
    losses = each_loss(CRITERIA["smooth"], items, model)
    for samples in drawn:
        shown = {items[i]["sample_id"]: losses[items[i]["sample_id"]] for i in range(COUNT)}
        read = samples["loss"].read().tolist() if hasattr(samples["loss"], "read") else list(samples["loss"])
        assert all(min(abs(loss - one) for one in shown.values()) < 1e-5 for loss in read)
    assert len(drawn) == 2


@pytest.mark.parametrize(
    ("criterion", "key", "says"),
    [
        (dict(CRITERIA), "plane", "unknown criterion 'plane' for criterion_key; did you mean 'plain'"),
        (nn.CrossEntropyLoss(), "plain", "this one has one, CrossEntropyLoss: leave criterion_key out"),
    ],
)
def test_a_criterion_that_is_not_there_is_refused(criterion, key, says, items, tmp_path):
    class Own(TwoCriteria):
        def handle_batch(self, batch):
            self.batch = {**batch, "scores": self.model(batch["features"])}

    with pytest.raises(UsageError, match=says):
        train_custom(items, [BestWorstSamples(criterion_key=key, **KEYS)], tmp_path, criterion, Own())


def test_a_named_criterion_is_for_the_loss_alone():
    with pytest.raises(UsageError, match="criterion_key='plain' is for score='loss', got the score 'hardness'"):
        BestWorstSamples("hardness", criterion_key="plain")


def test_a_dict_runner_ranks_by_the_named_criterion_alone(items, tmp_path, read_events):
    class Named(Net):
        def forward(self, features):
            return {"scores": super().forward(features)}

    torch.manual_seed(0)
    model = Named()
    losses = [LossTerm("scores", "targets", criterion=name, name=f"loss_{name}") for name in CRITERIA]
    fit(
        DictRunner(input_key="features", losses=losses), model, {"valid": items},
        [BestWorstSamples(criterion_key="smooth", k_samples=4, **KEYS)], batch=4, lr=0.0, criterion=dict(CRITERIA),
        logdir=str(tmp_path),
    )  # fmt: skip
    with torch.no_grad():
        losses = each_loss(CRITERIA["smooth"], items, lambda features: model(features)["scores"])
    found = table(tmp_path / "valid", read_events, "loss_smooth")
    assert found == sorted(losses, key=losses.get, reverse=True)[:4]


def test_a_score_has_a_name_that_says_something():
    def margin(batch, scale=1.0):
        return batch["scores"].amax(dim=1) * scale

    assert BestWorstSamples(margin).score_name == "margin"
    assert BestWorstSamples(partial(margin, scale=2.0)).score_name == "margin"
    assert BestWorstSamples(partial(partial(margin), scale=2.0)).score_name == "margin"
    assert BestWorstSamples(lambda batch: batch["scores"]).score_name == "score"
    assert GradCAM(lambda batch: batch["scores"], score_name="top").score_name == "top"
    for name in ("", " ", 3):
        with pytest.raises(UsageError, match="score_name must be a text"):
            BestWorstSamples(score_name=name)


def test_two_lambdas_are_told_to_take_names_and_do_with_them(items, tmp_path, read_events):
    scores = [lambda batch: batch["scores"][:, 0], lambda batch: -batch["scores"][:, 0]]
    with pytest.raises(UsageError, match=r"both write the tag '6_samples/best/score' .*, or a score_name"):
        train(items, [BestWorstSamples(score, **KEYS) for score in scores], tmp_path / "a", nn.CrossEntropyLoss())
    named = [
        BestWorstSamples(score, score_name=name, k_samples=COUNT, **KEYS)
        for name, score in zip(["up", "down"], scores, strict=True)
    ]
    train(items, named, tmp_path / "b", nn.CrossEntropyLoss())
    up, down = (table(tmp_path / "b" / "valid", read_events, name) for name in ("up", "down"))
    assert up == down[::-1]


@pytest.mark.parametrize("kind", WHOLE)
def test_batches_are_shown_by_a_criterion_that_compares_samples(kind, items, tmp_path, read_events, caplog):
    with caplog.at_level(logging.WARNING, "assay"):
        train(items, [BestWorstBatches("my_loss", **KEYS)], tmp_path, WHOLE[kind]())
    tags = set(read_events(tmp_path / "valid").Tags()["images"])
    assert {"9_batches/best/my_loss", "9_batches/worst/my_loss"} <= tags
    said = [record.getMessage() for record in caplog.records if "in their order" in record.getMessage()]
    assert len(said) == 1
    assert "\n" not in said[0]


@pytest.mark.parametrize("shown", [BestWorstSamples, GradCAM])
@pytest.mark.parametrize("kind", WHOLE)
def test_samples_cannot_be_ranked_by_a_criterion_that_compares_them(kind, shown, items, tmp_path):
    says = rf"{shown.__name__}\(score='loss'\) needs a loss of each sample, and .*; name another score"
    with pytest.raises(UsageError, match=says) as caught:
        train(items, [shown(**KEYS)], tmp_path, WHOLE[kind]())
    assert "\n" not in str(caught.value)


class Anchors(dl.Runner):
    """Calls the criterion with three parts of its own, as for triplets that the data set chooses."""

    def handle_batch(self, batch):
        anchor, positive, negative = (self.model(batch["features"].roll(i, dims=-1)) for i in range(3))
        self.batch_metrics["loss"] = self.criterion(anchor, positive, negative)
        self.batch = {**batch, "scores": anchor}


def test_a_criterion_of_three_parts_leaves_batches_in_their_order_and_is_refused_for_samples(items, tmp_path, caplog):
    criterion = nn.TripletMarginLoss()
    with caplog.at_level(logging.WARNING, "assay"):
        train_custom(items, [BestWorstBatches(**KEYS)], tmp_path, criterion, Anchors())
    assert "TripletMarginLoss cannot be called with the output and the target alone" in caplog.text
    with pytest.raises(UsageError, match="TripletMarginLoss cannot be called with the output and the target alone"):
        train_custom(items, [BestWorstSamples(**KEYS)], tmp_path, criterion, Anchors())


def root_mean_square(output, target):
    return (output - target).square().mean().sqrt()


def dice_of_the_batch(output, target):
    share, truth = output.sigmoid(), (target > 0).float()
    return 1 - (2 * (share * truth).sum() + 1) / (share.sum() + truth.sum() + 1)


@pytest.mark.parametrize("criterion", [root_mean_square, dice_of_the_batch, lambda o, t: (o - t).abs().sum()])
def test_a_criterion_of_single_samples_is_not_taken_for_one_that_compares_them(criterion):
    torch.manual_seed(1)
    output, target = torch.randn(6, 5), torch.randn(6, 5)
    for out, true in ((output, target), (torch.zeros(6, 5), torch.zeros(6, 5)), (output, output)):
        right = [criterion(out[i : i + 1], true[i : i + 1]).item() for i in range(6)]
        assert sample_losses(criterion, out, true).tolist() == pytest.approx(right)


@pytest.mark.parametrize("kind", COMPARES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_criterion_that_compares_samples_is_marked_without_a_read(kind, dtype):
    class Fixed(nn.Module):
        def forward(self, output, target):
            return WHOLE[kind]()(output, target).to(dtype)

    output = torch.randn(5, 3)
    assert sample_losses(Fixed(), output, torch.zeros(5)).tolist() == [WHOLE_BATCH] * 5
    meta = sample_losses(Margin(), output.to("meta"), torch.zeros(5, device="meta"))
    assert meta.shape == (5,)


def test_one_that_fails_for_one_sample_says_why():
    with pytest.raises(NoSampleLossError, match=r"HardestTriplets has a loss of a whole batch alone.*\(AssertionError"):
        sample_losses(HardestTriplets(), torch.randn(4, 3), torch.tensor([0, 0, 1, 1]))


def test_terms_keep_the_marks_whatever_they_weigh():
    one, two = torch.tensor([1.0, NO_SCORE, NO_SCORE]), torch.tensor([2.0, 3.0, NO_SCORE])
    assert weighted_sum([one, two], [0.5, 2.0]).tolist() == [4.5, 6.0, NO_SCORE]
    assert weighted_sum([one], [0.0]).tolist() == [0.0, NO_SCORE, NO_SCORE]
    marked = torch.full((3,), WHOLE_BATCH)
    for weight in (0.1, 1.0, 3.0):
        assert weighted_sum([one, marked], [1.0, weight]).tolist() == [WHOLE_BATCH] * 3
        assert weighted_sum([marked], [weight]).tolist() == [WHOLE_BATCH] * 3
