"""What callbacks write goes to loggers that are not TensorBoard's."""

from types import SimpleNamespace

import numpy as np
import pytest
from catalyst import dl
from catalyst.core.logger import ILogger
from stock_runs import train_stock

from assay.callbacks import ClassificationReport, ConfusionMatrix, Embeddings, OptimizerMonitor
from assay.callbacks.errors import UsageError
from assay.callbacks.tensorboard.find_writer import find_writer
from assay.callbacks.tensorboard.trackers import trackers_of

KEYS = {"output_key": "logits", "target_key": "targets", "num_classes": 3}


class Album(ILogger):
    """A logger as a user writes it: it reads the runner when it is called."""

    def __init__(self):
        super().__init__(log_batch_metrics=False, log_epoch_metrics=True)
        self.pictures, self.metrics, self.texts = {}, {}, {}

    def log_image(self, tag, image, runner, scope=None):
        assert scope == "loader"
        assert (tag, runner.loader_key, runner.epoch_step) not in self.pictures
        self.pictures[tag, runner.loader_key, runner.epoch_step] = np.array(image)

    def log_metrics(self, metrics, scope, runner):
        if scope == "loader":
            self.metrics.update({(name, runner.loader_key, runner.epoch_step): v for name, v in metrics.items()})

    def log_artifact(self, tag, runner, artifact=None, path_to_artifact=None, scope=None):
        with open(path_to_artifact) as file:
            self.texts[tag, runner.loader_key, runner.epoch_step] = file.read()


def plain(tag):
    """Return a tag without what only sorts it in TensorBoard."""
    number, _, name = tag.partition("_")
    assert number.isdecimal()
    return name.removeprefix("overview/")


def test_pictures_scalars_and_texts_are_those_of_tensorboard(tmp_path, read_events):
    album = Album()
    callbacks = [ConfusionMatrix(**KEYS), ClassificationReport(**KEYS), OptimizerMonitor()]
    train_stock(callbacks, {"album": album, "tensorboard": dl.TensorboardLogger(str(tmp_path))}, epochs=2)
    pictures, texts = {}, {}
    for loader in ("train", "valid"):
        events = read_events(tmp_path / loader)
        for tag in events.Tags()["images"]:
            name = plain(tag)
            pictures |= {(name, loader, event.step): decode(event.encoded_image_string) for event in events.Images(tag)}
        for tag in events.Tags()["tensors"]:
            if tag.endswith("/text_summary"):
                for event in events.Tensors(tag):
                    name = plain(tag.removesuffix("/text_summary"))
                    texts[name, loader, event.step] = event.tensor_proto.string_val[0]
        for tag in events.Tags()["scalars"]:
            if tag.startswith("9_optimizer/"):
                assert [
                    album.metrics[plain(tag), loader, event.step] for event in events.Scalars(tag)
                ] == pytest.approx([event.value for event in events.Scalars(tag)])
    assert pictures.keys() == album.pictures.keys()
    for name, picture in pictures.items():
        np.testing.assert_array_equal(album.pictures[name], picture)
    assert {name: text.decode() for name, text in texts.items()} == album.texts
    assert len(texts) >= 8
    assert any(name.startswith("optimizer/") for name, *_ in album.metrics)


def test_a_logger_that_takes_pictures_is_enough():
    album = Album()
    train_stock([ConfusionMatrix(**KEYS)], {"album": album}, epochs=2)
    assert album.pictures.keys() == {("confusion_matrix", k, e) for k in ("train", "valid") for e in (1, 2)}


def test_without_tensorboard_one_thread_draws_for_all_callbacks_of_a_loader():
    album = Album()
    runner = SimpleNamespace(engine=SimpleNamespace(is_main_process=True), loggers={"album": album}, loaders={})
    writers = [find_writer(runner, "valid", name) for name in ("One", "Two")]
    assert writers[0].writer is writers[1].writer
    assert find_writer(runner, "train", "One").writer is not writers[0].writer


def test_what_was_written_before_an_error_is_handed_on():
    class Fails(dl.Callback):
        def on_epoch_start(self, runner):
            if runner.epoch_step == 2:
                raise RuntimeError("the disk is full")

    album = Album()
    with pytest.raises(RuntimeError, match="the disk is full"):
        train_stock([ConfusionMatrix(**KEYS), Fails(order=0)], {"album": album}, epochs=2)
    assert {name[2] for name in album.pictures} == {1}


def test_all_is_handed_on_by_the_thread_of_the_loop():
    import threading

    threads = set()

    class Watches(Album):
        def log_image(self, *arguments, **options):
            threads.add(threading.current_thread())

    train_stock([ConfusionMatrix(**KEYS)], {"album": Watches()}, epochs=1)
    assert threads == {threading.main_thread()}


def test_the_projector_needs_an_event_folder():
    callbacks = [Embeddings(output_key="logits", target_key="targets", image_key="features")]
    with pytest.raises(UsageError, match="Embeddings writes to TensorBoard, and the runner has no TensorBoard logger"):
        train_stock(callbacks, {"album": Album()}, epochs=1)


def test_loggers_that_take_no_pictures_get_none(tmp_path):
    stock = [dl.ConsoleLogger(), dl.CSVLogger(str(tmp_path)), dl.TensorboardLogger(str(tmp_path))]
    assert trackers_of(stock) == []


def test_other_processes_hand_nothing_on():
    album = Album()
    runner = SimpleNamespace(engine=SimpleNamespace(is_main_process=False), loggers={"album": album})
    writer = find_writer(runner, "train", "Test")
    writer.image("picture", lambda: np.zeros((4, 4, 3), np.uint8), 1)
    writer.drain()
    assert album.pictures == {}


def decode(encoded):
    import cv2

    return cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
