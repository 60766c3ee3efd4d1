"""Pseudo-labels, against a loop over samples."""

import math
from types import SimpleNamespace

import pytest
import torch
from catalyst import dl
from kit import fit
from torch import nn
from torch.nn import functional as F
from torch.utils.data import ConcatDataset, DataLoader, Dataset, WeightedRandomSampler

from assay.callbacks import PseudoLabels, UsageError
from assay.runner import DictRunner, Engine

UNLABELLED = -100


class Unlabelled(Dataset):
    def __init__(self, images, names):
        self.images, self.names, self.targets = images, names, [UNLABELLED] * len(images)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return dict(zip(self.names, (self.images[index], self.targets[index]), strict=True))

    def set_target(self, index, target):
        self.targets[index] = target


class Net(nn.Linear):
    def __init__(self, classes, key):
        super().__init__(4, classes)
        self.key = key

    def forward(self, image):
        logits = super().forward(image)
        return logits if self.key is None else {self.key: logits}


def train(
    kit, task="multiclass", classes=3, *, epochs=1, lr=0.0, scale=2.0, loader=None, train_options=None, **options
):
    torch.manual_seed(0)
    names = ("features", "targets") if kit == "stock" else ("image", "target")
    images, truth = torch.randn(8, 4), torch.arange(8) % 3
    labelled = [dict(zip(names, pair, strict=True)) for pair in zip(images, truth.tolist(), strict=True)]
    data = Unlabelled(torch.randn(13, 4), names)
    model = Net(classes, None if kit == "stock" else "logits")
    model.weight.data *= scale
    runner = dl.SupervisedRunner(output_key="logits") if kit == "stock" else DictRunner()
    callback = PseudoLabels(data, task=task, **options)
    criterion = nn.CrossEntropyLoss(ignore_index=UNLABELLED) if task == "multiclass" else None
    loaders = {"infer": loader(data) if loader else DataLoader(data, batch_size=5)}
    if criterion is not None:
        mixed = ConcatDataset([labelled, data])
        loaders = {"train": DataLoader(mixed, batch_size=21, **(train_options or {})), **loaders}
    runner.train(
        engine=Engine("cpu"), model=model, num_epochs=epochs, callbacks=[callback], loaders=loaders,
        **({} if criterion is None else
           {"criterion": criterion, "optimizer": torch.optim.SGD(model.parameters(), lr=lr)}),
    )  # fmt: skip
    with torch.no_grad():
        return data, F.linear(data.images, model.weight, model.bias), runner.epoch_metrics["infer"]


@pytest.mark.parametrize("kit", ["stock", "ours"])
def test_a_class_is_given_where_the_model_is_sure(kit):
    data, logits, metrics = train(kit, min_probability=0.8)
    expected, certain = [], []
    for row in logits.double():
        shares = [math.exp(value) / sum(math.exp(other) for other in row) for value in row.tolist()]
        sure = max(shares) >= 0.8
        expected.append(shares.index(max(shares)) if sure else UNLABELLED)
        certain += [max(shares)] if sure else []
    assert 0 < len(certain) < 13
    assert data.targets == expected
    assert metrics["pseudo_labels/share"] == pytest.approx(len(certain) / 13)
    assert metrics["pseudo_labels/probability"] == pytest.approx(sum(certain) / len(certain), rel=1e-6)
    assert math.isnan(metrics["pseudo_labels/changed"])


def test_yes_no_and_each_label_are_given_by_themselves():
    data, logits, _ = train("stock", "binary", 1, min_probability=0.7)
    sure = [1 if p >= 0.7 else 0 if p <= 0.3 else UNLABELLED for p in logits.sigmoid()[:, 0].tolist()]
    assert {0, 1, UNLABELLED} == set(sure)
    assert data.targets == sure
    data, logits, _ = train("stock", "multilabel", 3, min_probability=0.7, unlabelled=0)
    for row, found in zip(logits.sigmoid().tolist(), data.targets, strict=True):
        assert found.tolist() == [1 if p >= 0.7 else 0 for p in row]


