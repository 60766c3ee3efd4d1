"""What the history makes of loaders, ids and criteria of other people's projects: right numbers, or one line."""

import logging

import pytest
import torch
from catalyst import dl
from kit import Named, fit
from torch import nn
from torch.utils.data import DataLoader, SubsetRandomSampler, WeightedRandomSampler

from assay.callbacks import SampleHistory, UsageError
from assay.callbacks.history.collected import CollectedSamples, why_no_ids
from assay.runner import Checkpoints, DictRunner

ORDERS = {
    "shuffled": {"shuffle": True},
    "subset": {"sampler": SubsetRandomSampler(range(9))},
    "weighted": {"sampler": WeightedRandomSampler([1.0] * 20, 20)},
}


def items(name=None, count=20):
    draw = torch.Generator().manual_seed(0)
    made = [{"image": torch.randn(4, generator=draw), "target": number % 3} for number in range(count)]
    return made if name is None else [item | {"sample_id": name(number)} for number, item in enumerate(made)]


def train(folder, loaders, caplog, runner=None, criterion=None, **options):
    """Train for two epochs, and return the warnings of the history."""
    runner = runner or DictRunner()
    with caplog.at_level(logging.WARNING, "assay"):
        fit(
            runner, Named(nn.Linear(4, 3), "logits" if isinstance(runner, DictRunner) else None), loaders,
            [SampleHistory(thumbnails=False, **options)], epochs=2, logdir=str(folder), seed=0,
            criterion=criterion or nn.CrossEntropyLoss(),
        )  # fmt: skip
    return [record.getMessage() for record in caplog.records if "SampleHistory" in record.getMessage()]


def stock():
    return dl.SupervisedRunner(input_key="image", output_key="logits", target_key="target", loss_key="loss")


@pytest.mark.parametrize("runner", [DictRunner, stock])
@pytest.mark.parametrize("order", ORDERS)
def test_samples_are_not_named_by_their_position_where_the_order_changes(order, runner, tmp_path, caplog):
    valid = DataLoader(items(), 8, **ORDERS[order])
    told = train(tmp_path, {"train": DataLoader(items("s{}".format), 8), "valid": valid}, caplog, runner())
    assert told == [
        "SampleHistory leaves out loader 'valid', as its order changes and its batches have no key 'sample_id'"
    ]
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["train"]


def test_samples_in_order_are_named_by_their_position(tmp_path, caplog):
    loaders = {"train": DataLoader(items("s{}".format), 8, shuffle=True), "valid": DataLoader(items(), 8)}
    assert not train(tmp_path, loaders, caplog)
    assert {path.name for path in (tmp_path / "samples").iterdir()} == {"train", "valid"}


@pytest.mark.parametrize(
    ("name", "got"),
    [(lambda number: (f"s{number}", number), "list of 2"), (lambda number: torch.tensor([number, 1]), "int64 [8, 2]")],
)
def test_ids_of_several_parts_name_no_samples(name, got, tmp_path, caplog):
    told = train(tmp_path, {"train": DataLoader(items(name), 8)}, caplog)
    assert len(told) == 1 and "leaves out loader 'train', as its batches do not name each sample" in told[0]
    assert got in told[0]
    assert not (tmp_path / "samples" / "train" / "ids.parquet").exists()


@pytest.mark.parametrize(
    ("ids", "fits"),
    [
        (torch.arange(3), True),
        (torch.arange(3)[:, None], True),
        (torch.zeros(3, 2), False),
        (torch.tensor(1), False),
        (range(3), True),
        (["a", "b", "c"], True),
        ([("a", 1), ("b", 2), ("c", 3)], True),
        ([torch.tensor(1), torch.tensor(2), torch.tensor(3)], True),
        ([torch.zeros(2), torch.tensor(2), torch.tensor(3)], False),
        (["a", "b"], False),
        ("abc", False),
        (None, False),
    ],
)
def test_ids_are_one_value_for_each_of_three_samples(ids, fits):
    assert (why_no_ids(ids, 3) == "") == fits


@pytest.mark.filterwarnings("ignore:No ``I")  # the runner computes the loss itself
def test_several_criteria_without_a_choice_leave_the_loss_out_with_one_line(tmp_path, caplog):
    class Runner(dl.Runner):
        def handle_batch(self, batch):
            logits = self.model(batch["image"])
            self.batch = {**batch, "logits": logits}
            losses = [self.criterion[name](logits, batch["target"]) for name in ("first", "second")]
            self.batch_metrics["loss"] = sum(losses)
            if self.is_train_loader:
                self.engine.backward(self.batch_metrics["loss"])
                self.optimizer.step()
                self.optimizer.zero_grad()

    criteria = {"first": nn.CrossEntropyLoss(), "second": nn.MultiMarginLoss()}
    loaders = {"train": DataLoader(items("s{}".format), 8)}
    told = train(tmp_path, loaders, caplog, Runner(), criteria)
    assert told == [
        "SampleHistory writes no loss of a sample: there are several criteria, 'first', 'second': pass criterion_key"
    ]
    caplog.clear()
    assert not train(tmp_path / "chosen", loaders, caplog, Runner(), criteria, criterion_key="first")


def test_another_number_of_classes_within_a_loader_is_refused():
    collected = CollectedSamples(None)
    collected.add("multiclass", 0, ["a"], torch.zeros(1, 7), torch.zeros(1, 4))
    with pytest.raises(UsageError, match="as many classes in all batches of a loader, got 6 after 4"):
        collected.add("multiclass", 1, ["b"], torch.zeros(1, 7), torch.zeros(1, 6))


def test_a_run_that_had_no_history_before_says_where_it_begins(tmp_path, caplog):
    def go_on(callbacks, epochs, **options):
        torch.manual_seed(0)
        loaders = {"train": DataLoader(items("s{}".format), 8)}
        saving = Checkpoints(tmp_path / "checkpoints")
        fit(
            DictRunner(), Named(nn.Linear(4, 3)), loaders, [*callbacks, saving], epochs=epochs, logdir=str(tmp_path),
            seed=0, **options,
        )  # fmt: skip
        return [record.getMessage() for record in caplog.records if "SampleHistory" in record.getMessage()]

    again = {"resume": str(tmp_path / "checkpoints")}
    go_on([], 1)
    told = go_on([SampleHistory(thumbnails=False)], 2, **again)
    assert told == ["SampleHistory of 'train' begins in epoch 2: the run had none in the epochs before"]
    assert go_on([SampleHistory(thumbnails=False)], 3, **again) == told
