"""Embeddings: the files that they write, and what the projector of the real server serves of them."""

import io
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from kit import OURS, SIDES, Break, fit
from PIL import Image
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from tensorboard_server import serve
from torch import nn

from assay.callbacks import UsageError
from assay.callbacks.measures.embeddings import position_hash
from assay.callbacks.samples.embeddings import Embeddings

NAMES = ["cat", "dog\twith a tab", "naïve"]


class Linear(nn.Module):
    def __init__(self, key=None):
        super().__init__()
        self.key, self.layer = key, nn.Linear(16, 3)

    def forward(self, image):
        logits = self.layer(image.flatten(1))
        return logits if self.key is None else {self.key: logits, "map": logits[:, :, None, None].expand(-1, -1, 2, 2)}


def make_items(count, names=("image", "target", "sample_id")):
    generator = torch.Generator().manual_seed(count)
    return [
        dict(zip(names, (torch.rand(1, 4, 4, generator=generator), i % 3, f"id-{i:03d}"), strict=True))
        for i in range(count)
    ]


SIZES = {"train": 6, "valid": 10}


def run_of(side, folder, options, sizes=SIZES, epochs=1, more=()):
    model, embedding = Linear(side.key), {"embedding_key": "scores"} if side.keys else {}
    fit(
        side.runner(), model, {key: make_items(size, side.names) for key, size in sizes.items()},
        [Embeddings(**side.keys, **embedding, **options), *more], batch=4, lr=0.0, epochs=epochs, **side.logs(folder),
    )  # fmt: skip
    return model


run_ours = partial(run_of, OURS)
RUNNERS = {name: partial(run_of, side) for name, side in SIDES.items()}


@pytest.fixture(params=RUNNERS)
def kit(request):
    return RUNNERS[request.param]


def config_of(folder):
    return text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig()).embeddings


def names_in(folder):
    return [info.tensor_name for info in config_of(folder)]


def rows_of(folder, name="embeddings:00001"):
    [info] = [info for info in config_of(folder) if info.tensor_name == name]
    lines = (folder / info.metadata_path).read_text().splitlines()
    vectors = np.loadtxt(folder / info.tensor_path, delimiter="\t", ndmin=2)
    return [line.split("\t") for line in lines], vectors


def expected_rows(model, count, class_names):
    items = make_items(count)
    logits = model.layer(torch.stack([item["image"].flatten() for item in items])).detach()
    rows = [["id", "label", "prediction", "correct"]]
    for item, decided in zip(items, logits.argmax(dim=1).tolist(), strict=True):
        correct = "yes" if decided == item["target"] else "no"
        rows.append([item["sample_id"], class_names[item["target"]], class_names[decided], correct])
    return rows, logits.numpy()


def test_every_sample_has_its_vector_its_classes_and_its_id(kit, tmp_path):
    model = kit(tmp_path, {"class_names": NAMES})
    rows, vectors = rows_of(tmp_path / "valid")
    expected, logits = expected_rows(model, 10, ["cat", "dog with a tab", "naïve"])
    assert rows == expected
    assert vectors == pytest.approx(logits, rel=1e-5)
    assert not (tmp_path / "train" / "projector_config.pbtxt").exists()


def test_the_thumbnails_are_the_samples_own(kit, tmp_path):
    kit(tmp_path, {})
    [info] = config_of(tmp_path / "valid")
    sheet = np.array(Image.open(tmp_path / "valid" / info.sprite.image_path))
    side, _ = info.sprite.single_image_dim
    assert sheet.shape == (4 * side, 4 * side, 3)
    for index, item in enumerate(make_items(10)):
        top, left = index // 4 * side, index % 4 * side
        # Within a frame of 5 pixels, and another one where the prediction is wrong.
        free = 10 if (sheet[top + 7, left + 7 : left + 57] == 30).all() else 5
        middles = (free + (np.arange(4) + 0.5) * (side - 2 * free) / 4).astype(int)
        pixels = sheet[top : top + side, left : left + side, 0][np.ix_(middles, middles)]
        assert np.array_equal(pixels, np.round(item["image"][0].numpy() * 255))


