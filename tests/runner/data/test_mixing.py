"""Mixup and CutMix: each pair against a plain loop, the same with any workers and ranks, and right numbers in a run."""

import numpy as np
import pytest
import torch
from kit import Given, Keep, fit
from sklearn import metrics as sk
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import ConfusionMatrix, UsageError, classification_diagnostics
from assay.runner import DictRunner, Mixed
from assay.runner.data.bad_images import Collate, WithoutBadImages
from assay.runner.data.mixing import unmixed
from assay.runner.data.sharding import shard_loader
from assay.runner.loop.batch_limits import overfit_batches

CLASSES = 3
KINDS = {"mixup": {"mixup": 0.4}, "cutmix": {"cutmix": 1.0}, "both": {"mixup": 0.4, "cutmix": 1.0}}


def items(count=8, side=6, target=None):
    """Images of one colour that names the sample, which a mix of them can be taken apart by."""
    colours = torch.eye(count)[:, :, None, None].expand(count, count, side, side)
    return [
        {"image": colours[i].clone(), "target": i % CLASSES if target is None else target[i], "sample_id": f"s{i}"}
        for i in range(count)
    ]


def shares_of(images):
    """Return how much of each sample is in each image, [N, N], from the pixels alone."""
    return images.double().mean(dim=(2, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_targets_are_mixed_in_the_shares_of_the_pixels(kind):
    data = items()
    for seed in range(20):
        torch.manual_seed(seed)
        batch = Mixed(CLASSES, **KINDS[kind])(data)
        shares = shares_of(batch["image"])
        assert shares.sum(dim=1) == pytest.approx(np.ones(8), abs=1e-6)
        expected = np.zeros((8, CLASSES))
        for i in range(8):
            assert (shares[i] > 1e-9).sum() <= 2
            assert shares[i].argmax() == i or shares[i, i] == pytest.approx(0.5)  # its id names the larger share
            for j in range(8):
                expected[i, j % CLASSES] += float(shares[i, j])
        assert batch["target"].dtype == torch.float32
        assert batch["target"].numpy() == pytest.approx(expected, abs=1e-6)
        assert batch["sample_id"] == [f"s{i}" for i in range(8)]


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_and_shares_are_those_of_torchvision(kind):
    from torchvision.transforms import v2

    makes = {"mixup": v2.MixUp(alpha=0.4), "cutmix": v2.CutMix(alpha=1.0)}
    given = v2.RandomChoice(list(makes.values())) if kind == "both" else makes[kind]
    data = items(side=32)
    images, labels = torch.stack([item["image"] for item in data]), torch.eye(CLASSES)[torch.arange(8) % CLASSES]
    orders = set()
    for seed in range(40):
        torch.manual_seed(seed)
        expected, soft = given(images, labels)
        torch.manual_seed(seed)
        batch = Mixed(CLASSES, **KINDS[kind])(data)
        same = [shift for shift in (0, -1) if torch.equal(batch["image"], expected.roll(shift, 0))]
        assert same
        assert torch.allclose(batch["target"], soft.roll(same[0], 0), atol=1e-6)
        orders.add(same[0])
    assert orders == {0, -1}


@pytest.mark.parametrize("count", [1, 2])
def test_small_batches(count):
    torch.manual_seed(1)
    batch = Mixed(CLASSES, mixup=1.0)(items(count))
    shares = shares_of(batch["image"])
    assert (shares.diagonal() >= 0.5 - 1e-6).all()
    assert batch["target"][:, :count].numpy() == pytest.approx(shares[:, :count].numpy(), abs=1e-6)


@pytest.mark.parametrize(
    "targets",
    [torch.tensor([[1.0, 0, 1], [0, 1, 1], [0, 0, 0], [1, 1, 1]]), torch.tensor([[0.0], [1], [1], [0]]),
     torch.tensor([0.0, 1, 1, 0]), torch.tensor([0, 1, 1, 0])],
    ids=["multilabel", "binary [N, 1]", "binary [N]", "binary [N] whole"],
)  # fmt: skip
def test_labels_of_yes_and_no_keep_their_shape_and_their_own_side(targets):
    for seed in range(10):
        torch.manual_seed(seed)
        batch = Mixed(None, mixup=1.0)(items(4, target=targets))
        shares = shares_of(batch["image"]).float()
        assert batch["target"].shape == targets.shape
        assert batch["target"].dtype == torch.float32
        assert torch.allclose(batch["target"].reshape(4, -1), shares @ targets.float().reshape(4, -1), atol=1e-6)
        decided = shares.diagonal() > 0.5001
        assert torch.equal((batch["target"] > 0.5)[decided], (targets > 0.5)[decided])


def batches_of(loader, rank=0, ranks=1, epoch=2):
    sharded = shard_loader(loader, rank, ranks, trains=True)
    sharded.batch_sampler.draw_epoch(7, epoch)
    return list(sharded)


@pytest.mark.parametrize("kind", KINDS)
def test_they_are_the_same_with_workers_ranks_and_after_an_interruption(kind):
    def loader(workers=0):
        mixed = Mixed(CLASSES, **KINDS[kind])
        return DataLoader(items(24), 4, shuffle=True, num_workers=workers, collate_fn=mixed)

    whole = batches_of(loader())
    assert len(whole) == 6
    assert not torch.equal(whole[0]["image"], batches_of(loader(), epoch=3)[0]["image"])
    for other in (batches_of(loader(workers=2)), batches_of(loader())):
        for one, two in zip(whole, other, strict=True):
            assert all(torch.equal(one[key], two[key]) for key in ("image", "target"))
    # Three batches of each of two ranks, in turn.
    shared = [batches_of(loader(), rank, 2) for rank in (0, 1)]
    for one, two in zip(whole, [shared[i % 2][i // 2] for i in range(6)], strict=True):
        assert all(torch.equal(one[key], two[key]) for key in ("image", "target"))
    # From the fourth round on.
    sharded = shard_loader(loader(), 0, 1, trains=True)
    sharded.batch_sampler.draw_epoch(7, 2)
    sharded.batch_sampler.first = 3
    assert [torch.equal(one["image"], two["image"]) for one, two in zip(whole[3:], sharded, strict=True)] == [True] * 3


@pytest.mark.parametrize("shape", [(8,), (4, 8)])
def test_the_chance_of_the_model_is_left_alone(shape):
    torch.manual_seed(3)
    expected = torch.rand(shape)
    torch.manual_seed(3)
    batches_of(DataLoader(items(8), 4, collate_fn=Mixed(CLASSES, mixup=1.0)))
    torch.manual_seed(3)
    assert torch.equal(torch.rand(shape), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": 3}, r"sample_id 's1': 'target' holds 3, and mixup and cutmix take class numbers from 0 to 2"),
        ({"target": -100}, r"sample_id 's1': 'target' holds -100, and mixup"),
        ({"target": torch.zeros(4, 4, dtype=torch.int64)}, r"mix the class numbers \[N\], .* int64 \[4, 4, 4\]"),
        ({"image": torch.zeros(8, 6, 6, dtype=torch.uint8)}, r"images of one size as floats .* uint8 \[4, 8, 6, 6\]"),
    ],
)  # fmt: skip
def test_what_cannot_be_mixed_is_named(change, message):
    whole = "image" in change or isinstance(change["target"], torch.Tensor)
    data = [{**item, **(change if whole or i == 1 else {})} for i, item in enumerate(items(8)[:4])]
    with pytest.raises(UsageError, match=message):
        Mixed(CLASSES, mixup=1.0)(data)


@pytest.mark.parametrize("alphas", [{}, {"mixup": -1}, {"cutmix": float("nan")}, {"mixup": float("inf")}])
def test_an_alpha_out_of_range_is_named(alphas):
    with pytest.raises(UsageError, match=next(iter(alphas), "mixup")):
        Mixed(CLASSES, **alphas)


def test_a_loader_to_measure_on_is_not_mixed():
    mixed = Mixed(CLASSES, mixup=1.0)
    plain = DataLoader(items(), 4, collate_fn=mixed)
    skipping = DataLoader(WithoutBadImages(items()), 4, collate_fn=Collate(mixed))
    for loader in (plain, skipping):
        assert [batch["target"].tolist() for batch in unmixed(loader)] == [[0, 1, 2, 0], [1, 2, 0, 1]]
        assert loader.collate_fn in (mixed, skipping.collate_fn)
    other = DataLoader(items(), 4)
    assert unmixed(other) is other
    same = overfit_batches({"train": plain, "valid": other}, 1, 1)
    assert all(not batch["target"].is_floating_point() for batch in same["train"])


def label_of(i):
    return (i * i + i // 4) % CLASSES


@pytest.mark.parametrize(("kind", "smoothing"), [("mixup", 0.0), ("cutmix", 0.1), ("both", 0.1)])
def test_a_run_counts_what_scikit_learn_counts_of_the_classes_of_its_samples(kind, smoothing, tmp_path):
    """Through every diagnostic of a classifier, with odd last batches: 21 samples in batches of 4."""
    chance = torch.Generator().manual_seed(0)
    data = [
        {"image": torch.randn(CLASSES, 8, 8, generator=chance), "target": label_of(i), "sample_id": f"s{i}"}
        for i in range(21)
    ]
    loaders = {
        "train": DataLoader(data, 4, shuffle=True, collate_fn=Mixed(CLASSES, **KINDS[kind])),
        "valid": DataLoader(data, 4),
    }

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(
                nn.Conv2d(CLASSES, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES)
            )

        def forward(self, image):
            return {"logits": self.layers(image)}

    weight = torch.tensor([1.0, 2.0, 3.0])
    seen = Keep(lambda runner: {**runner.batch, "loss": runner.batch_metrics["loss"]}, loader="train", order=1000)
    matrix = ConfusionMatrix(num_classes=CLASSES, prefix="again")
    found = {}
    metrics = Keep(lambda runner: found.update(runner.loader_metrics), hook="on_loader_end", loader="train", order=1000)
    fit(
        DictRunner(), Net(), loaders, [*classification_diagnostics("full", num_classes=CLASSES), matrix, seen, metrics],
        criterion=nn.CrossEntropyLoss(weight, label_smoothing=smoothing), logdir=str(tmp_path), hparams={"lr": 0.1},
    )  # fmt: skip
    ids = [one for batch in seen.kept for one in batch["sample_id"]]
    own = np.array([label_of(int(one[1:])) for one in ids])
    soft = torch.cat([batch["target"] for batch in seen.kept])
    logits = torch.cat([batch["logits"] for batch in seen.kept]).detach()
    assert sorted(ids) == sorted(item["sample_id"] for item in data)
    assert (soft.argmax(1).numpy() == own).all()  # what counts is the class of the sample that is named
    predicted = logits.argmax(1).numpy()
    assert found["accuracy"] == pytest.approx((predicted == own).mean())
    assert found["f1"] == pytest.approx(sk.f1_score(own, predicted, average="macro", zero_division=0))
    expected = [sk.roc_auc_score(own == c, logits.softmax(1)[:, c]) for c in range(CLASSES)]
    assert found["roc_auc"] == pytest.approx(np.mean(expected), abs=2e-3)
    # torch's mean of soft targets is over samples, whatever the weights of the classes.
    smoothed = soft * (1 - smoothing) + smoothing / CLASSES
    losses = -(smoothed * weight * logits.log_softmax(1)).sum(dim=1)
    assert found["loss"] == pytest.approx(losses.mean().item(), rel=1e-5)


def test_a_model_sees_mixed_images_in_training_alone():
    data, runner = items(), DictRunner()
    seen = {key: Keep(lambda run: run.batch["target"].clone(), loader=key) for key in ("train", "valid")}
    loaders = {"train": DataLoader(data, 4, collate_fn=Mixed(CLASSES, mixup=1.0)), "valid": DataLoader(data, 4)}

    class Mean(Given):
        def forward(self, image):
            return {"logits": self.layer(image)[:, :CLASSES].mean(dim=(2, 3))}

    fit(runner, Mean(), loaders, list(seen.values()))
    assert all(target.shape == (4, CLASSES) for target in seen["train"].kept)
    assert all(target.shape == (4,) for target in seen["valid"].kept)
