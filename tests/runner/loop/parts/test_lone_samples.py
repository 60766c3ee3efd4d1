"""A batch of one sample before a BatchNorm is foreseen before the first step, and only where torch would refuse it."""

import pytest
import torch
from kit import fit
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from assay.runner import DictRunner, Engine, UsageError
from assay.runner.data.augmented import Items
from assay.runner.data.bad_images import WithoutBadImages, collate
from assay.runner.data.files.image_errors import BadImageError
from assay.runner.loop.fault_messages import explain


class Net(nn.Module):
    def __init__(self, *layers, frozen=False):
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.head = nn.LazyLinear(3)
        self.frozen = frozen
        with torch.no_grad():
            self.eval()(torch.zeros(2, 2, 4, 4))
            self.train()
        self.passes = 0

    def train(self, mode=True):
        return super().train(mode and not getattr(self, "frozen", False))

    def forward(self, image):
        self.passes = getattr(self, "passes", 0) + 1
        return {"logits": self.head(self.layers(image).flatten(1))}


class Functional(nn.Module):
    def forward(self, image):
        return F.batch_norm(image.mean(dim=(2, 3)), torch.zeros(2), torch.ones(2), training=self.training)


class TwoViews(nn.Module):
    """Sees each sample twice."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(2)

    def forward(self, image):
        rows = image.mean(dim=(2, 3))
        return self.norm(torch.stack([rows, 2 * rows], dim=1).flatten(0, 1)).reshape(len(image), -1)


REFUSED = {
    "after pooling": lambda: Net(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(2)),
    "over features": lambda: Net(nn.Flatten(), nn.Linear(32, 2), nn.BatchNorm1d(2)),
    "without running means": lambda: Net(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(2, track_running_stats=False)),
    "by the function": lambda: Net(Functional()),
    "of a compiled model": lambda: _compiled(Net(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(2))),
}
FINE = {
    "none": lambda: Net(nn.Flatten()),
    "over maps": lambda: Net(nn.BatchNorm2d(2)),
    "in evaluation mode": lambda: Net(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(2), frozen=True),
    "of groups": lambda: Net(nn.GroupNorm(1, 2)),
    "of two views": lambda: Net(TwoViews()),
}


def _compiled(model):
    model.compile(backend="eager")
    return model


def train(model, count=9, batch_size=4, *, loader=None, engine=None, **options):
    torch.manual_seed(0)
    items = [{"image": torch.randn(2, 4, 4), "target": i % 3, "sample_id": i} for i in range(count)]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    runner = DictRunner()
    try:
        fit(
            runner, model, {"train": loader or DataLoader(items, batch_size, **options)}, engine=engine or Engine("cpu")
        )
    except UsageError:
        after = model.state_dict()
        weights = [name for name in before if "running" not in name and "tracked" not in name]
        assert all(torch.equal(before[name], after[name]) for name in weights)  # before the first step
        raise
    return runner


@pytest.mark.parametrize("kind", REFUSED)
def test_it_is_refused_before_the_first_step_by_name_sizes_and_remedy(kind):
    with pytest.raises(UsageError) as caught:
        train(REFUSED[kind]())
    assert str(caught.value) == (
        "loader 'train' has a batch of one sample (9 samples in batches of 4), and the model a BatchNorm that has one "
        "value a channel for it, which torch refuses to normalize: pass the loader drop_last=True, or choose another "
        "batch_size."
    )
    train(REFUSED[kind](), drop_last=True)
    train(REFUSED[kind](), count=10)


def test_a_first_batch_of_one_sample_is_refused_alike():
    with pytest.raises(UsageError, match=r"loader 'train' has a batch of one sample \(3 samples in batches of 1\)"):
        train(REFUSED["after pooling"](), 3, 1)
    with pytest.raises(UsageError, match="let its batch_sampler leave such a batch out"):
        loader = DataLoader([{"image": torch.ones(2, 4, 4), "target": 0}] * 3, batch_sampler=[[0, 1], [2]])
        train(REFUSED["after pooling"](), loader=loader)


@pytest.mark.parametrize("kind", FINE)
def test_a_model_that_torch_does_not_refuse_is_trained(kind):
    model = FINE[kind]()
    passes = model.passes
    train(model)
    assert model.passes - passes == 3


def test_trying_out_a_compiled_model_leaves_no_trace():
    models = [FINE["over maps"](), FINE["over maps"]()]
    models[1].load_state_dict(models[0].state_dict())
    for model in (models[0], _compiled(models[1])):
        train(model)
    assert all(torch.equal(one, models[1].state_dict()[name]) for name, one in models[0].state_dict().items())


def refused_on_ranks(count, kind):
    torch.manual_seed(0)  # DDP would give all ranks the weights of the first
    try:
        train((REFUSED | FINE)[kind](), count, 2)
    except UsageError as error:
        return str(error)
    return None


@pytest.mark.parametrize(("count", "kind", "refused"), [(5, "after pooling", True), (5, "over maps", False)])
def test_all_ranks_refuse_it_together(processes, count, kind, refused):
    # Of 5 samples, 2 and 2 make a round, and one is left for either rank.
    answers = processes.run(2, refused_on_ranks, count, kind)
    assert answers[0] == answers[1]
    assert (answers[0] is not None) == refused
    if refused:
        assert "(5 samples in batches of 2 on 2 processes)" in answers[0]


def test_what_bad_images_leave_is_explained_where_it_happens():
    def make(index):
        if index in (4, 5, 7):
            raise BadImageError(f"image {index} cannot be read")
        return {"image": torch.randn(2, 4, 4), "target": 0, "sample_id": index}

    loader = DataLoader(WithoutBadImages(Items(8, make)), 4, collate_fn=collate)
    with pytest.raises(ValueError, match="more than 1 value per channel") as caught:
        train(REFUSED["after pooling"](), loader=loader)
    assert explain(caught.value) == (
        "a batch of one sample in epoch 1, loader 'train', batch 2 of 2 came to a BatchNorm that has one value a "
        "channel for it, and cannot normalize that: pass the loader drop_last=True, or choose another batch_size. "
        "Samples that on_bad_image leaves out make batches smaller too."
    )
