"""What several callbacks of a run are drawn from is counted once."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import ClassificationReport, ConfusionMatrix, PRCurves, PredictionDistribution
from assay.callbacks.class_counts import ClassCounts
from assay.callbacks.sharing import first_alike
from assay.runner import DictRunner, Engine


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, image):
        return {"logits": self.layer(image)}


def train(folder, callbacks):
    items = [{"image": torch.rand(4), "target": i % 3} for i in range(20)]
    model = Net()
    DictRunner().train(
        engine=Engine("cpu"), model=model, criterion=nn.CrossEntropyLoss(), num_epochs=2, logdir=str(folder),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1), callbacks=callbacks,
        loaders={"train": DataLoader(items, batch_size=8), "valid": DataLoader(items, batch_size=8)},
    )  # fmt: skip


def counting(kind, counted):
    """Return a subclass that notes who counts."""

    class Counting(kind):
        def count(self, output, target):
            counted.append(self)
            super().count(output, target)

    Counting.__name__ = kind.__name__
    return Counting


@pytest.mark.parametrize(
    "kinds", [(ConfusionMatrix, ClassificationReport), (PRCurves, PredictionDistribution)], ids=["classes", "scores"]
)
def test_callbacks_that_count_the_same_count_once_and_write_the_same_as_alone(kinds, tmp_path, read_events):
    counted = []
    first, second = (counting(kind, counted)(num_classes=3) for kind in kinds)
    torch.manual_seed(1)
    train(tmp_path / "together", [first, second])
    assert set(counted) == {first}
    assert len(counted) == 2 * 2  # epochs and loaders: three small batches are counted together
    torch.manual_seed(1)
    train(tmp_path / "alone", [kinds[1](num_classes=3)])
    for loader in ("train", "valid"):
        together, alone = (read_events(tmp_path / name / "tensorboard" / loader) for name in ("together", "alone"))
        for tag in alone.Tags()["tensors"]:
            assert [e.tensor_proto for e in together.Tensors(tag)] == [e.tensor_proto for e in alone.Tensors(tag)]
        for tag in alone.Tags()["images"]:
            pictures = ([e.encoded_image_string for e in events.Images(tag)] for events in (together, alone))
            assert next(pictures) == next(pictures)


class Run:
    def __init__(self, *callbacks):
        self.callbacks = dict(enumerate(callbacks))


def test_what_counts_otherwise_is_not_shared():
    matrix = ConfusionMatrix(num_classes=3)
    others = [
        ClassificationReport(num_classes=4),
        ClassificationReport(num_classes=3, ignore_index=0),
        ClassificationReport(num_classes=3, output_key="aux"),
        ClassificationReport(num_classes=3, task="multilabel"),
        PRCurves(num_classes=3),
        PRCurves(num_classes=3, bins=64),
    ]
    run = Run(matrix, *others)
    assert [first_alike(run, other, ClassCounts) for other in others] == others
    assert first_alike(run, matrix, ClassCounts) is matrix


def test_a_callback_outside_of_the_run_counts_for_itself():
    alone = ConfusionMatrix(num_classes=3)
    assert first_alike(Run(), alone, ClassCounts) is alone
    assert first_alike(Run(alone, ConfusionMatrix(num_classes=3)), alone, ClassCounts) is alone
