"""RecallAtK: its values over loaders, runners and ranks."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from catalyst import dl
from kit import OURS, STOCK, fit
from sklearn.neighbors import NearestNeighbors
from torch import nn
from torch.utils.data import default_collate

from assay.callbacks import UsageError
from assay.callbacks.measures.embeddings import position_hash
from assay.callbacks.metrics.recall_at_k import RecallAtK


class Identity(nn.Module):
    """Images [N, D] as they are, in a dict or bare; the one parameter is never used up."""

    def __init__(self, as_dict=True):
        super().__init__()
        self.as_dict, self.scale = as_dict, nn.Parameter(torch.ones(()))

    def forward(self, image):
        vectors = image * self.scale
        maps = vectors[:, :, None, None] + torch.tensor([-1.0, 1.0])
        return {"logits": vectors, "map": maps} if self.as_dict else vectors


def make_items(count, names=("image", "target", "sample_id"), classes=4, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    vectors = (rng.normal(size=(count, 6)) + rng.normal(size=(classes, 6))[labels]).astype(np.float32)
    rows = zip(vectors, labels.tolist(), range(count), strict=True)
    return [dict(zip(names, (torch.from_numpy(v), y, f"id-{i}"), strict=True)) for v, y, i in rows]


def expected(items, k, metric="cosine"):
    vectors, labels = (np.stack([np.asarray(list(item.values())[part]) for item in items]) for part in (0, 1))
    found = NearestNeighbors(n_neighbors=k, metric=metric).fit(vectors).kneighbors(return_distance=False)
    return (labels[found] == labels[:, None]).any(axis=1).mean()


def run(callbacks, sizes, *, stock=False, model=None, epochs=1, **options):
    side = STOCK if stock else OURS
    runner = side.runner()
    model = model or Identity(as_dict=not stock)
    items = {key: make_items(size, side.names) for key, size in sizes.items()}
    fit(runner, model, items, callbacks, batch=7, lr=0.0, epochs=epochs, **options)
    return runner, items


@pytest.mark.parametrize("stock", [True, False], ids=["stock", "ours"])
def test_it_is_that_of_all_samples_of_each_validation_loader(stock):
    keys = {"embedding_key": "scores", "target_key": "targets", "sample_id_key": "name"} if stock else {}
    runner, items = run([RecallAtK((1, 3), **keys)], {"train": 8, "valid": 50, "valid_more": 30}, stock=stock)
    metrics = runner.epoch_metrics
    for loader in ("valid", "valid_more"):
        assert metrics[loader]["recall@1"] == pytest.approx(expected(items[loader], 1))
        assert metrics[loader]["recall@3"] == pytest.approx(expected(items[loader], 3))
    assert not any(name.startswith("recall") for name in metrics["train"])


def test_it_goes_by_its_name_to_the_csv_file_the_monitor_and_tensorboard(tmp_path, read_events):
    _, items = run(
        [RecallAtK()],
        {"train": 8, "valid": 50},
        epochs=2,
        logdir=str(tmp_path),
        valid_loader="valid",
        valid_metric="recall@1",
        minimize_valid_metric=False,
    )
    value = f"{expected(items['valid'], 1):.4f}"
    lines = [line.split(",") for line in (tmp_path / "metrics.csv").read_text().splitlines()]
    assert [f"{float(line[3]):.4f}" for line in lines if line[1:3] == ["valid", "recall@1"]] == [value, value]
    points = read_events(tmp_path / "valid").Scalars("1_overview/metrics/recall@1")
    assert [f"{point.value:.4f}" for point in points] == [value, value]
    assert (tmp_path / "checkpoints" / "best.pt").exists()


def test_distance_name_and_key_are_those_that_are_given():
    callbacks = [RecallAtK(distance="euclidean", name="near"), RecallAtK(embedding_key="map", name="map")]
    runner, items = run(callbacks, {"train": 8, "valid": 50})
    assert runner.epoch_metrics["valid"]["near@1"] == pytest.approx(expected(items["valid"], 1, "euclidean"))
    assert runner.epoch_metrics["valid"]["map@1"] == pytest.approx(expected(items["valid"], 1))


def test_of_a_larger_loader_so_many_ask_and_are_searched():
    runner, items = run([RecallAtK(max_samples=40)], {"train": 8, "valid": 90})
    chosen = sorted(range(90), key=position_hash)[:40]
    assert runner.epoch_metrics["valid"]["recall@1"] == pytest.approx(
        expected([items["valid"][position] for position in chosen], 1)
    )


def test_no_more_than_so_many_are_held():
    callback = RecallAtK(max_samples=10)
    held = []

    class Look(dl.Callback):
        def on_batch_end(self, runner):
            if runner.is_valid_loader:
                held.append(len(callback.choice_.kept))

    run([callback, Look(order=10_000)], {"train": 8, "valid": 70})
    assert max(held) == 10


def test_a_loader_that_ends_without_samples_has_no_value():
    runner, callback = runner_for(0, 1), RecallAtK()
    callback.on_loader_start(runner)
    callback.on_loader_end(runner)
    assert np.isnan(runner.loader_metrics["recall@1"])


def test_a_loader_that_is_interrupted_goes_on_with_what_it_had():
    items = make_items(20)
    whole, first, second = RecallAtK(), RecallAtK(), RecallAtK()
    runner = runner_for(0, 1)
    for callback in (whole, first, second):
        callback.on_loader_start(runner)
    for index in range(5):
        for callback in (whole, first if index < 2 else second):
            feed(callback, runner, items[4 * index : 4 * index + 4], index)
        if index == 1:
            second.load_loader_state(runner, first.loader_state(runner))
    values = []
    for callback in (whole, second):
        runner.loader_metrics = {}
        callback.on_loader_end(runner)
        values.append(runner.loader_metrics["recall@1"])
    assert values == [pytest.approx(expected(items, 1))] * 2


# -- ranks ------------------------------------------------------------------------------------------------------------


def runner_for(rank, size):
    engine = SimpleNamespace(num_processes=size, process_index=rank, device="cpu")
    return SimpleNamespace(engine=engine, loader_batch_size=4, is_valid_loader=True, loader_metrics={})


def feed(callback, runner, items, index):
    """Hand over the rank's ``index``-th batch, counted as Catalyst counts."""
    size, runner.batch_size = runner.engine.num_processes, len(items)
    columns = {key: [item[key] for item in items] for key in items[0]}
    runner.batch = {
        "logits": torch.stack(columns["image"]),
        "target": torch.tensor(columns["target"]),
        "sample_id": default_collate(columns["sample_id"]),
    }
    runner.loader_batch_step = size * (index + 1)
    runner.loader_sample_step = size * (4 * index + runner.batch_size)
    callback.on_batch_end(runner)


