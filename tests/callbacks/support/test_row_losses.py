"""Losses that are found of many batches at once: when they may be, and that they are those of each batch."""

import dataclasses
from functools import partial

import polars as pl
import pytest
import torch
from catalyst import dl
from kit import Named, fit
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import SampleHistory
from assay.callbacks.support.sample_losses import losses_of_batch, row_criterion, row_losses
from assay.runner import DictRunner, LossTerm

CLASSES = 3


class Own(nn.CrossEntropyLoss):
    def forward(self, output, target):
        return 2 * super().forward(output, target)


@dataclasses.dataclass(frozen=True)
class Doubled(LossTerm):
    def compute(self, criterion, batch):
        return 2 * super().compute(criterion, batch)


class Asks(dl.Callback):
    """Keeps the criterion, and of each batch its losses in both ways, where there are both."""

    def __init__(self, output_key, target_key, criterion_key):
        super().__init__(order=200)
        self.keys, self.criterion_key, self.found, self.losses = (output_key, target_key), criterion_key, [], []

    def on_batch_end(self, runner):
        found = row_criterion(runner, *self.keys, self.criterion_key)
        self.found.append(found)
        if found is not None:
            parts = [runner.batch[key].detach() for key in self.keys]
            self.losses.append((losses_of_batch(runner, runner.batch, *parts, self.criterion_key), *parts))


def items(count=30, mixed=False):
    draw = torch.Generator().manual_seed(1)
    labels = torch.randint(0, CLASSES, (count,), generator=draw)
    labels[::4] = -100
    target = torch.rand(count, CLASSES, generator=draw).softmax(dim=1) if mixed else labels
    images = torch.randn(count, 5, generator=draw)
    return [
        {"image": image, "target": of, "other": of, "sample_id": f"{number:02}"}
        for number, (image, of) in enumerate(zip(images, target, strict=True))
    ]


def asked(criterion, runner=None, keys=("logits", "target", None), mixed=False):
    asks = Asks(*keys)
    torch.manual_seed(0)
    model = Named(nn.Linear(5, CLASSES), "logits")
    fit(runner or DictRunner(), model, {"train": DataLoader(items(mixed=mixed), 4)}, [asks], criterion=criterion)
    return asks


@pytest.mark.parametrize("mixed", [False, True], ids=["classes", "shares"])
@pytest.mark.parametrize("options", [{}, {"reduction": "sum"}, {"label_smoothing": 0.2}])
def test_losses_of_many_batches_at_once_are_those_of_each(options, mixed):
    asks = asked(nn.CrossEntropyLoss(**options), mixed=mixed)
    (found,) = {*asks.found}
    losses, outputs, targets = (torch.cat(of) for of in zip(*asks.losses, strict=True))
    torch.testing.assert_close(row_losses(found, outputs, targets), losses, rtol=0, atol=0)
    assert len(losses) == 30 and losses.isinf().sum() == (0 if mixed else 8)


@pytest.mark.parametrize(
    ("criterion", "runner", "keys"),
    [
        (nn.CrossEntropyLoss(torch.ones(CLASSES)), None, ("logits", "target", None)),
        (Own(), None, ("logits", "target", None)),
        (partial(nn.functional.cross_entropy, label_smoothing=0.1), None, ("logits", "target", None)),
        (nn.NLLLoss(), None, ("logits", "target", None)),
        (nn.CrossEntropyLoss(), DictRunner(losses=[LossTerm(weight=0.5)]), ("logits", "target", None)),
        (nn.CrossEntropyLoss(), DictRunner(losses=[LossTerm(count=len)]), ("logits", "target", None)),
        (nn.CrossEntropyLoss(), DictRunner(losses=[Doubled()]), ("logits", "target", None)),
        (nn.CrossEntropyLoss(), DictRunner(losses=[LossTerm(), LossTerm(name="b")]), ("logits", "target", None)),
        (nn.CrossEntropyLoss(), None, ("logits", "other", None)),
    ],
    ids=["weights", "own class", "function", "NLLLoss", "weight", "count", "own compute", "two terms", "other target"],
)
def test_nothing_is_put_off_whose_losses_may_depend_on_more_than_a_row(criterion, runner, keys):
    asks = asked(criterion, runner, keys)
    assert len(asks.found) == 8 and {*asks.found} == {None}


def test_a_criterion_by_name_is_asked_itself():
    criteria = {"a": nn.CrossEntropyLoss(label_smoothing=0.3), "b": nn.CrossEntropyLoss()}
    terms = [LossTerm(criterion="a", name="a"), LossTerm(criterion="b", name="b")]
    asks = asked(criteria, DictRunner(losses=terms), ("logits", "target", "a"))
    assert {*asks.found} == {("mean", -100, 0.3)}


class Softens(dl.Callback):
    """Changes the criterion while batches wait for their losses."""

    def __init__(self):
        super().__init__(order=300)

    def on_batch_end(self, runner):
        runner.criterion.label_smoothing = 0.1 * (runner.loader_batch_step // 3)


def test_a_criterion_that_is_changed_within_an_epoch_gives_each_sample_the_loss_of_its_time(tmp_path):
    expected, criterion = {}, nn.CrossEntropyLoss()

    class Expects(dl.Callback):
        def on_batch_end(self, runner):
            own = nn.CrossEntropyLoss(reduction="none", label_smoothing=runner.criterion.label_smoothing)
            losses = own(runner.batch["logits"].detach(), runner.batch["target"])
            expected.update(zip(runner.batch["sample_id"], losses.tolist(), strict=True))

    torch.manual_seed(0)
    fit(
        DictRunner(), Named(nn.Linear(5, CLASSES), "logits"), {"train": DataLoader(items(), 4)},
        [SampleHistory(folder=tmp_path / "samples"), Expects(order=199), Softens()], criterion=criterion,
        logdir=str(tmp_path / "run"),
    )  # fmt: skip
    rows = pl.read_parquet(tmp_path / "samples" / "train" / "epoch-000001.parquet")["loss"].to_list()
    ids = pl.read_parquet(tmp_path / "samples" / "train" / "ids.parquet")["id"].to_list()
    assert criterion.label_smoothing == pytest.approx(0.2) and sum(loss is None for loss in rows) == 8
    for name, loss in zip(ids, rows, strict=True):
        assert loss is None or loss == pytest.approx(expected[name], rel=1e-3)
