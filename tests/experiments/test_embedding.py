"""The embedding experiment: its data, its protocol, and that an output or a target more is one line."""

import csv
import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image
from torch import nn
from torch.nn import functional as F

from assay.callbacks.measures.recall_at_k import recall_at_k
from assay.experiments import embedding
from assay.experiments.embedding import CosFace, Embedding, Head, make_scenes, read_items
from assay.runner import UsageError
from assay.runner.commands.main import main
from assay.runner.commands.train import train
from assay.runner.saving.loggers import read_metrics


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    Embedding().make_data(folder)
    return folder


def small(kind=Embedding, **fields):
    return kind(epochs=1, width=4, device="cpu", limit_batches=2, diagnostics="off", **fields)


def metrics_of(run):
    values = read_metrics(run / "metrics.csv")
    return {loader: {name for _, of, name in values if of == loader} for loader in ("train", "valid")}


# -- one line more ----------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class MoreTargets(Embedding):
    targets = {**Embedding.targets, "ink": int}


@dataclass(kw_only=True)
class MoreOutputs(MoreTargets):
    heads = (*Embedding.heads, Head("ink_logits", "ink", classes=2))


@pytest.fixture(scope="module")
def plain_metrics(folder, tmp_path_factory):
    return metrics_of(train(small(data_dir=str(folder)), name="embedding", run_dir=tmp_path_factory.mktemp("r") / "1"))


def test_it_names_every_loss_and_metric(plain_metrics):
    losses = {"loss", "loss_cosface", "loss_tilt", "loss_photograph"}
    assert plain_metrics["train"] == losses | {"accuracy", "tilt_error", "photograph_accuracy"}
    assert plain_metrics["valid"] == plain_metrics["train"] | {"recall@1"}


def test_a_target_more_is_one_line_and_breaks_nothing(folder, tmp_path, plain_metrics):
    more = small(MoreTargets, data_dir=str(folder))
    assert next(iter(more.get_loaders()["train"]))["ink"].unique().tolist() == [0, 1]
    assert metrics_of(train(more, name="embedding", run_dir=tmp_path / "run")) == plain_metrics


def test_an_output_more_is_one_line_and_brings_its_loss_and_its_metric(folder, tmp_path, plain_metrics):
    more = small(MoreOutputs, data_dir=str(folder))
    found = metrics_of(train(more, name="embedding", run_dir=tmp_path / "run"))
    assert found == {loader: names | {"loss_ink", "ink_accuracy"} for loader, names in plain_metrics.items()}


def test_the_model_returns_two_main_outputs_and_one_for_each_head():
    outputs = MoreOutputs().get_model()(torch.rand(2, 3, 32, 32))
    assert {name: tuple(output.shape) for name, output in outputs.items()} == {
        "embedding": (2, 64), "logits": (2, 10), "tilt_found": (2,), "photograph_logits": (2, 2), "ink_logits": (2, 2),
    }  # fmt: skip
    assert outputs["embedding"].norm(dim=1).tolist() == pytest.approx([1, 1])


def test_with_full_diagnostics_the_projector_has_the_validation_embeddings(folder, tmp_path):
    experiment = small(data_dir=str(folder))
    experiment.diagnostics = "full"
    run = train(experiment, name="embedding", run_dir=tmp_path / "run")
    files = run / "valid" / "embeddings-00001"
    assert np.loadtxt(files / "tensors.tsv").shape == (128, 64)
    assert (files / "metadata.tsv").read_text().splitlines()[0] == "id\tlabel\tprediction\tcorrect"


# -- what it is made of -----------------------------------------------------------------------------------------------


def test_the_margin_is_taken_off_the_cosine_to_the_own_class():
    cosines, target = torch.rand(5, 10) * 2 - 1, torch.randint(0, 10, (5,))
    expected = []
    for row, own in zip(cosines.double(), target, strict=True):
        powers = [np.exp(16 * (row[c] - (0.2 if c == own else 0.0))) for c in range(10)]
        expected.append(-np.log(powers[own] / sum(powers)))
    loss = CosFace(0.2)
    assert loss(16 * cosines, target).item() == pytest.approx(np.mean(expected), rel=1e-5)
    loss.reduction = "none"
    assert loss(16 * cosines, target).numpy() == pytest.approx(np.array(expected), rel=1e-4)