def test_of_a_larger_loader_so_many_are_shown_and_the_same_ones_every_epoch(kit, tmp_path):
    kit(tmp_path, {"max_samples": 7, "every_n_epochs": 1}, {"train": 4, "valid": 50}, epochs=2)
    expected = sorted(sorted(range(50), key=position_hash)[:7])
    for name in ("embeddings:00001", "embeddings:00002"):
        rows, vectors = rows_of(tmp_path / "valid", name)
        assert [row[0] for row in rows[1:]] == [f"id-{position:03d}" for position in expected]
        assert len(vectors) == 7


@pytest.mark.parametrize(("every_n_epochs", "epochs"), [(None, [5]), (2, [2, 4, 5]), (5, [5])])
def test_it_is_written_every_so_many_epochs_and_at_the_end(kit, every_n_epochs, epochs, tmp_path):
    kit(tmp_path, {"every_n_epochs": every_n_epochs}, epochs=5)
    assert names_in(tmp_path / "valid") == [f"embeddings:{epoch:05d}" for epoch in epochs]


def test_a_run_that_fails_keeps_those_of_its_last_whole_epoch(kit, tmp_path):
    with pytest.raises(ZeroDivisionError):
        kit(tmp_path, {}, epochs=5, more=[Break(epoch=3, hook="on_loader_start")])
    assert names_in(tmp_path / "valid") == ["embeddings:00002"]


def test_maps_are_averaged_and_a_second_callback_has_its_own_tag(tmp_path):
    model = run_ours(tmp_path, {}, more=[Embeddings(embedding_key="map", tag="maps")])
    folder = tmp_path / "valid"
    assert names_in(folder) == ["embeddings:00001", "maps:00001"]
    assert rows_of(folder, "maps:00001")[1] == pytest.approx(expected_rows(model, 10, NAMES)[1], rel=1e-5)


def test_a_loader_that_is_named_is_shown_alone(kit, tmp_path):
    kit(tmp_path, {"loader": "train"})
    assert names_in(tmp_path / "train") == ["embeddings:00001"]
    assert not (tmp_path / "valid" / "projector_config.pbtxt").exists()


def test_without_target_and_ids_there_is_one_column_without_a_header(tmp_path):
    run_ours(tmp_path, {"sample_id_key": "none", "target_key": "none", "output_key": "none", "embedding_key": "logits"})
    rows, _ = rows_of(tmp_path / "valid")
    assert rows == [[str(position)] for position in range(10)]


def test_several_labels_a_sample_decide_no_class():
    runner, callback = runner_for(0, 1), Embeddings()
    callback.begin(runner)
    feed(callback, runner, {**batch_of(range(3)), "target": torch.ones(3, 2)}, 0)
    callback.report(runner, None)
    assert set(callback.last_["valid"].samples[0]) == {"id", "vector", "image"}


# -- ranks ------------------------------------------------------------------------------------------------------------


def runner_for(rank, size):
    engine = SimpleNamespace(num_processes=size, process_index=rank, is_main_process=rank == 0, device="cpu")
    options = {"is_infer_loader": False, "is_valid_loader": True, "loader_key": "valid", "epoch_step": 1}
    return SimpleNamespace(engine=engine, loader_batch_size=4, **options)


def batch_of(positions):
    vectors = torch.tensor([[float(p), -float(p)] for p in positions])
    images = torch.stack([torch.full((1, 4, 4), p / 100) for p in positions])
    return {"logits": vectors, "image": images, "sample_id": [f"id-{p}" for p in positions]}


def feed(callback, runner, batch, index):
    """Hand over the rank's ``index``-th batch, counted as Catalyst counts."""
    size, runner.batch, runner.batch_size = runner.engine.num_processes, batch, len(batch["image"])
    runner.loader_batch_step = size * (index + 1)
    runner.loader_sample_step = size * (4 * index + runner.batch_size)
    callback.observe(runner)