def over_ranks(rank, size, items, max_samples):
    runner, callback = runner_for(rank, size), RecallAtK((1, 2), max_samples=max_samples)
    callback.on_loader_start(runner)
    for index in range(len(items) // 4 // size):
        start = 4 * (index * size + rank)
        feed(callback, runner, items[start : start + 4], index)
    callback.on_loader_end(runner)
    return runner.loader_metrics


@pytest.mark.parametrize("max_samples", [10_000, 33])
def test_on_any_number_of_ranks_it_is_that_of_all_samples_together(ranks, max_samples):
    items = make_items(80)
    chosen = [items[position] for position in sorted(range(80), key=position_hash)[:max_samples]]
    answers = ranks.run(over_ranks, ranks.size, items, max_samples)
    values = {f"recall@{k}": pytest.approx(expected(chosen, k), abs=1e-12) for k in (1, 2)}
    assert answers == [values] * ranks.size


def test_a_sample_that_comes_twice_counts_once(ranks):
    items = make_items(40)
    again = [*items, *items[:8]]
    for answer in ranks.run(over_ranks, ranks.size, again, 10_000):
        assert answer["recall@1"] == pytest.approx(expected(items, 1), abs=1e-12)


# -- steps ------------------------------------------------------------------------------------------------------------


def test_a_step_reads_nothing_from_the_device():
    batch = {"logits": torch.zeros(8, 6, 2, device="meta"), "target": torch.zeros(8, dtype=int, device="meta")}
    parts = RecallAtK()._parts(batch, range(8), [1, 5])
    assert parts["vector"].shape == (2, 6)
    assert {part.device.type for part in (parts["vector"], parts["label"])} == {"meta"}
    assert parts["id"] == [1, 5]


def test_ids_that_are_numbers_do_as_well():
    items = [{**item, "sample_id": index} for index, item in enumerate(make_items(20))]
    runner, callback = runner_for(0, 1), RecallAtK()
    callback.on_loader_start(runner)
    for index, first in enumerate((0, 4, 8, 12, 16, 0)):
        feed(callback, runner, items[first : first + 4], index)
    callback.on_loader_end(runner)
    assert runner.loader_metrics["recall@1"] == pytest.approx(expected(items, 1))


# -- wrong use --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k must be an integer of at least 1, got 0"),
        ({"k": (1, 2.5)}, "k must be an integer of at least 1, got 2.5"),
        ({"k": ()}, "k must be one number or several, got none"),
        ({"distance": "cosin"}, "unknown distance 'cosin'; did you mean 'cosine'.*'euclidean'"),
        ({"max_samples": 0}, "max_samples must be an integer of at least 1, got 0"),
    ],
)
def test_a_wrong_argument_is_an_error(options, message):
    with pytest.raises(UsageError, match=message):
        RecallAtK(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedding_key": "vector"}, "RecallAtK asks for key 'vector', which the batch lacks; it has 'image', 'log"),
        ({"target_key": "label"}, "RecallAtK asks for key 'label', which the batch lacks"),
        ({"embedding_key": "target"}, r"embedding_key='target' must be \[N, D, ...\] of floating point, got torch.int"),
        ({"embedding_key": "sample_id"}, "embedding_key='sample_id' must be .* got list"),
        ({"target_key": "logits"}, r"target_key='logits' must be class numbers \[N\], got torch.float32 \(7, 6\)"),
        ({"target_key": "sample_id"}, r"target_key='sample_id' must be class numbers \[N\], got list"),
    ],
)
def test_what_does_not_fit_the_batch_is_an_error(options, message):
    with pytest.raises(UsageError, match=message):
        run([RecallAtK(**options)], {"train": 7, "valid": 7})