def test_the_parts_share_no_digit_and_no_pixel_of_a_photograph(monkeypatch):
    borders = {load_sample_image(name).shape[1] * 2 // 3 for name in embedding.PHOTOGRAPHS}
    columns = np.broadcast_to(np.arange(640)[None, :, None], (427, 640, 3))  # each pixel holds its column
    rng = np.random.default_rng(0)
    for part in ("train", "valid"):
        seen = np.concatenate([embedding.cut_patch(columns, part, rng) for _ in range(200)])
        assert seen.max() < min(borders) if part == "train" else seen.min() >= max(borders)
    rows = [(name, row[0]) for name, _, row in make_scenes()]
    of = {part: {name.partition("-")[0] for name, its in rows if its == part} for part in ("train", "valid")}
    assert of["train"].isdisjoint(of["valid"])
    assert (len(of["train"]), len(of["valid"]), len(rows)) == (1437, 360, 360 + 3 * 1437)


def test_the_same_data_is_made_every_time(folder):
    with open(folder / "labels.csv") as file:
        rows = list(csv.DictReader(file))
    for (name, _, values), row in zip(make_scenes(), rows, strict=True):
        assert [name, *map(str, values)] == list(row.values())
    assert len(list((folder / "images").iterdir())) == len(rows)
    assert {row["photograph"] for row in rows} == {row["ink"] for row in rows} == {"0", "1"}
    assert -1 <= min(float(row["tilt"]) for row in rows) < -0.9 < 0.9 < max(float(row["tilt"]) for row in rows) <= 1


def test_neither_pixels_nor_chance_nor_an_untrained_net_find_the_digit():
    scenes = [(scene, row[1]) for _, scene, row in make_scenes() if row[0] == "valid"]
    images = torch.stack([torch.from_numpy(scene) for scene, _ in scenes]).permute(0, 3, 1, 2) / 255 - 0.45
    labels = torch.tensor([int(digit) for _, digit in scenes])
    torch.manual_seed(0)
    with torch.no_grad():
        untrained = Embedding().get_model().eval()(images / 0.3)["embedding"]
    found = {
        "chance": recall_at_k(torch.randn(len(labels), 64), labels, [1])[0],
        "pixels": recall_at_k(images.flatten(1), labels, [1])[0],
        "euclidean": recall_at_k(images.flatten(1), labels, [1], "euclidean")[0],
        "grey": recall_at_k(F.avg_pool2d(images.mean(1), 2).flatten(1), labels, [1])[0],
        "untrained": recall_at_k(untrained, labels, [1])[0],
    }
    print(found)
    assert max(found.values()) < 0.5
    assert found["chance"] < 0.2


@pytest.mark.long("trains to the end; the other tests train for an epoch")
def test_it_learns(folder, tmp_path):
    fields = {"width": 8, "batch_size": 32, "overfit_batches": 4, "epochs": 40, "diagnostics": "off", "device": "cpu"}
    run = train(Embedding(data_dir=str(folder), **fields), name="embedding", run_dir=tmp_path / "run")
    values = read_metrics(run / "metrics.csv")
    assert max(values[epoch, "valid", "recall@1"] for epoch in range(1, 41)) >= 0.95
    assert values[40, "train", "loss_cosface"] < 0.5 * values[1, "train", "loss_cosface"]


def test_without_a_folder_one_is_made_and_said_to_be(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ["--epochs", "1", "--limit-batches", "1", "--width", "2", "--device", "cpu", "--diagnostics", "off"]
    assert main(["train", "embedding", "--run-dir", "run", *options]) == 0
    assert "no --data-dir: generated data is used, in data/embedding-generated" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["generated"] is True


# -- wrong data -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"labels.csv is missing: data_dir must hold it; the experiment's docstring lists its columns"),
        ("image,part\n", r"labels.csv lacks the columns \['digit', 'photograph', 'tilt'\]; it has \['image', 'part'\]"),
        ("image,part,digit,tilt,photograph\na.png,train,three,0,0\n", "row of 'a.png': invalid literal for int"),
        ("image,part,digit,tilt,photograph\na.png,train,3\n", "row of 'a.png': "),
        ("", r"labels.csv lacks the columns .*it has None"),
    ],
)
def test_labels_that_cannot_be_read_are_named(tmp_path, text, message):
    if text is not None:
        (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(UsageError, match=message):
        list(read_items(tmp_path, "train", Embedding.targets))


def test_every_head_is_a_linear_layer_of_its_own():
    heads = MoreOutputs().get_model().heads
    assert list(heads) == ["tilt_found", "photograph_logits", "ink_logits"]
    assert all(isinstance(head, nn.Linear) for head in heads.values())
