"""A resumed run's logs, read by every reader that there is: no point twice, none missing."""

import logging
import time
from collections import Counter

import pytest
from catalyst import dl
from kit import Break, read_events
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard_server import serve
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import BestWorstBatches, HParams
from assay.runner.saving.log_truncation import file_sizes, truncate_to

EPOCHS = 4


class Late(dl.Callback):
    """Writes when an epoch has ended, after all the others."""

    def __init__(self):
        super().__init__(order=dl.CallbackOrder.External + 1)

    def on_epoch_end(self, runner):
        runner.loggers["tensorboard"].get_run_writer().scalars({"late": 1.0}, runner.epoch_step)


class OfImages(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, image):
        return self.net(image.flatten(1))


@pytest.fixture
def run(make_net, make_items, train, tmp_path):
    """Train in a folder; ``broken`` is the epoch that the power goes out in."""

    def run(name="run", *, resume=None, broken=0, epochs=EPOCHS):
        if resume is not None:
            time.sleep(1)  # as a process takes to start: event files are read in the order of the seconds they began in
        no_power = Break(epoch=broken, loader="valid", error=RuntimeError("the power went out"))
        items = [{**item, "image": item["image"].reshape(1, 2, 2)} for item in make_items(40)]
        return train(
            OfImages(make_net()),
            {"train": DataLoader(items, 4, shuffle=True), "valid": DataLoader(items[:8], 4)},
            epochs=epochs,
            logdir=str(tmp_path / name),
            resume=resume,
            hparams={"lr": 0.1},
            callbacks=[BestWorstBatches(), HParams("valid/loss"), Late(), no_power],
        )

    return run


@pytest.fixture
def resumed(run, tmp_path):
    """A run that broke in epoch 2 and again in epoch 4, and was resumed each time; and one that ran straight."""
    run("straight")
    with pytest.raises(RuntimeError, match="power"):
        run(broken=2)
    with pytest.raises(RuntimeError, match="power"):
        run(broken=4, resume=str(tmp_path / "run"))
    run(resume=str(tmp_path / "run"))
    return tmp_path


def points(events):
    """Return how often each point stands: by kind, tag and step."""
    tags = events.Tags()
    found = [("scalar", tag, event.step) for tag in tags["scalars"] for event in events.Scalars(tag)]
    found += [("image", tag, event.step) for tag in tags["images"] for event in events.Images(tag)]
    found += [("tensor", tag, event.step) for tag in tags["tensors"] for event in events.Tensors(tag)]
    return Counter(found)


def test_the_event_files_of_a_resumed_run_hold_the_points_of_a_straight_one(resumed):
    for loader in ("valid", "train"):
        straight, parts = (points(read_events(resumed / name / loader)) for name in ("straight", "run"))
        assert parts == straight
        assert set(parts.values()) == {1}
    assert parts["scalar", "late", EPOCHS] == 1
    assert (resumed / "run/metrics.csv").read_text() == (resumed / "straight/metrics.csv").read_text()


SLOW = pytest.mark.long("starts the server of TensorBoard once more, as hardly anybody does")


@pytest.mark.parametrize(
    "options", [[], pytest.param(["--load_fast=false"], marks=SLOW)], ids=["fast loader", "slow loader"]
)
def test_the_server_shows_the_points_of_a_straight_run(resumed, tmp_path, options):
    with serve(resumed, tmp_path / "log.txt", *options) as server:

        def steps(run, tag="1_overview/loss"):
            tags = server.json("plugin/scalars/tags").get(run, {})
            return (
                [step for _, step, _ in server.json("plugin/scalars/scalars", run=run, tag=tag)] if tag in tags else []
            )

        server.wait(lambda _: all(len(steps(f"{name}/valid")) == EPOCHS for name in ("run", "straight")))
        for loader in ("train", "valid"):
            for tag in ("1_overview/loss", "9_by_samples_seen/loss"):
                found, expected = (steps(f"{name}/{loader}", tag) for name in ("run", "straight"))
                assert sorted(found) == sorted(expected) == sorted(set(expected))
            for tag in ("9_batches/best/loss", "9_batches/worst/loss"):
                listed = server.json("plugin/images/images", run=f"run/{loader}", tag=tag, sample=0)
                assert sorted(picture["step"] for picture in listed) == list(range(1, EPOCHS + 1))


def test_a_run_that_failed_and_was_resumed_ends_as_a_success(resumed):
    content = read_events(resumed / "run/train").summary_metadata[metadata.SESSION_END_INFO_TAG]
    end = HParamsPluginData.FromString(content.plugin_data.content).session_end_info
    assert end.status == api_pb2.STATUS_SUCCESS


def test_a_run_that_is_resumed_after_its_end_has_one_end(run, tmp_path):
    run(epochs=2)
    run(epochs=3, resume=str(tmp_path / "run"))
    found = points(read_events(tmp_path / "run/train"))
    assert found["tensor", metadata.SESSION_END_INFO_TAG, 0] <= 1
    assert found["scalar", "10_best/valid/loss", 3] == 1


def test_a_checkpoint_of_another_run_leaves_the_logs_of_this_folder_alone(run, tmp_path):
    run("other", epochs=1)
    events = tmp_path / "mine" / "train" / "events.out.tfevents.1"
    events.parent.mkdir(parents=True)
    events.write_bytes(b"mine")
    run("mine", epochs=2, resume=str(tmp_path / "other"))
    assert events.read_bytes() == b"mine"


def test_files_are_cut_to_their_sizes_and_newer_ones_removed(tmp_path):
    old, gone, new = tmp_path / "a" / "old", tmp_path / "a" / "gone", tmp_path / "b" / "new"
    for path in (old, gone, new):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"0123456789")
    sizes = file_sizes(tmp_path, [old, gone])
    assert sizes == {"a/old": 10, "a/gone": 10}
    old.write_bytes(b"0123456789abc")
    gone.unlink()
    truncate_to(tmp_path, tmp_path.glob("*/*"), sizes)
    assert old.read_bytes() == b"0123456789"
    assert not gone.exists()
    assert not new.exists()


def test_a_file_that_is_shorter_than_it_was_is_named_and_left(tmp_path, caplog):
    path = tmp_path / "events"
    path.write_bytes(b"0123")
    with caplog.at_level(logging.WARNING, "assay"):
        truncate_to(tmp_path, [path], {"events": 10})
    assert caplog.messages == [
        f"{path} lost its last 6 bytes since the checkpoint: what it showed last until then is missing; the run goes "
        "on all the same."
    ]
    assert path.read_bytes() == b"0123"