def test_the_next_epoch_trains_on_them_and_counts_which_have_changed():
    data, _, metrics = train("stock", min_probability=0.4, epochs=3, lr=1.0)
    before, _, _ = train("stock", min_probability=0.4, epochs=2, lr=1.0)
    both = [pair for pair in zip(before.targets, data.targets, strict=True) if UNLABELLED not in pair]
    assert metrics["pseudo_labels/changed"] == pytest.approx(sum(a != b for a, b in both) / len(both))
    once, _, _ = train("stock", min_probability=1.0, epochs=3, lr=1.0, scale=0.1)
    assert set(once.targets) == {UNLABELLED}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loader": lambda data: DataLoader(data, shuffle=True)}, "'infer' does not go through its data set in order"),
        (
            {"loader": lambda data: DataLoader(data, sampler=WeightedRandomSampler([1.0] * 13, 13))},
            "does not go through its data set in order",
        ),
        ({"loader": lambda data: DataLoader(data, batch_size=5, drop_last=True)}, "gave 10 of the 13 samples"),
        (
            {"train_options": {"num_workers": 1, "persistent_workers": True}},
            "workers of loader 'train' live over epochs",
        ),
        ({"min_probability": 1.2}, "min_probability must be above 0 and at most 1 for 'multiclass', got 1.2"),
        ({"task": "binary", "classes": 1, "min_probability": 0.5}, "must be above 0.5 and at most 1 for 'binary'"),
        ({"task": "binary", "classes": 3}, r"needs an output \[N\] or \[N, 1\], got logits \(5, 3\)"),
        ({"task": "labels"}, "unknown task 'labels'"),
    ],
)
def test_what_would_give_labels_to_other_samples_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        train("stock", **options)


def test_a_data_set_and_a_loader_are_needed():
    with pytest.raises(UsageError, match=r"dataset must have set_target\(index, target\), got a list"):
        PseudoLabels([1, 2])
    data = Unlabelled(torch.zeros(2, 4), ("features", "targets"))
    with pytest.raises(UsageError, match="asks for key 'other', which the run's loaders lacks"):
        fit(
            dl.SupervisedRunner(), nn.Linear(4, 3), {"infer": DataLoader(data)}, [PseudoLabels(data, "other")],
            optimizer=None, criterion=None,
        )  # fmt: skip


def label_over_ranks(rank, size, logits):
    """Let the ranks take the batches of three in turn; return what the data set of this one was told."""
    data = Unlabelled(torch.zeros(len(logits), 4), ("features", "targets"))
    callback = PseudoLabels(data, min_probability=0.7)
    runner = SimpleNamespace(
        loader_key="infer", loaders={"infer": DataLoader(data)}, callbacks={}, loader_metrics={}, loader_sample_step=0,
        engine=SimpleNamespace(num_processes=size, process_index=rank, device=torch.device("cpu")),
    )  # fmt: skip
    callback.on_loader_start(runner)
    for first in range(3 * rank, len(logits), 3 * size):
        runner.batch = {"logits": logits[first : first + 3]}
        runner.batch_size = len(runner.batch["logits"])
        runner.place = SimpleNamespace(first_sample=first)
        callback.on_batch_end(runner)
    callback.on_loader_end(runner)
    return data.targets, runner.loader_metrics


def test_every_rank_labels_all_samples_of_its_own_data_set(ranks):
    logits = 3 * torch.randn(14, 3)
    certain, labels = logits.softmax(dim=1).max(dim=1)
    expected = [label if sure else UNLABELLED for label, sure in zip(labels.tolist(), certain >= 0.7, strict=True)]
    for targets, metrics in ranks.run(label_over_ranks, ranks.size, logits):
        assert targets == expected
        assert metrics["pseudo_labels/share"] == pytest.approx((certain >= 0.7).double().mean().item())
