import math
import re
import weakref

import numpy as np
import pytest
import torch
from catalyst import dl
from kit import SIDES, STOCK, Named, fit
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from assay.callbacks import UsageError
from assay.callbacks.measures import best_worst_samples as measures
from assay.callbacks.samples.best_worst_samples import BestWorstSamples
from assay.callbacks.samples.grad_cam import GradCAM
from assay.callbacks.samples.sample_ranking import _over_ranks

COUNT, K = 23, 4


def make_linear(key):
    return Named(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), key)


class Spied(BestWorstSamples):
    """Keeps the ranking of each epoch and loader."""

    rankings = ()

    def show(self, runner, writer, ranking):
        self.rankings = [*self.rankings, ((runner.epoch_step, runner.loader_key), ranking)]
        super().show(runner, writer, ranking)


def make_items(names=("image", "target", "sample_id"), count=COUNT, seed=0):
    rng = np.random.default_rng(seed)
    image, target, name = names
    return [
        {image: torch.from_numpy(rng.normal(size=(1, 4, 4)).astype(np.float32)), target: i % 3, name: f"sample-{i:02d}"}
        for i in range(count)
    ]


def run(kit, folder, callbacks, items, *, epochs=1, lr=0.0, criterion=None, model=None, **options):
    """Train on ``train`` and validate on ``valid``; return the model and the folder of the event folders."""
    torch.manual_seed(0)
    side = SIDES[kit]
    model = model or make_linear(side.key)
    fit(
        side.runner(), model, {key: DataLoader(of, batch_size=7, **options) for key, of in items.items()}, callbacks,
        lr=lr, criterion=criterion or nn.CrossEntropyLoss(), epochs=epochs, **side.logs(folder),
    )  # fmt: skip
    return model, folder


