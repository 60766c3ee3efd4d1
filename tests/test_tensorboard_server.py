"""What a run writes, seen through the real TensorBoard server."""

import json
import urllib.error
import urllib.parse
import urllib.request

import cv2
import numpy as np
import pytest
from tensorboard_server import serve

from assay.runner.commands.main import main
from assay.runner.saving.loggers import read_metrics

pytestmark = pytest.mark.long("trains digits for twelve epochs, and starts the server of TensorBoard")
EPOCHS = 12  # more than the 10 pictures that the server keeps of a tag by itself


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of digits, of more epochs than the server shows pictures of by itself."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    small = ["--epochs", str(EPOCHS), "--width", "2", "--batch-size", "256", "--device", "cpu"]
    assert main(["train", "digits", "--run-dir", str(folder), *small]) == 0
    return folder


@pytest.fixture(scope="module")
def get(run, tmp_path_factory):
    """Start the server with the printed arguments; return a function that gets one of its addresses."""

    def everything_is_read(server):
        if not {"train", "valid"} <= server.json("plugin/images/tags").keys():
            return False
        return len(pictures(fetch, "valid", "9_batches/worst/loss")) == EPOCHS

    with serve(run, tmp_path_factory.mktemp("server") / "log.txt", "--samples_per_plugin", "images=200") as server:

        def fetch(path, **query):
            return server.get(f"plugin/{path}", **query)

        server.wait(everything_is_read)
        yield fetch


def pictures(get, loader, tag):
    return json.loads(get("images/images", run=loader, tag=tag, sample=0))


def test_the_server_lists_the_pictures_of_both_loaders(get):
    tags = json.loads(get("images/tags"))
    expected = {"9_batches/best/loss", "9_batches/worst/loss", "6_samples/best/loss"}
    expected |= {"7_grad_cam/worst/loss", "2_confusion_matrix", "5_predictions/distribution", "5_predictions/roc"}
    expected |= {"8_data/statistics", "6_worst_samples/loss", "2_suspects/surest"}
    by_chance = {"6_samples/fixed", "6_samples/random"}
    assert set(tags["valid"]) == expected | {"1_overview/worst/loss"} | by_chance
    expected |= {"3_metrics/curves"}
    assert set(tags["train"]) == expected | {"9_gradients/flow", "9_gradients/map", "8_data/augmentations"}


@pytest.mark.parametrize("loader", ["train", "valid"])
@pytest.mark.parametrize("tag", ["9_batches/best/loss", "9_batches/worst/loss"])
def test_the_server_keeps_the_picture_of_every_epoch(get, loader, tag):
    assert [picture["step"] for picture in pictures(get, loader, tag)] == list(range(1, EPOCHS + 1))


def test_a_picture_can_be_fetched_and_decoded(get):
    listed = pictures(get, "valid", "9_batches/worst/loss")[-1]
    data = get("images/individualImage", **dict(urllib.parse.parse_qsl(listed["query"])))
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert min(picture.shape[:2]) > 100
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10  # digits, frames and text, not one colour


def test_the_server_shows_the_numbers_of_the_csv_file(get, run):
    tags = json.loads(get("scalars/tags"))
    table = read_metrics(run / "metrics.csv")
    for loader in ("train", "valid"):
        assert {"1_overview/loss", "1_overview/metrics/accuracy", "1_overview/metrics/f1"} <= set(tags[loader])
        points = json.loads(get("scalars/scalars", run=loader, tag="1_overview/loss"))
        assert [step for _, step, _ in points] == list(range(1, EPOCHS + 1))
        values = [value for _, _, value in points]
        assert values == pytest.approx([table[epoch, loader, "loss"] for epoch in range(1, EPOCHS + 1)], rel=1e-5)


def test_the_server_shows_the_config(get):
    text = json.loads(get("text/text", run="train", tag="9_config/text_summary"))[0]["text"]
    assert "batch_size: 256" in text
    assert "width: 2" in text
