"""What callbacks share of a batch, and when it is found anew."""

from types import SimpleNamespace

import pytest
import torch
from kit import fit
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import BestWorstSamples, SampleHistory
from assay.callbacks.support.sample_losses import identity_of, once_per_batch
from assay.runner import DictRunner


class Runner(SimpleNamespace):
    __hash__ = object.__hash__


def counted(runner, parts, asked="it"):
    calls = []
    once_per_batch(runner, asked, parts, lambda: calls.append(1))
    return len(calls)


def test_the_same_parts_are_looked_at_once_a_batch():
    runner = Runner(loader_key="valid", epoch_step=1, loader_batch_step=1)
    output, target = torch.rand(4, 3, requires_grad=True), [{"boxes": torch.rand(2, 4)}, {"boxes": torch.rand(0, 4)}]
    assert counted(runner, [output, target]) == 1
    assert counted(runner, [output.detach(), [dict(one) for one in target]]) == 0
    assert counted(runner, [output, target], asked="another") == 1
    assert counted(Runner(**vars(runner)), [output, target]) == 1
    runner.loader_batch_step = 2
    assert counted(runner, [output, target]) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda part: part.mul_(2),
        lambda part: part.clone(),
        lambda part: part[:3],
        lambda part: part.reshape(3, 4),
        lambda part: part.view(torch.int32),
        lambda part: [part],
    ],
    ids=["changed in place", "copied", "cut", "another shape", "another type", "in a list"],
)
def test_parts_that_differ_are_not_the_same(change):
    part = torch.rand(4, 3)
    before = identity_of(part)
    assert identity_of(part.detach()) == before
    assert identity_of(change(part)) != before


def test_memory_that_is_given_to_another_tensor_is_another():
    seen = [identity_of(torch.rand(1000)) for _ in range(20)]
    assert len(set(seen)) == len(seen)


def test_tensors_of_inference_have_an_identity():
    with torch.inference_mode():
        part = torch.rand(3)
    assert identity_of(part) == identity_of(part) != identity_of(torch.rand(3))


class Criterion(nn.CrossEntropyLoss):
    """Counts how often the losses of samples are asked for."""

    def __init__(self):
        super().__init__()
        self.asked = 0

    def sample_losses(self, output, target):
        self.asked += 1
        return nn.functional.cross_entropy(output, target, reduction="none")


def test_history_and_pictures_of_samples_share_their_losses(tmp_path):
    data = [{"image": torch.rand(1, 4, 4), "target": i % 3, "sample_id": i} for i in range(12)]
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    model.forward = lambda image, layers=model: {"logits": layers[1](layers[0](image))}
    criterion = Criterion()
    fit(
        DictRunner(), model, {"valid": DataLoader(data, 4)}, [BestWorstSamples(), SampleHistory()], optimizer=None,
        criterion=criterion, logdir=str(tmp_path),
    )  # fmt: skip
    assert criterion.asked == 3