def rows(events, tag, step=1):
    """Return the table of a text tag as {(kind, rank): (id, score)}."""
    found = [event for event in events.Tensors(f"{tag}/text_summary") if event.step == step]
    assert len(found) == 1
    lines = found[0].tensor_proto.string_val[0].decode().splitlines()[2:]
    cells = [[cell.strip().replace("\\", "") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {(kind, int(rank)): (name, score) for kind, rank, name, score in cells}


@pytest.mark.parametrize("kit", ["stock", "ours"])
def test_ids_and_losses_of_both_ends_are_those_of_a_plain_loop(kit, tmp_path, read_events):
    keys = SIDES[kit].keys
    names = SIDES[kit].names
    items = {"train": make_items(names), "valid": make_items(names, seed=1)}
    model, folder = run(kit, tmp_path, [BestWorstSamples(k_samples=K, **keys)], items, epochs=2)
    for loader, of in items.items():
        events = read_events(folder / loader)
        tags = {"6_samples/best/loss", "6_worst_samples/loss"}
        tags |= set() if loader == "train" else {"1_overview/worst/loss"}
        assert {tag for tag in events.Tags()["images"] if "loss" in tag} == tags
        assert all([event.step for event in events.Images(tag)] == [1, 2] for tag in tags)
        with torch.no_grad():
            weight, bias = (p.double() for p in model.layer.parameters())
            logits = [item[names[0]].double().flatten() @ weight.T + bias for item in of]
            losses = {
                item[names[2]]: F.cross_entropy(output, torch.tensor(item[names[1]])).item()
                for item, output in zip(of, logits, strict=True)
            }
        table = rows(events, "6_sample_ids/loss" if loader == "train" else "1_overview/sample_ids/loss", step=2)
        ordered = sorted(losses, key=losses.get)
        assert [table["best", rank + 1][0] for rank in range(K)] == ordered[:K]
        assert [table["worst", rank + 1][0] for rank in range(K)] == ordered[::-1][:K]
        for name, score in table.values():
            assert float(score) == pytest.approx(losses[name], rel=1e-3)


def test_a_sample_keeps_image_truth_and_prediction(tmp_path):
    items, spied = make_items(), Spied(k_samples=K)
    model, _ = run("ours", tmp_path, [spied], {"train": items})
    ((when, ranking),) = spied.rankings
    assert when == (1, "train")
    assert ranking.count == COUNT
    by_name = {item["sample_id"]: item for item in items}
    for sample in ranking.best + ranking.worst:
        item = by_name[sample.sample_id]
        assert items[sample.position] is item
        assert sample.parts["target"] == item["target"]
        assert np.array_equal(sample.parts["image"], item["image"].numpy())
        logits = model(item["image"][None])["logits"][0].detach().numpy()
        assert np.allclose(sample.parts["output"], logits, atol=1e-6)


@pytest.mark.parametrize("ids", ["tensor", "strings", "none"])
def test_ids_may_be_numbers_strings_or_missing(ids, tmp_path, read_events):
    items = make_items()
    for number, item in enumerate(items):
        if ids == "tensor":
            item["sample_id"] = 1000 + number
        if ids == "none":
            del item["sample_id"]
    _, folder = run("ours", tmp_path, [spied := Spied(k_samples=K)], {"train": items})
    (_, ranking), table = spied.rankings[0], rows(read_events(folder / "train"), "6_sample_ids/loss")
    for rank, sample in enumerate(ranking.worst, start=1):
        expected = {
            "tensor": 1000 + sample.position,
            "strings": f"sample-{sample.position:02d}",
            "none": sample.position,
        }
        assert sample.sample_id == expected[ids]
        assert table["worst", rank][0] == str(expected[ids])


def brightness(batch):
    return batch["image"].mean(dim=(1, 2, 3))


def brightness_later(batch):
    values = batch["image"].mean(dim=(1, 2, 3))
    return lambda: values.tolist()


@pytest.mark.parametrize("score", [brightness, brightness_later, "hardness"])
def test_any_score_of_a_sample_may_decide(score, tmp_path, read_events):
    items = make_items()
    for item in items:
        item["hardness"] = item["image"].mean()
    callback = BestWorstSamples(score, minimize=False, k_samples=K)
    _, folder = run("ours", tmp_path, [callback], {"train": items})
    events, name = read_events(folder / "train"), score if isinstance(score, str) else score.__name__
    assert f"6_samples/best/{name}" in events.Tags()["images"]
    ordered = sorted(items, key=lambda item: float(item["hardness"]))
    table = rows(events, f"6_sample_ids/{name}")
    assert [table["worst", rank + 1][0] for rank in range(K)] == [item["sample_id"] for item in ordered[:K]]
    assert [table["best", rank + 1][0] for rank in range(K)] == [item["sample_id"] for item in ordered[::-1][:K]]


class Dice(nn.Module):
    """One number for a whole batch, and no ``reduction``."""

    def forward(self, output, target):
        probability = output.sigmoid()[:, 0]
        return 1 - 2 * (probability * target).sum() / (probability.sum() + target.sum())


def test_a_loss_of_the_whole_batch_is_taken_sample_by_sample(tmp_path):
    items = make_items()
    for item in items:
        item["target"] = (item["image"][0] > 0.3).float()
    model = Named(nn.Conv2d(1, 1, 3, padding=1))
    run("ours", tmp_path, [spied := Spied(k_samples=K)], {"train": items}, criterion=Dice(), model=model)
    losses = [Dice()(model(item["image"][None])["logits"], item["target"][None]).item() for item in items]
    ((_, ranking),) = spied.rankings
    assert [sample.position for sample in ranking.worst] == np.argsort(losses)[::-1][:K].tolist()
    assert ranking.worst[0].parts["output"].shape == (1, 4, 4)


def test_images_of_several_sizes_are_kept_as_they_are(tmp_path, read_events):
    def collate(items):
        return {"image": [item["image"] for item in items], "target": torch.tensor([item["target"] for item in items])}

    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.shift = nn.Parameter(torch.zeros(3))

        def forward(self, image):
            return {"logits": torch.stack([one.mean() + self.shift for one in image])}

    items = [{"image": torch.rand(3, 4 + i, 9 - i % 3), "target": i % 3} for i in range(10)]
    spied = Spied(lambda batch: torch.tensor([float(image.shape[1]) for image in batch["image"]]), k_samples=3)
    _, folder = run("ours", tmp_path, [spied], {"train": items}, model=Mean(), collate_fn=collate)
    ((_, ranking),) = spied.rankings
    assert [sample.parts["image"].shape for sample in ranking.worst] == [(3, 13, 9), (3, 12, 7), (3, 11, 8)]
    assert "6_worst_samples/score" in read_events(folder / "train").Tags()["images"]


def test_a_nan_score_is_the_worst_and_never_the_best(tmp_path, read_events):
    items = make_items()
    items[5]["hardness"] = float("nan")
    for item in items:
        item.setdefault("hardness", 1.0)
    _, folder = run("ours", tmp_path, [BestWorstSamples("hardness", k_samples=30)], {"train": items})
    table = rows(read_events(folder / "train"), "6_sample_ids/hardness")
    assert table["worst", 1] == ("sample-05", "NaN")
    best = [name for (kind, _), (name, _) in table.items() if kind == "best"]
    assert best == [f"sample-{i:02d}" for i in range(COUNT) if i != 5]


# -- memory and ranks -------------------------------------------------------------------------------------------------


def test_two_batches_are_held_however_many_come(tmp_path):
    class Watch(dl.Callback):
        def __init__(self):
            super().__init__(order=10_000)
            self.batches, self.alive = [], []

        def on_batch_end(self, runner):
            self.batches.append(weakref.ref(runner.batch["image"]))
            self.alive.append(sum(batch() is not None for batch in self.batches))

    watch = Watch()
    run("ours", tmp_path, [BestWorstSamples(k_samples=2), watch], {"train": make_items(count=210)})
    assert len(watch.alive) == 30
    assert max(watch.alive) <= 2


def ranked(rank, scores, world):
    """Feed this rank every ``world``-th batch of 5, as a sharded loader would, and join the ranks."""
    measure = measures.BestWorstSamples(4)
    for first in range(rank * 5, len(scores), world * 5):
        part = scores[first : first + 5]
        positions = range(first, first + len(part))
        measure.update(part, positions, [f"s{i % 40}" for i in positions], lambda i, first=first: {"at": first + i})
    found = _over_ranks(measure, 4)
    return [[(s.position, s.sample_id, s.parts["at"]) for s in end] for end in (found.best, found.worst)], found.count


@pytest.mark.parametrize("kind", ["distinct", "ties", "nan", "few", "none"])
def test_the_chosen_and_their_order_are_the_same_on_any_number_of_ranks(ranks, kind):
    rng = np.random.default_rng(1)
    scores = {
        "distinct": rng.normal(size=43).tolist(),
        "ties": rng.integers(0, 3, 43).tolist(),
        "nan": np.where(np.arange(43) % 9 == 0, math.nan, 1.0).tolist(),
        "few": [0.4, 0.2],
        "none": [],
    }[kind]
    expected = ranked(0, scores, 1)
    assert expected[1] == len(scores)
    for answer in ranks.run(ranked, scores, ranks.size):
        assert answer == expected


# -- sharing ----------------------------------------------------------------------------------------------------------


def test_callbacks_that_ask_for_the_same_choice_share_it(tmp_path):
    first, same, other = Spied(k_samples=K), Spied(k_samples=K, prefix="b"), Spied(k_samples=K + 1, prefix="c")
    run("ours", tmp_path, [first, same, other], {"train": make_items()}, epochs=2)
    assert same.source_ is first
    assert other.source_ is other
    assert [ranking is shared for (_, ranking), (_, shared) in zip(first.rankings, same.rankings, strict=True)] == [
        True,
        True,
    ]
    assert len(other.rankings[0][1].worst) == K + 1


# -- wrong use --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [BestWorstSamples, GradCAM])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k_samples": 0}, "k_samples must be an integer of at least 1, got 0"),
        ({"score": 3}, "score must be a name or a function of the batch, got 3"),
        ({"score": nn.CrossEntropyLoss()}, "score must be a function of the batch, and CrossEntropyLoss is one of"),
    ],
)
def test_arguments_out_of_range_are_refused(kind, arguments, message):
    with pytest.raises(UsageError, match=message):
        kind(**arguments)


@pytest.mark.parametrize(
    ("score", "message"),
    [
        ("hardnes", "asks for key 'hardnes', which the batch lacks; it has .*'hardness'"),
        (lambda batch: batch["logits"], r"needs one number per sample, 7 for this batch, got 21"),
        (lambda batch: [1.0], r"needs one number per sample, 7 for this batch, got 1"),
    ],
)
def test_a_score_that_is_not_one_number_a_sample_is_refused(score, message, tmp_path):
    items = [{**item, "hardness": 1.0} for item in make_items()]
    with pytest.raises(UsageError, match=message):
        run("ours", tmp_path, [BestWorstSamples(score)], {"train": items})


def test_a_loss_that_no_criterion_gives_is_refused(tmp_path):
    callback = BestWorstSamples(**STOCK.keys)
    runner = dl.SupervisedRunner(input_key="features", output_key="scores", target_key="targets", loss_key="loss")
    with pytest.raises(UsageError, match=r"score='loss'\) needs a runner with one criterion, .*: name another score"):
        fit(
            runner, make_linear(None), {"valid": make_items(("features", "targets", "name"))}, [callback], batch=7,
            optimizer=None, criterion=None, tensorboard=tmp_path,
        )  # fmt: skip