def loader_over_ranks(rank, size):
    runner, callback = runner_for(rank, size), Embeddings(9)
    callback.begin(runner)
    for index in range(24 // size):
        start = 4 * (index * size + rank)
        feed(callback, runner, batch_of(range(start, start + 4)), index)
    callback.report(runner, None)
    samples = callback.last_["valid"].samples
    return [(s["id"], s["vector"].tolist(), float(s["image"].mean()), s["prediction"]) for s in samples]


def test_on_any_number_of_ranks_the_same_samples_are_shown(ranks):
    expected = sorted(sorted(range(96), key=position_hash)[:9])
    for found in ranks.run(loader_over_ranks, ranks.size):
        assert [name for name, *_ in found] == [f"id-{position}" for position in expected]
        for (_, vector, shade, prediction), position in zip(found, expected, strict=True):
            assert vector == [position, -position]
            assert shade == pytest.approx(position / 100)
            assert prediction == 0


# -- the server -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    options = {"class_names": NAMES, "every_n_epochs": 1}
    models = {kind: run(folder / kind, options, epochs=2) for kind, run in RUNNERS.items()}
    with serve(folder, tmp_path_factory.mktemp("server") / "log.txt") as server:
        server.wait(lambda it: len(it.json("plugin/projector/runs")) == 2)
        yield server, models


@pytest.mark.parametrize(("kind", "run"), [("stock", "stock/valid"), ("ours", "ours/valid")])
def test_the_projector_serves_vectors_classes_and_thumbnails_of_every_epoch(kind, run, served):
    server, models = served
    expected, logits = expected_rows(models[kind], 10, ["cat", "dog with a tab", "naïve"])
    infos = server.json("plugin/projector/info", run=run)["embeddings"]
    assert [info["tensorName"] for info in infos] == ["embeddings:00001", "embeddings:00002"]
    for info in infos:
        asked = {"run": run, "name": info["tensorName"]}
        assert info["tensorShape"] == [10, 3]
        vectors = np.frombuffer(server.get("plugin/projector/tensor", **asked), np.float32).reshape(10, 3)
        assert vectors == pytest.approx(logits, rel=1e-5)
        table = server.get("plugin/projector/metadata", **asked).decode()
        assert [line.split("\t") for line in table.splitlines()] == expected
        sheet = Image.open(io.BytesIO(server.get("plugin/projector/sprite_image", **asked)))
        assert sheet.size == (256, 256)
        assert info["sprite"]["singleImageDim"] == [64, 64]


# -- wrong use --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_samples": 0}, "max_samples must be an integer of at least 1, got 0"),
        ({"every_n_epochs": 0}, "every_n_epochs must be an integer of at least 1, got 0"),
        ({"tag": "a/b"}, "tag must be of letters, digits, '-' and '_', got 'a/b'"),
    ],
)
def test_a_wrong_argument_is_an_error(options, message):
    with pytest.raises(UsageError, match=message):
        Embeddings(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loader": "test"}, "asks for key 'test', which the run's loaders lacks; it has 'train', 'valid'"),
        ({"embedding_key": "features"}, "Embeddings asks for key 'features', which the batch lacks"),
        ({"embedding_key": "target"}, r"embedding_key='target' must be \[N, D, ...\] of floating point, got torch.int"),
        ({"embedding_key": "sample_id"}, "embedding_key='sample_id' must be .* got list"),
        ({"image_key": "map"}, None),
    ],
)
def test_what_does_not_fit_the_run_is_an_error(options, message, tmp_path):
    if message is None:  # [N, 3, 2, 2] is a picture too
        run_ours(tmp_path, options)
        return
    with pytest.raises(UsageError, match=message):
        run_ours(tmp_path, options)


def test_without_a_loader_for_validation_one_is_to_be_named(kit, tmp_path):
    with pytest.raises(UsageError, match="there is none: pass loader='train'"):
        kit(tmp_path, {}, {"train": 4})


def test_two_callbacks_of_one_tag_are_an_error(tmp_path):
    with pytest.raises(
        UsageError, match=r"Embeddings and Embeddings .* both write the tag 'embeddings' of loader 'valid'"
    ):
        run_ours(tmp_path, {}, more=[Embeddings(embedding_key="map")])
